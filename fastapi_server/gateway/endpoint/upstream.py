"""Which client of the pool makes a call, so that what its server asks reaches the caller and nobody else."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any

from mcp_types import (
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    ListRootsRequest,
    ListRootsResult,
    LoggingLevel,
    LoggingMessageNotificationParams,
    Root,
)
from pydantic import BaseModel, ValidationError

from fastapi_server.gateway.endpoint.asking import CURRENT, Asker, Question
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import BusyError, ClientClosedError, EraName, HandlerContext, Handlers, MCPClient, RPCError

_MOST_AT_WORK = 8
_MOST_SEATS = 64
_MOST_SENT = 100
_REST_SECONDS = 5.0
_TIDY_SECONDS = 60.0


class _Required(BaseModel):
    elicitations: list[ElicitRequestURLParams]


class _Sent:
    """Who was sent to which URL: their call may be over when the server says that they have been there."""

    def __init__(self) -> None:
        self._who: dict[str, Asker] = {}

    def note(self, elicitation_id: str, asker: Asker) -> None:
        if len(self._who) >= _MOST_SENT:
            self._who.pop(next(iter(self._who)))
        self._who[elicitation_id] = asker

    def note_required(self, error: RPCError, asker: Asker) -> None:
        """They are told where to go before they call again (2025-11-25, "URL Elicitation Required Error")."""
        if error.code == RPCError.URL_ELICITATION_REQUIRED:
            with contextlib.suppress(ValidationError):  # then nobody can be told
                for one in _Required.model_validate(error.data).elicitations:
                    if one.elicitation_id is not None:
                        self.note(one.elicitation_id, asker)

    async def completed(self, elicitation_id: str) -> None:
        asker = self._who.pop(elicitation_id, None)
        if asker is not None:
            await asker.completed(elicitation_id)


@dataclass(eq=False)
class _Seat:
    """A connection to a server of the handshake era, which asks without saying what for: one call at a time.

    Attributes:
        session: Name of the connection.
        abilities: What whoever sits here can be asked, in words.
        client: Has the connection, once somebody has sat here.
        taken_by: Whose call it works on.
        stateless: The server asks in the answer to a call, so that many calls can share it.
        told: The client that has asked the server for log messages, and from which level on.
        sent: Those whom the server has sent somewhere over this connection; over another, the same id is another's.
        rests_until: What the server may still ask for the sake of a call that was given up is for nobody, so nobody
            sits here until then, on the clock of the event loop.
    """

    session: str
    abilities: str
    client: MCPClient | None = None
    taken_by: Asker | None = None
    stateless: bool = False
    told: tuple[MCPClient, LoggingLevel] | None = None
    sent: _Sent = field(default_factory=_Sent)
    rests_until: float = 0.0

    def asker(self) -> Asker | None:
        """Who is to be asked now."""
        return CURRENT.get() if self.stateless else self.taken_by

    def is_free(self, now: float) -> bool:
        """Whether somebody may sit down."""
        return self.taken_by is None and self.rests_until <= now

    @property
    def is_idle(self) -> bool:
        """No call is under way on its connection."""
        return self.client is None or self.client.metrics.in_flight == 0

    async def ask_for_logs(self, client: MCPClient, level: LoggingLevel | None) -> None:
        """Have the server log what the call's maker wants to hear; in the stateless era, each call says so itself."""
        if level is None or self.told == (client, level):
            return
        offers = client.server_info.capabilities if client.server_info is not None else None
        if offers is None or offers.logging is not None:
            await client.set_logging_level(level)
        self.told = (client, level)


@dataclass
class _Turn:
    """The right to be one of the calls that are worked on, given back once."""

    turns: asyncio.Semaphore
    taken: bool = False

    async def take(self) -> None:
        await self.turns.acquire()
        self.taken = True

    def give_back(self) -> None:
        if self.taken:
            self.taken = False
            self.turns.release()


