"""Signing in against a real authorization server: how often, with what, and who waits."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    AuthenticationError,
    AuthorizationRequired,
    AuthorizationResponse,
    ClientCredentials,
    Delivery,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    MemoryTokenStore,
    OAuth,
    ServerConfig,
    TokenStoreError,
    WorkloadIdentity,
    complete_authorization,
    make_client,
)
from fastapi_server.mcp.auth import authorization, backchannel
from fastapi_server.mcp.auth.account import Account, Kept
from fastapi_server.mcp.auth.authenticator import Outgoing
from fastapi_server.mcp.auth.back_off import BackOff
from fastapi_server.mcp.auth.choose import oauth_authenticator
from fastapi_server.mcp.auth.holders import holder_of
from fastapi_server.mcp.auth.oauth import OAuthAuthenticator
from fastapi_server.mcp.testing.authorization_server import (
    PLANTED,
    AuthorizationServer,
    GuardedPeer,
    authorization_server,
)
from fastapi_server.mcp.testing.http_peer import http_peer
from tests.test_auth.conftest import Person, behind, visit

Make = Callable[..., HTTPMCPClient]


def authenticator_of(client: HTTPMCPClient) -> OAuthAuthenticator:
    assert isinstance(client.identity.authenticator, OAuthAuthenticator)
    return client.identity.authenticator


def pass_time(client: HTTPMCPClient, seconds: float) -> None:
    """Have a client's clock be ahead."""
    authenticator_of(client)._clock = lambda: time.time() + seconds


async def test_a_person_signs_in_once_and_calls_work(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, person: Person
) -> None:
    async with client() as one:
        await one.list_tools()
        await one.call_tool("echo", {})

    assert issuer.grants() == ["authorization_code"]
    assert len(person.opened) == len(issuer.registrations) == 1
    assert peer.refused == [401]
    asked, form = issuer.authorizations[0], issuer.forms[0].fields
    assert asked["resource"] == form["resource"] == f"{peer.url}/mcp"
    assert asked["code_challenge_method"] == "S256"
    assert issuer.registrations[0]["application_type"] == "native"


