"""`detect`: how a server is found out, probe by probe."""

import time
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from fastapi_server.mcp import MCPClientError, ServerConfig, ServerInfo
from fastapi_server.mcp.cli import render
from fastapi_server.mcp.cli.run import Status, client_of, status_of, transport_of
from fastapi_server.mcp.cli.target import Options, only
from fastapi_server.mcp.clients.handshake import Probe
from fastapi_server.mcp.protocol.negotiation import Answer, Discover, Outcome

_OPENING = {
    "stdio": ("start the process", "it runs"),
    "sse": ("GET the event stream", "an event stream"),
    "rest": ("GET /health", "HTTP 200"),
    "rpc": ("POST /connect, GET /events", "an event stream"),
}


@dataclass(frozen=True)
class Line:
    """One probe, in words."""

    transport: str
    sent: str
    answer: str
    ok: bool
    seconds: float


@dataclass
class Record:
    """Takes down the probes of one negotiation, with the time that each took."""

    dialect: str
    lines: list[Line] = field(default_factory=list[Line])
    _since: float = field(default_factory=time.monotonic)

    def told(self, probe: Probe) -> None:
        """Take down one; Streamable HTTP opens nothing that would be worth a line."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        transport = probe.transport if self.dialect == "mcp" else self.dialect
        if probe.step is None and transport == "http" and isinstance(probe.answer, Answer):
            return
        ok = isinstance(probe.answer, Answer) and probe.answer.outcome is Outcome.RESULT
        sent, answer = _sent(transport, probe), _came_back(transport, probe, seconds)
        self.lines.append(Line(transport, sent, answer, ok, seconds))


def _sent(transport: str, probe: Probe) -> str:
    match probe.step:
        case None:
            return _OPENING.get(transport, ("connect", ""))[0]
        case Discover(version):
            return f"server/discover {version}"
        case step:
            return "POST /initialize" if transport == "rest" else f"initialize {step.version}"


def _came_back(transport: str, probe: Probe, seconds: float) -> str:
    match probe.answer:
        case MCPClientError(message=message):
            return message
        case Answer(Outcome.RESULT) if probe.step is None:
            return _OPENING[transport][1]
        case Answer(Outcome.RESULT, versions=versions):
            return f"speaks {', '.join(versions)}" if versions else "a result"
        case Answer(Outcome.ERROR, code=code, text=text):
            return f"error {code}: {text}"
        case Answer(Outcome.SILENT):
            return f"nothing within {render.duration(seconds)}"
        case Answer(text=text):
            return text


async def show_detection(server: str, options: Options) -> int:
    """Connect once, and tell what each probe was answered."""
    config = only(server, options)
    client = client_of(config)
    record = Record(getattr(client.config, "dialect", "mcp"))
    client.watch_negotiation(record.told)
    info: ServerInfo | None = None
    error: MCPClientError | None = None
    with render.err().status(f"probing {config.name} …"):
        try:
            info = await client.initialize()
        except MCPClientError as failure:
            error = failure
    transport = transport_of(client)
    if options.as_json:
        render.say_json(_as_json(config, record, transport, info, error))
    else:
        _show(record, transport, info)
    if error is not None:
        render.complain(error)
    return Status.OK if error is None else status_of(error)


def _as_json(
    config: ServerConfig, record: Record, transport: str, info: ServerInfo | None, error: MCPClientError | None
) -> dict[str, Any]:
    return {
        "name": config.name,
        "probes": [vars(line) for line in record.lines],
        "verdict": None if info is None else render.info_json(transport, info),
        "error": None if error is None else render.error_json(error),
    }


def _show(record: Record, transport: str, info: ServerInfo | None) -> None:
    table = render.table("Transport", "Sent", "Answer", "Time", numbers=("Time",))
    for line in record.lines:
        style = "green" if line.ok else "yellow"
        name = render.transport_name(line.transport)
        table.add_row(name, line.sent, render.cell((line.answer, style)), render.duration(line.seconds))
    if record.lines:
        render.show(table)
    if info is not None:
        found = f"{render.transport_name(transport)}, {render.protocol_name(info)}, {render.server_name(info)}"
        render.show()
        render.show(Text.assemble("Found: ", (render.shown(found), "bold green")))
