"""Work beside the requests: it ends with the gateway, and no failure of it is silent."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.background import is_over, running, unless
from fastapi_server.gateway.caller import ANYONE
from fastapi_server.gateway.first_round import FirstRound
from fastapi_server.gateway.history import History
from fastapi_server.gateway.store import AuditQuery
from tests.test_gateway.gateways import gateway


async def test_work_ends_by_itself_when_its_block_does() -> None:
    steps: list[str] = []

    async def work(over: asyncio.Event) -> None:
        await over.wait()
        await asyncio.sleep(0)
        steps.append("done")

    async with running(work):
        assert steps == []
    assert steps == ["done"]


async def test_what_may_be_cut_off_is() -> None:
    over, given_up = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async with running(lambda _over: unless(over, endless())):
        await asyncio.sleep(0)
        over.set()
        await given_up.wait()


async def test_whether_it_is_over_is_known_in_time() -> None:
    over = asyncio.Event()
    assert not await is_over(over, within=0)
    over.set()
    assert await is_over(over, within=10)


@pytest.mark.parametrize(
    ("kind", "step", "pause"),
    [
        (Audit, "flush", "audit._PAUSE_SECONDS"),
        (History, "keep", "history._MINUTE"),
        (FirstRound, "_connect", "roster._LOOK_SECONDS"),
    ],
)
async def test_a_failure_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type, step: str, pause: str
) -> None:
    failed = asyncio.Event()

    async def fails(*_: Any) -> None:
        failed.set()
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(f"fastapi_server.gateway.{pause}", 0.01)
    with monkeypatch.context() as broken:
        broken.setattr(kind, step, fails)
        async with gateway(tmp_path):
            await asyncio.wait_for(failed.wait(), 10)
            broken.undo()
    assert "failed, and does not go on" in caplog.text
    assert "the disk is on fire" in caplog.text


async def test_what_waits_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_server.gateway.audit._PAUSE_SECONDS", 0.01)
    written = asyncio.Event()
    async with gateway(tmp_path) as served:
        store = served.app.state.store
        add = store.add_audit

        async def told(entries: Any) -> None:
            await add(entries)
            written.set()

        monkeypatch.setattr(store, "add_audit", told)
        served.app.state.audit.record(ANYONE, "a", "tools/call", "t", "ok", 0.1)
        await asyncio.wait_for(written.wait(), 10)
        assert [entry.server for entry in await store.audit(AuditQuery())] == ["a"]


async def test_a_gateway_that_ends_well_logs_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mcp.json").write_text('{"mcpServers": {}}')
    with caplog.at_level(logging.ERROR):
        async with gateway(tmp_path, config=tmp_path / "mcp.json"):
            pass
    assert caplog.text == ""
