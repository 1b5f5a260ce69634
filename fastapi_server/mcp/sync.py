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

import asyncio
import atexit
import contextlib
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeAlias, TypeVar

from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.handshake import Probe, ServerInfo
from fastapi_server.mcp.clients.hooks import Hooks
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.clients.subscriptions import Change, Interest, Subscription
from fastapi_server.mcp.config import ServerConfig
from fastapi_server.mcp.errors import ClientClosedError, MCPClientError
from fastapi_server.mcp.members import PoolMetrics
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.pool import ClientPool

_CANCEL_SECONDS = 5.0
_POLL_SECONDS = 0.2 if sys.platform == "win32" else None  # there Ctrl-C does not wake a thread that waits for a lock

T = TypeVar("T")
P = ParamSpec("P")
Inner = TypeVar("Inner")
End: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class _Call(Generic[T]):
    """A coroutine in the loop thread, and the thread that waits for it. `outcome` is settled whatever happens."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: Future[T] = Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        if self._task is None:
            self.abort()
        else:
            self._task.cancel()

    def _settle(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.abort()
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())

    def abort(self) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(ClientClosedError("the loop thread was shut down"))

    def wait(self) -> None:
        while not wait((self.outcome,), _POLL_SECONDS).done:
            pass


class LoopThread:
    """An event loop in a daemon thread, for any number of threads to run coroutines in.

    `loop_thread()` gives the one that everybody shares; make your own to keep clients apart.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._stop = asyncio.Event()
        self._closed = False
        self._lock = threading.RLock()  # a finalizer may interrupt the thread that holds it
        self._calls: set[_Call[Any]] = set()
        self._ends: dict[End, asyncio.Task[None] | None] = {}
        self._thread = threading.Thread(target=self._serve, name="mcp-sync", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it takes calls: not closed, and not left behind by a fork."""
        return not self._closed and self._thread.is_alive()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine of `work` in the loop thread, under the context variables of the caller, and wait for it.

        What interrupts the waiting (Ctrl-C) cancels the coroutine, and is raised when that has ended, after 5 s at
        the latest.

        Raises:
            RuntimeError: Called in the loop thread.
            ClientClosedError: The loop thread was shut down.
        """
        self._refuse_inside()
        call = _Call(work)
        self._calls.add(call)
        try:
            self._post(call.start)
            call.wait()
            return call.outcome.result()
        except BaseException:
            if not call.outcome.done():
                with contextlib.suppress(ClientClosedError):
                    self._post(call.cancel)
                    wait((call.outcome,), _CANCEL_SECONDS)
            raise
        finally:
            self._calls.discard(call)

    def owns(self, handle: object, end: End) -> None:
        """Have `end` run when the thread is closed, or before, when nobody refers to `handle` any more."""
        self._ends[end] = None
        weakref.finalize(handle, self._abandoned, end).atexit = False

    def close(self) -> None:
        """Disconnect all clients, end the loop and the thread, and wait for that. Safe twice.

        Raises:
            RuntimeError: Called in the loop thread.
        """
        self._refuse_inside()
        with self._lock:
            if self.alive:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _refuse_inside(self) -> None:
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError(
                "a blocking call in the loop thread would wait for itself for ever; "
                "a handler, hook or progress callback awaits the asynchronous client instead"
            )

    def _post(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self.alive:
                raise ClientClosedError("the loop thread was shut down")
            self._loop.call_soon_threadsafe(callback)

    def _abandoned(self, end: End) -> None:
        def begin() -> None:
            task = self._ends[end] = self._loop.create_task(end())
            task.add_done_callback(lambda _done: self._ends.pop(end, None))

        with contextlib.suppress(ClientClosedError):
            self._post(begin)

    def _serve(self) -> None:
        try:
            # At the exit of the interpreter, from Python 3.12, the executor's end can't have a thread to wait in.
            with contextlib.suppress(RuntimeError), self._runner:
                self._runner.run(self._main())
        finally:
            with self._lock:
                self._closed = True
            for call in list(self._calls):
                call.abort()

    async def _main(self) -> None:
        try:
            await self._stop.wait()
        finally:
            self._closed = True
            await asyncio.gather(*(end() for end in list(self._ends)), return_exceptions=True)


_shared: LoopThread | None = None
_shared_lock = threading.Lock()


def loop_thread() -> LoopThread:
    """The loop thread of this process, started when it is first needed, or needed again."""
    global _shared  # noqa: PLW0603
    with _shared_lock:
        if _shared is None or not _shared.alive:
            _shared = LoopThread()
        return _shared


def shutdown() -> None:
    """Disconnect all clients of the shared loop thread and end it; done at the exit of the interpreter, too."""
    global _shared
    with _shared_lock:
        thread, _shared = _shared, None
    if thread is not None:
        thread.close()


atexit.register(shutdown)


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
    def metrics(self) -> PoolMetrics:
        """What the pool counts, live."""
        return self.asynchronous.metrics

    close = _plain(ClientPool.close)
    tools = _plain(ClientPool.tools)
    call = _plain(ClientPool.call)
    reload = _plain(ClientPool.reload)

    def client(self, name: str, principal: str | None = None) -> SyncMCPClient:
        """The client of a server for a principal. Opens nothing; it stays the pool's.

        Raises:
            ConfigError: There is no such server.
        """

        async def work() -> MCPClient:
            return self.asynchronous.client(name, principal)

        return self._lent(self.thread.run(work))

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
