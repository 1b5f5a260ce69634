"""Signing in at a desk: a browser, and a listener of our own that it comes back to (RFC 8252, 7.3)."""

import asyncio
import html
import re
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Self
from urllib.parse import SplitResult, parse_qs, urlsplit

from aiohttp import web
from yarl import URL

from fastapi_server.mcp.auth_config import AuthorizationResponse
from fastapi_server.mcp.errors import AuthenticationError, ConfigError, ConnectTimeoutError, MCPConnectionError

_LOCAL_HOSTS = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
"""Where to listen for each."""
_CLOSING_SECONDS = 2.0
_NOT_IN_A_URL = re.compile(r"[^\x21-\x7e]")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 1.1em/1.5 system-ui, sans-serif; max-width: 32em; margin: 20vh auto; padding: 0 1em }}</style>
<h1>{title}</h1>
<p>{text}</p>
</html>
"""


def tell_on_stderr(url: str) -> None:
    """Print the address, for whoever sees no browser open."""
    print(f"To sign in, open this address in a browser:\n\n{url}\n", file=sys.stderr, flush=True)


class LoopbackRedirect:
    """Opens the browser, and receives its answer on a port of this machine.

    ```python
    async with LoopbackRedirect() as handler:
        ...  # handler.redirect_uri goes into the authorization request
        await handler.redirect(url)
        answer = await handler.callback()
    ```

    It may sign in again, one sign-in after the other. The code is neither logged nor shown.

    Args:
        timeout: Seconds that `callback` waits.
        redirect_uri: Where to listen: `http`, this machine, any path; without a port, on any that is free. Name one for
            authorization servers that compare it, against RFC 8252, with the one registered.
        open_browser: Called in a thread with the address; `False` or an exception means that there is no browser.
        tell: Called with the address as well, because a browser that cannot be seen also opens.
        insecure_origins: Origins (`http://auth:8080`) of pages that are opened without TLS.

    Raises:
        ConfigError: `redirect_uri` is not on this machine.
    """

    def __init__(
        self,
        *,
        timeout: float = 300.0,
        redirect_uri: str = "http://127.0.0.1/callback",
        open_browser: Callable[[str], bool] = webbrowser.open,
        tell: Callable[[str], None] = tell_on_stderr,
        insecure_origins: Iterable[str] = (),
    ) -> None:
        self._timeout = timeout
        self._place = _loopback(redirect_uri)
        self._open_browser = open_browser
        self._tell = tell
        self._insecure = {URL(origin).origin() for origin in insecure_origins}
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=_CLOSING_SECONDS)
        self._state: str | None = None
        self._answered: asyncio.Future[AuthorizationResponse] | None = None
        self.redirect_uri = redirect_uri
        """Inside the context with its port."""

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            MCPConnectionError: The port is taken.
        """
        host, port = self._place.hostname or "", self._place.port or 0
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, _LOCAL_HOSTS[host], port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise MCPConnectionError(
                f"cannot listen on port {port} for the browser: {error.strerror or error}"
            ) from error
        if not port:
            name = f"[{host}]" if ":" in host else host
            self.redirect_uri = self._place._replace(netloc=f"{name}:{self._runner.addresses[0][1]}").geturl()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the socket, whatever has happened."""
        await self._runner.cleanup()

    async def redirect(self, url: str) -> None:
        """Send the user to the authorization server.

        Raises:
            AuthenticationError: The address is not `https`, nor `http` on this machine or on one of `insecure_origins`,
                or holds what no URL does: it comes from a server, and a browser would open files and start programs as
                well.
        """
        self._state = _state_of(_checked(url, self._insecure))
        self._answered = asyncio.get_running_loop().create_future()
        self._tell(url)
        threading.Thread(target=self._open, args=(url,), daemon=True).start()  # a browser in the terminal stays

    async def callback(self) -> AuthorizationResponse:
        """Wait for the browser to come back, with a code or an error.

        Raises:
            ConnectTimeoutError: Nobody came back in time.
        """
        if self._answered is None:
            raise RuntimeError("callback() comes after redirect()")
        try:
            return await asyncio.wait_for(asyncio.shield(self._answered), self._timeout)
        except TimeoutError:
            raise ConnectTimeoutError(f"nobody has signed in within {self._timeout:g} s") from None

    def _open(self, url: str) -> None:
        with suppress(Exception):  # whatever it is: the user has the address
            self._open_browser(url)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Tell the browser first and the caller then, who may close the listener at once."""
        if request.method != "GET" or request.path != (self._place.path or "/"):
            return web.Response(status=404, headers=_HEADERS)
        answered = self._answered
        query = {name: values[0] for name, values in _parameters(request).items() if len(values) == 1}
        if answered is None or answered.done() or not self._is_ours(query):
            return _page(400, "Nothing to do", "No sign-in waits for this answer. You can close this window.")
        page = _page_for(query)
        page.force_close()
        await page.prepare(request)
        await page.write_eof()
        if not answered.done():
            answered.set_result(_read(query))
        return page

    def _is_ours(self, query: dict[str, str]) -> bool:
        """It is an answer, and to what was asked: whoever does not know our state cannot end the sign-in."""
        return ("code" in query or "error" in query) and query.get("state") == self._state


def _loopback(redirect_uri: str) -> SplitResult:
    try:
        parts = urlsplit(redirect_uri)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "http" or parts.hostname not in _LOCAL_HOSTS or parts.query or parts.fragment:
        raise ConfigError(f"redirect_uri: must be http on {', '.join(_LOCAL_HOSTS)}, without a query, to sign in here")
    return parts


def _checked(url: str, insecure: set[URL]) -> SplitResult:
    try:
        parts = urlsplit(url)
        trusted = parts.scheme == "http" and (parts.hostname in _LOCAL_HOSTS or URL(url).origin() in insecure)
        if (trusted or (parts.scheme == "https" and parts.hostname)) and not _NOT_IN_A_URL.search(url):
            return parts
    except ValueError:
        pass
    raise AuthenticationError("the server names an authorization page that is not https; it was not opened")


def _state_of(parts: SplitResult) -> str | None:
    return next(iter(parse_qs(parts.query).get("state", [])), None)


def _parameters(request: web.BaseRequest) -> dict[str, list[str]]:
    """A parameter that is there twice makes an answer invalid (RFC 6749, 3.1)."""
    return {name: request.query.getall(name) for name in request.query}


def _read(query: dict[str, str]) -> AuthorizationResponse:
    return AuthorizationResponse(
        query.get("code", ""),
        query.get("state"),
        query.get("iss"),
        error=query.get("error"),
        error_description=query.get("error_description"),
    )


def _page_for(query: dict[str, str]) -> web.Response:
    """Nothing of an error is shown: whether it is of the authorization server that was asked, is found out later."""
    if "error" in query:
        text = "The program that you came from says why. You can close this window and try again."
        return _page(400, "Not signed in", text)
    return _page(200, "Almost there", "You can close this window. The program that you came from does the rest.")


def _page(status: int, title: str, text: str) -> web.Response:
    content = _PAGE.format(title=html.escape(title), text=html.escape(text))
    return web.Response(status=status, text=content, content_type="text/html", headers=_HEADERS)
