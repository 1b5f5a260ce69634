"""One server's HTTP origin: the connections to it, the headers and cookies it gets, and what its refusals mean."""

import asyncio
import collections
import datetime as dt
import email.utils
import functools
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from fastapi_server.mcp.clients.redaction import redacted
from fastapi_server.mcp.config import HeaderProvider, HTTPConfig, SSEConfig
from fastapi_server.mcp.errors import (
    AuthenticationError,
    Delivery,
    HTTPStatusError,
    MCPConnectionError,
    MessageTooLargeError,
    RateLimitError,
)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_MAX_REDIRECTS = 5
_BODY_SHOWN = 500
_BODY_READ = 64 * 1024
_PROVIDED_KEPT = 64


class HTTPOrigin:
    """Sends requests to one origin and to no other: redirects that leave it are refused, so no credential does.

    TLS uses the one context that aiohttp keeps for the whole process, or one for each `ca_file`; `http://` uses none.

    Args:
        config: Endpoint, headers and limits.
        cookies: Those of the client that owns this: they outlive a channel, and no other client sees them.

    Raises:
        MCPConnectionError: The `ca_file` cannot be read, or holds no certificate.
    """

    def __init__(self, config: SSEConfig | HTTPConfig, cookies: aiohttp.CookieJar) -> None:
        self.url = URL(config.endpoint)
        self._limit = config.max_message_bytes
        self._provider: HeaderProvider | None = None
        self._headers = CIMultiDict[str]()
        if callable(config.headers):
            self._provider = config.headers
        else:
            self._headers.update(config.headers)
        api_key = config.api_key if isinstance(config, HTTPConfig) else None
        if api_key is not None:
            self._headers.setdefault("Authorization", f"Bearer {api_key}")
        self._secrets = {*self._headers.values(), api_key or ""}
        self._provided: collections.deque[str] = collections.deque(maxlen=_PROVIDED_KEPT)
        self._session = aiohttp.ClientSession(
            # A limit would let long streams starve the replies to them.
            connector=aiohttp.TCPConnector(limit=0, ssl=True if config.ca_file is None else _trusting(config.ca_file)),
            cookie_jar=cookies,
            timeout=aiohttp.ClientTimeout(total=None),  # deadlines belong to the call
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
        )

    async def send(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the head of the response. Leaving `async with response` early disconnects.

        Raises:
            MCPConnectionError: No connection, or it broke; or a redirect that must not be followed.
        """
        merged = await self._with_credentials(headers)
        for _ in range(_MAX_REDIRECTS):
            try:
                response = await self._session.request(method, url, data=body, headers=merged, allow_redirects=False)
            except (aiohttp.ClientError, OSError) as error:
                raise self.failure(error) from error
            except ValueError as error:
                reason = self.redacted(str(error))
                raise MCPConnectionError(f"cannot send the request: {reason}", delivery=Delivery.NOT_SENT) from error
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                return response
            url = self._redirected(method, url, response)
            response.release()
        raise HTTPStatusError(f"more than {_MAX_REDIRECTS} redirects", status=310, delivery=Delivery.REJECTED)

    async def _with_credentials(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        merged = self._headers.copy()
        if self._provider is not None:
            try:
                provided = await self._provider()
            except Exception as error:
                raise MCPConnectionError(
                    f"the callable that provides the headers failed: {type(error).__name__}",
                    delivery=Delivery.NOT_SENT,
                ) from error
            self._provided.extend(provided.values())
            merged.update(provided)
        merged.update(headers)
        return merged

    def _redirected(self, method: str, url: URL, response: aiohttp.ClientResponse) -> URL:
        location = response.headers["Location"]
        try:
            target = url.join(URL(location))
            origin = target.origin()
        except ValueError:
            target, origin = url, None
        if origin is None:
            reason = f"redirects to what is no URL of a server: {location!r}"
        elif origin != self.url.origin():
            reason = f"redirects to another origin, {origin}; if that is the server meant, configure it"
        elif method == "POST" and response.status not in _SAME_METHOD:
            reason = "redirects a POST in a way that would turn it into a GET"
        else:
            return target
        status = response.status
        response.release()
        message = f"HTTP {status}: the server {self.redacted(reason)}"
        raise HTTPStatusError(message, status=status, delivery=Delivery.REJECTED)

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body.

        Raises:
            MessageTooLargeError: It is larger than `max_message_bytes`, after decompression.
            MCPConnectionError: The connection broke.
        """
        body = bytearray()
        try:
            while chunk := await response.content.readany():
                body += chunk
                if len(body) > self._limit:
                    raise MessageTooLargeError(
                        f"the reply is larger than max_message_bytes = {self._limit:,}", limit=self._limit
                    )
        except (aiohttp.ClientError, OSError) as error:
            raise self.failure(error) from error
        return bytes(body)

    def failure(self, error: Exception) -> MCPConnectionError:
        """What a failure of the HTTP library means to a caller."""
        where = f"{self.url.origin()}{self.url.path}"
        match error:
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                return MCPConnectionError(f"cannot trust {where}: {error}", delivery=Delivery.NOT_SENT)
            case aiohttp.ClientConnectorDNSError():
                return MCPConnectionError(f"cannot find the host of {where}: {error}", delivery=Delivery.NOT_SENT)
            case aiohttp.ClientConnectorError():
                number = error.os_error.errno
                reason = os.strerror(number) if number else error
                return MCPConnectionError(f"cannot connect to {where}: {reason}", delivery=Delivery.NOT_SENT)
            case aiohttp.InvalidURL():
                return MCPConnectionError(f"not a usable URL: {where}", delivery=Delivery.NOT_SENT)
            case _:
                reason = self.redacted(str(error)) or type(error).__name__
                return MCPConnectionError(f"the connection to {where} broke: {reason}")

    async def refusal(self, response: aiohttp.ClientResponse) -> HTTPStatusError:
        """The typed error for a response that is no success; reads the start of its body."""
        return self.judge(response, await self.start_of_body(response))

    def judge(self, response: aiohttp.ClientResponse, start: bytes) -> HTTPStatusError:
        """The same, for a body that has been read."""
        status = response.status
        body = self.redacted(start.decode("utf-8", "replace"))[:_BODY_SHOWN].strip()
        message = f"HTTP {status} {response.reason or ''}".rstrip() + (f": {body}" if body else "")
        retry_after = _retry_after(response)
        match status:
            case 401 | 403:
                return AuthenticationError(
                    f"{message} (check the credentials configured for this server)", status=status, body=body
                )
            case 429:
                return RateLimitError(message, body=body, retry_after=retry_after)
            case _:
                delivery = Delivery.REJECTED if status < 500 or status == 503 else Delivery.UNKNOWN
                return HTTPStatusError(message, status=status, body=body, retry_after=retry_after, delivery=delivery)

    async def start_of_body(self, response: aiohttp.ClientResponse) -> bytes:
        """As much as an error needs; empty where it does not come within a second."""
        start = b""
        try:
            async with asyncio.timeout(1):
                while len(start) < _BODY_READ and (chunk := await response.content.readany()):
                    start += chunk
        except (aiohttp.ClientError, OSError):
            pass  # the status says enough
        return start

    def redacted(self, text: str) -> str:
        """`text` without any credential of ours that the server may have echoed."""
        return redacted(text, {*self._secrets, *self._provided})

    async def close(self) -> None:
        """Drop every connection, those in use too."""
        await self._session.close()


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return _context_of(ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise MCPConnectionError(
            f"ca_file cannot be used: {ca_file}: {error.strerror or error}", delivery=Delivery.NOT_SENT
        ) from error


@functools.cache
def _context_of(ca_file: Path) -> ssl.SSLContext:
    """Built once for each file, since that takes milliseconds and every connection can share it."""
    return ssl.create_default_context(cafile=ca_file)


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds, from either form of `Retry-After` (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())