@dataclass
class _Table:
    """The seats at one server for one principal, whatever capabilities their clients choose to have.

    So many calls are worked on at once, and others wait for their turn. One whose maker is asked something has its seat
    for as long as they take to answer, but its turn goes to the next.
    """

    server: str
    numbers: Iterator[int]
    seats: list[_Seat] = field(default_factory=list[_Seat])
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST_AT_WORK))

    @contextlib.asynccontextmanager
    async def seat(self, asker: Asker, abilities: str) -> AsyncGenerator[_Seat]:
        """The free seat that was there first, so that calls made one after the other share a connection.

        Raises:
            BusyError: There is none.
        """
        turn = _Turn(self.turns)
        asker.when_asked = turn.give_back
        await turn.take()
        try:
            seat = self._free_seat(abilities)
            seat.taken_by = asker
            try:
                yield seat
            except RPCError:
                raise
            except BaseException:
                seat.rests_until = asyncio.get_running_loop().time() + _REST_SECONDS
                raise
            finally:
                seat.taken_by = None
        finally:
            turn.give_back()

    def _free_seat(self, abilities: str) -> _Seat:
        now = asyncio.get_running_loop().time()
        free = [seat for seat in self.seats if seat.is_free(now)]
        seat = next((seat for seat in free if seat.abilities == abilities), None)
        if seat is None:
            if len(self.seats) >= _MOST_SEATS:
                self._make_room(free)
            seat = _Seat(f"{abilities}#{next(self.numbers)}", abilities)
            self.seats.append(seat)
        return seat

    def _make_room(self, free: list[_Seat]) -> None:
        """Take one away on which nothing is under way; the pool closes its connection when another needs the place."""
        idle = next((seat for seat in free if seat.is_idle), None)
        if idle is None:
            raise BusyError(
                f"server {self.server!r}: {_MOST_SEATS} calls of this caller wait for answers to its questions "
                "already: answer them, or try again later"
            )
        self.seats.remove(idle)

    def tidy(self, kept: set[MCPClient]) -> None:
        """Forget the seats on which nothing is under way, and whose connection is not kept."""
        now = asyncio.get_running_loop().time()
        self.seats = [seat for seat in self.seats if seat.client in kept or not seat.is_free(now) or not seat.is_idle]


class Upstreams:
    """Finds clients. Callers who answer no questions share one for each principal."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._tables: dict[tuple[str, str | None], _Table] = {}
        self._numbers = itertools.count()  # a name is given once: who had it before may still be closing
        self._tidy_at = 0.0
        gateway.log_heard.append(_tell_caller)

    @contextlib.asynccontextmanager
    async def client(self, server: str, principal: str | None, asker: Asker) -> AsyncGenerator[MCPClient]:
        """The client for one call of `asker`.

        Raises:
            MCPClientError: The server cannot be reached, or too many of this caller's calls wait already.
        """
        abilities = _abilities(asker)
        token = CURRENT.set(asker)
        try:
            if not abilities:
                yield self._gateway.pool.client(server, principal)
                return
            table = self._table(server, principal)
            async with contextlib.AsyncExitStack() as seated:
                seat = await seated.enter_async_context(table.seat(asker, abilities))
                client = await self._connected(server, principal, asker, seat)
                if seat.stateless:
                    await seated.aclose()
                else:
                    await seat.ask_for_logs(client, asker.level)
                try:
                    yield client
                except RPCError as error:
                    seat.sent.note_required(error, asker)
                    raise
        finally:
            asker.end()
            CURRENT.reset(token)

    def _table(self, server: str, principal: str | None) -> _Table:
        now = asyncio.get_running_loop().time()
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_SECONDS
            self._tidy()
        return self._tables.setdefault((server, principal), _Table(server, self._numbers))

    def _tidy(self) -> None:
        """Forget what the pool has closed, because nobody used it or its server has left: those may be any number."""
        kept = {member.client for member in self._gateway.pool.members()}
        for table in self._tables.values():
            table.tidy(kept)
        self._tables = {key: table for key, table in self._tables.items() if table.seats}

    async def _connected(self, server: str, principal: str | None, asker: Asker, seat: _Seat) -> MCPClient:
        """The client of a seat; where its server's entry has changed while it connected, that of the new entry."""
        pool, handlers = self._gateway.pool, self._handlers(asker.capabilities, seat)
        while True:
            seat.client = client = pool.client(server, principal, session=seat.session, handlers=handlers)
            try:
                seat.stateless = (await client.initialize()).era is EraName.STATELESS
            except ClientClosedError:
                if pool.config_of(server) is None:
                    raise
                if pool.client(server, principal, session=seat.session, handlers=handlers) is client:
                    raise
            else:
                return client

    def _handlers(self, capabilities: ClientCapabilities | None, seat: _Seat) -> Handlers:
        able = capabilities or ClientCapabilities()
        answers = _Answers(self._gateway, seat)
        elicitation = able.elicitation
        form = elicitation is not None and (elicitation.form is not None or elicitation.url is None)
        return Handlers(
            sampling=answers.sampling if able.sampling else None,
            sampling_tools=able.sampling is not None and able.sampling.tools is not None,
            elicitation=answers.form if form else None,
            elicitation_url=answers.url if elicitation is not None and elicitation.url is not None else None,
            roots=answers.roots if able.roots else None,
            logging=answers.log,
            notification=answers.told if elicitation is not None and elicitation.url is not None else None,
            list_changed=self._gateway.directory.list_changed,
        )


