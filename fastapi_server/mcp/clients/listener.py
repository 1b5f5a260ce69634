"""Opening subscriptions: a stream of their own in the stateless era, part of the session in the handshake era."""

import asyncio

from fastapi_server.mcp.clients.caller import Caller
from fastapi_server.mcp.clients.channel import Request
from fastapi_server.mcp.clients.connector import Connector
from fastapi_server.mcp.clients.inbox import Inbox
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.clients.subscriptions import Interest, Subscription
from fastapi_server.mcp.errors import CallTimeoutError, MCPClientError
from fastapi_server.mcp.protocol.eras import EraName
from fastapi_server.mcp.protocol.jsonrpc import ErrorObject

_UNSUBSCRIBE_SECONDS = 5.0


class Listener:
    """Opens and ends subscriptions for one client."""

    def __init__(self, caller: Caller, connector: Connector, inbox: Inbox) -> None:
        self._caller = caller
        self._connector = connector
        self._inbox = inbox
        self._subscribed: dict[str, int] = {}

    async def listen(self, interest: Interest, deadline: float) -> Subscription:
        """Ask for changes; returns when the server has agreed.

        Raises:
            MCPClientError: It does not, or not before the deadline.
        """
        await self._caller.ready(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                if self._connector.era.name is EraName.STATELESS:
                    return await self._stream(interest)
                return await self._session(interest, deadline)
        except MCPClientError:
            raise
        except TimeoutError:
            raise CallTimeoutError("the server did not acknowledge the subscription in time") from None

    def forget(self) -> None:
        """The session is gone, and its subscriptions with it."""
        self._subscribed.clear()

    async def _stream(self, interest: Interest) -> Subscription:
        """`subscriptions/listen`, a request that stays open (2026-07-28, basic/patterns/subscriptions)."""
        subscription_id = next(self._connector.request_ids)
        subscription = Subscription(interest)
        self._inbox.subscriptions[subscription_id] = subscription
        stream = asyncio.get_running_loop().create_task(self._hold(subscription_id, subscription))

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

    async def _hold(self, subscription_id: int, subscription: Subscription) -> None:
        channel, era = await self._connector.live_channel(), self._connector.era
        params = era.stamp({"notifications": subscription.interest.to_filter()}, {})
        try:
            with self._caller.locating():
                reply = await channel.exchange(Request(subscription_id, "subscriptions/listen", params, era))
                if isinstance(reply.error, ErrorObject):
                    raise reply.error.to_exception()
            subscription.finish()
        except MCPClientError as error:
            subscription.finish(error)
        finally:
            self._inbox.subscriptions.pop(subscription_id, None)

    async def _session(self, interest: Interest, deadline: float) -> Subscription:
        """`resources/subscribe` for each URI that is not subscribed yet; the lists' notices come anyway."""
        subscription_id = next(self._connector.request_ids)
        subscription = Subscription(interest)
        self._inbox.subscriptions[subscription_id] = subscription
        held: list[str] = []

        async def end() -> None:
            self._inbox.subscriptions.pop(subscription_id, None)
            for uri in held:
                await self._release(uri)

        subscription.ends_with(end)
        try:
            for uri in sorted(interest.uris):
                if uri not in self._subscribed:
                    await self._caller.call("resources/subscribe", {"uri": uri}, deadline)
                self._subscribed[uri] = self._subscribed.get(uri, 0) + 1
                held.append(uri)
        except BaseException:
            await subscription.close()
            raise
        subscription.acknowledge(interest.to_filter())
        return subscription

    async def _release(self, uri: str) -> None:
        count = self._subscribed.pop(uri, 0) - 1
        if count > 0:
            self._subscribed[uri] = count
        elif count == 0 and self._connector.state is ConnectionState.CONNECTED:
            deadline = asyncio.get_running_loop().time() + _UNSUBSCRIBE_SECONDS
            await self._caller.call("resources/unsubscribe", {"uri": uri}, deadline)
