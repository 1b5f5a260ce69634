"""The same verbs without `async`, for scripts and notebooks: an event loop in a thread of its own does the work.

```python
from fastapi_server.mcp import ServerConfig
from fastapi_server.mcp.sync import SyncMCPClient

with SyncMCPClient.of(ServerConfig("files", "stdio", {"command": "mcp-server-files"})) as client:
    print(client.list_tools())
```

Handlers, hooks and progress callbacks run in the loop thread. What is called from there must not wait for that very
thread, so it raises `RuntimeError`: a handler awaits the verbs of `SyncMCPClient.asynchronous` instead.
"""

import contextlib
import functools
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from mcp_types import Tool

from fastapi_server.mcp.admission import PoolLimits
from fastapi_server.mcp.catalogue import Catalogue
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.handshake import Probe, ServerInfo
from fastapi_server.mcp.clients.hooks import Hooks
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.clients.subscriptions import Change, Interest, Subscription
from fastapi_server.mcp.config import ServerConfig, ToolRules
from fastapi_server.mcp.errors import MCPClientError
from fastapi_server.mcp.loop_thread import LoopThread, loop_thread, shutdown
from fastapi_server.mcp.members import PoolMember, PoolMetrics
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.pool import ClientPool

__all__ = ["LoopThread", "SyncClientPool", "SyncMCPClient", "SyncSubscription", "loop_thread", "shutdown"]

T = TypeVar("T")
P = ParamSpec("P")
Inner = TypeVar("Inner")


class _Face(Generic[Inner]):
    """Something asynchronous, and the thread that it lives in.

    Attributes:
        asynchronous: What only the loop thread may await: handlers, hooks, progress callbacks.
        thread: Where it lives.
    """

    def __init__(self, asynchronous: Inner, thread: LoopThread | None) -> None:
        self.asynchronous = asynchronous
        self.thread = thread or loop_thread()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.asynchronous!r}>"


