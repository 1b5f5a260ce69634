"""OAuth for one client: the token at hand for each request, and one sign-in or refresh for all who need a new one."""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from yarl import URL

from fastapi_server.mcp.auth.account import Account, Kept, Tokens
from fastapi_server.mcp.auth.authenticator import NONCE_TRIED, Authenticator, Outgoing, Refusal, SingleFlight
from fastapi_server.mcp.auth.back_off import BackOff, Way
from fastapi_server.mcp.auth.challenge import Challenge, read_challenge
from fastapi_server.mcp.auth.discovery import authorization_servers
from fastapi_server.mcp.auth.dpop import MOST_NONCES, ProofKey, nonce_in, wait_before_nonce
from fastapi_server.mcp.auth.holders import tokens_for
from fastapi_server.mcp.auth.turn import PAUSE_SECONDS, Means, Turn
from fastapi_server.mcp.auth_config import OAuth, OAuthSettings
from fastapi_server.mcp.errors import (
    AuthorizationRequired,
    Delivery,
    MCPClientError,
    MCPConnectionError,
)

_NONCE_WANTED = "use_dpop_nonce"
_MORE_SCOPE = "insufficient_scope"
_MOST_PAGES, _PAGES_SECONDS = 5, 600.0
"""How often more scope is asked for, or a token replaced that has not expired, and in which time."""


@dataclass(frozen=True)
class _Waiting:
    """A person elsewhere was asked to sign in.

    Attributes:
        used: The token that was refused.
        more_scope: That was asked for, where it was that.
    """

    used: str = field(repr=False)
    more_scope: str | None


