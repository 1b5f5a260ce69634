"""Auth flows in the way of httpx: generators that take a request, and responses, and give requests."""

from collections.abc import AsyncGenerator, Generator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi_server.mcp.auth.authenticator import Authenticator, Outgoing, Refusal
from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.auth.quiet import alone, quiet
from fastapi_server.mcp.auth_config import AsyncAuthFlow, AuthFlow, FlowAuth
from fastapi_server.mcp.errors import AuthenticationError, ConfigError, MCPClientError

_LIBRARIES = ("httpx2", "httpx")
_QUOTING = frozenset({"mcp", "pydantic_core"})
"""Libraries whose errors quote what the authorization server has sent."""
_BY_THE_CLIENT = frozenset({"host", "content-length"})
_DECODED = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class FlowAuthenticator(Authenticator):
    """Takes from a flow the headers that it adds. The flow never sees the reply to a request that was not refused.

    It is run up to the request that it was given, its headers are taken, and it is closed: whatever lock it holds is
    free again before anything is sent. After a refusal it is run once more, is handed the refusal, and goes on.

    Args:
        auth: The `Auth` of httpx or httpx2, or what looks like one; in a `FlowAuth` where more origins are allowed.
        server: URL of the MCP server.
        ca_file: Trust the authorities in this PEM file, and no others.
    """

    def __init__(self, auth: FlowAuth | AuthFlow, server: str, ca_file: Path | None = None) -> None:
        super().__init__()
        self._config = auth if isinstance(auth, FlowAuth) else FlowAuth(auth)
        self._server = server
        self._ca_file = ca_file
        self._library = _library_of(self._config.flow)

    async def headers(self, outgoing: Outgoing) -> Mapping[str, str]:
        """What the flow adds before the request is sent."""
        with alone():
            return await self._run(outgoing, None) or {}

    async def refused(self, refusal: Refusal) -> Mapping[str, str] | None:
        """What it adds after the refusal; `None` where it gives up."""
        with alone():
            return await self._run(refusal.outgoing, refusal)

    async def _run(self, outgoing: Outgoing, refusal: Refusal | None) -> Mapping[str, str] | None:
        request = self._library.Request(
            outgoing.method, outgoing.url, headers=dict(outgoing.headers), content=outgoing.body
        )
        before, url = dict(request.headers), request.url
        steps = self._steps(request)
        try:
            with quiet():
                wanted = await self._up_to(request, steps, await anext(steps))
                added = _added(before, wanted)
                if refusal is not None and not _is_another_token(added, refusal.sent):
                    answer = self._response(refusal.status, refusal.headers, refusal.body, request)
                    added = _added(before, await self._up_to(request, steps, await steps.asend(answer)))
        except StopAsyncIteration:
            return None
        except MCPClientError:
            raise
        except Exception as error:
            quotes = type(error).__module__.partition(".")[0] in _QUOTING
            cause = None if quotes else error
            raise AuthenticationError(f"the auth flow failed: {type(error).__name__}") from cause
        finally:
            await steps.aclose()
        if request.url != url:
            raise AuthenticationError("the auth flow changes the URL of the request; only headers are taken from it")
        self._keep_secret(*added.values(), *(value.partition(" ")[2] for value in added.values()))
        return added

    async def _up_to(self, request: Any, steps: AsyncGenerator[Any, Any], wanted: Any) -> Any:
        """Send what the flow wants sent until it wants the request itself; returns that."""
        if _is_same(wanted, request):
            return wanted
        async with Backchannel(self._server, self._ca_file, self._config.insecure_origins) as channel:
            while not _is_same(wanted, request):
                headers = {name: value for name, value in wanted.headers.items() if name.lower() not in _BY_THE_CLIENT}
                reply = await channel.send(wanted.method, str(wanted.url), headers, await wanted.aread() or None)
                wanted = await steps.asend(self._response(reply.status, reply.headers, reply.body, wanted))
        return wanted

    def _steps(self, request: Any) -> AsyncGenerator[Any, Any]:
        flow = self._config.flow
        return (
            flow.async_auth_flow(request) if isinstance(flow, AsyncAuthFlow) else _from_plain(flow.auth_flow(request))
        )

    def _response(self, status: int, headers: Mapping[str, str], body: bytes, request: Any) -> Any:
        kept = [
            (name.encode(), value.encode(errors="surrogateescape"))  # text has to be ASCII there
            for name, value in headers.items()
            if name.lower() not in _DECODED
        ]
        return self._library.Response(status, headers=kept, content=body, request=request)


def _is_same(wanted: Any, request: Any) -> bool:
    return wanted is request or (wanted.method == request.method and wanted.url == request.url)


def _added(before: dict[str, str], request: Any) -> dict[str, str]:
    return {name.title(): value for name, value in request.headers.items() if before.get(name) != value}


def _is_another_token(added: Mapping[str, str], sent: Mapping[str, str]) -> bool:
    """Whether the flow has got a new token meanwhile, for another request that was refused."""
    token = added.get("Authorization", "")
    return token.startswith("Bearer ") and token != sent.get("Authorization")


async def _from_plain(steps: Generator[Any, Any, Any]) -> AsyncGenerator[Any, Any]:
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send((yield wanted))
    except StopIteration:
        return
    finally:
        steps.close()


def _library_of(flow: AuthFlow) -> Any:
    """The httpx that a flow is written for: that of its base class, or the first one installed."""
    for kind in type(flow).__mro__:
        root = kind.__module__.partition(".")[0]
        if root in _LIBRARIES:
            return import_module(root)
    for name in _LIBRARIES:
        if find_spec(name) is not None:
            return import_module(name)
    raise ConfigError("config.auth: an auth flow needs httpx or httpx2, and neither is installed")