async def test_the_next_client_finds_the_token_in_the_store(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    async with client() as one:
        await one.list_tools()
    async with client() as another:
        await another.list_tools()

    assert issuer.grants() == ["authorization_code"]
    assert peer.refused == [401]


async def test_principals_share_no_token(client: Make, issuer: AuthorizationServer, peer: GuardedPeer) -> None:
    for principal in ("ann", "bob"):
        async with client(principal=principal) as one:
            await one.list_tools()

    assert issuer.grants() == ["authorization_code"] * 2
    assert len(set(peer.tokens) - {""}) == 2


async def test_fifty_callers_without_a_token_make_one_sign_in(
    client: Make, issuer: AuthorizationServer, person: Person
) -> None:
    async with client() as one:
        issuer.revoke_all()
        issuer.refresh_tokens.clear()
        person.opened.clear()
        await asyncio.gather(*(one.call_tool("echo", {"n": n}) for n in range(50)))

        assert len(person.opened) == 1


async def test_fifty_expired_callers_make_one_refresh(client: Make, issuer: AuthorizationServer) -> None:
    async with client() as one:
        pass_time(one, 3601)
        issuer.forms.clear()
        await asyncio.gather(*(one.call_tool("echo", {"n": n}) for n in range(50)))

    assert issuer.grants() == ["refresh_token"]


async def test_fifty_callers_whose_token_was_revoked_make_one_refresh(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    async with client() as one:
        issuer.revoke_all()
        issuer.forms.clear()
        await asyncio.gather(*(one.call_tool("echo", {"n": n}) for n in range(50)))

    assert issuer.grants() == ["refresh_token"]


async def test_a_token_is_renewed_before_it_expires_and_nobody_waits(client: Make, issuer: AuthorizationServer) -> None:
    async with client() as one:
        authenticator = authenticator_of(one)
        tokens = authenticator._tokens
        pass_time(one, 3590)
        issuer.gate.clear()
        issuer.forms.clear()

        await one.call_tool("echo", {})

        issuer.gate.set()
        await authenticator.settled()
        assert issuer.grants() == ["refresh_token"]
        assert authenticator._tokens != tokens


@pytest.mark.parametrize("said", [0, -1, 10**400, "9" * 400, 1e99, "soon"])
async def test_a_lifetime_that_is_none_counts_as_not_said(
    client: Make, issuer: AuthorizationServer, said: float | str
) -> None:
    issuer.expires_in = said
    async with client() as one:
        for _ in range(3):
            await one.call_tool("echo", {})
    assert issuer.grants() == ["authorization_code"]


@pytest.mark.parametrize("said", [3600, "3600", 3600.5])
async def test_a_lifetime_may_be_written_in_any_way(
    client: Make, issuer: AuthorizationServer, said: float | str
) -> None:
    issuer.expires_in = said
    async with client() as one:
        tokens = authenticator_of(one)._tokens
    assert tokens is not None
    assert tokens.lifetime == 3600


async def test_a_fresh_token_is_given_without_waiting_for_anything(client: Make) -> None:
    async with client() as one:
        giving = authenticator_of(one).headers(Outgoing("POST", one.config.endpoint))
        with pytest.raises(StopIteration) as given:
            giving.send(None)
        assert given.value.value["Authorization"].startswith("Bearer ")


async def test_headers_and_challenges_may_hold_any_text(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    issuer.headers = {"X-Served-By": "Café"}
    peer.challenges_before = ['Bearer scope="lése", resource_metadata="é"', 'Basic realm="Café"']
    async with client() as one:
        await one.list_tools()
        issuer.revoke_all()
        await one.list_tools()
    assert "scope" not in issuer.authorizations[0]
    assert issuer.grants() == ["authorization_code", "refresh_token"]


async def test_a_refresh_token_that_has_run_out_means_signing_in_again(
    client: Make, issuer: AuthorizationServer, person: Person
) -> None:
    async with client() as one:
        pass_time(one, 3601)
        issuer.refresh_tokens.clear()
        await one.call_tool("echo", {})

    assert issuer.grants() == ["authorization_code", "refresh_token", "authorization_code"]
    assert len(issuer.registrations) == 1
    assert len(person.opened) == 2


@pytest.mark.parametrize(
    ("status", "error"), [(503, ""), (429, ""), (403, ""), (404, ""), (302, ""), (400, "invalid_request"), (400, "")]
)
async def test_a_refresh_that_fails_in_passing_loses_nothing(
    client: Make, issuer: AuthorizationServer, person: Person, status: int, error: str
) -> None:
    async with client() as one:
        pass_time(one, 3601)
        issuer.fail.append((status, {"error": error}))
        for _ in range(3):  # it is left alone for a while
            with pytest.raises(MCPConnectionError, match=f"HTTP {status}|busy"):
                await one.call_tool("echo", {})
        pass_time(one, 3604)
        await one.call_tool("echo", {})

    assert issuer.grants() == ["authorization_code", "refresh_token", "refresh_token"]
    assert len(person.opened) == 1


async def test_a_busy_authorization_server_says_for_how_long(client: Make, issuer: AuthorizationServer) -> None:
    async with client() as one:
        pass_time(one, 3601)
        issuer.fail.append((503, {}))
        issuer.fail_headers = {"Retry-After": "40"}
        with pytest.raises(HTTPStatusError) as raised:
            await one.call_tool("echo", {})
        assert raised.value.retry_after == 40
        pass_time(one, 3630)
        with pytest.raises(HTTPStatusError, match="busy") as raised:
            await one.call_tool("echo", {})
        assert 10 <= (raised.value.retry_after or 0) <= 12
        pass_time(one, 3642)
        await one.call_tool("echo", {})


@pytest.mark.parametrize("status", [429, 500])
@pytest.mark.parametrize("transport", ["http", "auto"])
async def test_an_authorization_server_that_fails_says_nothing_about_the_server(
    issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore, transport: str, status: int
) -> None:
    """Neither that it speaks another revision, nor that it is spoken to in another way."""
    issuer.fail = [(status, {})]
    auth = ClientCredentials("nightly", client_secret="s3cret", store=store)
    config = HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0)
    client = make_client(ServerConfig("guarded", transport, config))
    with pytest.raises(HTTPStatusError, match=f"/token answered with HTTP {status}"):
        await client.list_tools()
    assert peer.refused == [401]
    await client.disconnect()


async def test_many_clients_of_one_store_leave_a_busy_server_alone(client: Make, issuer: AuthorizationServer) -> None:
    async with client():
        pass
    clients = [client() for _ in range(25)]
    for one in clients:
        pass_time(one, 3601)
    issuer.forms.clear()
    issuer.fail += [(503, {})] * 100
    outcomes = await asyncio.gather(*(one.call_tool("echo", {}) for one in clients), return_exceptions=True)
    for one in clients:
        await one.disconnect()
    assert all(isinstance(outcome, HTTPStatusError) for outcome in outcomes)
    assert issuer.grants() == ["refresh_token"]


async def test_a_dead_refresh_token_is_tried_once(
    client: Make, issuer: AuthorizationServer, store: MemoryTokenStore
) -> None:
    async with client():
        pass
    issuer.revoke_all()
    issuer.refresh_tokens.clear()
    issuer.forms.clear()
    clients = [client(auth=OAuth(store=store)) for _ in range(10)]
    calls = [one.call_tool("echo", {}) for one in clients for _ in range(5)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for one in clients:
        await one.disconnect()
    assert {type(outcome) for outcome in outcomes} == {AuthorizationRequired}
    assert len({str(vars(outcome)["url"]) for outcome in outcomes if isinstance(outcome, Exception)}) == 1
    assert issuer.grants() == ["refresh_token"]


async def test_a_token_that_still_works_outlives_its_refresh_token(
    client: Make, issuer: AuthorizationServer, person: Person
) -> None:
    async with client() as one:
        issuer.refresh_tokens.clear()
        issuer.forms.clear()
        pass_time(one, 3580)
        for _ in range(3):
            await one.call_tool("echo", {})
            await authenticator_of(one).settled()
    assert issuer.grants() == ["refresh_token"]
    assert len(person.opened) == 1


async def test_refreshing_in_the_background_keeps_off_a_busy_server(client: Make, issuer: AuthorizationServer) -> None:
    async with client() as one:
        issuer.forms.clear()
        pass_time(one, 3580)
        issuer.fail += [(503, {})] * 100
        for _ in range(20):
            await one.call_tool("echo", {})
            await authenticator_of(one).settled()
    assert issuer.grants() == ["refresh_token"]


async def test_a_server_that_takes_no_token_is_asked_twice_and_no_more(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, person: Person
) -> None:
    async with client() as one:
        other = AuthorizationServer()
        peer.issuers[0], other.url = other, issuer.url  # whatever is issued, it does not know it
        person.opened.clear()
        outcomes = await asyncio.gather(*(one.call_tool("echo", {}) for _ in range(10)), return_exceptions=True)

    assert all(isinstance(outcome, AuthenticationError) for outcome in outcomes)
    assert len(person.opened) == 1


class Outage:
    """For a while, the server takes no token."""

    def __init__(self, peer: GuardedPeer) -> None:
        self._peer = peer
        self.issuer, self._other = peer.issuers[0], AuthorizationServer(peer.issuers[0].url)

    def begin(self) -> None:
        self._peer.issuers[0] = self._other

    def end(self) -> None:
        self._peer.issuers[0] = self.issuer


@pytest.mark.parametrize("renewable", [True, False])
async def test_a_client_works_again_after_an_outage(client: Make, peer: GuardedPeer, renewable: bool) -> None:
    outage = Outage(peer)
    outage.issuer.refreshes = renewable
    async with client(auth=ClientCredentials("nightly", client_secret="s3cret-of-ours")) as one:
        outage.begin()
        for _ in range(3):
            with pytest.raises(AuthenticationError):
                await one.call_tool("echo", {})
        asked = len(outage.issuer.forms)
        outage.end()
        await one.call_tool("echo", {})
        assert len(outage.issuer.forms) == asked == 2 + renewable

        outage.issuer.revoke_all()
        await one.call_tool("echo", {})


async def test_a_server_that_refuses_fresh_tokens_opens_ever_fewer_pages(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, person: Person
) -> None:
    async with client() as one:
        outage, now = Outage(peer), 0.0
        outage.begin()
        opened = len(person.opened)
        for pages, pause in enumerate((30, 60, 120, 240, 480, 960, 1920, 3600, 3600), start=1):
            for later in (0.0, pause - 1.0):
                pass_time(one, now + later)
                with pytest.raises(AuthenticationError, match=r"401.*refuses even tokens that were just issued"):
                    await one.call_tool("echo", {})
                assert len(person.opened) == opened + pages
            now += pause + 1
        pass_time(one, now - 1800)
        with pytest.raises(AuthenticationError, match=r"signing in is tried again in 1[78][0-9]{2} s"):
            await one.call_tool("echo", {})

        outage.end()
        pass_time(one, now)
        await one.call_tool("echo", {})
        outage.begin()
        with pytest.raises(AuthenticationError, match=r"again in (29|30) s"):  # it begins anew
            await one.call_tool("echo", {})


@pytest.mark.parametrize("renewable", [True, False])
async def test_many_clients_of_one_store_ask_once_for_a_token_that_helps_none_of_them(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore, renewable: bool
) -> None:
    issuer.refreshes = renewable
    auth = ClientCredentials("nightly", client_secret="s3cret-of-ours", store=store)
    clients = [client(auth=auth) for _ in range(25)]
    await asyncio.gather(*(one.list_tools() for one in clients))
    assert issuer.grants() == ["client_credentials"]

    outage, late = Outage(peer), client(auth=auth)
    outage.begin()
    for _ in range(3):
        calls = [one.call_tool("echo", {}) for one in (*clients, late) for _ in range(2)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {AuthenticationError}
        assert "signing in is tried again in" in str(outcomes[0])
    asked = [*(["refresh_token"] if renewable else []), "client_credentials"]
    assert issuer.grants() == ["client_credentials", *asked]

    outage.end()
    await clients[0].call_tool("echo", {})
    issuer.revoke_all()
    await asyncio.gather(*(one.call_tool("echo", {}) for one in (*clients, late)))
    for one in (*clients, late):
        await one.disconnect()
    assert issuer.grants() == ["client_credentials", *asked, asked[0]]


@dataclass
class Forgetful(GuardedPeer):
    """Takes each token once."""

    async def _refusal(self, http: web.Request) -> web.Response | None:
        refusal = await super()._refusal(http)
        self.issuers[0].granted.pop(self.tokens[-1], None)
        return refusal


@pytest.mark.parametrize("desk", [True, False])
async def test_a_server_that_takes_each_token_once_opens_a_few_pages(
    issuer: AuthorizationServer, person: Person, store: MemoryTokenStore, desk: bool
) -> None:
    issuer.refreshes = False
    peer = Forgetful(issuers=[issuer], stateless=True)
    auth = OAuth(interaction=person if desk else None, store=store)

    async def call() -> None:
        try:
            await one.call_tool("echo", {})
        except AuthorizationRequired as required:
            back = await visit(required.url)
            await complete_authorization(back["state"], back["code"], back["iss"], store=store)
            await one.call_tool("echo", {})

    async with http_peer(peer):
        one = HTTPMCPClient(
            "guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0, protocol_version="2026-07-28")
        )
        for _ in range(6):
            await call()
        for _ in range(3):
            with pytest.raises(AuthenticationError, match=r"refuses even tokens .* tried again in (599|600) s"):
                await call()
        assert len(issuer.authorizations) == 6
        pass_time(one, 601)
        await call()
        await one.disconnect()


async def test_a_program_signs_in_for_each_call_where_it_has_to(issuer: AuthorizationServer) -> None:
    peer = Forgetful(issuers=[issuer], stateless=True)
    auth = ClientCredentials("nightly", client_secret="s3cret-of-ours")
    async with http_peer(peer), HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0)) as one:
        for _ in range(10):
            await one.call_tool("echo", {})


async def test_a_token_that_has_run_out_is_replaced_however_often(
    client: Make, issuer: AuthorizationServer, person: Person
) -> None:
    issuer.refreshes, issuer.expires_in = False, 20
    async with client() as one:
        for n in range(1, 10):
            pass_time(one, n * 21)
            issuer.revoke_all()
            await one.call_tool("echo", {})
    assert len(person.opened) == 10


@dataclass
class Picky(GuardedPeer):
    """Refuses what is about `tool` whatever the token, and answers every second request about it with `between`."""

    tool: str = "echo"
    between: int | None = None
    asked: int = 0

    async def handle(self, http: web.Request) -> web.StreamResponse:
        if f'"{self.tool}"'.encode() not in await http.read():
            return await super().handle(http)
        self.asked += 1
        if self.between is not None and self.asked % 2 == 0:
            return web.Response(status=self.between)
        challenge = f'Bearer resource_metadata="{self._metadata}"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})


@pytest.mark.parametrize("between", [None, 400, 403, 404, 405, 429, 500, 503])
async def test_what_is_answered_besides_does_not_prove_a_token_good(
    issuer: AuthorizationServer, person: Person, between: int | None
) -> None:
    peer = Picky(issuers=[issuer], stateless=True, between=between)
    issuer.refreshes = False
    auth = OAuth(interaction=person, store=MemoryTokenStore())
    async with http_peer(peer), HTTPMCPClient("picky", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0)) as one:
        for _ in range(6):
            await one.call_tool("another", {})
            await one.list_tools()
            with pytest.raises(MCPClientError):
                await one.call_tool("echo", {})
    assert len(person.opened) <= 2  # to connect, and after the refusal


async def test_pages_that_are_completed_elsewhere_and_do_not_help_are_asked_for_ever_more_seldom(
    client: Make, peer: GuardedPeer, store: MemoryTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage(peer)
    outage.begin()
    one, now = client(auth=OAuth(store=store)), 0.0
    monkeypatch.setattr(authorization, "Account", partial(Account, clock=lambda: time.time() + now))
    for pause in (30, 60, 120):
        pass_time(one, now)
        with pytest.raises(AuthorizationRequired) as required:
            await one.list_tools()
        back = await visit(required.value.url)
        await complete_authorization(back["state"], back["code"], back["iss"], store=store)
        for later in (0.0, pause - 5.0):
            pass_time(one, now + later)
            with pytest.raises(AuthenticationError, match="refuses even tokens that were just issued"):
                await one.list_tools()
        now += pause + 5
    outage.end()
    await one.list_tools()
    await one.disconnect()
    account = Account(store, f"{peer.url}/mcp", None, holder_of(OAuth()))
    assert (await account.load()).back_off == BackOff()


async def test_more_scope_that_was_granted_elsewhere_and_is_not_enough_is_not_asked_for_again(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    issuer.scopes = "read"
    async with client() as one:
        await one.list_tools()
    peer.needs = {"tools/call": "write"}
    async with client(auth=OAuth(store=store)) as headless:
        with pytest.raises(AuthorizationRequired) as required:
            await headless.call_tool("echo", {})
        issuer.revoke_all()
        await headless.list_tools()  # a refresh, while the page still waits
        with pytest.raises(AuthorizationRequired) as again:
            await headless.call_tool("echo", {})
        assert again.value.state == required.value.state
        back = await visit(required.value.url)
        await complete_authorization(back["state"], back["code"], back["iss"], store=store)
        for _ in range(2):
            with pytest.raises(AuthenticationError, match="403"):
                await headless.call_tool("echo", {})


async def test_after_a_while_signing_in_is_tried_again(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    issuer.refreshes = False
    outage = Outage(peer)
    async with client(auth=ClientCredentials("nightly", client_secret="s3cret-of-ours")) as one:
        outage.begin()
        with pytest.raises(AuthenticationError):
            await one.call_tool("echo", {})
        issuer.revoke_all()
        outage.end()
        with pytest.raises(AuthenticationError):
            await one.call_tool("echo", {})
        pass_time(one, 31)
        await one.call_tool("echo", {})


async def test_a_token_revoked_before_its_first_use_is_refreshed(
    client: Make, issuer: AuthorizationServer, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue, given = issuer.issue, list[str]()

    def issue_and_revoke(scope: str, bound: str = "") -> web.Response:
        answer = issue(scope, bound)
        given.append(scope)
        if len(given) == 1:
            issuer.revoke_all()
        return answer

    monkeypatch.setattr(issuer, "issue", issue_and_revoke)
    async with client() as one:
        await one.list_tools()
    assert issuer.grants() == ["authorization_code", "refresh_token"]
    assert len(person.opened) == 1


async def test_a_client_that_has_given_up_uses_what_another_one_gets(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    issuer.refreshes = False
    outage = Outage(peer)
    async with client() as one:
        outage.begin()
        with pytest.raises(AuthenticationError):
            await one.call_tool("echo", {})
        issuer.revoke_all()
        outage.end()
        another = client()
        pass_time(another, 31)
        async with another:
            await another.list_tools()
        await one.call_tool("echo", {})


async def test_the_token_is_bound_to_the_refusing_request_even_where_its_caller_leaves(
    client: Make, issuer: AuthorizationServer
) -> None:
    async with client() as one:
        issuer.revoke_all()
        issuer.forms.clear()
        issuer.gate.clear()
        impatient = asyncio.create_task(one.call_tool("echo", {}))
        patient = asyncio.create_task(one.call_tool("echo", {}))
        while not issuer.forms:
            await asyncio.sleep(0.001)
        impatient.cancel()
        issuer.gate.set()
        await patient

    assert issuer.grants() == ["refresh_token"]


async def test_more_scope_is_asked_for_beside_what_was_granted(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    peer.challenge_scope = "read"
    peer.needs["tools/call"] = "write"
    async with client() as one:
        await one.list_tools()
        await one.call_tool("echo", {})
        await one.list_tools()

    assert [asked["scope"] for asked in issuer.authorizations] == ["read", "read write"]
    assert peer.refused == [401, 403]


async def test_scope_that_is_never_granted_is_asked_for_once(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    peer.needs["tools/call"] = "admin"
    issuer.scopes = "read"
    async with client() as one:
        for _ in range(3):
            with pytest.raises(AuthenticationError, match="403"):
                await one.call_tool("echo", {})

    assert len(issuer.authorizations) == 2


async def test_more_scope_is_asked_for_by_the_second_of_two_lines(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    peer.needs["tools/call"] = "write"
    peer.challenges_before = ['Basic realm="x"']
    async with client() as one:
        await one.call_tool("echo", {})
    assert [asked.get("scope") for asked in issuer.authorizations] == [None, "write"]


async def test_a_server_that_wants_ever_more_scope_is_obeyed_a_few_times(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    class EverMore(dict[str, str]):
        asked = 0

        def get(self, key: str, default: Any = "") -> Any:
            self.asked += key == "tools/call"
            return f"scope-{self.asked}" if key == "tools/call" else default

    peer.needs = EverMore()
    issuer.scopes = ""
    async with client() as one:
        for call in range(20):
            with pytest.raises(AuthenticationError, match="403"):
                await one.call_tool("echo", {})
            assert len(issuer.authorizations) == 1 + min(call + 1, 5)
        pass_time(one, 601)
        with pytest.raises(AuthenticationError, match="403"):
            await one.call_tool("echo", {})
    assert len(issuer.authorizations) == 7


async def test_configured_scopes_win_over_those_advertised(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    peer.realm["scopes_supported"] = ["read", "write", "admin"]
    async with client(scopes=["read"]):
        pass

    assert issuer.authorizations[0]["scope"] == "read"


async def test_tokens_serve_only_whom_they_were_given_to(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, person: Person, store: MemoryTokenStore
) -> None:
    ways = [
        ClientCredentials("admin", client_secret="s3cret-of-admin", store=store),
        ClientCredentials("reader", client_secret="s3cret-of-reader", store=store),
        OAuth("admin", interaction=person, store=store),
        OAuth(interaction=person, store=store),
    ]
    for auth in ways * 2:  # each keeps its own
        async with client(auth=auth) as one:
            await one.list_tools()
    assert len(set(peer.tokens) - {""}) == len(ways) == len(issuer.forms)


async def test_tokens_of_another_issuer_than_the_one_configured_are_not_used(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    async with client():
        pass
    peer.tokens.clear()
    one = client(issuer="https://login.example.com")
    assert not await one.connect()
    assert "https://login.example.com" in str(one.last_error)
    await one.disconnect()
    assert set(peer.tokens) == {""}

    for _ in range(2):
        async with client() as first, client(issuer=issuer.url) as another:
            await asyncio.gather(first.list_tools(), another.list_tools())
    assert issuer.grants() == ["authorization_code"] * 2


@pytest.mark.parametrize("with_refresh_token", [True, False])
async def test_a_client_that_the_server_has_forgotten_registers_once_more(
    client: Make, issuer: AuthorizationServer, person: Person, with_refresh_token: bool
) -> None:
    async with client() as one:
        issuer.revoke_all()
        issuer.clients.clear()
        issuer.checks_clients = True
        if not with_refresh_token:
            issuer.refresh_tokens.clear()
            issuer.fail.append((400, {"error": "invalid_grant"}))
        await one.call_tool("echo", {})

    assert len(issuer.registrations) == 2


async def test_a_registered_client_that_is_refused_registers_nothing(
    client: Make, issuer: AuthorizationServer, person: Person
) -> None:
    issuer.checks_clients = True
    one = client(auth=OAuth("ours", interaction=person))
    assert not await one.connect()
    assert "invalid_client" in str(one.last_error)
    await one.disconnect()
    assert len(issuer.forms) == 1
    assert not issuer.registrations


async def test_a_registration_that_has_run_out_is_not_used(client: Make, issuer: AuthorizationServer) -> None:
    issuer.registration_changes = {"client_secret": "of-a-day", "client_secret_expires_at": int(time.time()) - 10}
    async with client():
        pass
    issuer.revoke_all()
    async with client() as one:
        await one.list_tools()
    assert len(issuer.registrations) == 2
    assert issuer.grants() == ["authorization_code"] * 2


async def test_a_server_that_moves_to_another_authorization_server(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    async with client() as one, authorization_server() as other:
        peer.issuers[:] = [other]
        await one.call_tool("echo", {})

    assert other.grants() == ["authorization_code"]
    assert len(other.registrations) == 1


@dataclass
class Unconventional(GuardedPeer):
    """Its metadata is only where its refusals say."""

    async def handle(self, http: web.Request) -> web.StreamResponse:
        if http.path.startswith("/.well-known/"):
            return web.Response(status=404)
        if http.path == "/about":
            http = http.clone(rel_url="/.well-known/oauth-protected-resource/mcp")
        return await super().handle(http)

    @property
    def _metadata(self) -> str:
        return f"{self.url}/about"


@pytest.mark.parametrize("kind", [GuardedPeer, Unconventional])
@pytest.mark.parametrize("seconds", [0, 3601])
async def test_a_server_moves_away_from_an_authorization_server_that_is_gone(
    issuer: AuthorizationServer, person: Person, kind: type[GuardedPeer], seconds: float
) -> None:
    peer, store = kind(stateless=True), MemoryTokenStore()
    auth = OAuth(interaction=person, store=store)
    async with http_peer(peer):
        one = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0))
        async with authorization_server() as gone:
            peer.issuers = [gone]
            await one.list_tools()
        pass_time(one, seconds)
        peer.issuers = [issuer]
        await one.call_tool("echo", {})
        await one.disconnect()
    assert issuer.grants() == ["authorization_code"]
    assert len(person.opened) == 2


async def test_a_sign_in_completed_elsewhere_also_finds_out_that_its_authorization_server_was_left(
    issuer: AuthorizationServer, store: MemoryTokenStore
) -> None:
    peer = Unconventional(stateless=True)
    async with http_peer(peer):
        one = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(store=store), retries=0))
        async with authorization_server() as gone:
            peer.issuers = [gone]
            with pytest.raises(AuthorizationRequired) as required:
                await one.list_tools()
            back = await visit(required.value.url)
            await complete_authorization(back["state"], back["code"], back["iss"], store=store)
            await one.list_tools()
        peer.issuers = [issuer]
        pass_time(one, 3601)
        with pytest.raises(AuthorizationRequired) as required:
            await one.list_tools()
        assert required.value.url.startswith(issuer.url)
        await one.disconnect()


async def test_a_registered_client_keeps_its_refresh_token_where_the_server_moves_away(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, person: Person
) -> None:
    async with client(client_id="ours", client_secret="s3cret-of-ours") as one, authorization_server() as other:
        pass_time(one, 3601)
        peer.issuers[:] = [other]
        issuer.fail.append((503, {}))
        with pytest.raises(AuthenticationError, match=r"auth\.issuer"):
            await one.call_tool("echo", {})
        peer.issuers[:] = [issuer]
        pass_time(one, 3604)
        await one.call_tool("echo", {})
    assert not other.forms
    assert len(person.opened) == 1


@pytest.mark.parametrize("status", [404, 405, 410])
async def test_a_token_endpoint_that_has_moved_is_found(
    client: Make, issuer: AuthorizationServer, person: Person, status: int
) -> None:
    async with client() as one, authorization_server() as other:
        other.refresh_tokens, other.granted = issuer.refresh_tokens, issuer.granted
        issuer.statuses = {"/token": status}
        issuer.metadata_changes = {"token_endpoint": f"{other.url}/token"}
        for seconds in (3601, 7202):
            pass_time(one, seconds)
            await one.call_tool("echo", {})
    assert other.grants() == ["refresh_token"] * 2
    assert issuer.paths.count("/token") == 2
    assert len(person.opened) == 1


async def test_nothing_is_left_of_an_authorization_server_that_was_moved_away_from(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    issuer.registration_changes = {"client_secret": f"{PLANTED}-registered"}
    async with client() as one, authorization_server() as other:
        assert PLANTED in str([kept.get("client_secret") for kept in store._kept.values()])
        peer.issuers[:] = [other]
        await one.call_tool("echo", {})
        assert not [kept for kept in store._kept.values() if "client_secret" in kept]
    await Account(store, f"{peer.url}/mcp", None, holder_of(OAuth())).forget()
    assert not store._kept


async def test_a_registered_client_is_not_taken_to_another_authorization_server(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    async with client(client_id="ours", client_secret="s3cret-of-ours") as one, authorization_server() as other:
        peer.issuers[:] = [other]
        with pytest.raises(AuthenticationError, match=r"auth\.issuer"):
            await one.call_tool("echo", {})

    assert not other.forms
    assert not other.authorizations


async def test_a_server_of_2025_03_26_is_its_own_authorization_server(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    peer.has_metadata = False
    issuer.url = peer.url
    async with client() as one:
        await one.list_tools()

    assert issuer.grants() == ["authorization_code"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"code_challenge_methods_supported": None}, "PKCE"),
        ({"authorization_endpoint": None}, "no page where people sign in"),
        ({"issuer": "https://elsewhere.example"}, "issuer mismatch"),
    ],
)
async def test_metadata_that_must_not_be_used(
    client: Make, issuer: AuthorizationServer, changes: dict[str, object], says: str
) -> None:
    issuer.metadata_changes = changes
    one = client()
    assert not await one.connect()
    assert isinstance(one.last_error, AuthenticationError)
    assert says in str(one.last_error)
    await one.disconnect()
    assert not issuer.forms


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, r"client_id \(config: auth\.client_id\)$"),
        ({"client_id_metadata_document_supported": True}, r"at a URL \(config: auth\.client_metadata_url\)$"),
    ],
)
async def test_an_authorization_server_that_registers_nobody(
    issuer: AuthorizationServer, metadata: dict[str, object], says: str
) -> None:
    """The SDK would register at the server instead, which only one of 2025-03-26 without any metadata has come to."""
    issuer.metadata_changes = {"registration_endpoint": None, **metadata}
    peer = Lookout(issuers=[issuer], stateless=True)
    async with http_peer(peer):
        one = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(), retries=0))
        with pytest.raises(
            AuthenticationError, match=f"{issuer.url}.* registers no clients: register one there.*{says}"
        ):
            await one.list_tools()
        await one.disconnect()
    assert not peer.strays
    assert not issuer.registrations


async def test_a_client_that_is_described_at_a_url_needs_no_registration(
    client: Make, issuer: AuthorizationServer
) -> None:
    issuer.metadata_changes = {"registration_endpoint": None, "client_id_metadata_document_supported": True}
    async with client(client_metadata_url="https://h.example/client.json") as one:
        await one.list_tools()
    assert issuer.authorizations[0]["client_id"] == "https://h.example/client.json"


@pytest.mark.parametrize(
    ("realm", "says"),
    [
        ({"authorization_servers": []}, r"\(authorization_servers\)"),
        ({"authorization_servers": ["no URL"]}, r"\(authorization_servers\.0\)"),
        ({"resource": 5}, r"\(resource\)"),
    ],
)
async def test_metadata_of_a_server_that_is_malformed_is_said_to_be(
    issuer: AuthorizationServer, realm: dict[str, object], says: str
) -> None:
    """It is no server of 2025-03-26, to which people would be sent instead."""
    peer = Lookout(issuers=[issuer], stateless=True, realm=realm)
    async with http_peer(peer):
        one = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(), retries=0))
        place = f"{peer.url}/.well-known/oauth-protected-resource/mcp"
        with pytest.raises(AuthenticationError, match=rf"metadata \(RFC 9728\) at {place} is malformed {says}"):
            await one.list_tools()
        await one.disconnect()
    assert {path.partition("/mcp")[0] for path in peer.strays} <= {METADATA}


@dataclass
class Lookout(GuardedPeer):
    """Notes what comes for none of its own pages."""

    strays: list[str] = field(default_factory=list[str])

    async def elsewhere(self, http: web.Request) -> web.StreamResponse:
        self.strays.append(http.path)
        return await super().elsewhere(http)


WAYS = {
    "nobody": OAuth("ours", client_secret="s3cret-of-ours"),
    "unregistered": OAuth(),
    "program": ClientCredentials("ours", client_secret="s3cret-of-ours"),
    "workload": WorkloadIdentity("assertion-of-ours"),
}
METADATA = "/.well-known/oauth-authorization-server"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("statuses", "changes", "says"),
    [
        ({METADATA: 404}, {}, f"{METADATA} answers with HTTP 404; .*/openid-configuration answers with HTTP 404"),
        ({}, {"token_endpoint": "https://h:abc/t"}, rf"{METADATA} is malformed \(token_endpoint\)"),
    ],
)
async def test_what_is_for_an_authorization_server_never_goes_to_the_server(
    issuer: AuthorizationServer, way: str, statuses: dict[str, int], changes: dict[str, object], says: str
) -> None:
    issuer.statuses, issuer.metadata_changes = statuses, changes
    peer = Lookout(issuers=[issuer], stateless=True)
    async with http_peer(peer):
        one = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=WAYS[way], retries=0))
        with pytest.raises(AuthenticationError, match=f"no usable metadata of the authorization server .*{says}"):
            await one.list_tools()
        await one.disconnect()
    assert not peer.strays
    assert not issuer.registrations


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_metadata_that_fails_in_passing_is_looked_for_again(
    issuer: AuthorizationServer, way: str, status: int
) -> None:
    issuer.statuses = {METADATA: status}
    peer = Lookout(issuers=[issuer], stateless=True)
    async with http_peer(peer):
        authenticator = oauth_authenticator(HTTPConfig(f"{peer.url}/mcp"), WAYS[way], None)
        with pytest.raises(HTTPStatusError, match=f"{METADATA} answered with HTTP {status}") as raised:
            await authenticator.sign_in()
    assert not isinstance(raised.value, AuthenticationError)
    assert raised.value.delivery is Delivery.NOT_SENT
    assert not peer.strays


