"""Keeps one channel for a client: opens it, agrees on an era, notices that it died, opens the next."""

import asyncio
import itertools
import logging
import os
import sys
from collections.abc import Awaitable, Callable

from fastapi_server.mcp.clients.channel import Channel, fresh
from fastapi_server.mcp.clients.handshake import Agreement, Handshake, Report, ServerInfo
from fastapi_server.mcp.clients.inbox import Inbox
from fastapi_server.mcp.clients.lifecycle import ConnectionState, moved
from fastapi_server.mcp.config import CommonConfig
from fastapi_server.mcp.errors import (
    AuthenticationError,
    ClientClosedError,
    ConnectTimeoutError,
    Delivery,
    HandshakeError,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    Phase,
    RPCError,
    SessionExpiredError,
)
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol.eras import BareEra, Era, EraName
from fastapi_server.mcp.protocol.negotiation import Answer, Outcome
from fastapi_server.mcp.resilience import (
    OUR_FAULTS,
    BreakerState,
    CircuitBreaker,
    backoff_delays,
    is_passing,
    is_permanent,
)

logger = logging.getLogger("fastapi_server.mcp")

_CONNECTED = ConnectionState.CONNECTED  # asked in every call; in its class Python 3.11 finds it six times as slowly
_LONGEST_WAIT = 30.0
_EAGER_ATTEMPTS = 5
_DOUBTFUL_CODES = frozenset({RPCError.UNSUPPORTED_PROTOCOL_VERSION, RPCError.INVALID_REQUEST, -32000})


class _ThisProcess:
    """Its id, for which the system need not be asked at every call."""

    pid = os.getpid()

    @classmethod
    def has_forked(cls) -> None:
        """This is the child."""
        cls.pid = os.getpid()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_ThisProcess.has_forked)


