"""What hooks are told, in which order, and that they do no harm."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from fastapi_server.mcp import ConnectionState, MCPConnectionError, MemoryMCPClient, RPCError
from fastapi_server.mcp.clients.hooks import ErrorEvent, Hooks, RequestEvent, ResponseEvent, StateEvent

SCRIPT: dict[str, Any] = {"tools/call": {"content": []}, "resources/read": RPCError("gone", code=-32602)}


async def test_hooks_are_told_in_the_order_of_things() -> None:
    told: list[str] = []

    async def requested(event: RequestEvent) -> None:
        await asyncio.sleep(0)
        told.append(f"{event.server}/{event.principal} {event.call} {event.method} {event.target}")

    def responded(event: ResponseEvent) -> None:
        assert event.seconds >= 0
        told.append(f"{event.request.call} done")

    async def failed(event: ErrorEvent) -> None:
        told.append(f"{event.request.call} {type(event.error).__name__}")

    hooks = Hooks(on_request=requested, on_response=responded, on_error=failed)
    async with MemoryMCPClient("fake", SCRIPT, hooks=hooks, principal="ann") as client:
        await client.call_tool("pay")
        with pytest.raises(RPCError):
            await client.read_resource("x://1")
    assert told == [
        "fake/ann 1 tools/call pay",
        "1 done",
        "fake/ann 2 resources/read x://1",
        "2 RPCError",
    ]


async def test_changes_of_state_are_told_with_their_cause() -> None:
    moves: list[tuple[str, str, str | None]] = []

    def moved(event: StateEvent) -> None:
        moves.append((event.before, event.after, event.error and event.error.message))

    async with MemoryMCPClient("fake", SCRIPT, hooks=Hooks(on_state_change=moved)) as client:
        client.scripted.break_off()
        await client.ping()
    assert moves == [
        ("disconnected", "connecting", None),
        ("connecting", "connected", None),
        ("connected", "error", "the scripted connection broke"),
        ("error", "reconnecting", None),
        ("reconnecting", "connected", None),
        ("connected", "disconnected", None),
    ]


async def test_a_call_given_up_is_an_error_event() -> None:
    errors: list[BaseException] = []

    async def never(_params: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    hooks = Hooks(on_error=lambda event: errors.append(event.error))
    async with MemoryMCPClient("fake", {"tools/call": never}, hooks=hooks) as client:
        call = asyncio.create_task(client.call_tool("x"))
        await client.ping()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert isinstance(errors[0], asyncio.CancelledError)


async def test_what_a_hook_raises_is_logged_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_event: object) -> None:
        raise RuntimeError("mine")

    hooks = Hooks(on_request=broken, on_response=broken, on_error=broken, on_state_change=broken)
    async with MemoryMCPClient("fake", SCRIPT, hooks=hooks) as client:
        await client.call_tool("x")
        client.scripted.break_off()
        with pytest.raises((MCPConnectionError, RPCError)):
            await client.read_resource("x://1")
    assert caplog.text.count("RuntimeError: mine") >= 5


async def test_a_hook_that_never_returns_is_cancelled_when_the_client_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastapi_server.mcp.clients.hooks._FLUSH_SECONDS", 0.05)
    told: list[str] = []

    async def never(event: RequestEvent) -> None:
        told.append(event.method)
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cancelled")

    async with MemoryMCPClient("fake", SCRIPT, hooks=Hooks(on_request=never)) as client:
        await client.call_tool("x")
        await client.ping()
        async with asyncio.timeout(2):
            await asyncio.gather(client.disconnect(), client.disconnect())
    assert told == ["tools/call", "cancelled"]
    assert [record.message for record in caplog.records] == [
        "server 'fake': its hooks have not returned 0.05 s after it was closed; they are cancelled"
    ]


async def test_a_hook_that_does_not_let_itself_be_cancelled_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_server.mcp.clients.hooks._FLUSH_SECONDS", 0.05)
    monkeypatch.setattr("fastapi_server.mcp.clients.mailbox._CANCEL_SECONDS", 0.05)
    release = asyncio.Event()

    async def stubborn(_event: RequestEvent) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async with MemoryMCPClient("fake", SCRIPT, hooks=Hooks(on_request=stubborn)) as client:
        await client.call_tool("x")
        async with asyncio.timeout(2):
            await client.disconnect()
    release.set()


@pytest.mark.parametrize("kind", ["on_request", "on_response", "on_error", "on_state_change"])
async def test_a_hook_may_close_its_client(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    closed = asyncio.Event()

    async def close(_event: object) -> None:
        await client.disconnect()
        closed.set()

    client = MemoryMCPClient("fake", SCRIPT, hooks=replace(Hooks(), **{kind: close}))
    async with asyncio.timeout(2):
        with contextlib.suppress(MCPConnectionError, RPCError):
            await client.call_tool("x")
            await client.read_resource("x://1")
        await closed.wait()
        await client.disconnect()
    assert client.state is ConnectionState.DISCONNECTED
    assert caplog.records == []


async def test_a_hook_that_ends_in_a_cancellation_of_its_own_drops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told: list[int] = []

    async def requested(event: RequestEvent) -> None:
        gone = asyncio.create_task(asyncio.sleep(60))
        gone.cancel()
        try:
            await gone
        finally:
            told.append(event.call)

    async with MemoryMCPClient("fake", SCRIPT, hooks=Hooks(on_request=requested)) as client:
        await asyncio.gather(*(client.call_tool("x") for _ in range(3)))
        await client.call_tool("x")
    assert told == [1, 2, 3, 4]
    assert caplog.text.count("a callback failed") == 4


async def test_a_plain_hook_that_raises_a_cancellation_does_not_cancel_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def requested(_event: RequestEvent) -> None:
        raise asyncio.CancelledError

    async with MemoryMCPClient("fake", SCRIPT, hooks=Hooks(on_request=requested)) as client:
        await client.call_tool("x")
    assert "a callback failed" in caplog.text