async def test_a_registration_that_is_refused_says_where_and_why(
    client: Make, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        said = {"error": "invalid_redirect_uri", "error_description": "only https"}
        return web.json_response(said, status=400)

    monkeypatch.setattr(issuer, "_register", refuse)
    one = client()
    says = rf"{issuer.url}/register does not register this client \(HTTP 400\): invalid_redirect_uri: only https"
    with pytest.raises(AuthenticationError, match=says):
        await one.list_tools()
    await one.disconnect()
    assert not issuer.authorizations


async def test_a_registration_that_fails_in_passing_is_tried_again(client: Make, issuer: AuthorizationServer) -> None:
    issuer.statuses = {"/register": 503}
    one = client()
    with pytest.raises(HTTPStatusError, match="/register answered with HTTP 503"):
        await one.list_tools()
    issuer.statuses.clear()
    pass_time(one, 3)
    await one.list_tools()
    await one.disconnect()


@pytest.mark.parametrize(
    ("said", "shown"), [("DPoP", "DPoP"), ("mac", "mac"), ("N_A", "N_A"), ("\x1b[31m", r"\?\[31m")]
)
async def test_a_token_of_another_type_is_not_used(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, said: str, shown: str
) -> None:
    issuer.fail = [(200, {"access_token": f"{PLANTED}-token", "token_type": said})] * 9
    one = client()
    with pytest.raises(AuthenticationError, match=f"gave a token of type {shown}, where it must be Bearer"):
        await one.list_tools()
    await one.disconnect()
    assert not any(peer.tokens)


@pytest.mark.parametrize("said", ["bearer", "BEARER", None])
async def test_the_type_of_a_token_is_in_any_case(client: Make, issuer: AuthorizationServer, said: str | None) -> None:
    issuer.granted["of-ours"] = {"scope": "", "jkt": ""}
    issuer.fail = [(200, {"access_token": "of-ours"} | ({} if said is None else {"token_type": said}))]
    async with client() as one:
        await one.list_tools()


async def test_what_an_authorization_server_says_writes_nowhere_else_on_a_terminal(
    client: Make, issuer: AuthorizationServer
) -> None:
    issuer.fail = [(400, {"error": "x\n2026-01-01 CRITICAL forged", "error_description": "\x1b[31mred\x07 é"})]
    one = client(auth=ClientCredentials("ours", client_secret="s3cret-of-ours"))
    with pytest.raises(AuthenticationError, match=r"x\?2026-01-01 CRITICAL forged: \?\[31mred\? \?$"):
        await one.list_tools()
    await one.disconnect()

    issuer.callback_changes = {"iss": "https://ann:planted@elsewhere.example\n\x1b[31m"}
    one = client()
    with pytest.raises(AuthenticationError, match=r"mismatch: https://\*\*\*@elsewhere.example\?\?\[31m != http"):
        await one.list_tools()
    await one.disconnect()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"iss": "https://elsewhere.example"}, "iss mismatch"),
        ({"iss": None}, "missing iss"),
        ({"state": "another"}, "state"),
        ({"state": "é"}, "state"),
        ({"code": "é"}, "no authorization code"),
        ({"state": None}, "state"),
    ],
)
async def test_a_response_that_must_not_be_used(
    client: Make, issuer: AuthorizationServer, changes: dict[str, str | None], says: str
) -> None:
    issuer.callback_changes = changes
    one = client()
    assert not await one.connect()
    assert says in str(one.last_error)
    await one.disconnect()
    assert not issuer.forms