def _tell_caller(context: HandlerContext, params: LoggingMessageNotificationParams) -> None:
    """What is logged on the stream of a call is for whoever made it; it is read in their context."""
    asker = CURRENT.get()
    if context.call is not None and asker is not None:
        asker.tell(params)


def _abilities(asker: Asker) -> str:
    """What a connection has to be kept apart for, in words: questions that are answered, logs that are asked for."""
    able = asker.capabilities or ClientCapabilities()
    asked = able.model_dump(mode="json", by_alias=True, exclude_none=True)
    known = {name: asked[name] for name in ("elicitation", "roots", "sampling") if name in asked}
    words = [f"{name}({'+'.join(sorted(value))})" for name, value in known.items()]
    return ",".join([*words, "logging"] if asker.level is not None else words)


@dataclass(frozen=True)
class _Answers:
    """The handlers of one client, which pass everything on."""

    gateway: Gateway
    seat: _Seat

    async def _ask(self, context: HandlerContext, question: Question) -> object:
        asker = self.seat.asker()
        if asker is None:
            raise RPCError("nobody is there to be asked: no call is under way", code=RPCError.INVALID_REQUEST)
        return await asker.ask(question, context.key)

    async def sampling(
        self, context: HandlerContext, params: CreateMessageRequestParams
    ) -> CreateMessageResult | CreateMessageResultWithTools:
        answer = await self._ask(context, CreateMessageRequest(params=params))
        assert isinstance(answer, (CreateMessageResult, CreateMessageResultWithTools))
        return answer

    async def form(self, context: HandlerContext, params: ElicitRequestFormParams) -> ElicitResult:
        return await self._elicit(context, ElicitRequest(params=params))

    async def url(self, context: HandlerContext, params: ElicitRequestURLParams) -> ElicitResult:
        asker = self.seat.asker()
        if asker is not None and params.elicitation_id is not None:
            self.seat.sent.note(params.elicitation_id, asker)
        return await self._elicit(context, ElicitRequest(params=params))

    async def told(self, _context: HandlerContext, method: str, params: dict[str, Any]) -> None:
        if method == "notifications/elicitation/complete":
            await self.seat.sent.completed(str(params.get("elicitationId")))

    async def _elicit(self, context: HandlerContext, question: ElicitRequest) -> ElicitResult:
        answer = await self._ask(context, question)
        assert isinstance(answer, ElicitResult)
        return answer

    async def roots(self, context: HandlerContext) -> list[Root]:
        answer = await self._ask(context, ListRootsRequest())
        assert isinstance(answer, ListRootsResult)
        return answer.roots

    def log(self, context: HandlerContext, params: LoggingMessageNotificationParams) -> None:
        self.gateway.logged(context, params)
        asker = None if self.seat.stateless else self.seat.taken_by
        if context.call is None and asker is not None:
            asker.tell(params)
