"""One store, several processes: one refresh, and a sign-in that another process finishes."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastapi_server.mcp import (
    AuthorizationRequired,
    FileTokenStore,
    HTTPConfig,
    HTTPMCPClient,
    OAuth,
    complete_authorization,
)
from fastapi_server.mcp.testing.authorization_server import AuthorizationServer, GuardedPeer
from tests.test_auth.conftest import Person, visit

COMPLETE = """
import asyncio, sys
from pathlib import Path
from fastapi_server.mcp import complete_authorization
from fastapi_server.mcp import FileTokenStore

state, code, iss, file = sys.argv[1:]
asyncio.run(complete_authorization(state, code, iss, store=FileTokenStore(Path(file))))
"""


async def test_fifty_expired_callers_in_two_processes_make_one_refresh(
    issuer: AuthorizationServer, peer: GuardedPeer, person: Person, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    auth = OAuth(store=FileTokenStore(file), interaction=person)
    async with HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth)):
        pass
    issuer.forms.clear()
    async with many_callers(f"{peer.url}/mcp", str(file)) as begin:
        assert await begin() == [b"25\n"] * 2
    assert issuer.grants() == ["refresh_token"]


async def test_fifty_callers_in_two_processes_sign_in_once_where_fresh_tokens_are_refused(
    issuer: AuthorizationServer, peer: GuardedPeer, tmp_path: Path
) -> None:
    issuer.refreshes = False
    async with many_callers(f"{peer.url}/mcp", str(tmp_path / "tokens"), "nightly") as begin:
        assert issuer.grants() == ["client_credentials"]
        peer.issuers[0] = AuthorizationServer(issuer.url)  # whatever is issued, it does not know it
        assert await begin() == [b"0\n"] * 2
    assert issuer.grants() == ["client_credentials"] * 2


@asynccontextmanager
async def many_callers(*arguments: str) -> AsyncGenerator[Callable[[], Awaitable[list[bytes]]]]:
    """Two processes that are connected; gives what has them begin, and tells how many calls succeeded in each."""
    command = (sys.executable, "-m", "tests.servers.many_callers", *arguments)
    processes = [await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"

    async def begin() -> list[bytes]:
        return [answer for answer, _ in await asyncio.gather(*(one.communicate(b"\n") for one in processes))]

    yield begin


async def test_another_process_completes_a_sign_in(
    issuer: AuthorizationServer, peer: GuardedPeer, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(store=FileTokenStore(file))))
    with pytest.raises(AuthorizationRequired) as raised:
        await client.list_tools()
    back = await visit(raised.value.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", COMPLETE, raised.value.state, back["code"], back["iss"], str(file)
    )
    assert await process.wait() == 0

    assert await client.list_tools() == []
    await client.disconnect()
    assert issuer.grants() == ["authorization_code"]


async def test_the_same_process_can_complete_it_without_naming_a_store(
    issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    async with HTTPMCPClientOf(peer) as client:
        with pytest.raises(AuthorizationRequired) as raised:
            await client.list_tools()
        back = await visit(raised.value.url)
        await complete_authorization(back["state"], back["code"], back["iss"])
        await client.list_tools()


class HTTPMCPClientOf(HTTPMCPClient):
    """A client that connects with its first call."""

    def __init__(self, peer: GuardedPeer) -> None:
        super().__init__("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth()))

    async def __aenter__(self) -> "HTTPMCPClientOf":
        return self
