"""A person with a browser, and clients of the server that wants a token."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from fastapi_server.mcp import AuthorizationResponse, HTTPConfig, HTTPMCPClient, MemoryTokenStore, OAuth
from fastapi_server.mcp.auth import account
from fastapi_server.mcp.testing.authorization_server import GuardedPeer


class Person:
    """Opens the page, agrees, and comes back.

    Attributes:
        opened: The URLs.
    """

    def __init__(self) -> None:
        self.opened: list[str] = []
        self._back: dict[str, str] = {}

    async def redirect(self, url: str) -> None:
        self.opened.append(url)
        self._back = await visit(url)

    async def callback(self) -> AuthorizationResponse:
        return AuthorizationResponse(self._back["code"], self._back.get("state"), self._back.get("iss"))


async def visit(url: str) -> dict[str, str]:
    """Open an authorization page; what the browser would bring to the redirect URI."""
    async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as page:
        return dict(URL(page.headers["Location"]).query)


def behind(error: BaseException | None) -> Iterator[BaseException]:
    """All that can be reached from an error: causes, and contexts that a traceback does not show."""
    for one in (error.__cause__, error.__context__) if error is not None else ():
        if one is not None:
            yield one
            yield from behind(one)


@pytest.fixture(autouse=True)
def no_default_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port may be used again, by another server."""
    monkeypatch.setattr(account, "_default_store", MemoryTokenStore())


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def store() -> MemoryTokenStore:
    return MemoryTokenStore()


@pytest.fixture
def client(peer: GuardedPeer, store: MemoryTokenStore, person: Person) -> Callable[..., HTTPMCPClient]:
    """Makes clients of `peer`, by default with a person at the desk."""

    def make(*, auth: Any = None, principal: str | None = None, retries: int = 0, **settings: Any) -> HTTPMCPClient:
        how = auth or OAuth(interaction=person, store=store, **settings)
        return HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=how, retries=retries), principal=principal)

    return make


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Hosts that only this test knows, and their addresses."""
    known: dict[str, str] = {}
    ask = socket.getaddrinfo

    def answer(host: Any, *args: Any, **kwargs: Any) -> Any:
        return ask(known.get(host, host), *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return known
