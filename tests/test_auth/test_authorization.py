"""Servers without a person beside them: `AuthorizationRequired`, and what may complete it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.mcp import (
    AuthenticationError,
    AuthorizationRequired,
    AuthorizationResponse,
    ConnectionState,
    Delivery,
    FileTokenStore,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    MemoryTokenStore,
    OAuth,
    complete_authorization,
)
from fastapi_server.mcp.auth import authorization
from fastapi_server.mcp.resilience import is_permanent
from fastapi_server.mcp.testing.authorization_server import AuthorizationServer, GuardedPeer
from tests.test_auth.conftest import Person, visit

Make = Callable[..., HTTPMCPClient]


async def refusal(client: HTTPMCPClient) -> AuthorizationRequired:
    with pytest.raises(AuthorizationRequired) as raised:
        await client.list_tools()
    return raised.value


@pytest.fixture
def headless(client: Make, store: MemoryTokenStore) -> Make:
    def make(*, principal: str | None = None, **settings: Any) -> HTTPMCPClient:
        return client(auth=OAuth(store=store, **settings), principal=principal)

    return make


async def test_it_is_raised_and_says_where_to_go(headless: Make, peer: GuardedPeer) -> None:
    one = headless()
    required = await refusal(one)

    assert required.state in required.url
    assert required.state not in str(required) + repr(required)
    assert is_permanent(required)
    assert required.delivery is Delivery.REJECTED
    assert one.state is ConnectionState.ERROR
    await one.disconnect()


async def test_whoever_asks_again_is_sent_to_the_same_page(headless: Make, issuer: AuthorizationServer) -> None:
    one = headless()
    assert (await refusal(one)).url == (await refusal(one)).url
    assert len(issuer.registrations) == 1
    await one.disconnect()


async def test_after_completion_the_next_call_works(
    headless: Make, issuer: AuthorizationServer, store: MemoryTokenStore
) -> None:
    one = headless(principal="ann")
    back = await visit((await refusal(one)).url)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store, principal="ann")

    assert await one.list_tools() == []
    assert issuer.forms[0].fields["client_id"] == "client-1"
    assert not [key for key in store._kept if key.startswith("pending")]
    await one.disconnect()


async def test_more_scope_is_asked_of_the_person_too(
    headless: Make, peer: GuardedPeer, store: MemoryTokenStore, issuer: AuthorizationServer
) -> None:
    peer.needs["tools/call"] = "write"
    one = headless()
    back = await visit((await refusal(one)).url)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    with pytest.raises(AuthorizationRequired) as raised:
        await one.call_tool("echo", {})
    back = await visit(raised.value.url)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store)

    await one.call_tool("echo", {})
    assert issuer.authorizations[-1]["scope"] == "write"
    await one.disconnect()


async def test_a_state_is_good_once(headless: Make, store: MemoryTokenStore) -> None:
    one = headless()
    back = await visit((await refusal(one)).url)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    with pytest.raises(AuthenticationError, match="no sign-in with this state"):
        await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    await one.disconnect()


async def test_a_state_is_good_once_for_all_who_come_with_it_at_once(
    headless: Make, store: MemoryTokenStore, issuer: AuthorizationServer
) -> None:
    one = headless()
    back = await visit((await refusal(one)).url)
    outcomes = await asyncio.gather(
        *(complete_authorization(back["state"], back["code"], back["iss"], store=store) for _ in range(5)),
        return_exceptions=True,
    )
    assert [outcome for outcome in outcomes if not isinstance(outcome, AuthenticationError)] == [None]
    assert issuer.grants() == ["authorization_code"]
    await one.disconnect()


@pytest.mark.parametrize("code", ["", "x\udc80", "é", "x\n"])
async def test_what_is_no_code_uses_up_no_sign_in(headless: Make, store: MemoryTokenStore, code: str) -> None:
    one = headless()
    back = await visit((await refusal(one)).url)
    with pytest.raises(AuthenticationError, match="no authorization code"):
        await complete_authorization(back["state"], code, back["iss"], store=store)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    await one.disconnect()


async def test_states_leave_no_locks_behind(client: Make, tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "tokens")
    locks = tmp_path / "tokens.locks"
    one = client(auth=OAuth(store=store))
    back = await visit((await refusal(one)).url)
    before = set(locks.iterdir())
    for state in ("guessed", "another", back["state"]):
        with suppress(AuthenticationError):
            await complete_authorization(state, back["code"], back["iss"], store=store)
    await one.list_tools()
    await one.disconnect()
    assert set(locks.iterdir()) == before


async def test_nobody_completes_a_sign_in_for_another_principal(headless: Make, store: MemoryTokenStore) -> None:
    one = headless(principal="ann")
    back = await visit((await refusal(one)).url)
    with pytest.raises(AuthenticationError, match="another principal"):
        await complete_authorization(back["state"], back["code"], back["iss"], store=store, principal="eve")

    await complete_authorization(back["state"], back["code"], back["iss"], store=store, principal="ann")
    await one.list_tools()
    await one.disconnect()


async def test_the_response_of_another_issuer_is_refused(
    headless: Make, store: MemoryTokenStore, issuer: AuthorizationServer
) -> None:
    one = headless()
    back = await visit((await refusal(one)).url)
    with pytest.raises(AuthenticationError, match="iss mismatch"):
        await complete_authorization(back["state"], back["code"], "https://elsewhere.example", store=store)
    assert not issuer.forms
    assert (await refusal(one)).state != back["state"]  # that one is used up
    await one.disconnect()


async def test_ten_minutes_are_enough(
    headless: Make, store: MemoryTokenStore, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorization, "PENDING_SECONDS", -1.0)
    one = headless()
    back = await visit((await refusal(one)).url)
    with pytest.raises(AuthenticationError, match="ten minutes"):
        await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    assert not issuer.forms
    assert (await refusal(one)).state != back["state"]
    await one.disconnect()


async def test_the_waiting_sign_in_holds_what_its_completion_needs(
    headless: Make, store: MemoryTokenStore, peer: GuardedPeer, issuer: AuthorizationServer
) -> None:
    one = headless(principal="ann", dpop=True)
    await refusal(one)
    await one.disconnect()
    (pending,) = [value for key, value in store._kept.items() if key.startswith("pending")]

    assert pending["server"] == f"{peer.url}/mcp"
    assert pending["found"]["issuer"] == issuer.url
    assert pending["found"]["metadata"]["token_endpoint"] == f"{issuer.url}/token"
    assert pending["client"]["client_id"] == "client-1"
    assert time.time() + 590 < pending["expires_at"] <= time.time() + 600
    assert pending["proof_key"].startswith("-----BEGIN PRIVATE KEY")


async def test_a_client_that_was_forgotten_meanwhile_is_registered_for_the_next_sign_in(
    headless: Make, store: MemoryTokenStore, issuer: AuthorizationServer
) -> None:
    one = headless()
    back = await visit((await refusal(one)).url)
    issuer.clients.clear()
    issuer.checks_clients = True
    with pytest.raises(AuthenticationError, match="invalid_client"):
        await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    back = await visit((await refusal(one)).url)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    await one.list_tools()
    await one.disconnect()
    assert len(issuer.registrations) == 2


async def test_where_the_authorization_server_is_busy_it_can_be_tried_again(
    headless: Make, store: MemoryTokenStore, issuer: AuthorizationServer
) -> None:
    one = headless()
    back = await visit((await refusal(one)).url)
    issuer.fail.append((503, {}))
    with pytest.raises(HTTPStatusError, match="503"):
        await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    await one.list_tools()
    await one.disconnect()


async def test_sign_ins_that_were_given_up_do_not_pile_up(
    headless: Make, store: MemoryTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorization, "PENDING_SECONDS", -1.0)
    one = headless()
    states = {(await refusal(one)).state for _ in range(3)}
    await one.disconnect()
    assert len(states) == 3
    assert len([key for key in store._kept if key.startswith("pending")]) == 1


async def test_nobody_without_a_person_waits_for_the_person_of_another(
    headless: Make, client: Make, store: MemoryTokenStore, issuer: AuthorizationServer
) -> None:
    class Slow(Person):
        back = asyncio.Event()

        async def callback(self) -> AuthorizationResponse:
            await self.back.wait()
            return await super().callback()

    person, other = Slow(), Slow()
    at_a_desk = [client(auth=OAuth(interaction=who, store=store)) for who in (person, other)]
    signing_in = [asyncio.create_task(one.list_tools()) for one in at_a_desk]
    while not person.opened and not other.opened:
        await asyncio.sleep(0.001)
    one = headless()
    async with asyncio.timeout(2):
        await refusal(one)
    Slow.back.set()
    await asyncio.gather(*signing_in)
    assert await one.list_tools() == []
    for each in (one, *at_a_desk):
        await each.disconnect()
    assert len(person.opened) + len(other.opened) == 1
    assert len(issuer.registrations) == 1


async def test_the_default_store_is_that_of_the_process(peer: GuardedPeer) -> None:
    async def begin() -> AuthorizationRequired:
        one = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth()))
        required = await refusal(one)
        await one.disconnect()
        return required

    back = await visit((await asyncio.to_thread(lambda: asyncio.run(begin()))).url)
    await complete_authorization(back["state"], back["code"], back["iss"])
    async with HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth())) as one:
        await one.list_tools()


async def test_a_bound_token_is_completed_with_the_key_it_was_begun_with(
    headless: Make, store: MemoryTokenStore, peer: GuardedPeer, issuer: AuthorizationServer
) -> None:
    issuer.dpop = True
    one = headless(dpop=True)
    back = await visit((await refusal(one)).url)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    await one.list_tools()
    await one.disconnect()
    assert peer.proofs
