"""What a server says unasked, when it says it badly."""

import asyncio
from typing import Any

import pytest
from mcp_types import LoggingMessageNotificationParams

from fastapi_server.mcp import HandlerContext, Handlers, MemoryMCPClient
from fastapi_server.mcp.clients.inbox import Inbox
from fastapi_server.mcp.clients.subscriptions import Change, Interest, Subscription, list_changes
from fastapi_server.mcp.errors import MCPConnectionError
from fastapi_server.mcp.protocol.caching import ListCache
from fastapi_server.mcp.protocol.jsonrpc import decode

heard: list[Any] = []


def log(_context: HandlerContext, params: LoggingMessageNotificationParams) -> None:
    heard.append(params.data)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("notifications/progress", None),
        ("notifications/progress", {"progressToken": "not a number", "progress": 1}),
        ("notifications/progress", {"progressToken": "9" * 5000, "progress": 1}),
        ("notifications/tools/list_changed", {"_meta": {"io.modelcontextprotocol/subscriptionId": "9" * 5000}}),
        ("notifications/progress", {"progressToken": 4711, "progress": 1}),
        ("notifications/message", {"level": "nonsense", "data": 1}),
        ("notifications/cancelled", {"requestId": None}),
        ("notifications/cancelled", {"requestId": 4711}),
        ("notifications/resources/updated", {"uri": 7}),
        ("notifications/resources/updated", {"uri": "x://1"}),
        ("notifications/tools/list_changed", {"_meta": {"io.modelcontextprotocol/subscriptionId": "4711"}}),
        ("notifications/subscriptions/acknowledged", {}),
        ("notifications/unheard/of", None),
    ],
)
async def test_what_cannot_be_understood_is_harmless(method: str, params: dict[str, Any] | None) -> None:
    async with MemoryMCPClient("fake", {}, handlers=Handlers(logging=log)) as client:
        client.scripted.tell(method, params)
        assert await client.health_check()
    assert heard == []


async def test_without_handlers_nothing_is_told() -> None:
    async with MemoryMCPClient("fake", {}) as client:
        for method in ("message", "tools/list_changed", "resources/updated"):
            client.scripted.tell(f"notifications/{method}", {"uri": "x://1", "level": "info", "data": 1})
        assert await client.health_check()


async def test_an_answer_that_cannot_be_sent_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def reply(_data: bytes) -> None:
        raise MCPConnectionError("gone")

    inbox = Inbox("fake", None, Handlers(), ListCache(lambda: 0.0), reply)
    (question,) = decode(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}')
    inbox.receive(question, None)
    await asyncio.gather(*inbox._answering.values())
    assert "the answer to ping could not be sent: gone" in caplog.text


async def test_a_question_in_progress_ends_with_its_channel() -> None:
    stopped = asyncio.Event()

    async def endless(_context: HandlerContext, _params: Any) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    client = MemoryMCPClient("fake", {}, handlers=Handlers(elicitation=endless))
    async with client:
        question = (
            b'{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?","requestedSchema":{}}}'
        )
        client.scripted._receive(question)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.scripted.break_off()
        async with asyncio.timeout(5):
            await stopped.wait()


async def test_the_server_may_end_a_subscription_by_a_cancel_notice() -> None:
    inbox = Inbox("fake", None, Handlers(), ListCache(lambda: 0.0), lambda _data: asyncio.sleep(0))
    subscription = inbox.subscriptions[7] = Subscription(Interest(tools=True))
    (notice,) = decode(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}')
    inbox.receive(notice, None)
    assert [change async for change in subscription] == []
    subscription.finish()
    subscription.acknowledge({})


@pytest.mark.parametrize(
    ("change", "interest"),
    [
        (Change("tools"), Interest(tools=True)),
        (Change("prompts"), Interest(prompts=True)),
        (Change("resources"), Interest(resources=True)),
        (Change("resource", "x://1"), Interest(uris=frozenset({"x://1"}))),
    ],
)
async def test_a_subscription_hears_only_what_it_asked_for(change: Change, interest: Interest) -> None:
    assert interest.covers(change)
    assert not Interest().covers(change)
    subscription = Subscription(interest)
    for told in (Change("tools"), Change("prompts"), Change("resources"), Change("resource", "x://1")):
        subscription.tell(told)
        subscription.tell(told)
    subscription.finish()
    assert [heard async for heard in subscription] == [change]


def test_a_server_that_has_not_said_what_it_offers_is_listened_to_for_all_lists() -> None:
    assert list_changes(None) == Interest(tools=True, prompts=True, resources=True)