async def test_the_resource_must_be_the_server(client: Make, issuer: AuthorizationServer, peer: GuardedPeer) -> None:
    peer.realm["resource"] = "https://elsewhere.example/mcp"
    one = client()
    assert not await one.connect()
    assert "does not match" in str(one.last_error)
    await one.disconnect()
    assert not issuer.authorizations


INSIDE = ["http://169.254.169.254", "https://10.1.2.3", "http://elsewhere.example"]


@pytest.mark.parametrize("url", INSIDE)
async def test_a_server_cannot_have_us_call_other_machines(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, url: str
) -> None:
    peer.realm["authorization_servers"] = [url]
    one = client()
    assert not await one.connect()
    assert "must not lead us" in str(one.last_error)
    await one.disconnect()


@pytest.mark.parametrize("url", INSIDE)
async def test_a_challenge_cannot_have_us_call_other_machines(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, url: str
) -> None:
    peer.challenges_before = [f'Bearer resource_metadata="{url}/metadata"']
    one = client()
    assert not await one.connect()
    assert f"signing in leads to {url}/metadata, where this server must not lead us" in str(one.last_error)
    await one.disconnect()


@pytest.mark.parametrize("url", INSIDE)
@pytest.mark.parametrize("member", ["token_endpoint", "registration_endpoint"])
async def test_an_authorization_server_cannot_have_us_call_other_machines(
    client: Make, issuer: AuthorizationServer, member: str, url: str
) -> None:
    issuer.metadata_changes = {member: f"{url}/x"}
    one = client()
    assert not await one.connect()
    assert "must not lead us" in str(one.last_error)
    await one.disconnect()


