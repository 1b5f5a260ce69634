"""One server's HTTP origin: the connections to it, the headers and cookies it gets, and what its refusals mean."""

import asyncio
import collections
import os
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from fastapi_server.mcp.auth.authenticator import CHECK_CREDENTIALS, NONCE_TRIED, Authenticator, Outgoing, Refusal
from fastapi_server.mcp.auth_config import is_headers
from fastapi_server.mcp.config import HeaderProvider, HTTPConfig, SSEConfig
from fastapi_server.mcp.errors import (
    AuthenticationError,
    ConfigError,
    Delivery,
    HTTPStatusError,
    MCPConnectionError,
    MessageTooLargeError,
    RateLimitError,
)
from fastapi_server.mcp.redaction import LastSecrets, carry, redacted
from fastapi_server.mcp.retry_after import retry_after
from fastapi_server.mcp.tls import context_for

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_MAX_REDIRECTS = 5
_REFUSED = frozenset({401, 403})
_MOST_REFUSALS = 4
"""Of one request, beside those for a nonce: a refresh, a sign-in, more scope, and one to spare."""
_BODY_SHOWN = 500
_BODY_READ = 64 * 1024
_IDLE_SECONDS = 3.0
"""After which a connection is not used again. Many servers (uvicorn, Node) close it after 5 s, and a busy event loop
notices that only when the request has gone, so that nobody knows whether it was carried out."""


@dataclass(frozen=True)
class Identity:
    """What one client is known by.

    Attributes:
        cookies: A load balancer finds its way back by them.
        authenticator: Knows its credentials, where the configuration has `auth`.
    """

    cookies: aiohttp.CookieJar
    authenticator: Authenticator | None = None