class Connector:
    """Holds at most one channel. However many callers wait for one, it is opened once.

    Args:
        name: Of the server, for the log and for errors.
        transport: Of the client, likewise.
        config: Times and pinned revision.
        establish: Gives an open channel.
        release: Closes it.
        next_transport: What to raise; or `None` where `establish` will now try another transport.
        inbox: Receives what the server says unasked.
        metrics: Of the client.
        capabilities: Wire form of ours.

    Attributes:
        state: Where the client stands.
        last_error: Why the last channel died or could not be opened; `None` after a success.
        channel: The present one, dead or alive.
        era: How to speak on it.
        info: What was negotiated last.
        exchanging: Exchanges under way on the channel; `park` waits for them.
        breaker: Counts failures to connect and of the transport, and calls a halt.
        report: Told each step of a negotiation and what came back.
        when_up: Run in the background after each negotiation.
        when_heard: Run when a channel can hear what it could not before; what the server told until then is lost.
        when_failed: Told that no channel could be opened.
        admit: Waits for leave to open a channel; a pool gives it.
        moved: Told each change of the state.
        released: Told that the client was closed, so that the leave can go to another.
        parked: Ends, before the channel is closed, what would hold it open.
        abandoned: Told that the event loop of the channel is gone, and all that ran there with it.
        wanted: Asked, when a channel has died, whether somebody waits for what the server says unasked.
    """

    def __init__(
        self,
        name: str,
        transport: str,
        config: CommonConfig,
        establish: Callable[[], Awaitable[Channel]],
        release: Callable[[], Awaitable[None]],
        next_transport: Callable[[MCPConnectionError], MCPConnectionError | None],
        inbox: Inbox,
        metrics: ClientMetrics,
        capabilities: dict[str, object],
    ) -> None:
        self.state = ConnectionState.DISCONNECTED
        self.last_error: MCPClientError | None = None
        self.channel: Channel | None = None
        self.era: Era = BareEra()
        self.info: ServerInfo | None = None
        self.request_ids = itertools.count(1)
        self.report: Report = lambda _step, _answer: None
        self.breaker = CircuitBreaker(
            config.breaker_threshold, config.breaker_reset / 1000, metrics.clock, self._breaker_moved
        )
        metrics.breaker = lambda: self.breaker.state
        self.when_up: Callable[[], Awaitable[None]] | None = None
        self.when_heard: Callable[[], None] = lambda: None
        self.when_failed: Callable[[MCPClientError], None] = lambda _error: None
        self.admit: Callable[[], Awaitable[None]] | None = None
        self.moved: Callable[[ConnectionState, ConnectionState], None] = lambda _before, _after: None
        self.released: Callable[[], None] = lambda: None
        self.parked: Callable[[], Awaitable[None]] = _nothing_to_do
        self.abandoned: Callable[[], None] = lambda: None
        self.wanted: Callable[[], bool] = lambda: False
        self._name = name
        self._transport = transport
        self._config = config
        self._establish = establish
        self._release = release
        self._next_transport = next_transport
        self._inbox = inbox
        self._metrics = metrics
        self._capabilities = capabilities
        self._known_version: str | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = _ThisProcess.pid
        self._attempt: asyncio.Task[None] | None = None
        self._disconnecting: asyncio.Task[None] | None = None
        self._parking: asyncio.Task[None] | None = None
        self.exchanging = 0
        self._quiet: asyncio.Future[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._after: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None

    def locate(self, error: MCPClientError, phase: Phase) -> MCPClientError:
        """Have an error say which server it is of, and no credential that the server has echoed. Returns it."""
        self._clean(error)
        return error.at(self._name, self.channel.transport if self.channel else self._transport, phase)

    def redacted(self, text: str) -> str:
        """`text` of the server's without any credential that we gave it."""
        return text if self.channel is None else self.channel.redacted(text)

    def usable(self) -> Channel | None:
        """The channel, where it is there, nothing is about to close it, and nobody doubts that its era is right."""
        channel = self.channel
        if (
            channel is None
            or self.state is not _CONNECTED
            or channel.lost is not None
            or self._closed
            or self._parking is not None
            or self._disconnecting is not None
            or self._checking is not None
        ):
            return None
        return channel

    async def live_channel(self) -> Channel:
        """The channel to use now; brings one up where there is none, unless the client was closed.

        Raises:
            MCPConnectionError: There is none and none can be opened.
        """
        self.own_loop()
        while (going := self._parking or self._disconnecting or self._checking) is not None and not self._closed:
            await asyncio.wait((going,))
        channel = self.usable()
        if channel is not None:
            return channel
        if self._closed:
            raise ClientClosedError("the client was closed; call connect() to use it again", delivery=Delivery.NOT_SENT)
        await self.connect(attempts=1)
        if self.channel is None:
            raise ClientClosedError("the client was closed meanwhile", delivery=Delivery.NOT_SENT)
        return self.channel

    def own_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that runs: sockets and pipes belong to the one that opened them, and so does the client.

        Raises:
            MCPConnectionError: Another loop has it, or another process: that which this one was forked from.
        """
        loop, pid = asyncio.get_running_loop(), _ThisProcess.pid
        if self._loop is loop and self._pid == pid:
            return loop
        if self.state is ConnectionState.DISCONNECTED:
            self._loop, self._pid = loop, pid
        elif self._pid != pid:
            raise MCPConnectionError(
                "the client was connected before this process was forked; the connection belongs to the parent: "
                "make a client here, or connect only after the fork",
                delivery=Delivery.NOT_SENT,
            )
        elif self._loop is not None and self._loop.is_closed():
            self._abandon()
            self._loop = loop
        else:
            raise MCPConnectionError(
                "the client is in use by another event loop; disconnect it there, or make one client for each loop",
                delivery=Delivery.NOT_SENT,
            )
        return loop

    def _abandon(self) -> None:
        """The loop that had the channel is gone, and the channel with it: nothing is left to be awaited."""
        if self.channel is not None:
            self.channel.abandon()
        self.channel = self._attempt = self._retiring = self._after = self._disconnecting = self._parking = None
        self._checking = None
        self.exchanging = self._metrics.in_flight = 0
        self._quiet = None
        self._metrics.connected_at = None
        self.state = ConnectionState.DISCONNECTED
        self.abandoned()

    async def connect(self, attempts: int) -> None:
        """Have a live channel, trying up to `attempts` times with backoff.

        Raises:
            MCPConnectionError: What the last attempt failed with.
        """
        self.own_loop()
        while (going := self._parking or self._disconnecting) is not None:
            await asyncio.shield(going)
        self._closed = False
        if self._attempt is None:
            if self.state is ConnectionState.CONNECTED:
                return
            attempt = self._start(attempts)
        else:
            attempt = self._attempt
        try:
            await asyncio.shield(attempt)
        except MCPClientError as error:
            raise fresh(error, error.delivery) from error.__cause__
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if attempt.cancelled() and caller is not None and not caller.cancelling():
                raise ClientClosedError("the client was closed while connecting", delivery=Delivery.NOT_SENT) from None
            raise

    def _start(self, attempts: int) -> asyncio.Task[None]:
        self._attempt = asyncio.get_running_loop().create_task(self._bring_up(max(1, attempts)))
        self._attempt.add_done_callback(self._attempt_over)
        return self._attempt

    def _attempt_over(self, attempt: asyncio.Task[None]) -> None:
        self._attempt = None
        if not attempt.cancelled():
            attempt.exception()  # seen, even where every caller has gone away

    async def disconnect(self) -> None:
        """Close the channel and refuse calls until `connect`. Safe in any state, twice, and from any task."""
        self.own_loop()
        self._closed = True
        await self._close()

    async def _close(self) -> None:
        if self._disconnecting is None:
            self._disconnecting = asyncio.get_running_loop().create_task(self._tear_down())
        await asyncio.shield(self._disconnecting)

    def park(self, drain_seconds: float) -> asyncio.Task[None]:
        """Close the channel, but open another one for whoever comes next. Returns the task that does it.

        From now on, who comes waits for the next channel.

        Args:
            drain_seconds: What is under way gets so long to finish.
        """
        self.own_loop()
        if self._parking is None:
            self._parking = asyncio.get_running_loop().create_task(self._park(drain_seconds))
        return self._parking

    async def _park(self, drain_seconds: float) -> None:
        try:
            await self.parked()
            if self.exchanging:
                self._quiet = asyncio.get_running_loop().create_future()
                await asyncio.wait((self._quiet,), timeout=drain_seconds)
            await self._close()
        finally:
            self._parking = self._quiet = None

    def exchange_over(self) -> None:
        """What `exchanging` counted is done."""
        if self.exchanging:  # one of a loop that is gone may end when it is collected
            self.exchanging -= 1
        if self._quiet is not None and self.exchanging == 0 and not self._quiet.done():
            self._quiet.set_result(None)

    async def _tear_down(self) -> None:
        try:
            tasks = [task for task in (self._attempt, self._after, self._checking) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._retiring is not None:
                await asyncio.shield(self._retiring)
            await self._let_go()
            await self._inbox.close()
        finally:
            self.channel = None
            self._metrics.connected_at = None
            if self.state is not ConnectionState.DISCONNECTED:
                self._move(ConnectionState.DISCONNECTED)
            self._disconnecting = None
            self._log(logging.DEBUG, "closed", "closed")
            self.released()

    def _log(self, level: int, event: str, message: str) -> None:
        """One line for one event; machines read it from `mcp_event`, `mcp_server` and `mcp_transport`."""
        extra = {
            "mcp_event": event,
            "mcp_server": self._name,
            "mcp_transport": self.channel.transport if self.channel else self._transport,
        }
        logger.log(level, "server %r: %s", self._name, message, extra=extra)

    async def _let_go(self) -> None:
        """Close the channel; what a transport raises then is logged, because there is nothing left to be done."""
        try:
            await self._release()
        except Exception:
            logger.exception("server %r: closing the channel failed", self._name)

    def doubt(self, error: MCPClientError) -> None:
        """A server that was found to be stateless refuses to be spoken to so: it may have been replaced. Ask again.

        It may as well be a tool that says no, which concerns nobody else. So calls in flight go on, and only who comes
        waits for the answer (2026-07-28, basic/versioning: re-probe if the cached assumption later fails).
        """
        channel = self.usable()
        if channel is None or self.era.name is not EraName.STATELESS or self._config.protocol_version is not None:
            return
        match error:
            case RPCError(code=code) if code in _DOUBTFUL_CODES:
                pass
            case AuthenticationError():  # its status may be that of an authorization server
                return
            case HTTPStatusError(status=400 | 404 | 405):
                pass
            case _:
                return
        self._checking = asyncio.get_running_loop().create_task(self._check(channel, error))

    async def _check(self, channel: Channel, doubted: MCPClientError) -> None:
        try:
            handshake = Handshake(self._config, self._capabilities, self.request_ids, self.report)
            if not await handshake.still_speaks(channel, self.era.version):
                self._known_version = None
                message = f"the server no longer speaks revision {self.era.version}: {doubted.message}"
                channel.lose(MCPConnectionError(message))
        except MCPClientError as error:  # it says nothing of revisions; of the next call it says what it has to
            logger.debug("server %r: its revision could not be checked: %s", self._name, error)
        finally:
            self._checking = None

    def declare_lost(self, error: MCPClientError) -> None:
        """The channel looks alive but does not answer: have it replaced."""
        if self.channel is not None:
            self.channel.lose(error)

    # Bringing up.

    async def _bring_up(self, attempts: int) -> None:
        try:
            await self._try_to_bring_up(attempts)
        except asyncio.CancelledError:
            if self._disconnecting is None:
                self.released()
            raise ClientClosedError("the client was closed while connecting", delivery=Delivery.NOT_SENT) from None
        finally:
            if self.state in {ConnectionState.CONNECTING, ConnectionState.RECONNECTING}:
                self._move(ConnectionState.ERROR)

    async def _try_to_bring_up(self, attempts: int) -> None:
        if self._retiring is not None:
            await asyncio.shield(self._retiring)
        had_one = self.state is ConnectionState.ERROR and self._metrics.connections > 0
        self._move(ConnectionState.RECONNECTING if had_one else ConnectionState.CONNECTING)
        if self.admit is not None:
            try:
                await self.admit()
            except MCPConnectionError as error:
                self._fail(error)
                raise
        delays = backoff_delays(attempts - 1)
        while True:
            try:
                await self._one_attempt()
            except (MCPConnectionError, *OUR_FAULTS) as error:
                self._metrics.failed_connects += 1
                delay = None if is_permanent(error) else _asked_for(error, next(delays, None))
                if delay is None:
                    if not isinstance(error, (AuthenticationError, *OUR_FAULTS)):  # they say nothing of the server
                        self.breaker.failed()
                    self._fail(error)
                    raise
                self._log(logging.INFO, "retrying", f"{error.message}; trying again in {delay:.1f} s")
            else:
                return
            await asyncio.sleep(delay)

    def _breaker_moved(self, state: BreakerState) -> None:
        self._metrics.breaker_moves[state] += 1
        level = logging.WARNING if state is BreakerState.OPEN else logging.INFO
        self._log(level, "breaker", f"the circuit breaker is {state.replace('_', ' ')}")

    def failed(self, error: MCPClientError, ticket: int) -> None:
        """Have the breaker know that an exchange failed; what took the whole channel with it is counted once, there."""
        if is_passing(error) and self.channel is not None and self.channel.lost is None:
            self.breaker.failed(ticket)
        else:
            self.breaker.abandoned(ticket)

    def _fail(self, error: MCPClientError) -> None:
        if error.delivery is Delivery.UNKNOWN:
            error.delivery = Delivery.NOT_SENT  # no call had begun
        self.last_error = self.locate(error, "handshake" if isinstance(error, HandshakeError) else "connect")
        self._metrics.errors_by_type[type(error).__name__] += 1
        self._move(ConnectionState.ERROR)
        self.when_failed(error)
        self.released()

    async def _one_attempt(self) -> None:
        started, seconds = self._metrics.clock(), self._config.timeout / 1000
        try:
            async with asyncio.timeout(seconds):
                await self._open_and_agree()
            self._metrics.connecting.observe(self._metrics.clock() - started)
        except TimeoutError as error:
            await self._let_go()
            if isinstance(error, MCPClientError):
                raise
            raise ConnectTimeoutError(f"no connection within {seconds:g} s (config: timeout)") from None
        except BaseException:
            await self._let_go()
            raise

    async def _open_and_agree(self) -> None:
        while True:
            try:
                agreement = await self._agree()
                break
            except MCPConnectionError as error:
                if is_permanent(error):
                    self._known_version = None
                final = self._next_transport(error)
                if final is not None:
                    raise final from error.__cause__
                await self._let_go()
        if agreement.channel.lost is not None:
            raise fresh(agreement.channel.lost, Delivery.NOT_SENT)
        self.era = agreement.era
        self.info = agreement.info or self.info
        self._known_version = agreement.era.version or None
        self._up(agreement.channel)

    async def _agree(self) -> Agreement:
        try:
            self.channel = await self._open()
            handshake = Handshake(self._config, self._capabilities, self.request_ids, self.report)
            return await handshake.run(self.channel, self._reopen, self._known_version)
        except (MCPConnectionError, *OUR_FAULTS) as error:
            self._clean(error)
            raise
        except MCPClientError as error:
            self._clean(error)
            raise HandshakeError(error.message) from error
        except Exception as error:  # of a transport that somebody else wrote
            said = self.redacted(str(error))
            raise MCPConnectionError(f"connecting failed: {type(error).__name__}: {said}") from error

    def _clean(self, error: MCPClientError) -> None:
        if self.channel is not None:
            self.channel.clean(error)

    async def _open(self) -> Channel:
        try:
            channel = await self._establish()
        except MCPClientError as error:
            self.report(None, error)
            raise
        self.report(None, Answer(Outcome.RESULT))
        channel.on_message = self._inbox.receive
        channel.on_lost = lambda error: self._down(channel, error)
        channel.on_hearing = self.when_heard
        return channel

    async def _reopen(self) -> Channel:
        await self._let_go()
        self.channel = await self._open()
        return self.channel

    def _up(self, channel: Channel) -> None:
        self._metrics.reconnects += self.state is ConnectionState.RECONNECTING
        self._metrics.connections += 1
        self._metrics.connected_at = self._metrics.clock()
        self.last_error = None
        self.breaker.reconnected()
        self._move(ConnectionState.CONNECTED)
        self._log(
            logging.INFO, "connected", f"connected over {channel.transport}, revision {self.era.version or 'none'}"
        )
        channel.begin_session(self.era)
        if self.when_up is not None:
            self._after = asyncio.ensure_future(self.when_up())

    def _down(self, channel: Channel, error: MCPClientError) -> None:
        """The channel died of itself: say so, and clear up what it leaves."""
        if channel is not self.channel or self.state is not ConnectionState.CONNECTED:
            return
        self.last_error = self.locate(fresh(error, error.delivery), "call")
        self._metrics.connected_at = None
        self._move(ConnectionState.ERROR)
        self._log(logging.WARNING, "lost", f"the connection is lost: {error.message}")
        if not isinstance(error, SessionExpiredError):
            self.breaker.failed()
        self._retiring = asyncio.get_running_loop().create_task(self._retire())

    async def _retire(self) -> None:
        try:
            if self._after is not None:
                self._after.cancel()
            await self._inbox.drop_channel()
            await self._let_go()
        finally:
            self._retiring = None
        if (
            not self._closed
            and self._disconnecting is None
            and self._attempt is None
            and (self._config.reconnect == "eager" or self.wanted())
        ):
            self._start(_EAGER_ATTEMPTS)

    def _move(self, to: ConnectionState) -> None:
        before, self.state = self.state, moved(self.state, to)
        self.moved(before, to)


async def _nothing_to_do() -> None:
    pass


def _asked_for(error: MCPClientError, delay: float | None) -> float | None:
    """The wait before another attempt, as the server asks for it; none where that is longer than anybody would wait."""
    if delay is None or not isinstance(error, HTTPStatusError) or error.retry_after is None:
        return delay
    return error.retry_after if error.retry_after <= _LONGEST_WAIT else None
