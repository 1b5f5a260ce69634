"""The listener that the browser comes back to, driven by a real HTTP client in the place of the browser."""

import asyncio
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import pytest

from fastapi_server.mcp import AuthenticationError, ConfigError, ConnectTimeoutError, MCPConnectionError
from fastapi_server.mcp.auth.loopback import LoopbackRedirect, tell_on_stderr
from fastapi_server.mcp.auth_config import AuthorizationResponse

SECRET = "planted-secret"
PAGE = "https://as.example/authorize?client_id=me&state=st-1"


class Desk:
    """Who sits there: sees what was told and opened, and comes back with an answer."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.opened: list[str] = []
        self.saw_one = threading.Event()

    def tell(self, url: str) -> None:
        self.told.append(url)

    def open(self, url: str) -> bool:
        self.opened.append(url)
        self.saw_one.set()
        return True

    def handler(self, **settings: Any) -> LoopbackRedirect:
        return LoopbackRedirect(open_browser=self.open, tell=self.tell, **settings)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def browser(nothing_left: None) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def come_back(
    browser: aiohttp.ClientSession, handler: LoopbackRedirect, answer: Mapping[str, str]
) -> tuple[int, str]:
    """With our state, where the answer names none."""
    async with browser.get(f"{handler.redirect_uri}?{urlencode({'state': 'st-1', **answer})}") as response:
        return response.status, await response.text()


def connects(url: str) -> bool:
    parts = urlsplit(url)
    with closing(socket.socket()) as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


async def test_a_sign_in(desk: Desk, browser: aiohttp.ClientSession) -> None:
    async with desk.handler() as handler:
        assert handler.redirect_uri.startswith("http://127.0.0.1:")
        assert handler.redirect_uri.endswith("/callback")
        await handler.redirect(PAGE)
        waiting = asyncio.create_task(handler.callback())
        status, page = await come_back(
            browser, handler, {"code": f"{SECRET}-code", "state": "st-1", "iss": "https://as.example"}
        )
        answer = await waiting
    assert answer == AuthorizationResponse(f"{SECRET}-code", "st-1", "https://as.example")
    assert status == 200
    assert "You can close this window." in page
    assert SECRET not in page
    assert await asyncio.to_thread(desk.saw_one.wait, 5)
    assert desk.told == desk.opened == [PAGE]


async def test_the_answer_may_come_before_anybody_waits(desk: Desk, browser: aiohttp.ClientSession) -> None:
    async with desk.handler() as handler:
        await handler.redirect(PAGE)
        await come_back(browser, handler, {"code": "c"})
        assert await handler.callback() == AuthorizationResponse("c", "st-1", None)


async def test_the_page_is_not_kept_and_runs_nothing(desk: Desk, browser: aiohttp.ClientSession) -> None:
    async with desk.handler() as handler:
        await handler.redirect(PAGE)
        async with browser.get(f"{handler.redirect_uri}?code=c&state=st-1") as response:
            headers = response.headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Referrer-Policy"] == "no-referrer"


async def test_an_error_is_returned_and_not_shown(desk: Desk, browser: aiohttp.ClientSession) -> None:
    """Nothing of it may be shown before the issuer is found to be right (RFC 9207, 2.4)."""
    said = {"error": "access_denied", "error_description": "The user said no", "iss": "https://as.example"}
    async with desk.handler() as handler:
        await handler.redirect(PAGE)
        status, page = await come_back(browser, handler, said)
        answer = await handler.callback()
    assert answer == AuthorizationResponse(
        "", "st-1", "https://as.example", error="access_denied", error_description="The user said no"
    )
    assert status == 400
    assert "<h1>Not signed in</h1>" in page
    assert "denied" not in page
    assert "said no" not in page


async def test_an_error_that_nobody_waits_for_leaves_no_complaint(desk: Desk, browser: aiohttp.ClientSession) -> None:
    async with desk.handler() as handler:
        await handler.redirect(PAGE)
        await come_back(browser, handler, {"error": "server_error"})


async def test_stray_requests_are_not_the_answer(desk: Desk, browser: aiohttp.ClientSession) -> None:
    async with desk.handler() as handler:
        assert (await come_back(browser, handler, {"code": "too-early"}))[0] == 400
        await handler.redirect(PAGE)
        origin = handler.redirect_uri.removesuffix("/callback")
        async with browser.get(f"{origin}/favicon.ico") as response:
            assert response.status == 404
        async with browser.get(f"{origin}/?code=wrong-path") as response:
            assert response.status == 404
        async with browser.post(f"{handler.redirect_uri}?code=posted") as response:
            assert response.status == 404
        assert (await come_back(browser, handler, {}))[0] == 400
        assert (await come_back(browser, handler, {"code": "forged", "state": "st-2"}))[0] == 400
        assert (await come_back(browser, handler, {"error": "access_denied", "state": "st-2"}))[0] == 400
        for stray in ("code=a&code=b&state=st-1", "code=a", "error=access_denied", "error=x&state="):
            async with browser.get(f"{handler.redirect_uri}?{stray}") as response:
                assert response.status == 400
        assert (await come_back(browser, handler, {"code": "right", "state": "st-1"}))[0] == 200
        status, page = await come_back(browser, handler, {"code": "again", "state": "st-1"})
        assert (status, "No sign-in waits for this answer" in page) == (400, True)
        assert (await handler.callback()).code == "right"


async def test_several_sign_ins_one_after_the_other(desk: Desk, browser: aiohttp.ClientSession) -> None:
    async with desk.handler() as handler:
        for number in range(2):
            await handler.redirect(f"https://as.example/?state={number}")
            await come_back(browser, handler, {"code": f"c{number}", "state": f"{number}"})
            assert (await handler.callback()).code == f"c{number}"


async def test_nobody_comes_back_in_time(desk: Desk) -> None:
    async with desk.handler(timeout=0.05) as handler:
        await handler.redirect(PAGE)
        with pytest.raises(ConnectTimeoutError, match=r"^nobody has signed in within 0\.05 s$"):
            await handler.callback()


async def test_without_a_request_there_is_no_answer(desk: Desk) -> None:
    async with desk.handler() as handler:
        with pytest.raises(RuntimeError, match=r"callback\(\) comes after redirect\(\)"):
            await handler.callback()


async def test_the_socket_is_closed_whatever_happens(desk: Desk, browser: aiohttp.ClientSession) -> None:
    uris = list[str]()

    async def failed() -> None:
        async with desk.handler() as handler:
            uris.append(handler.redirect_uri)
            assert connects(handler.redirect_uri)
            raise KeyError

    with pytest.raises(KeyError):
        await failed()

    async def cancelled() -> None:
        async with desk.handler() as handler:
            uris.append(handler.redirect_uri)
            await handler.redirect(PAGE)
            await handler.callback()

    task = asyncio.create_task(cancelled())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [connects(uri) for uri in uris] == [False, False]


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_it_listens_on_this_machine_only_and_on_the_port_given(desk: Desk) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}/callback"
    async with desk.handler(redirect_uri=uri) as handler:
        assert handler.redirect_uri == uri
        assert handler._runner.addresses == [("127.0.0.1", port)]
        with pytest.raises(MCPConnectionError, match=rf"^cannot listen on port {port} for the browser: "):
            async with desk.handler(redirect_uri=uri):
                pass


@pytest.mark.parametrize(
    ("uri", "shape"),
    [
        ("http://127.0.0.1", r"http://127\.0\.0\.1:\d+"),
        ("http://localhost/oauth/back", r"http://localhost:\d+/oauth/back"),
        ("http://[::1]/", r"http://\[::1\]:\d+/"),
    ],
)
async def test_any_address_of_this_machine_will_do(
    desk: Desk, browser: aiohttp.ClientSession, uri: str, shape: str
) -> None:
    async with desk.handler(redirect_uri=uri) as handler:
        assert re.fullmatch(shape, handler.redirect_uri)
        await handler.redirect(PAGE)
        assert (await come_back(browser, handler, {"code": "c"}))[0] == 200
        assert (await handler.callback()).code == "c"


@pytest.mark.parametrize(
    "uri",
    ["https://127.0.0.1/callback", "http://app.example/callback", "http://0.0.0.0/", "http://127.0.0.1:x/", "app:/cb"],
)
def test_another_machine_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^redirect_uri: must be http on 127\.0\.0\.1, localhost, ::1"):
        LoopbackRedirect(redirect_uri=uri)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "calculator:run",
        "http://as.example/authorize",
        "http://127.0.0.1.evil.example/",
        "-new-window",
        "https://as.example/\x1b[2J",
        "https://as.example/ --help",
        "https://[as.example/",
        "https:///authorize",
        "",
    ],
)
async def test_only_a_web_page_is_opened(desk: Desk, url: str) -> None:
    async with desk.handler() as handler:
        with pytest.raises(AuthenticationError, match="that is not https; it was not opened"):
            await handler.redirect(url)
    assert desk.told == desk.opened == []


@pytest.mark.parametrize("url", ["http://localhost:1/authorize", "http://127.0.0.1:1/", "http://[::1]:1/"])
async def test_a_page_on_this_machine_needs_no_tls(desk: Desk, url: str) -> None:
    async with desk.handler() as handler:
        await handler.redirect(url)
    assert desk.told == [url]


async def test_a_page_without_tls_is_opened_where_its_origin_is_named() -> None:
    told: list[str] = []
    handler = LoopbackRedirect(
        open_browser=lambda url: True, tell=told.append, insecure_origins=["http://auth.example:8080/"]
    )
    await handler.redirect("http://AUTH.example:8080/authorize?state=1")
    for url in ("http://auth.example/", "http://auth.example:8081/", "ftp://auth.example:8080/", "http://[::1:8080/"):
        with pytest.raises(AuthenticationError, match="not https"):
            await handler.redirect(url)
    assert told == ["http://AUTH.example:8080/authorize?state=1"]


async def test_without_a_browser_the_address_is_told(
    browser: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_browser(url: str) -> bool:
        raise OSError("there is none")

    async with LoopbackRedirect(open_browser=no_browser) as handler:
        await handler.redirect(PAGE)
        await come_back(browser, handler, {"code": "c"})
        assert (await handler.callback()).code == "c"
    said = capsys.readouterr()
    assert PAGE in said.err
    assert said.out == ""


def test_the_address_stands_alone_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell_on_stderr(PAGE)
    assert PAGE in capsys.readouterr().err.splitlines()


async def test_a_browser_that_stays_in_the_terminal_holds_up_nothing(browser: aiohttp.ClientSession) -> None:
    closed = threading.Event()

    def stays(url: str) -> bool:
        return closed.wait(30)

    async with LoopbackRedirect(open_browser=stays, tell=lambda url: None) as handler:
        await handler.redirect(PAGE)
        await come_back(browser, handler, {"code": "c"})
        assert (await asyncio.wait_for(handler.callback(), 5)).code == "c"
    closed.set()


async def test_the_code_is_seen_nowhere(
    desk: Desk, browser: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with desk.handler() as handler:
        await handler.redirect(f"{PAGE}&login_hint={SECRET}-hint")
        for answer in ({"code": f"{SECRET}-forged", "state": "x"}, {"code": f"{SECRET}-code", "state": "st-1"}):
            await come_back(browser, handler, answer)
        answer = await handler.callback()
        async with browser.get(f"{handler.redirect_uri}/{SECRET}?code={SECRET}") as response:
            await response.read()
        seen = [repr(handler), repr(answer), str(answer), *capfd.readouterr()]
    seen += [repr(vars(record)) for record in caplog.records if record.name.partition(".")[0] != "asyncio"]
    seen += [record.getMessage() for record in caplog.records]
    for text in seen:
        assert SECRET not in text
        assert "st-1" not in text