class HTTPOrigin:
    """Sends requests to one origin and to no other: redirects that leave it are refused, so no credential does.

    TLS uses the one context that aiohttp keeps for the whole process, or one for each `ca_file`; `http://` uses none.

    Args:
        config: Endpoint, headers and limits.
        identity: Of the client that owns this: it outlives a channel, and no other client sees it.

    Raises:
        MCPConnectionError: The `ca_file` cannot be read, or holds no certificate.
    """

    def __init__(self, config: SSEConfig | HTTPConfig, identity: Identity) -> None:
        self._authenticator = identity.authenticator
        self.url = URL(config.endpoint)
        self._limit = config.max_message_bytes
        self._provider: HeaderProvider | None = None
        self._headers = CIMultiDict[str]()
        if callable(config.headers):
            self._provider = config.headers
        else:
            self._headers.update(config.headers)
        if config.api_key is not None:
            self._headers.setdefault("Authorization", f"Bearer {config.api_key}")
        self._secrets = {*self._headers.values(), config.api_key or "", *_values(self.url)}
        self._provided = LastSecrets()
        self._session = aiohttp.ClientSession(
            # A limit would let long streams starve the replies to them.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS, ssl=context_for(config.ca_file)),
            cookie_jar=identity.cookies,
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
            AuthenticationError: The server refused, and signing in, where `auth` is configured, did not help.
        """
        redirects = refusals = 0
        tried: collections.Counter[str] | None = None
        better: Mapping[str, str] | None = None
        while True:
            outgoing = Outgoing(method, str(url), headers, body)
            credentials: Mapping[str, str] = better or {}
            if not credentials and self._authenticator is not None:
                credentials = await self._authenticator.headers(outgoing)
            response = await self._send_once(outgoing, url, credentials)
            if response.status in _REDIRECTS and "Location" in response.headers:
                if redirects == _MAX_REDIRECTS:
                    response.release()
                    raise HTTPStatusError(f"more than {redirects} redirects", status=310, delivery=Delivery.REJECTED)
                url, better = self._redirected(method, url, response), None
                response.release()
                redirects += 1
            elif response.status in _REFUSED and self._authenticator is not None:
                refusals += 1
                tried = tried or collections.Counter()
                if refusals - tried[NONCE_TRIED] > _MOST_REFUSALS:
                    async with response:
                        raise await self.refusal(response)
                better = await self._after_refusal(self._authenticator, outgoing, credentials, response, tried)
            else:
                return response

    async def _send_once(self, outgoing: Outgoing, url: URL, credentials: Mapping[str, str]) -> aiohttp.ClientResponse:
        headers = await self._with_credentials(credentials, outgoing.headers)
        try:
            response = await self._session.request(
                outgoing.method, url, data=outgoing.body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError) as error:
            failure = self.failure(error)
        except ValueError as error:
            reason = self.redacted(str(error))
            failure = MCPConnectionError(f"cannot send the request: {reason}", delivery=Delivery.NOT_SENT)
        else:
            if self._authenticator is not None:
                self._authenticator.answered(outgoing, credentials, response.status, response.headers)
            return response
        raise failure  # here: as its context, what was caught may hold the request, and the credentials with it

    async def _after_refusal(
        self,
        authenticator: Authenticator,
        outgoing: Outgoing,
        credentials: Mapping[str, str],
        response: aiohttp.ClientResponse,
        tried: collections.Counter[str],
    ) -> Mapping[str, str]:
        """The credentials for another try. The refusal is read and put away first: signing in may take a person.

        Raises:
            AuthenticationError: There are no better ones.
        """
        body = await self.start_of_body(response)
        response.release()
        refusal = Refusal(outgoing, credentials, response.status, response.headers, body, tried)
        better = await authenticator.refused(refusal)
        if better is None:
            raise self.judge(response, body)
        return better

    async def _with_credentials(self, credentials: Mapping[str, str], headers: Mapping[str, str]) -> CIMultiDict[str]:
        merged = self._headers.copy()
        if self._provider is not None:
            try:
                provided = await self._provider()
            except Exception as error:
                raise MCPConnectionError(
                    f"the callable that provides the headers failed: {type(error).__name__}",
                    delivery=Delivery.NOT_SENT,
                ) from error
            if not is_headers(provided):
                raise ConfigError(f"the callable that provides the headers returned {type(provided).__name__}")
            self._provided.keep(*provided.values())
            merged.update(provided)
        if credentials:
            carry(*credentials.values())
            merged.update(credentials)
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

    async def read(self, response: aiohttp.ClientResponse) -> bytes | bytearray:
        """The whole body.

        Raises:
            MessageTooLargeError: It is larger than `max_message_bytes`, after decompression.
            MCPConnectionError: The connection broke.
        """
        body = bytearray()
        while chunk := await self.chunk(response):
            if len(body) + len(chunk) > self._limit:
                raise MessageTooLargeError.of("a reply", self._limit)
            if not body and response.content.at_eof():
                return chunk
            body += chunk
        return body

    async def chunk(self, response: aiohttp.ClientResponse) -> bytes:
        """What has come of a body by now, once there is something; empty at its end.

        Raises:
            MCPConnectionError: The connection broke, or was closed meanwhile.
        """
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # the last one where we have closed it
            failure = self.failure(error)
        raise failure

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
            case aiohttp.ClientResponseError():  # as text, it shows the URL with its query
                reason = self.redacted(error.message) or type(error).__name__
                return MCPConnectionError(f"the connection to {where} broke: {reason}")
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
        reason = self.redacted(response.reason or "")[:_BODY_SHOWN]
        message = f"HTTP {status} {reason}".rstrip() + (f": {body}" if body else "")
        wait = retry_after(response.headers)
        match status:
            case 401 | 403:
                advice = CHECK_CREDENTIALS if self._authenticator is None else self._authenticator.advice(status)
                return AuthenticationError(f"{message} ({advice})", status=status, body=body)
            case 429:
                return RateLimitError(message, body=body, retry_after=wait)
            case _:
                delivery = Delivery.REJECTED if status < 500 or status == 503 else Delivery.UNKNOWN
                return HTTPStatusError(message, status=status, body=body, retry_after=wait, delivery=delivery)

    async def start_of_body(self, response: aiohttp.ClientResponse) -> bytes:
        """As much as an error needs; empty where it does not come within a second."""
        start = b""
        try:
            async with asyncio.timeout(1):
                while len(start) < _BODY_READ and (chunk := await self.chunk(response)):
                    start += chunk
        except (MCPConnectionError, TimeoutError):
            pass  # the status says enough
        return start

    async def signed_in(self) -> bool:
        """Wait until nobody is signing in. Whether somebody was."""
        return self._authenticator is not None and await self._authenticator.settled()

    def redacted(self, text: str) -> str:
        """`text` without any credential of ours that the server may have echoed."""
        signed_in = () if self._authenticator is None else self._authenticator.secrets()
        return redacted(text, {*self._secrets, *self._provided, *signed_in})

    async def close(self) -> None:
        """Drop every connection, those in use too."""
        await self._session.close()


def _values(url: URL) -> list[str]:
    """Those of its query, which may hold a key; also as they are written."""
    return [*url.query.values(), *(part.partition("=")[2] for part in url.raw_query_string.split("&"))]
