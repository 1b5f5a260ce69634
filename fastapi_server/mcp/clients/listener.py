"""Opening subscriptions and keeping them: a stream of their own in the stateless era, part of the session before."""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable

from fastapi_server.mcp.clients.caller import Caller
from fastapi_server.mcp.clients.channel import Channel, Request
from fastapi_server.mcp.clients.connector import Connector
from fastapi_server.mcp.clients.inbox import Inbox
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.clients.subscriptions import Interest, Subscription, list_changes
from fastapi_server.mcp.errors import CallTimeoutError, MCPClientError
from fastapi_server.mcp.protocol.eras import EraName
from fastapi_server.mcp.protocol.jsonrpc import ErrorObject
from fastapi_server.mcp.resilience import backoff_delays, is_passing

logger = logging.getLogger("fastapi_server.mcp")

_HEARING_SECONDS = 5.0
_UNSUBSCRIBE_SECONDS = 5.0
_SUBSCRIBE_SECONDS = 30.0
_STREAM_ATTEMPTS = 5
_STANDING_SECONDS = 30.0


class Listener:
    """Opens and ends subscriptions for one client, and opens them again on a new channel."""

    def __init__(self, caller: Caller, connector: Connector, inbox: Inbox) -> None:
        self._caller = caller
        self._connector = connector
        self._inbox = inbox
        self._in_session: dict[int, Subscription] = {}
        self._uris: dict[str, int] = {}
        self._streams: dict[asyncio.Task[None], Subscription] = {}

    async def listen(self, interest: Interest, deadline: float, *, standing: bool = False) -> Subscription:
        """Ask for changes; returns when the server has agreed.

        Raises:
            MCPClientError: It does not, or not before the deadline.
        """
        channel = await self._caller.ready(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                if self._connector.era.name is EraName.STATELESS:
                    return await self._stream(interest, standing)
                return await self._session(interest, deadline, channel)
        except MCPClientError:
            raise
        except TimeoutError:
            raise CallTimeoutError("the server did not acknowledge the subscription in time") from None

    @property
    def active(self) -> bool:
        """Somebody iterates over changes."""
        return bool(self._in_session) or any(not subscription.standing for subscription in self._streams.values())

    @property
    def wanted(self) -> bool:
        """Somebody waits for notices of the session."""
        return bool(self._in_session)

    def held(self) -> list[Subscription]:
        """Those of the session, as of now."""
        return list(self._in_session.values())

    async def restore(self, held: Collection[Subscription]) -> None:
        """A new session has to be told what the old one knew; streams look after themselves.

        A subscription that the new session refuses ends with the error.

        Args:
            held: In the old session. What the new one was asked for itself, it knows.

        Raises:
            MCPClientError: The new session is lost, too; the next one will be told.
        """
        deadline = asyncio.get_running_loop().time() + _SUBSCRIBE_SECONDS
        for uri in dict.fromkeys(uri for subscription in held for uri in subscription.interest.uris):
            if uri not in self._uris:
                continue
            try:
                await self._caller.call("resources/subscribe", {"uri": uri}, deadline)
            except MCPClientError as error:
                if self._connector.state is not ConnectionState.CONNECTED:
                    raise
                self._refuse(uri, error)
        for subscription in self._in_session.values():
            if subscription in held:
                subscription.tell_everything()

    def heard(self) -> None:
        """The session can be heard now that could not before, and may have told something meanwhile."""
        info = self._connector.info
        self._inbox.missed(list_changes(info.capabilities if info is not None else None))
        for subscription in self._in_session.values():
            if subscription.acknowledged.done():  # what is not, nobody relies on yet
                subscription.tell_everything()

    def _refuse(self, uri: str, error: MCPClientError) -> None:
        self._uris.pop(uri, None)
        for subscription_id, subscription in list(self._in_session.items()):
            if uri in subscription.interest.uris:
                self._end(subscription_id, error)

    def _end(self, subscription_id: int, error: MCPClientError | None = None) -> None:
        self._inbox.subscriptions.pop(subscription_id, None)
        self._in_session.pop(subscription_id).finish(error)

    def fail(self, error: MCPClientError) -> None:
        """There will be no new session."""
        for subscription_id in list(self._in_session):
            self._end(subscription_id, error)
        self._uris.clear()

    def forget(self) -> None:
        """The event loop in which subscriptions were held is gone."""
        for subscription_id in list(self._in_session):
            self._end(subscription_id)
        self._uris.clear()
        self._streams.clear()

    async def close(self) -> None:
        """The client is closed: every subscription ends."""
        for subscription_id in list(self._in_session):
            self._end(subscription_id)
        self._uris.clear()
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    # The stateless era.

    async def _stream(self, interest: Interest, standing: bool) -> Subscription:
        """`subscriptions/listen`, a request that stays open (2026-07-28, basic/patterns/subscriptions)."""
        subscription = Subscription(interest, standing=standing)
        stream = asyncio.get_running_loop().create_task(self._hold(subscription))
        self._streams[stream] = subscription
        stream.add_done_callback(self._stream_over)

        async def end() -> None:
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)

        subscription.ends_with(end)
        try:
            await asyncio.shield(subscription.acknowledged)
        except BaseException:
            await subscription.close()
            raise
        return subscription

    def _stream_over(self, stream: asyncio.Task[None]) -> None:
        self._streams.pop(stream, None)
        self._caller.when_idle()

    async def _hold(self, subscription: Subscription) -> None:
        """Keep the stream open until the server ends it, whatever channel carries it."""
        delays = backoff_delays(_STREAM_ATTEMPTS)
        try:
            while True:
                before = subscription.acknowledgements
                try:
                    with self._caller.locating():
                        await self._held(subscription)
                    if not subscription.standing:
                        break
                    delay = next(delays, _STANDING_SECONDS)  # it is there for as long as the client is
                except MCPClientError as error:
                    if subscription.acknowledgements > before:
                        delays = backoff_delays(_STREAM_ATTEMPTS)
                    delay = next(delays, _STANDING_SECONDS if subscription.standing else None)
                    if delay is None or not is_passing(error):
                        subscription.finish(error)
                        break
                await asyncio.sleep(delay)
        finally:
            subscription.finish()

    async def _held(self, subscription: Subscription) -> None:
        channel = self._connector.usable()
        if channel is None:
            self._connector.breaker.refuse()
            channel = await self._connector.live_channel()
        era = self._connector.era
        subscription_id = next(self._connector.request_ids)
        params = era.stamp({"notifications": subscription.interest.to_filter()}, {})
        self._inbox.subscriptions[subscription_id] = subscription
        try:
            reply = await channel.exchange(Request(subscription_id, "subscriptions/listen", params, era))
        finally:
            self._inbox.subscriptions.pop(subscription_id, None)
        if isinstance(reply.error, ErrorObject):
            raise reply.error.to_exception(channel.redacted)

    # The handshake era.

    async def _session(self, interest: Interest, deadline: float, channel: Channel) -> Subscription:
        """`resources/subscribe` for each URI that is not subscribed yet; the lists' notices come anyway."""
        subscription_id = next(self._connector.request_ids)
        subscription = Subscription(interest)
        self._inbox.subscriptions[subscription_id] = self._in_session[subscription_id] = subscription
        held: list[str] = []

        async def end() -> None:
            self._inbox.subscriptions.pop(subscription_id, None)
            self._in_session.pop(subscription_id, None)
            try:
                await self._release(held)
            finally:
                self._caller.when_idle()

        subscription.ends_with(end)
        try:
            await _hearing(channel)
            for uri in sorted(interest.uris):
                if uri not in self._uris:
                    await self._caller.call("resources/subscribe", {"uri": uri}, deadline)
                self._uris[uri] = self._uris.get(uri, 0) + 1
                held.append(uri)
        except BaseException:
            await subscription.close()
            raise
        subscription.acknowledge(interest.to_filter())
        return subscription

    async def _release(self, held: Iterable[str]) -> None:
        """Have the server told of those that nobody else holds; that they are released does not depend on it."""
        left = [uri for uri in held if self._let_go(uri)]
        deadline = asyncio.get_running_loop().time() + _UNSUBSCRIBE_SECONDS
        for uri in left:
            if self._connector.state is ConnectionState.CONNECTED:
                try:
                    await self._caller.call("resources/unsubscribe", {"uri": uri}, deadline)
                except MCPClientError as error:
                    logger.debug("%s", error)

    def _let_go(self, uri: str) -> bool:
        """One holder less; whether that was the last one."""
        count = self._uris.pop(uri, 0) - 1
        if count > 0:
            self._uris[uri] = count
        return count == 0


async def _hearing(channel: Channel) -> None:
    """Wait until what the server says unasked can be heard: a stream that is never opened is not waited for long."""
    if channel.hearing is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEARING_SECONDS):
                await channel.hearing.wait()