def _plain(verb: Callable[Concatenate[Inner, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[_Face[Inner], P], T]:
    """The verb, with the same parameters and the same documentation, as a method that blocks."""

    @functools.wraps(verb, assigned=("__name__", "__doc__", "__annotations__"))
    def call(face: _Face[Inner], /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def work() -> T:
            return await getattr(face.asynchronous, verb.__name__)(*args, **kwargs)  # a subclass may have its own

        return face.thread.run(work)

    return call


class SyncSubscription:
    """An iterator of changes that blocks, and a context manager that ends it: `Subscription` without `async`.

    Another thread may `close` it; the iteration then ends.
    """

    def __init__(self, subscription: Subscription, client: "SyncMCPClient") -> None:
        self._subscription = subscription
        self._client = client  # which must not be abandoned before this is

    @property
    def interest(self) -> Interest:
        """What was asked for."""
        return self._subscription.interest

    @property
    def honoured(self) -> dict[str, Any]:
        """What the server agreed to: a `SubscriptionFilter` in wire form."""
        return self._subscription.honoured

    def close(self) -> None:
        """End the subscription and tell the server. Safe twice."""
        self._client.thread.run(self._subscription.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        try:
            return self._client.thread.run(self._subscription.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None


class SyncMCPClient(_Face[MCPClient]):
    """An `MCPClient` whose verbs block. Any thread may use it, at the same time as others.

    One that nobody refers to any more is disconnected in the background; those that are left, at the latest at the
    exit of the interpreter.

    Args:
        client: The asynchronous client; no other event loop may have used it.
        thread: Where it lives; left out, the thread that all share.
        owned: Disconnect the client when this handle is gone.
    """

    def __init__(self, client: MCPClient, *, thread: LoopThread | None = None, owned: bool = True) -> None:
        super().__init__(client, thread)
        if owned:
            self.thread.owns(self, client.disconnect)

    @classmethod
    def of(
        cls,
        config: ServerConfig,
        *,
        handlers: Handlers | None = None,
        principal: str | None = None,
        hooks: Hooks | None = None,
    ) -> Self:
        """A new client for a configuration. Opens nothing.

        Raises:
            ConfigError: Nobody has registered the transport.
        """
        return cls(make_client(config, handlers=handlers, principal=principal, hooks=hooks))

    def __enter__(self) -> Self:
        try:
            self.thread.run(self.asynchronous.__aenter__)
        except BaseException:
            self.thread.run(self.asynchronous.disconnect)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.disconnect()

    # What it knows.

    @property
    def name(self) -> str:
        """How you call the server."""
        return self.asynchronous.name

    @property
    def config(self) -> Any:
        """The typed settings of the transport."""
        return self.asynchronous.config

    @property
    def principal(self) -> str | None:
        """On whose behalf the client works."""
        return self.asynchronous.principal

    @property
    def transport(self) -> str:
        """Its name in configurations."""
        return self.asynchronous.transport

    @property
    def state(self) -> ConnectionState:
        """Where the client stands."""
        return self.asynchronous.state

    @property
    def last_error(self) -> MCPClientError | None:
        """Why the last channel died or could not be opened; `None` after a success."""
        return self.asynchronous.last_error

    @property
    def server_info(self) -> ServerInfo | None:
        """What was negotiated; `None` before that."""
        return self.asynchronous.server_info

    @property
    def listening(self) -> bool:
        """Somebody iterates over a subscription of this client."""
        return self.asynchronous.listening

    @property
    def metrics(self) -> ClientMetrics:
        """What the client counts, live."""
        return self.asynchronous.metrics

    def get_metrics(self) -> ClientMetrics:
        """The counters, live."""
        return self.asynchronous.get_metrics()

    def watch_negotiation(self, told: Callable[[Probe], None]) -> None:
        """From now on have `told` hear each probe of a negotiation, in the loop thread; it must return at once."""
        self.asynchronous.watch_negotiation(told)

    # The verbs.

    connect = _plain(MCPClient.connect)
    disconnect = _plain(MCPClient.disconnect)
    park = _plain(MCPClient.park)
    replace_channel = _plain(MCPClient.replace_channel)
    initialize = _plain(MCPClient.initialize)
    ping = _plain(MCPClient.ping)
    health_check = _plain(MCPClient.health_check)
    set_logging_level = _plain(MCPClient.set_logging_level)
    request = _plain(MCPClient.request)
    notify = _plain(MCPClient.notify)
    list_tools = _plain(MCPClient.list_tools)
    call_tool = _plain(MCPClient.call_tool)
    list_resources = _plain(MCPClient.list_resources)
    list_resource_templates = _plain(MCPClient.list_resource_templates)
    list_prompts = _plain(MCPClient.list_prompts)
    read_resource = _plain(MCPClient.read_resource)
    get_prompt = _plain(MCPClient.get_prompt)
    complete = _plain(MCPClient.complete)

    def listen(
        self,
        *,
        tools: bool = False,
        prompts: bool = False,
        resources: bool = False,
        uris: Iterable[str] = (),
        timeout: float | None = None,
    ) -> SyncSubscription:
        """Ask to be told of changes: to the three lists, and to the resources at `uris`. The same in both eras.

        ```python
        with client.listen(tools=True) as changes:
            for change in changes: ...
        ```
        """

        async def work() -> Subscription:
            return await self.asynchronous.listen(
                tools=tools, prompts=prompts, resources=resources, uris=uris, timeout=timeout
            )

        return SyncSubscription(self.thread.run(work), self)

    def subscribe(self, uri: str, *, timeout: float | None = None) -> SyncSubscription:
        """Ask to be told when the resource at `uri` changes."""
        return self.listen(uris={uri}, timeout=timeout)


class SyncClientPool(_Face[ClientPool]):
    """A `ClientPool` whose verbs block: `with SyncClientPool(ClientPool(servers, make_client)) as pool: …`.

    Args:
        pool: The asynchronous pool; no event loop may have used it.
        thread: Where it lives; left out, the thread that all share.
    """

    def __init__(self, pool: ClientPool, *, thread: LoopThread | None = None) -> None:
        super().__init__(pool, thread)
        self.thread.owns(self, pool.close)

    def __enter__(self) -> Self:
        self.thread.run(self.asynchronous.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def servers(self) -> list[str]:
        """The names of the servers, in their order."""
        return self.asynchronous.servers

    @property
    def limits(self) -> PoolLimits:
        """As given."""
        return self.asynchronous.limits

    @property
    def metrics(self) -> PoolMetrics:
        """What the pool counts, live."""
        return self.asynchronous.metrics

    def config_of(self, name: str) -> ServerConfig | None:
        """The configuration of a server, if there is one of that name."""
        return self.asynchronous.config_of(name)

    def members(self) -> list[PoolMember]:
        """The clients that there are now, connected or not; to look at, not to change."""
        return self.asynchronous.members()

    close = _plain(ClientPool.close)
    tools = _plain(ClientPool.tools)
    call = _plain(ClientPool.call)
    reload = _plain(ClientPool.reload)

    def catalogue(
        self, listed: Mapping[str, Sequence[Tool] | MCPClientError], view: ToolRules | None = None
    ) -> Catalogue:
        """The catalogue of tools that have been listed before; asks nobody."""
        return self.asynchronous.catalogue(listed, view)

    def resolve(self, name: str, view: ToolRules | None = None) -> tuple[str, str]:
        """The server of a name in the catalogue, and the tool's own name there.

        Raises:
            ConfigError: There is no such name, or the server's rules or the view hide it.
        """
        return self.asynchronous.resolve(name, view)

    def client(
        self,
        name: str,
        principal: str | None = None,
        *,
        session: str | None = None,
        handlers: Handlers | None = None,
    ) -> SyncMCPClient:
        """The client of a server for a principal; as `ClientPool.client`. `handlers` run in the loop thread.

        Raises:
            ConfigError: There is no such server.
        """

        async def work() -> MCPClient:
            return self.asynchronous.client(name, principal, session=session, handlers=handlers)

        return self._lent(self.thread.run(work))

    @contextlib.contextmanager
    def lease(
        self,
        name: str,
        principal: str | None = None,
        *,
        session: str | None = None,
        handlers: Handlers | None = None,
    ) -> Generator[SyncMCPClient]:
        """The same client for a `with` block: connected when that begins, and closed for nobody until it ends.

        Raises:
            ConfigError: There is no such server.
            ClientClosedError: The pool was closed.
            MCPConnectionError: It cannot be reached, or no place became free in time.
        """
        held = contextlib.AsyncExitStack()

        async def work() -> MCPClient:
            lease = self.asynchronous.lease(name, principal, session=session, handlers=handlers)
            return await held.enter_async_context(lease)

        try:
            yield self._lent(self.thread.run(work))
        finally:
            self.thread.run(held.aclose)

    def put(self, config: ServerConfig, *, handlers: Handlers | None = None) -> None:
        """Add a server, or replace the one of that name; as `ClientPool.put`. `handlers` run in the loop thread."""

        async def work() -> None:
            self.asynchronous.put(config, handlers=handlers)

        self.thread.run(work)

    def connect_all(
        self, *, principal: str | None = None, progress: Callable[[str, MCPClient | MCPClientError], None] | None = None
    ) -> dict[str, SyncMCPClient | MCPClientError]:
        """Connect to every server; as `ClientPool.connect_all`. `progress` is told in the loop thread.

        Raises:
            MCPConnectionError: A server whose configuration says `required` cannot be reached.
        """

        async def work() -> Mapping[str, MCPClient | MCPClientError]:
            return await self.asynchronous.connect_all(principal=principal, progress=progress)

        outcomes = self.thread.run(work)
        return {name: self._lent(one) if isinstance(one, MCPClient) else one for name, one in outcomes.items()}

    def _lent(self, client: MCPClient) -> SyncMCPClient:
        return SyncMCPClient(client, thread=self.thread, owned=False)