class OAuthAuthenticator(Authenticator):
    """Tokens of one server and principal.

    While a token is fresh, `headers` takes no lock and waits for nothing. Getting one is a single flight, in this
    process by a task that all share, and across processes by the store's lock: who gets it looks into the store first.

    Args:
        config: How to sign in.
        account: What the token store holds.
        ca_file: Trust the authorities in this PEM file, and no others.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        config: OAuthSettings,
        account: Account,
        ca_file: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._account = account
        self._clock = clock
        self._flight = SingleFlight()
        self._means = Means(config, account, ca_file, self._now, self._keep_secret, self._flight.vital)
        self._tokens: Tokens | None = None
        self._proof_key: ProofKey | None = None
        self._asked: set[str] = set()
        self._step_ups: deque[float] = deque(maxlen=_MOST_PAGES)
        self._refused: set[str] = set()  # for these, the token of now
        self._back_off = BackOff()  # as it was when the store was last looked at
        self._ending = SingleFlight()  # of the back-off
        self._early: deque[float] = deque(maxlen=_MOST_PAGES)  # when the last sign-ins replaced a token before its time
        self._waiting: _Waiting | None = None
        self._refresh_after = 0.0

    async def headers(self, outgoing: Outgoing) -> Mapping[str, str]:
        """The token, and a proof where it is bound to a key; nothing where there is none yet."""
        if self._tokens is None:
            await _in_one_word(self._look())
        tokens = self._tokens
        if tokens is not None and tokens.refresh_token is not None:
            now = self._clock()
            if tokens.expired(now):
                await self._flight.join(lambda: _in_one_word(self._refresh()))
            elif tokens.expires_soon(now) and now >= self._refresh_after:
                self._flight.start(lambda: _in_one_word(self._refresh()))
        return self._credentials(outgoing)

    async def _look(self) -> None:
        """Another process may have signed in, or this one before."""
        if self._account.unsaved is None:
            self._adopt(await self._account.load())
            return
        async with self._turn() as turn:
            self._adopt(turn.kept)

    def _credentials(self, outgoing: Outgoing, nonce: str | None = None) -> Mapping[str, str]:
        tokens, key = self._tokens, self._proof_key
        if tokens is None:
            return {}
        if tokens.token_type != "DPoP" or key is None:  # noqa: S105 - a kind of token
            return {"Authorization": f"Bearer {tokens.access_token}"}
        nonce = nonce or self._means.nonces.get(str(URL(outgoing.url).origin()))
        proof = key.proof(outgoing.method, outgoing.url, nonce=nonce, token=tokens.access_token)
        return {"Authorization": f"DPoP {tokens.access_token}", "DPoP": proof}

    def answered(self, outgoing: Outgoing, sent: Mapping[str, str], status: int, headers: Mapping[str, str]) -> None:
        """Note a new nonce (RFC 9449, 8.2), and that the token is good.

        It is where it serves for what was refused before. That something else is answered proves nothing: it may need
        no token; nor does a failure, which may come before the token is looked at.
        """
        if "DPoP-Nonce" in headers:
            self._means.nonces[str(URL(outgoing.url).origin())] = headers["DPoP-Nonce"]
        back_off = self._back_off
        if not (back_off.until or back_off.refused or self._refused) or not 200 <= status < 300 or self._tokens is None:
            return
        refused, good = self._refused.union(back_off.refused), self._tokens.access_token
        if _token_in(sent) == good and (not refused or _purpose_of(outgoing) in refused):
            self._refused.clear()
            self._back_off = BackOff()
            self._ending.start(lambda: self._end_back_off(good))

    async def _end_back_off(self, good: str) -> None:
        """For all who share the store, unless the token that has proved good was replaced meanwhile."""
        with self._ending.vital():
            async with self._account.lock():
                kept = await self._account.load()
                if kept.tokens is not None and kept.tokens.access_token == good and kept.back_off != BackOff():
                    kept.back_off = BackOff()
                    await self._account.save(kept)

    async def refused(self, refusal: Refusal) -> Mapping[str, str] | None:
        """The credentials to try next: with a nonce, with somebody else's new token, or after signing in."""
        bound = "DPoP" in refusal.sent
        challenge = read_challenge(refusal.headers, bound=bound)
        if bound and challenge.error == _NONCE_WANTED and challenge.nonce is not None:
            return await self._with_nonce(refusal, challenge.nonce)
        used = _token_in(refusal.sent)
        if not self._has_another(used):
            if refusal.status == 401 or challenge.error == _MORE_SCOPE:
                self._refused.add(_purpose_of(refusal.outgoing))
            if not self._can_help(refusal, challenge):
                await _in_one_word(self._look())
        if not self._has_another(used) and self._can_help(refusal, challenge):
            if refusal.status == 403 and self._flight.task is None:
                refusal.tried[_MORE_SCOPE] += 1
            await self._flight.join(lambda: _in_one_word(self._sign_in(refusal, challenge, used)))
        return await self.headers(refusal.outgoing) if self._has_another(used) else None

    async def _with_nonce(self, refusal: Refusal, given: str) -> Mapping[str, str] | None:
        """A proof with the nonce that was given, which may be good once; or after a wait, the last given to anybody.

        `None` where the server names the nonce that it was sent, or wants too many.
        """
        refusal.tried[NONCE_TRIED] += 1
        tried, sent = refusal.tried[NONCE_TRIED], nonce_in(refusal.sent["DPoP"])
        if tried > MOST_NONCES or given == sent:
            return None
        wait = wait_before_nonce(tried)
        if wait:
            await asyncio.sleep(wait)
            given = self._means.nonces.get(str(URL(refusal.outgoing.url).origin()), given)
        return self._credentials(refusal.outgoing, given)

    async def sign_in(self) -> bool:
        """Get a token that has not expired, though the server has refused nothing. Whether there is one now.

        There is none where the server names no authorization server (RFC 9728).
        """
        await _in_one_word(self._look())
        if not self._has_good() and (self._tokens is not None or await self._takes_tokens()):
            used = "" if self._tokens is None else self._tokens.access_token
            refusal = Refusal(Outgoing("GET", self._account.server), {}, 401, {})
            await self._flight.join(lambda: _in_one_word(self._sign_in(refusal, Challenge(), used)))
        return self._has_good()

    def _has_good(self) -> bool:
        return self._tokens is not None and not self._tokens.expired(self._clock())

    async def _takes_tokens(self) -> bool:
        async with self._means.channel() as channel:
            return bool(await authorization_servers(self._account.server, channel))

    def _has_another(self, used: str) -> bool:
        return self._tokens is not None and self._tokens.access_token != used

    def _can_help(self, refusal: Refusal, challenge: Challenge) -> bool:
        """Whether another token may be accepted where this one was not."""
        if refusal.status == 403 and challenge.error != _MORE_SCOPE:
            return False
        if self._flight.task is not None:
            return True
        if refusal.status == 403:
            return challenge.error == _MORE_SCOPE and _MORE_SCOPE not in refusal.tried and self._may_ask(challenge)
        return not self._given_up()

    def _may_ask(self, challenge: Challenge) -> bool:
        """Whether to ask for more scope: not for the same again, and not again and again."""
        granted = set((self._tokens.scope if self._tokens and self._tokens.scope else "").split())
        if " ".join(sorted(challenge.scopes)) in self._asked or self._clock() < _free_at(self._step_ups):
            return False
        return not challenge.scopes or not set(challenge.scopes) <= granted

    def _given_up(self) -> bool:
        """Whether the server takes no token, whatever is tried; after a while it may be asked again."""
        now = self._clock()
        renewable = self._tokens is not None and self._tokens.refresh_token is not None
        return self._waits("sign-in", now) and (self._waits("refresh", now) or not renewable)

    def _waits(self, way: Way, now: float) -> bool:
        return now < self._again(way)

    def _again(self, way: Way) -> float:
        """When it may be tried."""
        by_a_person = way == "sign-in" and isinstance(self._means.config, OAuth)
        return max(self._back_off.again(way), _free_at(self._early) if by_a_person else 0.0)

    def advice(self, status: int) -> str:
        """That signing in does not help, and when it is tried again."""
        if status != 401 or not self._given_up():
            return super().advice(status)
        seconds = self._again("sign-in") - self._clock()
        return f"it refuses even tokens that were just issued for it; signing in is tried again in {seconds:.0f} s"

    async def settled(self) -> bool:
        """Wait until nobody is signing in. Whether somebody was."""
        return await self._flight.wait()

    async def close(self) -> None:
        """Stop signing in."""
        await self._flight.close()
        await self._ending.close()

    # The single flight.

    async def _refresh(self) -> None:
        """Exchange the refresh token, unless another process has done it."""
        used = self._tokens
        async with self._turn() as turn:
            if used is not None and turn.tokens is not None and turn.tokens.access_token == used.access_token:
                await self._refreshed(turn, None)
            self._adopt(turn.kept)

    async def _sign_in(self, refusal: Refusal, challenge: Challenge, used: str) -> None:
        """Get a token that the server may accept, unless another process has done it."""
        config = self._means.config
        await self._ending.wait()
        async with self._turn(desk=isinstance(config, OAuth) and config.interaction is not None) as turn:
            if turn.tokens is None or turn.tokens.access_token == used:
                self._keep_secret(used)
                turn.kept.back_off.note(self._refused)
                await self._renewed(turn, refusal, challenge, used)
            self._adopt(turn.kept)

    async def _renewed(self, turn: Turn, refusal: Refusal, challenge: Challenge, used: str) -> None:
        """By a refresh, and where that does not do, by signing in."""
        if refusal.status == 403:
            await self._stepped_up(turn, refusal, challenge, used)
            return
        self._back_off, now = turn.kept.back_off, self._clock()
        if not self._waits("refresh", now) and await self._refreshed(turn, refusal.outgoing):
            return
        self._asked.clear()
        if not self._waits("sign-in", now):
            self._waiting = None
            try:
                await turn.sign_in(refusal, challenge)
            except AuthorizationRequired:
                self._waiting = _Waiting(used, None)
                raise
            self._count_page()

    async def _stepped_up(self, turn: Turn, refusal: Refusal, challenge: Challenge, used: str) -> None:
        """More scope; what was granted once is not asked for again, and what failed only so often."""
        more_scope = " ".join(sorted(challenge.scopes))
        self._step_ups.append(self._clock())
        try:
            await turn.sign_in(refusal, challenge)
        except AuthorizationRequired:
            self._step_ups.pop()  # nobody was asked yet
            self._waiting = _Waiting(used, more_scope)
            raise
        self._asked.add(more_scope)
        self._count_page()

    def _count_page(self) -> None:
        """Somebody has signed in. The token that is replaced may have been good for longer."""
        if self._has_good():
            self._early.append(self._clock())

    def _note_completion(self, kept: Kept, tokens: Tokens) -> None:
        """Where a person elsewhere has signed in, that counts as if they had been here; a refresh does not."""
        waiting = self._waiting
        if waiting is None or kept.pending is not None or tokens.access_token == waiting.used:
            return
        self._waiting = None
        if waiting.more_scope is not None:
            self._step_ups.append(self._clock())
            self._asked.add(waiting.more_scope)
        self._count_page()

    async def _refreshed(self, turn: Turn, outgoing: Outgoing | None) -> bool:
        try:
            return await turn.refresh(outgoing)
        except MCPClientError:
            self._refresh_after = self._clock() + PAUSE_SECONDS
            raise

    def _turn(self, *, desk: bool = False) -> Turn:
        return Turn(self._means, self._proof_key, desk=desk)

    def _now(self) -> float:
        return self._clock()

    def _adopt(self, kept: Kept) -> None:
        tokens = tokens_for(self._means.config, kept, self._means.own)
        if tokens is not None:
            self._take_key(kept, tokens)
            self._note_completion(kept, tokens)
        used = "" if self._tokens is None else self._tokens.access_token
        self._tokens, self._back_off = tokens, kept.back_off
        if self._has_another(used):
            self._refused.clear()
        if tokens is not None:
            self._keep_secret(tokens.access_token, tokens.refresh_token)

    def _take_key(self, kept: Kept, tokens: Tokens) -> None:
        if tokens.proof_key is not None and (self._proof_key is None or self._proof_key.pem != tokens.proof_key):
            with self._account.intact("tokens", kept):
                self._proof_key = ProofKey(tokens.proof_key)


