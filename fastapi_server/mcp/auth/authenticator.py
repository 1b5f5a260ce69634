"""The contract between an HTTP origin and whoever knows the credentials, and the simple ways to keep it."""

import asyncio
import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi_server.mcp.auth_config import AuthCallable, BearerAuth, is_headers, revealed
from fastapi_server.mcp.errors import (
    AuthenticationError,
    ConfigError,
    ConnectTimeoutError,
    Delivery,
    MCPClientError,
    MCPConnectionError,
)
from fastapi_server.mcp.redaction import LastSecrets

CHECK_CREDENTIALS = "check the credentials configured for this server"
NONCE_TRIED = "nonce"
"""In `Refusal.tried`: how often another nonce was. Whoever tries nonces bounds that, not who sends the request."""
_VITAL_SECONDS = 30.0


@dataclass(frozen=True)
class Outgoing:
    """A request about to be sent.

    Attributes:
        method: Of HTTP.
        url: Where to.
        headers: Without credentials.
        body: What it carries.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Refusal:
    """An answer with status 401 or 403.

    Attributes:
        outgoing: The request.
        sent: The credentials that it carried.
        status: Of the answer.
        headers: Of the answer; names in any case.
        body: The start of it.
        tried: How often what has been tried for the request, after this and earlier refusals of it; whoever tries,
            counts.
    """

    outgoing: Outgoing
    sent: Mapping[str, str] = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    tried: Counter[str] = field(default_factory=Counter[str])


class Authenticator(ABC):
    """Knows the credentials of one client at one server. It outlives channels; its client closes it."""

    def __init__(self) -> None:
        self._secrets = LastSecrets()

    @abstractmethod
    async def headers(self, outgoing: Outgoing) -> Mapping[str, str]:
        """The credentials for a request. Waits for nothing where they are at hand.

        Raises:
            MCPClientError: There are none.
        """

    def answered(self, outgoing: Outgoing, sent: Mapping[str, str], status: int, headers: Mapping[str, str]) -> None:  # noqa: B027
        """Told of every answer; returns at once."""

    async def refused(self, refusal: Refusal) -> Mapping[str, str] | None:
        """Better credentials for the request that was refused, or `None`: there are no better ones.

        Raises:
            MCPClientError: To get better ones was tried, and failed.
        """
        again = await self.headers(refusal.outgoing)
        return again if refusal.status == 401 and dict(again) != dict(refusal.sent) else None

    def advice(self, status: int) -> str:
        """What to do about a refusal that has come to the caller; 401 or 403."""
        return CHECK_CREDENTIALS

    async def settled(self) -> bool:
        """Wait until nobody is signing in. Whether somebody was.

        Raises:
            AuthenticationError: That was refused, by a person or a server: to ask again is up to the caller.
            ConnectTimeoutError: A person has taken too long, likewise.
        """
        return False

    def secrets(self) -> Iterable[str]:
        """What must not show in anything that the server echoes."""
        return self._secrets

    async def close(self) -> None:  # noqa: B027
        """End what runs in the background. Safe twice; the authenticator may be used again."""

    def _keep_secret(self, *secrets: str | None) -> None:
        self._secrets.keep(*filter(None, secrets))


class BearerAuthenticator(Authenticator):
    """A token that an environment variable, a file or the configuration holds."""

    def __init__(self, config: BearerAuth) -> None:
        super().__init__()
        self._token = config.token

    async def headers(self, outgoing: Outgoing) -> Mapping[str, str]:
        """The token as it is now."""
        token = revealed(self._token, "token")
        self._keep_secret(token)
        return {"Authorization": f"Bearer {token}"}


class CallableAuthenticator(Authenticator):
    """Asks an async callable of the user's."""

    def __init__(self, source: AuthCallable) -> None:
        super().__init__()
        self._source = source

    async def headers(self, outgoing: Outgoing) -> Mapping[str, str]:
        """What it gives now: headers, or a bearer token."""
        try:
            given = await self._source()
        except MCPClientError:
            raise
        except Exception as error:
            raise MCPConnectionError(
                f"the callable given as auth failed: {type(error).__name__}", delivery=Delivery.NOT_SENT
            ) from error
        headers = _headers_from(given)
        self._keep_secret(*headers.values())
        return headers


def _headers_from(given: object) -> dict[str, str]:
    if isinstance(given, str):
        return {"Authorization": f"Bearer {given}"}
    if not is_headers(given):
        raise ConfigError(f"the callable given as auth returned {type(given).__name__}, not headers or a token")
    return dict(given)


class SingleFlight:
    """Work that many want done and one task does."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._vital: asyncio.Future[None] | None = None

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """The task that is doing it now, in this event loop."""
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            return None
        return task

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
        """Have it done, unless it is being done."""
        task = self.task
        if task is None:
            task = self._task = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(_seen)
        return task

    async def join(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have it done and wait. Who is cancelled leaves the work to the others.

        Raises:
            MCPClientError: It failed; each of those who wait gets an exception of their own.
        """
        task = self.start(work)
        try:
            await asyncio.shield(task)
        except MCPClientError as error:
            raise copy.copy(error) from error.__cause__
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and caller is not None and not caller.cancelling():
                raise MCPConnectionError("the client was closed while signing in", delivery=Delivery.NOT_SENT) from None
            raise

    async def wait(self) -> bool:
        """Wait until nobody is doing it. Whether somebody was.

        Raises:
            AuthenticationError: It was refused.
            ConnectTimeoutError: A person has taken too long. Whatever else ends it is no concern of who waits.
        """
        task = self.task
        if task is None:
            return False
        await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        if isinstance(error, (AuthenticationError, ConnectTimeoutError)):
            raise copy.copy(error) from error.__cause__
        return True

    @contextmanager
    def vital(self) -> Generator[None]:
        """Around what must not be left half done."""
        vital = self._vital = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            vital.set_result(None)
            self._vital = None

    async def close(self) -> None:
        """Stop it; what is vital may end first, for as long as a token request may take."""
        task = self.task
        if task is None:
            return
        if self._vital is not None:
            await asyncio.wait([self._vital], timeout=_VITAL_SECONDS)
        task.cancel()
        await asyncio.wait([task])


def _seen(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()
