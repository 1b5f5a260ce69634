"""One Chromium and one gateway for all tests; a context of its own in the browser for each. `SCREENSHOTS=1` renews the
pictures of the documents.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.test_gateway.conftest import SHOW, WEATHER

on_one_loop = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("browser"),
]
"""For the modules of tests here: the browser lives in the loop of the session, and the first test starts everything."""

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
HOSTILE = {"command": sys.executable, "args": ["-S", str(Path(__file__).with_name("hostile_server.py"))]}
LONG = "archive-of-everything-that-was-ever-written-down.mirror-no-12345"
MARKUP = "<img src=x onerror=alert(0)>"
GONE = {"command": "no-such-program"}
SERVERS = {"weather": WEATHER, "studio": SHOW, "hostile": HOSTILE, LONG: GONE, MARKUP: GONE}
PATIENCE_SECONDS = 40.0

_LISTENING = re.compile(r"running on (http://[\d.:]+)")

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


@dataclass(frozen=True)
class RunningGateway:
    """A gateway in a process of its own.

    Attributes:
        config: Its config file.
        key: Of an administrator, where it asks for one.
    """

    url: str
    config: Path
    key: str | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return await asyncio.to_thread(self.ask_now, method, path, body)

    def ask_now(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@contextmanager
def running_gateway(folder: Path, servers: dict[str, Any], **settings: str) -> Generator[RunningGateway]:
    config = folder / "mcp.json"
    config.write_text(json.dumps({"mcpServers": servers}))
    command = [sys.executable, "-m", "uvicorn", "fastapi_server.gateway:app", "--port", "0", "--no-access-log"]
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    env = {**unmeasured, "GATEWAY_CONFIG": "mcp.json", "GATEWAY_DATABASE": "sqlite+aiosqlite:///gateway.db", **settings}
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        said = _until(lambda: _LISTENING.search((folder / "output").read_text()), process)
        key = re.search(r"mcpgw_\S+", (folder / "output").read_text())
        gateway = RunningGateway(said[1], config, key[0] if key is not None else None)
        _until(lambda: _is_ready(gateway), process)
        yield gateway
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _until(found: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (what := found()):
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)
    return what


def _is_ready(gateway: RunningGateway) -> bool:
    try:
        return gateway.ask_now("GET", "/ready")["ready"]
    except urllib.error.HTTPError:
        return False


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that lets everybody in, with servers that all tests may call and none may change."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), SERVERS) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that asks who one is."""
    folder = tmp_path_factory.mktemp("guarded")
    with running_gateway(folder, {"hostile": HOSTILE}, GATEWAY_REQUIRE_KEY="true") as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser]:
    """Debian's Chromium, started once: it belongs to the loop of the session, and so do the tests that use it."""
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        await running.close()


OpenPage: TypeAlias = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser) -> AsyncGenerator[OpenPage]:
    """Opens an address in a context of its own; nothing may go wrong there, and nothing be asked of another host."""
    faults: list[str] = []
    contexts: list[BrowserContext] = []

    async def opened(url: str, *, expected: str = "Failed to load resource", **context: Any) -> Page:
        contexts.append(await browser.new_context(**context))
        page = await contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        host = "/".join(url.split("/")[:3])
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("console", lambda said: _heard(said, expected, faults))
        page.on("request", lambda sent: None if sent.url.startswith((host, "data:")) else faults.append(sent.url))
        await page.goto(url)
        return page

    yield opened
    for context in contexts:
        await context.close()
    assert faults == []


def _heard(said: ConsoleMessage, expected: str, faults: list[str]) -> None:
    """An answer of 4xx, or another text that is expected, is no fault: what the page makes of it is tested."""
    if said.type == "error" and expected not in said.text:
        faults.append(said.text)