async def test_an_authorization_server_without_tls_where_the_configuration_names_it(
    client: Make, issuer: AuthorizationServer, person: Person, names: dict[str, str]
) -> None:
    """As in docker compose: `http://auth:8080`, on another host."""
    names["auth.test"] = "127.0.0.1"
    issuer.url = issuer.url.replace("127.0.0.1", "auth.test")
    one = client()
    assert not await one.connect()
    assert f"auth.insecure_origins does not name {issuer.url}" in str(one.last_error)
    await one.disconnect()
    assert not person.opened

    async with client(insecure_origins=[issuer.url]) as one:
        await one.list_tools()
        issuer.revoke_all()
        await one.list_tools()
    assert person.opened[0].startswith(f"{issuer.url}/authorize?")
    assert issuer.grants() == ["authorization_code", "refresh_token"]


async def test_a_sign_in_without_tls_is_completed_elsewhere(
    client: Make, issuer: AuthorizationServer, store: MemoryTokenStore, names: dict[str, str]
) -> None:
    names["auth.test"] = "127.0.0.1"
    issuer.url = issuer.url.replace("127.0.0.1", "auth.test")
    one = client(auth=OAuth(store=store, insecure_origins=[issuer.url], issuer=issuer.url))
    with pytest.raises(AuthorizationRequired) as required:
        await one.list_tools()
    back = await visit(required.value.url)
    await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    await one.list_tools()
    await one.disconnect()


