"""Calls at the edges of what a server, a handler or a caller may do: the right error, at once, and nothing twice."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mcp_types import CallToolResult, ListToolsResult, Tool, ToolAnnotations
from msgspec import Raw

from fastapi_server.mcp import (
    CallTimeoutError,
    ConfigError,
    Delivery,
    HandlerContext,
    Handlers,
    HTTPConfig,
    HTTPMCPClient,
    InvalidResultError,
    MemoryMCPClient,
    ProtocolError,
    RPCError,
    StdioConfig,
    StdioMCPClient,
    testing,
)
from fastapi_server.mcp.clients.results import read
from fastapi_server.mcp.clients.tool_book import ToolBook
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event, http_peer

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))
SECRET = 'planted"secret\\with marks'


@pytest.fixture
async def peer(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer(stateless=True) as started:
        yield started


async def test_no_credential_comes_back_in_the_data_of_an_error(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def echo(seen: Seen) -> web.StreamResponse:
        data = {"said": [SECRET, {SECRET: 1234567890, "ok": [True, None, 1.5]}]}
        return seen.error(-32000, f"you sent {SECRET}", data)

    headers = {"X-Key": SECRET, "X-Number": "1234567890"}
    async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp", headers=headers)) as client:
        with pytest.raises(RPCError, match=r"you sent \*\*\*") as caught:
            await client.call_tool("x")
    assert caught.value.data == {"said": ["***", {"***": "***", "ok": [True, None, 1.5]}]}


@pytest.mark.parametrize("left_open", [True, False])
@pytest.mark.parametrize("result", ["NaN", "9" * 5000, '"\x01"', "[" * 50_000 + "]" * 50_000])
async def test_a_reply_that_cannot_be_read_fails_its_call_and_repeats_nothing(
    peer: HTTPPeer, result: str, left_open: bool
) -> None:
    done = asyncio.Event()

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(f'data: {{"jsonrpc":"2.0","id":{seen.id},"result":{result}}}\n\n'.encode())
        if left_open:
            await done.wait()
        return response

    async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
        with pytest.raises(ProtocolError, match="the reply cannot be read"):
            await client.call_tool("x", idempotent=True, timeout=10)
        done.set()
    assert peer.methods().count("tools/call") == 1


async def test_an_event_that_is_no_message_is_still_passed_over(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(b"data: welcome\n\n")
        await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}))
        return response

    async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
        await client.call_tool("x")
        assert client.metrics.skipped_messages == 1


@pytest.mark.parametrize("timeout", [math.inf, 1e308, 1e15])
async def test_a_deadline_that_never_comes(timeout: float) -> None:
    async with MemoryMCPClient("fake", {"tools/call": {"content": []}}) as client:
        await client.call_tool("x", timeout=timeout)
        await client.ping(timeout=timeout)


async def test_a_timeout_that_is_no_number() -> None:
    async with MemoryMCPClient("fake", {}) as client:
        with pytest.raises(ConfigError, match="timeout: must be a number of seconds"):
            await client.ping(timeout=math.nan)


async def test_a_handler_that_takes_its_time_to_be_cancelled_delays_no_new_connection(
    nothing_left: None,
) -> None:
    asked, let_go, answers = asyncio.Event(), asyncio.Event(), 0

    async def roots(_context: HandlerContext) -> list[Any]:
        asked.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return []

    async with http_peer() as handshake:

        @handshake.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            await response.write(event({"jsonrpc": "2.0", "id": "q", "method": "roots/list"}))
            await asyncio.sleep(60)
            return response

        client = HTTPMCPClient("peer", HTTPConfig(f"{handshake.url}/mcp"), handlers=Handlers(roots=roots))
        calling = asyncio.create_task(client.call_tool("x"))
        await asked.wait()
        await client.replace_channel()
        await client.ping(timeout=5)
        let_go.set()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        await client.disconnect()
        answers = sum("result" in seen.body for seen in handshake.seen)
    assert answers == 0  # whoever asked was gone


async def test_a_call_that_waited_for_a_full_pipe_was_not_sent() -> None:
    async with StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", PEER], shutdown_timeout=200)) as client:
        await client.call_tool("stop_reading")
        filling = asyncio.create_task(client.call_tool("echo", {"text": "x" * 1_000_000}, timeout=60))
        await asyncio.sleep(0.05)
        with pytest.raises(CallTimeoutError) as caught:
            await client.call_tool("echo", timeout=0.1)
        assert caught.value.delivery is Delivery.NOT_SENT
        filling.cancel()


def test_of_two_tools_with_one_name_the_last_one_counts() -> None:
    book = ToolBook("s", trusted=True)
    reads = Tool(name="t", input_schema={}, output_schema={}, annotations=ToolAnnotations(read_only_hint=True))
    book.learn([reads, Tool(name="t", input_schema={})], mirrored=False)
    assert "t" not in book.repeatable
    assert book.breach("t", CallToolResult(content=[])) is None
    assert not book.worth_listing("t")
    book.learn([Tool(name="t", input_schema={}), reads], mirrored=False)
    assert "t" in book.repeatable
    assert book.breach("t", CallToolResult(content=[])) is not None


def test_a_list_that_comes_with_an_error_is_refused() -> None:
    result = Raw(b'{"tools":[]},"error":{"code":1,"message":"no"}')
    with pytest.raises(InvalidResultError, match="both a result and an error"):
        read(ListToolsResult, "tools/list", result)


def test_a_schema_that_changes_from_1_to_true_is_another_schema() -> None:
    book = ToolBook("s")

    def tool(const: object) -> Tool:
        schema = {"type": "object", "properties": {"a": {"const": const}}}
        return Tool(name="t", input_schema={}, output_schema=schema)

    one, true = (CallToolResult(content=[], structured_content={"a": value}) for value in (1, True))
    book.learn([tool(1)], mirrored=False)
    assert book.breach("t", one) is None
    book.learn([tool(True)], mirrored=False)
    assert book.breach("t", true) is None
    assert book.breach("t", one) == "the result of tool 't' breaks its output schema: a: true was expected"
