"""The servers behind the gateway: their clients, what they list, and what is known of how they fare."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mcp_types import LoggingMessageNotificationParams

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.directory import Directory, ListChange
from fastapi_server.gateway.draining import Draining
from fastapi_server.gateway.events import Event, EventBus
from fastapi_server.gateway.problems import cause_of
from fastapi_server.gateway.recent import CALLS, Recent
from fastapi_server.gateway.settings import Settings
from fastapi_server.mcp import (
    ClientPool,
    ConnectionState,
    ErrorEvent,
    HandlerContext,
    Handlers,
    Hooks,
    PoolLimits,
    RequestEvent,
    ResponseEvent,
    ServerConfig,
    StateEvent,
    make_client,
)

LogListener: TypeAlias = Callable[[HandlerContext, LoggingMessageNotificationParams], None]

_LOG_LINES = 500


@dataclass(frozen=True)
class LogLine:
    """What a server logged through the protocol.

    Attributes:
        at: Seconds since the epoch.
        level: As the server gave it.
        logger: Name that the server gave.
        text: What it said.
    """

    at: float
    level: str
    logger: str | None
    text: str


@dataclass
class Gateway:
    """What the endpoint, the REST interface and the dashboard share.

    Attributes:
        settings: Of this process.
        servers: To begin with.
        events: What happens, live.
        pool: The clients.
        directory: What the servers list.
        logs: What each server logged last.
        recent: How the calls to each server went.
        draining: What has to end before the gateway does.
        log_heard: Each is told, at once and in the context of whoever read it, what a server logs.
    """

    settings: Settings
    servers: Mapping[str, ServerConfig] = field(default_factory=dict[str, ServerConfig])
    events: EventBus = field(default_factory=EventBus)
    logs: dict[str, deque[LogLine]] = field(default_factory=dict[str, deque[LogLine]])
    recent: dict[str, Recent] = field(default_factory=lambda: defaultdict[str, Recent](Recent))
    draining: Draining = field(default_factory=Draining)
    log_heard: list[LogListener] = field(default_factory=list["LogListener"])

    def __post_init__(self) -> None:
        hooks = Hooks(on_state_change=self._moved, on_response=self._answered, on_error=self._failed)
        drain = self.settings.drain_seconds
        self.pool = ClientPool(
            self.servers,
            make_client,
            limits=PoolLimits(total=1_000, per_server=200, per_principal=500, idle_seconds=900, drain_seconds=drain),
            handlers=self.quiet_handlers,
            hooks=hooks,
        )
        self.directory = Directory(self.pool, patience=self.settings.patience)
        self.directory.changed.append(
            lambda change: self.events.tell(Event("lists", change.server, {"kind": change.kind}, change=change))
        )

    async def reload(self, servers: Mapping[str, ServerConfig]) -> None:
        """Serve other servers; those whose configuration is the same are not touched."""
        before = {name: self.pool.config_of(name) for name in self.pool.servers}
        await self.pool.reload(servers)
        fresh = list[str]()
        for name in before.keys() | servers.keys():
            if name not in servers:
                self.logs.pop(name, None)
                self.recent.pop(name, None)
                self.events.tell(Event("server", name, {"change": "removed"}))
            elif name not in before:
                self.events.tell(Event("server", name, {"change": "added"}))
                fresh.append(name)
            elif before[name] != servers[name]:
                self.events.tell(Event("server", name, {"change": "changed"}))
                fresh.append(name)
            else:
                continue
            self.directory.forget(name)
        self.directory.follow(fresh, None)

    def concerns(self, change: ListChange, caller: Caller) -> bool:
        """Whether a list is another one for a caller: any of what has changed is there for them."""
        theirs = change.everybody or caller.principal == change.principal
        if not theirs or not caller.may_use(change.server):
            return False
        if not change.tools:
            return True
        return bool(self.pool.catalogue({change.server: change.tools}, caller.tools).entries)

    async def close(self) -> None:
        """Let calls in flight end, then close every client."""
        await self.directory.close()
        await self.pool.close()

    # What the clients tell.

    def quiet_handlers(self, _server: str, _principal: str | None) -> Handlers:
        """For clients on behalf of callers who answer no questions."""
        return Handlers(logging=self.logged, list_changed=self.directory.list_changed)

    def logged(self, context: HandlerContext, params: LoggingMessageNotificationParams) -> None:
        """Keep what a server logs."""
        text = params.data if isinstance(params.data, str) else repr(params.data)
        line = LogLine(time.time(), params.level, params.logger, text)
        if self.pool.config_of(context.server) is not None:
            self.logs.setdefault(context.server, deque(maxlen=_LOG_LINES)).append(line)
        self.events.tell(Event("log", context.server, vars(line)))
        for told in self.log_heard:
            told(context, params)

    def _moved(self, event: StateEvent) -> None:
        error = cause_of(event.error) if event.error is not None else None
        data: dict[str, Any] = {"state": str(event.after), "error": error}
        self.events.tell(Event("state", event.server, data, event.principal))
        restarted = event.before is ConnectionState.RECONNECTING and event.after is ConnectionState.CONNECTED
        if restarted and self.pool.config_of(event.server) is not None:
            self.recent[event.server].restarts += 1
        self.directory.state_changed(event)

    def _answered(self, event: ResponseEvent) -> None:
        self._ended(event.request, event.seconds, None)

    def _failed(self, event: ErrorEvent) -> None:
        self._ended(event.request, event.seconds, event.error)

    def _ended(self, request: RequestEvent, seconds: float, error: BaseException | None) -> None:
        if request.method in CALLS and self.pool.config_of(request.server) is not None:
            given_up = isinstance(error, asyncio.CancelledError)
            self.recent[request.server].record(seconds, failed=error is not None and not given_up)
        data = {
            "method": request.method,
            "target": request.target,
            "seconds": seconds,
            "error": type(error).__name__ if error is not None else None,
        }
        self.events.tell(Event("call", request.server, data))
