"""One conversation with an authorization server: the requests that the SDK's flow wants sent, over our own HTTP."""

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import httpx2
from yarl import URL

from fastapi_server.mcp.auth.backchannel import Backchannel, Reply
from fastapi_server.mcp.auth.dpop import MOST_NONCES, ProofKey, wait_before_nonce
from fastapi_server.mcp.auth.quoting import object_in, quoted
from fastapi_server.mcp.auth.reach import shown
from fastapi_server.mcp.errors import AuthenticationError, Delivery, MCPConnectionError

_FORM = "application/x-www-form-urlencoded"
_BY_THE_CLIENT = frozenset({"host", "content-length"})
_SECRET_FIELDS = frozenset(
    {"access_token", "refresh_token", "id_token", "client_secret", "code", "code_verifier"}
    | {"assertion", "client_assertion", "subject_token", "registration_access_token"}
)
_TOKEN_TYPES = {"bearer": "Bearer", "dpop": "DPoP"}
"""Names are in any case (RFC 6749, 5.1)."""
_SECRET_HEADERS = frozenset({"authorization", "DPoP"})
CLIENT_UNKNOWN = "invalid_client"
"""Said by a token endpoint that has forgotten, or never knew, the client (RFC 6749, 5.2)."""
NO_PAGE = "https://no-authorization-endpoint.invalid/"
"""Given to the SDK where the metadata names no page: programs need none."""
_DEAD = frozenset({"invalid_grant", CLIENT_UNKNOWN})
"""What says that a refresh token is worth nothing any more; all else may come from something in between."""
_GONE = frozenset({404, 405, 410})
_LONGEST_LIFE = 10**10


