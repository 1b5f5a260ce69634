"""Requests to authorization servers: a session of their own, so that they carry no credential of the MCP server."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from fastapi_server.mcp.auth.reach import Reach, shown, special_refusal
from fastapi_server.mcp.auth.resolver import OutOfReachError, ReachResolver
from fastapi_server.mcp.errors import AuthenticationError, Delivery, HTTPStatusError, MCPConnectionError
from fastapi_server.mcp.retry_after import retry_after
from fastapi_server.mcp.tls import context_for

_SECONDS = 30.0
_MOST_BYTES = 1024 * 1024
_BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_DECODED = ("Content-Encoding", "Content-Length", "Transfer-Encoding")


@dataclass(frozen=True)
class Reply:
    """A whole response, its body decoded."""

    status: int
    headers: CIMultiDict[str] = field(repr=False)
    body: bytes = field(repr=False)

    def failure_in_passing(self, message: str) -> HTTPStatusError | None:
        """The error where the server is busy or broken for now, so that it may be asked again."""
        if self.status < HTTPStatus.INTERNAL_SERVER_ERROR and self.status not in _BUSY:
            return None
        return HTTPStatusError(
            message,
            status=self.status,
            retry_after=retry_after(self.headers),
            delivery=Delivery.NOT_SENT,
        )


class _TooLarge(Exception):
    pass


class Backchannel:
    """An `async with` in which requests can be sent. Redirects are not followed and cookies not kept.

    Args:
        server: URL of the MCP server. Requests go where `Reach` allows it; a server cannot have us send them anywhere
            else.
        ca_file: Trust the authorities in this PEM file, and no others.
        configured: URLs on further origins, which are allowed.
    """

    def __init__(self, server: str, ca_file: Path | None = None, configured: Iterable[str] = ()) -> None:
        self._reach = Reach(server, configured)
        self._ca_file = ca_file

    async def __aenter__(self) -> Self:
        self._resolver = ReachResolver(self._reach)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context_for(self._ca_file), resolver=self._resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._resolver.close()

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send a request and read all of the response.

        Raises:
            AuthenticationError: The URL is not one that requests go to, or the response is larger than 1 MiB.
            MCPConnectionError: There is no connection, or it broke.
        """
        try:
            target = URL(url, encoded=True)
            where, refusal = shown(target), self._reach.refusal_of(target)
        except ValueError:
            raise AuthenticationError("signing in leads to what is no URL") from None
        if refusal is not None:
            raise _out_of_reach(where, refusal)
        try:
            async with self._session.request(
                method, target, headers=headers, data=body, allow_redirects=False
            ) as response:
                return Reply(response.status, _as_decoded(response.headers), await _start_of(response))
        except OutOfReachError as error:
            failure = _out_of_reach(where, special_refusal(target, error.special))
        except _TooLarge:
            failure = AuthenticationError(f"the answer of {where} is larger than {_MOST_BYTES:,} bytes")
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            reason = f"the authorization server cannot be reached: {where}: {type(error).__name__}"
            failure = MCPConnectionError(reason, delivery=Delivery.NOT_SENT)
        raise failure  # here: as its context, what was caught may hold the request, and the credentials with it


def _as_decoded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in _DECODED:
        kept.popall(name, None)
    return kept


def _out_of_reach(where: str, reason: str) -> AuthenticationError:
    return AuthenticationError(f"signing in leads to {where}, where this server must not lead us: {reason}")


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise _TooLarge
    return bytes(body)