def _free_at(pages: deque[float]) -> float:
    """When there may be one more, after the last ones."""
    return pages[0] + _PAGES_SECONDS if len(pages) == _MOST_PAGES else 0.0


async def _in_one_word(work: Awaitable[None]) -> None:
    """What fails in a token store or an interaction of the user's is named, not quoted, and the cause."""
    try:
        await work
    except MCPClientError:
        raise
    except Exception as error:
        raise MCPConnectionError(f"signing in failed: {type(error).__name__}", delivery=Delivery.NOT_SENT) from error


def _token_in(sent: Mapping[str, str]) -> str:
    return sent.get("Authorization", "").partition(" ")[2]


class _About(msgspec.Struct):
    name: object = ""
    uri: object = ""


class _Message(msgspec.Struct):
    method: str = ""
    params: _About = msgspec.field(default_factory=_About)


def _purpose_of(outgoing: Outgoing) -> str:
    """A digest of the methods of HTTP and JSON-RPC and of what the latter is about: one tool alone may be refused."""
    try:
        message = msgspec.json.decode(outgoing.body or b"{}", type=_Message)
    except msgspec.DecodeError:  # a batch, say
        message = _Message()
    purpose = repr((outgoing.method, message.method, message.params.name or message.params.uri))
    return hashlib.blake2b(purpose.encode(), digest_size=8).hexdigest()