class Exchange:
    """Sends requests, notes which secrets went over the wire, and raises what the SDK would wrap in its own words.

    Args:
        channel: Open.
        proof_key: Signs token requests, where tokens are to be bound to it (RFC 9449, 5).
        nonces: The last one of each origin (RFC 9449, 8); shared by all who use the key.
        keep_secret: Told every secret, so that none is ever shown.

    Attributes:
        proof_key: As given.
        token_type: Of the tokens that came last: `Bearer`, `DPoP`, or what else was said.
        error: What the token endpoint said last (RFC 6749, 5.2); `None` where it gave tokens, or made no sense.
        gone: The token endpoint is not where it was asked for last.
        failed_in_passing: Why the server should be left alone for a while.
    """

    def __init__(
        self,
        channel: Backchannel,
        proof_key: ProofKey | None,
        nonces: MutableMapping[str, str],
        keep_secret: Callable[[str], None],
    ) -> None:
        self.token_type = "Bearer"  # noqa: S105 - a kind of token
        self.error: str | None = None
        self.gone = False
        self.failed_in_passing: MCPConnectionError | None = None
        self._channel = channel
        self.proof_key = proof_key
        self._nonces = nonces
        self._keep_secret = keep_secret

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Send what the SDK made, and give it the answer.

        Raises:
            AuthenticationError: The authorization server refused for good.
            MCPConnectionError: It cannot be reached, or fails in passing.
        """
        try:
            return await self._answer_to(request)
        except MCPConnectionError as error:
            self.failed_in_passing = error if error.delivery is Delivery.NOT_SENT else None
            raise

    async def _answer_to(self, request: httpx2.Request) -> httpx2.Response:
        form = _form_of(request)
        self._note(form or {})
        reply = await self._reply(request, is_token=form is not None)
        failure = reply.failure_in_passing(
            f"signing in failed: {shown(URL(str(request.url)))} answered with HTTP {reply.status}"
        )
        if failure is not None:
            raise failure
        if form is not None:
            self._judge(reply, request, refresh=form.get("grant_type") == "refresh_token")
        elif request.method == "POST" and reply.status not in {200, 201}:
            raise _refusal(reply, request, "does not register this client")
        answer = object_in(reply.body)
        self._note(answer)
        body = self._for_the_sdk(answer, is_token=form is not None) if answer else reply.body
        return httpx2.Response(reply.status, content=body, request=request)  # the SDK reads no header

    async def _reply(self, request: httpx2.Request, *, is_token: bool) -> Reply:
        if not is_token or self.proof_key is None:
            return await self._send_once(request)
        nonce = self._nonces.get(_origin_of(request))
        reply = await self._send_proven(request, self.proof_key, nonce)
        for tried in range(1, MOST_NONCES + 1):
            wanted = reply.headers.get("DPoP-Nonce") if _error(reply) == "use_dpop_nonce" else None
            if wanted is None or wanted == nonce:
                break
            nonce = wanted
            await asyncio.sleep(wait_before_nonce(tried))
            reply = await self._send_proven(request, self.proof_key, nonce)
        return reply

    async def _send_proven(self, request: httpx2.Request, key: ProofKey, nonce: str | None) -> Reply:
        return await self._send_once(request, key.proof(request.method, str(request.url), nonce=nonce))

    async def _send_once(self, request: httpx2.Request, proof: str | None = None) -> Reply:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _BY_THE_CLIENT}
        if proof is not None:
            headers["DPoP"] = proof
        for name in _SECRET_HEADERS & headers.keys():
            self._keep_secret(headers[name])
        reply = await self._channel.send(request.method, str(request.url), headers, request.content or None)
        if "DPoP-Nonce" in reply.headers:
            self._nonces[_origin_of(request)] = reply.headers["DPoP-Nonce"]
        return reply

    def _judge(self, reply: Reply, request: httpx2.Request, *, refresh: bool) -> None:
        self.error = _error(reply)
        self.gone = reply.status in _GONE
        if reply.status == 200 or (reply.status == 201 and not refresh):
            return
        if not refresh:
            raise _refusal(reply, request, "gives no token")
        if self.error not in _DEAD:  # a refresh token that has run out is no failure: the person signs in again
            raise MCPConnectionError(
                f"the authorization server answered with HTTP {reply.status}", delivery=Delivery.NOT_SENT
            )

    def _note(self, members: dict[str, Any]) -> None:
        for name in _SECRET_FIELDS & members.keys():
            if isinstance(members[name], str) and members[name]:
                self._keep_secret(members[name])

    def _for_the_sdk(self, answer: dict[str, Any], *, is_token: bool) -> bytes:
        """The SDK's models know bearer tokens only, and metadata with an authorization endpoint only."""
        if is_token and "access_token" in answer:
            said = answer.get("token_type")
            self.token_type = _TOKEN_TYPES.get(said.lower(), said) if isinstance(said, str) else "Bearer"
            answer = {**answer, "token_type": "Bearer", "expires_in": _lifetime(answer.get("expires_in"))}
        elif "token_endpoint" in answer and "issuer" in answer:
            answer = {"authorization_endpoint": NO_PAGE, **answer}
        return json.dumps(answer).encode()


def _refusal(reply: Reply, request: httpx2.Request, what: str) -> AuthenticationError:
    said, where = object_in(reply.body), shown(URL(str(request.url)))
    words = ": ".join(str(said[name]) for name in ("error", "error_description") if isinstance(said.get(name), str))
    reason = f": {quoted(words)}" if words else ""
    return AuthenticationError(f"{where} {what} (HTTP {reply.status}){reason}", status=reply.status)


def _origin_of(request: httpx2.Request) -> str:
    return str(URL(str(request.url)).origin())


def _form_of(request: httpx2.Request) -> dict[str, Any] | None:
    """The form that a request posts; only token requests do."""
    if request.method != "POST" or not request.headers.get("content-type", "").startswith(_FORM):
        return None
    return {name: values[-1] for name, values in parse_qs(request.content.decode()).items()}


def _lifetime(said: Any) -> int | None:
    """Seconds; what no token can last, counts as not said."""
    try:
        seconds = int(float(said))
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= _LONGEST_LIFE else None


def _error(reply: Reply) -> str | None:
    error = object_in(reply.body).get("error") if reply.status in {400, 401} else None
    return error if isinstance(error, str) else None
