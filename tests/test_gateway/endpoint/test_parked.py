"""Callers of the stateless era who are asked something and do not answer, or are gone, stand in nobody's way."""

import asyncio
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mcp_types import ElicitRequestFormParams, ElicitResult

from fastapi_server.gateway.endpoint import parked, upstream
from fastapi_server.mcp import HandlerContext, Handlers, MCPClient, MCPClientError, RPCError
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer
from tests.test_gateway.endpoint.conftest import HANDSHAKE, StartGateway
from tests.test_gateway.endpoint.test_errors import Stateless
from tests.test_gateway.endpoint.test_matrix import STATELESS, client_of, person, said, text_of

AT_WORK: int = upstream._MOST_AT_WORK
TROUBLED = str(Path(__file__).parents[2] / "servers/troubled.py")
MOST = 4

either_era = pytest.mark.parametrize("behind", ["http", "stateless"])


class Thinking:
    """Somebody who answers a question only when they are let."""

    def __init__(self) -> None:
        self.asked: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.answers: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def _fill_in(self, _context: HandlerContext, params: ElicitRequestFormParams) -> ElicitResult:
        self.asked[params.message].set()
        await self.answers[params.message].wait()
        return ElicitResult(action="accept", content={"name": params.message})

    @property
    def handlers(self) -> Handlers:
        return Handlers(elicitation=self._fill_in)

    async def called(self, client: MCPClient, behind: str, about: str) -> "asyncio.Task[Any]":
        """A call that waits for its answer."""
        call = asyncio.create_task(client.call_tool(f"{behind}__ask", {"kinds": ["form"], "about": about}))
        asked = asyncio.create_task(self.asked[f"About {about}?"].wait())
        await asyncio.wait((call, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        return call


@pytest.mark.parametrize("era", [HANDSHAKE, STATELESS])
@either_era
async def test_those_who_think_do_not_keep_others_from_being_served(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str
) -> None:
    thinking = Thinking()
    async with gateway({behind: upstreams[behind]}) as running, client_of(running, era, thinking.handlers) as client:
        calls = [await thinking.called(client, behind, str(number)) for number in range(AT_WORK + 2)]
        thinking.answers["About last?"].set()
        last = await client.call_tool(f"{behind}__ask", {"kinds": ["form"], "about": "last"})
        for number, call in enumerate(calls):
            thinking.answers[f"About {number}?"].set()
            assert said(await call)["form"]["content"] == {"name": f"About {number}?"}

    assert said(last)["form"]["content"] == {"name": "About last?"}


@either_era
async def test_who_is_gone_makes_way_for_who_is_there(
    gateway: StartGateway, upstreams: dict[str, Any], behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "_MOST_OF_ONE", MOST)
    gone, thinking = Thinking(), Thinking()
    async with gateway({behind: upstreams[behind]}) as running:
        async with client_of(running, STATELESS, gone.handlers) as client:
            for number in range(MOST):
                (await gone.called(client, behind, str(number))).cancel()
        async with client_of(running, STATELESS, thinking.handlers) as client:
            calls = [await thinking.called(client, behind, str(number)) for number in range(MOST + 1)]
            for number in range(MOST + 1):
                thinking.answers[f"About {number}?"].set()
            first, *others = calls
            with pytest.raises(RPCError, match="made way for newer calls") as refused:
                await first
            outcomes = await asyncio.gather(*others)
        async with client_of(running, STATELESS, person()) as client:
            answers = said(await client.call_tool(f"{behind}__ask", {"kinds": ["form"]}))

    assert refused.value.code == RPCError.INVALID_PARAMS
    assert [said(outcome)["form"]["action"] for outcome in outcomes] == ["accept"] * MOST
    assert answers["form"]["action"] == "accept"


async def test_a_question_whose_call_is_given_up_is_answered(gateway: StartGateway, upstreams: dict[str, Any]) -> None:
    """So that neither the server nor the connection goes on waiting for it."""
    thinking = Thinking()
    async with (
        gateway({"http": upstreams["http"]}, question_seconds=0.5) as running,
        client_of(running, STATELESS, thinking.handlers) as client,
    ):
        call = await thinking.called(client, "http", "nothing")
        (member,) = [member for member in running.gateway.pool.members() if member.key.session is not None]
        while member.client._inbox._answering or member.client.metrics.in_flight:
            await asyncio.sleep(0.01)
        thinking.answers["About nothing?"].set()
        with pytest.raises(MCPClientError):
            await call


async def expect_no_third(thinking: Thinking, client: MCPClient, third: MCPClient) -> None:
    """While two calls wait for answers, another is refused."""
    calls = [await thinking.called(client, "http", str(number)) for number in range(2)]
    with pytest.raises(RPCError, match="2 calls of this caller wait for answers to its questions already"):
        await third.call_tool("http__ask", {"kinds": ["form"]})
    for number, call in enumerate(calls):
        thinking.answers[f"About {number}?"].set()
        assert said(await call)["form"]["action"] == "accept"


async def test_more_connections_than_there_may_be(
    gateway: StartGateway, upstreams: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "_MOST_SEATS", 2)
    thinking = Thinking()
    async with (
        gateway({"http": upstreams["http"]}) as running,
        client_of(running, HANDSHAKE, thinking.handlers) as client,
    ):
        await expect_no_third(thinking, client, client)


async def test_who_chooses_other_abilities_has_no_more_connections(
    gateway: StartGateway, upstreams: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "_MOST_SEATS", 2)
    thinking = Thinking()
    async with (
        gateway({"http": upstreams["http"]}) as running,
        client_of(running, HANDSHAKE, thinking.handlers) as client,
        client_of(running, HANDSHAKE, person()) as other,
    ):
        assert said(await other.call_tool("http__ask", {"kinds": ["form"]}))  # its connection makes way
        await expect_no_third(thinking, client, other)


async def test_a_malformed_answer_leaves_the_call_where_it_is(gateway: StartGateway, upstreams: dict[str, Any]) -> None:
    async with gateway({"http": upstreams["http"]}) as running, Stateless.at(running.url) as raw:
        asked = await raw.call("http__ask", {"kinds": ["form"]}, elicitation={})
        (key,) = asked["result"]["inputRequests"]
        state = asked["result"]["requestState"]
        wrong = {key: {"action": "maybe"}}
        refused = await raw.call("http__ask", {"kinds": ["form"]}, wrong, state, elicitation={})
        right = {key: {"action": "accept", "content": {"name": "Ada"}}}
        done = await raw.call("http__ask", {"kinds": ["form"]}, right, state, elicitation={})

    assert refused["error"]["code"] == RPCError.INVALID_PARAMS
    assert "Ada" in done["result"]["content"][0]["text"]


async def test_questions_keep_the_names_that_their_server_gives_them_once(gateway: StartGateway) -> None:
    """So that an answer that comes twice is not taken for that to a later question of the same name."""
    form = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
    elicit = {"method": "elicitation/create", "params": form}
    rounds = iter(range(2))

    async def call(seen: Seen) -> web.StreamResponse:
        if next(rounds, None) is None:
            return seen.json({"resultType": "complete", "content": []})
        return seen.json({"resultType": "input_required", "inputRequests": {"who": elicit}})

    keys: list[str] = []
    async with (
        http_peer(HTTPPeer({"tools/call": call}, stateless=True)) as peer,
        gateway({"peer": {"url": f"{peer.url}/mcp"}}) as running,
        Stateless.at(running.url) as raw,
    ):
        result = (await raw.call("peer__echo", {}, elicitation={}))["result"]
        while "inputRequests" in result:
            (key,) = result["inputRequests"]
            keys.append(key)
            answers = {key: {"action": "decline"}}
            result = (await raw.call("peer__echo", {}, answers, result["requestState"], elicitation={}))["result"]

    assert keys == ["who", "who-0"]


async def test_a_question_that_comes_too_late_is_for_nobody(gateway: StartGateway) -> None:
    """The call that it belongs to was given up, and another caller has the next one."""
    thinking = Thinking()
    server = {"command": sys.executable, "args": ["-S", TROUBLED]}
    async with gateway({"troubled": server}) as running:
        async with client_of(running, HANDSHAKE, Thinking().handlers) as client:
            with pytest.raises(MCPClientError):
                await client.call_tool("troubled__late", timeout=2)
        async with client_of(running, HANDSHAKE, thinking.handlers) as client:
            said_next = text_of(await client.call_tool("troubled__life-1"))

    assert said_next == "life 1"
    assert not thinking.asked
