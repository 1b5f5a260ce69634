"""One's turn at an account: who may use its tokens, and that others get theirs whatever happens in it."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from fastapi_server.mcp import (
    AuthorizationRequired,
    AuthorizationResponse,
    ClientCredentials,
    HTTPMCPClient,
    MCPClientError,
    MemoryTokenStore,
    OAuth,
)
from fastapi_server.mcp.auth.account import Account
from fastapi_server.mcp.auth.holders import holder_of
from fastapi_server.mcp.testing.authorization_server import AuthorizationServer, GuardedPeer
from tests.test_auth.conftest import Person

Make = Callable[..., HTTPMCPClient]


async def test_more_scope_is_asked_for_again_until_somebody_has_granted_it(
    client: Make, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    async with client() as one:
        await one.list_tools()
    peer.needs = {"tools/call": "write"}
    async with client(auth=OAuth(store=store)) as headless:
        states: set[str] = set()
        for _ in range(8):
            with pytest.raises(AuthorizationRequired) as caught:
                await headless.call_tool("echo")
            states.add(caught.value.state)
        assert len(states) == 1  # the same sign-in is waited for


class SlowToRelease(MemoryTokenStore):
    """Its locks are given up step by step, as those of a file are."""

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncGenerator[None]:
        async with super().lock(key):
            try:
                yield
            finally:
                for _ in range(3):
                    await asyncio.sleep(0)


async def test_cancelled_at_every_step_of_a_sign_in_all_locks_are_given_up(
    client: Make, person: Person, peer: GuardedPeer
) -> None:
    for k in itertools.count(0, 7):
        store = SlowToRelease()
        one = client(auth=OAuth(interaction=person, store=store))
        calling = asyncio.create_task(one.list_tools())
        for _ in range(k):
            if calling.done():
                break
            await asyncio.sleep(0)
        done = calling.done()
        await one.disconnect()
        await asyncio.gather(calling, return_exceptions=True)
        async with asyncio.timeout(5), client(auth=OAuth(interaction=person, store=store)) as next_one:
            await next_one.list_tools()
        if done or k > 4000:
            break


class Hesitant(Person):
    """Comes back when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def callback(self) -> AuthorizationResponse:
        self.there.set()
        await self.go.wait()
        return await super().callback()


async def test_what_others_got_while_a_person_thought_is_kept_where_the_person_fails(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    person = Hesitant()
    async with client(auth=OAuth(interaction=person, store=store)) as desk:
        await desk.list_tools()
        peer.needs = {"tools/call": "write"}
        person.there.clear()
        person.go.clear()
        calling = asyncio.create_task(desk.call_tool("echo"))
        await person.there.wait()
        issuer.revoke_all()
        async with client(auth=OAuth(store=store)) as other:
            await other.list_tools()
        account = Account(store, f"{peer.url}/mcp", None, holder_of(OAuth(store=store)))
        refreshed = (await account.load()).tokens
        issuer.fail = [(400, {"error": "invalid_grant"})]
        person.go.set()
        with pytest.raises(MCPClientError):
            await calling
        kept = (await account.load()).tokens
        assert refreshed is not None
        assert kept is not None
        assert kept.refresh_token == refreshed.refresh_token


async def test_two_principals_who_share_a_desk_sit_down_one_after_the_other(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    person = Hesitant()
    person.go.clear()
    ann, bob = (client(auth=OAuth(interaction=person), principal=principal) for principal in ("ann", "bob"))
    calls = [asyncio.create_task(ann.list_tools())]
    await person.there.wait()
    calls.append(asyncio.create_task(bob.list_tools()))
    while len(issuer.registrations) < 2:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # time enough for Bob's page
    assert len(person.opened) == 1
    person.go.set()
    await asyncio.gather(*calls)
    for one in (ann, bob):
        await one.disconnect()
    assert issuer.grants() == ["authorization_code"] * 2
    assert len(set(peer.tokens) - {""}) == 2


async def test_who_leaves_a_desk_makes_room_for_the_next(client: Make, issuer: AuthorizationServer) -> None:
    person = Hesitant()
    person.go.clear()
    ann = client(auth=OAuth(interaction=person), principal="ann")
    calling = asyncio.create_task(ann.list_tools())
    await person.there.wait()
    await ann.disconnect()
    with pytest.raises(MCPClientError):
        await calling
    person.go.set()
    async with client(auth=OAuth(interaction=person), principal="bob") as bob:
        await bob.list_tools()
    assert issuer.grants() == ["authorization_code"]


async def test_a_sign_in_for_one_place_to_come_back_to_is_none_for_another(
    client: Make, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    urls: list[str] = []
    for port in (41_000, 41_001):
        one = client(auth=OAuth(store=store, redirect_uri=f"http://127.0.0.1:{port}/callback"))
        with pytest.raises(AuthorizationRequired) as caught:
            await one.list_tools()
        urls.append(caught.value.url)
        await one.disconnect()
    assert "41000" in urls[0]
    assert "41001" in urls[1]


async def test_a_refusal_by_the_authorization_server_says_nothing_of_the_connection(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    async with client(auth=ClientCredentials("admin", client_secret="s3cret-of-admin")) as one:
        await one.list_tools()
        issuer.revoke_all()
        issuer.fail = [(400, {"error": "invalid_scope"})]
        with pytest.raises(MCPClientError):
            await one.list_tools()
        assert one.metrics.connections == 1
        assert one.state == "connected"
