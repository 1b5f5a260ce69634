"""What the REST interface answers about servers and the gateway."""

import json
from typing import Annotated, Any, TypeAlias

from mcp_types import Prompt, Resource, ResourceTemplate, Tool
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fastapi_server.gateway.recent import Percentiles, Sample
from fastapi_server.gateway.roster import Imported
from fastapi_server.mcp import ConnectionState, EraName

__all__ = ["Imported", "Percentiles", "Sample"]


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no text") from None
    except ValueError:
        raise ValueError("NaN and Infinity are no JSON, nor are numbers beyond 1.8e308") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return value


JSONObject: TypeAlias = Annotated[dict[str, Any], AfterValidator(_as_json)]
"""What can be said in JSON; Python's reader takes more than that."""


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("U+0000 is in no text that is kept")
    return value


Text: TypeAlias = Annotated[str, AfterValidator(_storable)]
"""What any database takes as text, to be kept or to be looked for."""


class ServerSummary(BaseModel):
    """A row of the table of servers.

    How its calls went is of all callers together; `state`, `clients`, `in_flight`, `breaker` and `error` are of the
    caller's own connections, or of all for administrators. Times are in seconds.
    """

    name: str = Field(examples=["weather"])
    transport: str = Field(description="`auto` where it is still to be found out", examples=["stdio"])
    state: ConnectionState = Field(description="Of the client that is best off")
    era: EraName | None = Field(default=None, description="`null` before the first connection")
    protocol_version: str | None = Field(default=None, examples=["2026-07-28"])
    tools: int = Field(description="How many it lists", examples=[2])
    clients: int = Field(description="How many are connected", examples=[1])
    in_flight: int = Field(description="Calls that wait for their result now")
    calls: int = Field(description="Calls ended since the gateway started", examples=[1200])
    calls_per_second: float = Field(description="Over the last ten seconds", examples=[3.5])
    errors: int = Field(description="Calls that failed")
    restarts: int = Field(description="Connections that replaced one that had died")
    latency: Percentiles = Field(description="Of the last 1,024 calls")
    breaker: str = Field(description="`closed`, `half_open` or `open`: the worst of its clients", examples=["closed"])
    error: str | None = Field(default=None, description="Why it cannot be reached, where it cannot")


class UnservedServer(BaseModel):
    """A server that is in the database, and cannot be served."""

    name: str = Field(examples=["weather"])
    problem: str = Field(description="Why it is not served")


class ServerList(BaseModel):
    """All servers that the caller may use."""

    servers: list[ServerSummary]
    problems: list[str] = Field(
        default_factory=list[str],
        description="For administrators: what is wrong in the config file, whose servers stay as they were",
    )
    unserved: list[UnservedServer] = Field(
        default_factory=list[UnservedServer],
        description="For administrators: servers in the database that are not served; they can be replaced and removed",
    )


class ServerDetail(ServerSummary):
    """One server."""

    title: str | None = Field(default=None, description="As the server calls itself")
    version: str | None = Field(default=None, description="Of its software")
    instructions: str | None = Field(default=None, description="How to use it, in its own words")
    capabilities: list[str] = Field(description="What it offers", examples=[["tools", "prompts"]])
    resources: int = Field(description="How many it lists")
    prompts: int = Field(description="How many it lists")
    settings: dict[str, Any] = Field(
        description="For administrators: what its configuration says beyond the defaults; secrets are `***`"
    )


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewServer(_Body):
    """A server to add."""

    name: str = Field(
        description="How it is called; its tools become `name__tool`", min_length=1, max_length=64, examples=["weather"]
    )
    entry: JSONObject = Field(
        description="As in an `mcp.json`: a `command` with `args` and `env`, or a `url`",
        examples=[{"command": "python", "args": ["-m", "fastapi_server.mcp.demo.servers", "stdio"]}],
    )


class Log(BaseModel):
    """What a server said outside of its answers."""

    class Line(BaseModel):
        """Logged through the protocol."""

        at: float = Field(description="Seconds since the epoch")
        level: str = Field(examples=["info"])
        logger: str | None = None
        text: str

    class Process(BaseModel):
        """A process that the gateway started."""

        principal: str | None = Field(default=None, description="On whose behalf it runs")
        pid: int | None = Field(default=None, description="While it runs")
        stderr: str = Field(description="The end of what it wrote to its standard error, without secrets")

    lines: list[Line]
    processes: list[Process]


class History(BaseModel):
    """How the calls of the last 15 minutes went. A second without calls has no sample."""

    samples: list[Sample]


class ToolList(BaseModel):
    """Tools of all servers that the caller may use, under their names in the catalogue."""

    tools: list[Tool]
    problems: dict[str, str] = Field(description="Servers that could not be asked, and why; theirs are those of before")


class ToolCall(_Body):
    """A call of a tool."""

    arguments: JSONObject = Field(
        default_factory=dict, description="As its input schema says", examples=[{"city": "Oslo"}]
    )
    timeout: float | None = Field(default=None, gt=0, le=3600, description="Seconds; left out, as configured")


class ResourceList(BaseModel):
    """Resources of one server."""

    resources: list[Resource]


class TemplateList(BaseModel):
    """Resource templates of one server."""

    templates: list[ResourceTemplate]


class PromptList(BaseModel):
    """Prompts of one server."""

    prompts: list[Prompt]


class ResourceRead(_Body):
    """A resource to read."""

    uri: str = Field(min_length=1, examples=["weather://cities"])


class PromptGet(_Body):
    """A prompt to fill in."""

    arguments: dict[str, str] = Field(default_factory=dict, examples=[{"city": "Oslo"}])


class Readiness(BaseModel):
    """Whether every server has been tried once, and how each stands."""

    ready: bool
    servers: dict[str, ConnectionState]