@pytest.mark.parametrize(
    "page", ["http://elsewhere.example/login", "file:///etc/passwd", "javascript:alert(1)", "https://10.1.2.3/login"]
)
async def test_a_person_is_sent_to_no_page_that_is_not_safe(
    client: Make, issuer: AuthorizationServer, person: Person, page: str
) -> None:
    issuer.metadata_changes = {"authorization_endpoint": page}
    for auth in (OAuth(), OAuth(interaction=person)):
        one = client(auth=auth)
        assert not await one.connect()
        assert isinstance(one.last_error, AuthenticationError)
        assert not isinstance(one.last_error, AuthorizationRequired)
        await one.disconnect()
    assert not person.opened


@pytest.mark.parametrize("page", ["javascript:alert(1)//https://h.example", "data:text/html,x", "vbscript:x", "//h/x"])
async def test_a_person_is_sent_to_no_page_that_runs_something(
    client: Make, issuer: AuthorizationServer, person: Person, page: str
) -> None:
    issuer.metadata_changes = {"authorization_endpoint": page}
    one = client()
    with pytest.raises(AuthenticationError, match=r"no person is sent|no usable metadata"):
        await one.list_tools()
    await one.disconnect()
    assert not person.opened
    assert not issuer.forms


async def test_metadata_that_takes_too_long_is_given_up(
    client: Make, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then does not keep the client waiting."""
    gone = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    monkeypatch.setattr(backchannel, "_SECONDS", 0.3)
    monkeypatch.setattr(issuer, "_page", drip)
    one = client()
    with pytest.raises(MCPConnectionError, match=f"cannot be reached: {issuer.url}/.*: TimeoutError") as raised:
        await one.list_tools()
    await gone.wait()
    await one.disconnect()
    assert raised.value.delivery is Delivery.NOT_SENT


async def test_metadata_that_is_too_large_is_said_to_be(client: Make, issuer: AuthorizationServer) -> None:
    issuer.metadata_changes = {"x": "a" * 2_000_000}
    one = client()
    assert not await one.connect()
    assert "is larger than 1,048,576 bytes" in str(one.last_error)
    await one.disconnect()


async def test_disconnecting_ends_a_sign_in_that_waits_for_a_person(client: Make, issuer: AuthorizationServer) -> None:
    class Away(Person):
        async def callback(self) -> AuthorizationResponse:
            await asyncio.Event().wait()
            raise AssertionError

    person = Away()
    one = client(auth=OAuth(interaction=person))
    connecting = asyncio.create_task(one.connect())
    while not person.opened:
        await asyncio.sleep(0.001)
    async with asyncio.timeout(1):
        await one.disconnect()
    assert not await connecting
    assert not issuer.forms


class SlowStore(MemoryTokenStore):
    """Takes its time to keep what it is given."""

    delay = 0.0

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        await asyncio.sleep(self.delay)
        await super().set(key, value)


@pytest.mark.parametrize("soon", [True, False])
@pytest.mark.parametrize("waits_for", ["store", "server"])
async def test_what_a_token_request_gave_is_kept_even_where_the_client_leaves(
    client: Make, issuer: AuthorizationServer, soon: bool, waits_for: str, person: Person
) -> None:
    store = SlowStore()
    auth = OAuth(interaction=person, store=store)
    async with client(auth=auth) as one:
        pass_time(one, 3590 if soon else 3601)
        issuer.forms.clear()
        if waits_for == "server":
            issuer.gate.clear()
        store.delay = 0.05
        calling = asyncio.create_task(one.call_tool("echo", {}))
        while not issuer.forms:
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_later(0.05, issuer.gate.set)
    await asyncio.gather(calling, return_exceptions=True)
    issuer.revoke_all()
    async with client(auth=OAuth(store=store)) as headless:
        await headless.list_tools()

    assert issuer.grants() == ["refresh_token"] * 2


async def test_a_sign_in_that_takes_longer_than_the_probe_hides_no_era(
    issuer: AuthorizationServer, peer: GuardedPeer, person: Person, store: MemoryTokenStore
) -> None:
    issuer.gate.clear()
    auth = OAuth(interaction=person, store=store)
    one = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, probe_timeout=50))
    connecting = asyncio.create_task(one.connect())
    while not issuer.forms:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.2)  # four times the probe_timeout
    issuer.gate.set()
    assert await connecting
    assert one.server_info is not None
    assert one.server_info.protocol_version == "2026-07-28"
    await one.disconnect()


async def test_a_person_who_says_no_after_the_probe_is_not_asked_again(
    issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    class Unwilling(Person):
        async def callback(self) -> AuthorizationResponse:
            await asyncio.sleep(0.2)  # four times the probe_timeout
            raise AuthenticationError("access was denied in the browser")

    person = Unwilling()
    one = HTTPMCPClient(
        "guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(interaction=person), probe_timeout=50, retries=0)
    )
    with pytest.raises(AuthenticationError, match="access was denied"):
        await one.list_tools()
    await one.disconnect()
    assert len(person.opened) == 1


async def test_the_store_keeps_everything_apart(client: Make, store: MemoryTokenStore) -> None:
    async with client(principal="ann"):
        pass
    kinds = sorted(key.partition("-")[0] for key in store._kept)
    assert kinds == ["client", "holders", "issuer", "tokens"]


async def test_a_store_that_fails_is_named_and_not_quoted(client: Make, store: MemoryTokenStore) -> None:
    async def broken(_key: str, _value: object) -> None:
        raise OSError("planted-secret")

    store.set = broken  # type: ignore[method-assign]
    one = client()
    assert not await one.connect(retry_count=1)
    assert "signing in failed: OSError" in str(one.last_error)
    assert "planted-secret" not in str(one.last_error)
    await one.disconnect()


@pytest.mark.parametrize(
    ("kind", "damage", "says"),
    [
        ("tokens", {"expires_at": "soon"}, r"Expected `float \| null`, got `str` - at `\$\.expires_at`"),
        ("tokens", {"refresh_token": 5}, r"Expected `str \| null`, got `int` - at `\$\.refresh_token`"),
        ("tokens", {"access_token": None}, r"Expected `str`, got `null` - at `\$\.access_token`"),
        ("issuer", {"busy_until": "soon"}, r"Expected `float \| null`, got `str` - at `\$\.busy_until`"),
        ("issuer", {"pending": {"state": 5}}, r"Expected `str`, got `int` - at `\$\.pending\.state`"),
    ],
)
async def test_what_a_store_has_damaged_is_named_and_not_quoted(
    client: Make, store: MemoryTokenStore, kind: str, damage: dict[str, object], says: str
) -> None:
    async with client() as one:
        await one.list_tools()
    (key,) = (key for key in store._kept if key.startswith(kind))
    store._kept[key] |= damage
    one = client()
    for _ in range(2):
        with pytest.raises(TokenStoreError, match=f"document {key} is damaged: {says}; sign out and in again"):
            await one.list_tools()
    assert isinstance(one.last_error, TokenStoreError)
    await one.disconnect()
    account = Account(store, one.config.endpoint, None, holder_of(OAuth()))
    assert await account.forget()
    assert not store._kept


@pytest.mark.parametrize(
    ("kind", "damage", "says"),
    [
        ("issuer", {"metadata": {"issuer": PLANTED}}, "issuer, .*token_endpoint"),
        ("issuer", {"resource_metadata": {"resource": PLANTED}}, "resource, authorization_servers"),
        ("client", {"redirect_uris": [PLANTED]}, r"redirect_uris\.0"),
        ("tokens", {"proof_key": PLANTED}, "ValueError"),
    ],
)
async def test_what_a_store_has_damaged_deeper_is_named_where_it_is_needed(
    client: Make, issuer: AuthorizationServer, store: MemoryTokenStore, kind: str, damage: dict[str, object], says: str
) -> None:
    issuer.dpop = True
    async with client(dpop=True) as one:
        await one.list_tools()
    (key,) = (key for key in store._kept if key.startswith(kind))
    store._kept[key] |= damage
    issuer.revoke_all()
    one = client(dpop=True)
    for _ in range(2):
        with pytest.raises(
            TokenStoreError, match=rf"document {key} is damaged: .*{says}.*; sign out and in again"
        ) as raised:
            await one.list_tools()
        assert all(PLANTED not in repr(one) for one in (raised.value, *behind(raised.value)))
    await one.disconnect()
    assert issuer.grants() == ["authorization_code"]


@pytest.mark.parametrize(
    "damage",
    [
        {"code_verifier": None},
        {"client": {"redirect_uris": [PLANTED]}},
        {"proof_key": PLANTED},
        {"found": {"metadata": {"issuer": PLANTED}}},
    ],
)
async def test_a_waiting_sign_in_that_a_store_has_damaged_is_named(
    client: Make, issuer: AuthorizationServer, store: MemoryTokenStore, damage: dict[str, object]
) -> None:
    one = client(auth=OAuth(store=store, dpop=True))
    with pytest.raises(AuthorizationRequired) as required:
        await one.list_tools()
    await one.disconnect()
    back = await visit(required.value.url)
    (key,) = (key for key in store._kept if key.startswith("pending"))
    store._kept[key] |= damage
    with pytest.raises(TokenStoreError, match=f"document {key} is damaged: ") as raised:
        await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    assert all(PLANTED not in repr(one) for one in (raised.value, *behind(raised.value)))
    assert not issuer.forms


class FullStore(MemoryTokenStore):
    """Takes nothing while it is `full`."""

    full = False

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        if self.full:
            raise TokenStoreError("no room")
        await super().set(key, value)


@pytest.mark.parametrize("seconds", [0, 3590, 3601])
async def test_a_refresh_token_that_was_replaced_is_kept_until_the_store_takes_it(
    client: Make, issuer: AuthorizationServer, person: Person, seconds: float
) -> None:
    store = FullStore()
    auth = OAuth(interaction=person, store=store)
    async with client(auth=auth) as one:
        issuer.revoke_all()
        pass_time(one, seconds)
        store.full = True
        for _ in range(2):
            with pytest.raises(TokenStoreError, match="no room"):
                await one.call_tool("echo", {})
        store.full = False
        await one.call_tool("echo", {})
    async with client(auth=auth) as another:
        await another.call_tool("echo", {})
    assert issuer.grants() == ["authorization_code", "refresh_token"]


async def test_what_others_have_saved_since_is_not_replaced_by_what_a_store_did_not_take(
    client: Make, issuer: AuthorizationServer, person: Person
) -> None:
    store = FullStore()
    auth = OAuth(interaction=person, store=store)
    async with client(auth=auth) as one, client(auth=auth) as another:
        issuer.revoke_all()
        store.full = True
        with pytest.raises(TokenStoreError):
            await one.call_tool("echo", {})
        store.full = False
        await another.call_tool("echo", {})
        issuer.revoke_all()
        await one.call_tool("echo", {})
    assert issuer.grants()[3:] == ["authorization_code", "refresh_token"]


async def test_a_person_who_has_signed_in_when_the_store_was_full_is_not_asked_again(
    client: Make, issuer: AuthorizationServer
) -> None:
    store = FullStore()

    class Filling(Person):
        async def redirect(self, url: str) -> None:
            store.full = True
            await super().redirect(url)

    person = Filling()
    one = client(auth=OAuth(interaction=person, store=store))
    for _ in range(2):
        with pytest.raises(TokenStoreError, match="no room"):
            await one.list_tools()
    assert isinstance(one.last_error, TokenStoreError)
    store.full = False
    await one.list_tools()
    await one.disconnect()
    assert issuer.grants() == ["authorization_code"]
    assert await Account(store, one.config.endpoint, None, holder_of(OAuth())).load() != Kept()


async def test_a_query_of_the_endpoint_goes_to_no_authorization_server(
    peer: GuardedPeer, issuer: AuthorizationServer, person: Person, store: MemoryTokenStore
) -> None:
    auth = OAuth(interaction=person, store=store)
    async with HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp?key=planted-secret", auth=auth)) as one:
        await one.list_tools()
    assert issuer.authorizations[0]["resource"] == issuer.forms[0].fields["resource"] == f"{peer.url}/mcp"
