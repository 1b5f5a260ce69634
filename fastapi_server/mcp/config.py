"""Typed configuration of a server, and the reader of `mcp.json` in the shapes that hosts write."""

import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass as validated

from fastapi_server.mcp.auth_config import AUTH_TYPES, AuthSetting, check_variable
from fastapi_server.mcp.detection import AUTO, HTTP, SSE, STDIO, canonical_transport, detect_transport
from fastapi_server.mcp.errors import ConfigError
from fastapi_server.mcp.protocol.eras import KNOWN_VERSIONS
from fastapi_server.mcp.protocol.jsonrpc import as_object

HeaderProvider: TypeAlias = Callable[[], Awaitable[Mapping[str, str]]]
"""Asked for headers before each HTTP request, so that credentials can rotate."""

OutputValidation: TypeAlias = Literal["strict", "warn", "off"]

_STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)


@validated(config=_STRICT, frozen=True)
class ToolRules:
    """Which tools are shown, and under which names. Patterns are those of file names: `read_*`.

    Attributes:
        allow: Only these; left out, all.
        deny: Not these, allowed or not.
        rename: The server's name to the one to show.
    """

    allow: list[str] | None = None
    deny: list[str] = Field(default_factory=list[str])
    rename: dict[str, str] = Field(default_factory=dict[str, str])

    @field_validator("rename")
    @classmethod
    def _each_name_once(cls, rename: dict[str, str]) -> dict[str, str]:
        if len(set(rename.values())) < len(rename):
            raise ValueError("two tools cannot have the same new name")
        return rename


@validated(config=_STRICT, frozen=True)
class CommonConfig:
    """What every transport has.

    Attributes:
        timeout: Milliseconds for connecting, and for each call that names no timeout of its own.
        probe_timeout: Milliseconds to wait for the answer that tells the era of the server.
        protocol_version: The revision to speak; left out, the server is asked.
        handshake: `False` for a bare JSON-RPC peer: nothing is negotiated.
        max_message_bytes: Largest message accepted from the server.
        max_in_flight: Calls on one client at the same time; further ones wait for their turn, in order.
        queue_timeout: Milliseconds that a call waits for its turn.
        required: `ClientPool.connect_all` raises where this server cannot be reached.
        tools: Which of the server's tools a catalogue shows.
        retries: How often a call that failed is repeated at most, and only where that is safe.
        trusted: Believe the server's `readOnlyHint` and `idempotentHint`: such tools are safe to repeat.
        reconnect: When a channel has died, `lazy` opens the next one with the next call, `eager` at once.
        breaker_threshold: Failures in a row after which calls fail at once, for a while.
        breaker_reset: That while, in milliseconds.
        output_validation: What to do about `structuredContent` that breaks the tool's `outputSchema`: `strict` raises,
            `warn` logs it, `off` does not look.
    """

    timeout: int = Field(default=30_000, gt=0, kw_only=True)
    probe_timeout: int = Field(default=5_000, gt=0, kw_only=True)
    protocol_version: str | None = Field(default=None, kw_only=True)
    handshake: bool = Field(default=True, kw_only=True)
    max_message_bytes: int = Field(default=64 * 1024 * 1024, gt=0, kw_only=True)
    output_validation: OutputValidation = Field(default="warn", kw_only=True)
    max_in_flight: int | None = Field(default=None, gt=0, kw_only=True)
    queue_timeout: int = Field(default=10_000, gt=0, kw_only=True)
    required: bool = Field(default=False, kw_only=True)
    tools: ToolRules = Field(default_factory=ToolRules, kw_only=True)
    retries: int = Field(default=2, ge=0, kw_only=True)
    trusted: bool = Field(default=False, kw_only=True)
    reconnect: Literal["lazy", "eager"] = Field(default="lazy", kw_only=True)
    breaker_threshold: int = Field(default=5, gt=0, kw_only=True)
    breaker_reset: int = Field(default=30_000, gt=0, kw_only=True)

    @field_validator("protocol_version")
    @classmethod
    def _known(cls, version: str | None) -> str | None:
        if version is not None and version not in KNOWN_VERSIONS:
            raise ValueError(f"unknown revision; known are {', '.join(KNOWN_VERSIONS)}")
        return version


@validated(config=_STRICT, frozen=True)
class StdioConfig(CommonConfig):
    """A server to start as a process of our own.

    Attributes:
        command: The program, looked up in `PATH`.
        args: Its arguments.
        env: Environment variables for it, on top of the safe list that the official SDKs pass (`HOME`, `PATH`, …).
        cwd: Its working directory.
        inherit_env: Pass the whole of our environment instead of the safe list.
        stderr_file: Append its standard error to this file, too.
        stderr_log: Log its standard error, too (logger `fastapi_server.mcp.stderr`).
        instances: Processes that a `ClientPool` starts for this server at most; calls go to the least busy.
        shutdown_timeout: Milliseconds given to each step of closing: standard input closed, SIGTERM, SIGKILL.
    """

    command: str = Field(min_length=1)
    args: list[str] = Field(default_factory=list[str], repr=False)
    env: dict[str, str] = Field(default_factory=dict[str, str], repr=False)
    cwd: Path | None = Field(default=None, kw_only=True)
    inherit_env: bool = Field(default=False, kw_only=True)
    stderr_file: Path | None = Field(default=None, kw_only=True)
    stderr_log: bool = Field(default=False, kw_only=True)
    instances: int = Field(default=1, gt=0, kw_only=True)
    shutdown_timeout: int = Field(default=2_000, gt=0, kw_only=True)


class _Endpoint(str):
    """A URL whose query, which may hold a key, does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        head, mark, _query = self.partition("?")
        return repr(head + (mark and "?…"))


def _checked_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError:  # its message quotes the URL, and credentials with it
        raise ValueError("is not a URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL that starts with http:// or https:// and names a host")
    if parts.username or parts.password:
        raise ValueError("must not carry credentials; put them into headers or api_key")
    return _Endpoint(endpoint)


def _one_way_to_sign_in(auth: AuthSetting | None, info: ValidationInfo) -> AuthSetting | None:
    if auth is not None and info.data.get("api_key") is not None:
        raise ValueError("excludes api_key: give one of the two")
    return auth


@validated(config=_STRICT, frozen=True)
class SSEConfig(CommonConfig):
    """A server reached over HTTP+SSE (revision 2024-11-05).

    Attributes:
        endpoint: URL of the event stream.
        headers: Sent with every request; or an async callable that is asked for them each time.
        api_key: Sent as `Authorization: Bearer …`.
        auth: How to sign in; see `auth_config`. Its headers win over `headers`; it excludes `api_key`.
        ca_file: Trust the authorities in this PEM file, and no others; left out, those that the system trusts.
        dialect: `mcp`, or `rpc` for `POST …/connect`, `GET …/events` and `POST …/rpc`.
    """

    endpoint: str
    headers: dict[str, str] | HeaderProvider = Field(default_factory=dict[str, str], repr=False)
    api_key: str | None = Field(default=None, kw_only=True, repr=False)
    auth: AuthSetting | None = Field(default=None, kw_only=True, repr=False)
    ca_file: Path | None = Field(default=None, kw_only=True)
    dialect: Literal["mcp", "rpc"] = Field(default="mcp", kw_only=True)

    _endpoint = field_validator("endpoint")(_checked_endpoint)
    _auth = field_validator("auth")(_one_way_to_sign_in)


@validated(config=_STRICT, frozen=True)
class HTTPConfig(CommonConfig):
    """A server reached over Streamable HTTP.

    Attributes:
        endpoint: The MCP endpoint.
        api_key: Sent as `Authorization: Bearer …`.
        headers: Sent with every request; or an async callable that is asked for them each time.
        auth: How to sign in; see `auth_config`. Its headers win over `headers`; it excludes `api_key`.
        ca_file: Trust the authorities in this PEM file, and no others; left out, those that the system trusts.
        dialect: `mcp`, or `rest` for `GET …/health`, `POST …/tools/{name}/call` and so on.
    """

    endpoint: str
    api_key: str | None = Field(default=None, repr=False)
    headers: dict[str, str] | HeaderProvider = Field(default_factory=dict[str, str], repr=False)
    auth: AuthSetting | None = Field(default=None, kw_only=True, repr=False)
    ca_file: Path | None = Field(default=None, kw_only=True)
    dialect: Literal["mcp", "rest"] = Field(default="mcp", kw_only=True)

    _endpoint = field_validator("endpoint")(_checked_endpoint)
    _auth = field_validator("auth")(_one_way_to_sign_in)


TransportConfig: TypeAlias = StdioConfig | SSEConfig | HTTPConfig

_TYPED: dict[str, type[TransportConfig]] = {
    STDIO: StdioConfig,
    SSE: SSEConfig,
    HTTP: HTTPConfig,
    AUTO: HTTPConfig,
}
_KINDS = ((StdioConfig, STDIO), (SSEConfig, SSE))
_ALIASES = {"url": "endpoint", "server_url": "endpoint"}


@dataclass(frozen=True, repr=False)
class ServerConfig:
    """What is needed to reach one MCP server.

    Args:
        name: How you call it.
        transport: `stdio`, `sse`, `http` or a name given to `register_transport`; `auto` to find out.
        config: The settings of that transport, typed or as a plain mapping.

    Raises:
        ConfigError: The settings are incomplete or wrong; the message names the field.
    """

    name: str
    transport: str = AUTO
    config: Any = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a server's name must not be empty")
        for field_name in ("name", "transport"):
            value: object = getattr(self, field_name)
            if not isinstance(value, str):
                raise ConfigError(
                    f"{field_name}: must be a text, not {type(value).__name__}; "
                    'settings are given as ServerConfig("files", config={"command": …})'
                )
        transport = canonical_transport(self.transport)
        config = self.config
        if not isinstance(config, CommonConfig) and isinstance(config, Mapping):  # slow to say no
            settings = _with_our_names(cast("Mapping[str, Any]", config))
            if transport == AUTO:
                transport = _located(self.name, lambda: detect_transport(settings))
            config = _parse(self.name, transport, settings)
        elif transport == AUTO:
            transport = next((known for kind, known in _KINDS if isinstance(config, kind)), AUTO)
        expected = _TYPED.get(transport)
        if expected is not None and not isinstance(config, expected):
            raise ConfigError(
                f"server {self.name!r}: config: transport {transport!r} takes {expected.__name__}, "
                f"not {type(config).__name__}"
            )
        object.__setattr__(self, "transport", transport)
        object.__setattr__(self, "config", config)

    def __repr__(self) -> str:
        # What is secret in the settings of a transport of the user's own, only its client knows: names, no values.
        config = self.config
        shown = list(as_object(config)) if isinstance(config, dict) else config
        return f"ServerConfig(name={self.name!r}, transport={self.transport!r}, config={shown!r})"


def _located(name: str, decide: Callable[[], str]) -> str:
    try:
        return decide()
    except ConfigError as error:
        raise ConfigError(f"server {name!r}: {error.message}") from None


def _with_our_names(config: Mapping[str, Any]) -> dict[str, Any]:
    return {_ALIASES.get(key, key): value for key, value in config.items()}


def _parse(name: str, transport: str, settings: dict[str, Any]) -> Any:
    model = _TYPED.get(transport)
    if model is None:  # a transport of the user's own: its client reads the settings
        return settings
    try:
        return TypeAdapter(model).validate_python(settings)
    except ValidationError as error:
        raise wrong_settings(name, error) from None


def wrong_settings(name: str, error: ValidationError) -> ConfigError:
    """What is wrong with the settings of a server: the paths of the fields, and nothing of what they hold."""
    problems = "; ".join(
        f"config.{_path(problem['loc'])}: {_plainly(problem['type'], problem['msg'])}"
        for problem in error.errors(include_input=False, include_url=False, include_context=False)
    )
    return ConfigError(f"server {name!r}: {problems}")


_UNION_TAGS = frozenset({"dict[str,str]", "callable", "flow", *AUTH_TYPES})
"""Which member of `headers` or `auth` was tried: pydantic puts it into the path."""


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(step) for step in location if step not in _UNION_TAGS)


def _plainly(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "is required"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return "there is no such setting"
        case _:
            return message.removeprefix("Value error, ")


_HOST_KEYS = frozenset({"disabled", "always_allow", "auto_approve", "description", "gallery", "icon", "name", "trust"})
_MOST_LEVELS = 16
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class ConfigFile:
    """What an `mcp.json` holds.

    Attributes:
        servers: The entries that are right, by name, in their order.
        problems: One error for each entry that is wrong; the others work all the same.
    """

    servers: dict[str, ServerConfig]
    problems: list[ConfigError]


def load_config(path: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> ConfigFile:
    """Read an `mcp.json`.

    Args:
        path: The file.
        env: What `${VAR}` refers to; left out, the environment of this process.

    Raises:
        ConfigError: The file cannot be read, is no JSON, or has neither `mcpServers` nor `servers`.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from None
    return parse_config(document, env, source=str(path))


def parse_config(document: Any, env: Mapping[str, str] | None = None, *, source: str = "mcp.json") -> ConfigFile:
    """The same for a document already decoded.

    Known are `mcpServers` (Claude, Cursor, …) and `servers` (VS Code); `type` or `transport` in their usual spellings;
    `url`, `serverUrl`, `httpUrl` or `endpoint`; `${VAR}`, `${env:VAR}` and `${VAR:-default}` in every string. What
    other hosts keep for themselves (`disabled`, `alwaysAllow`, …) is passed over; a disabled server is left out.

    Raises:
        ConfigError: It has neither of the two keys.
    """
    variables = os.environ if env is None else env
    servers: dict[str, ServerConfig] = {}
    problems: list[ConfigError] = []
    key, entries = _section(document, source)
    for name, entry in entries.items():
        try:
            if as_object(entry).get("disabled") is True:
                continue
            servers[name] = _server(name, entry, variables)
        except ConfigError as error:
            problems.append(ConfigError(f"{source}: {_in_file(error, key, name)}"))
    return ConfigFile(servers, problems)


def _in_file(error: ConfigError, key: str, name: str) -> str:
    """The message, its paths as they are in the file: `config.command` is `mcpServers.NAME.command` there."""
    detail = error.message.removeprefix(f"server {name!r}: ")
    if not detail.startswith("config"):
        return f"{key}: {detail}"
    return re.sub(r"(^|; )config\b", lambda match: f"{match[1]}{key}.{name}", detail)


def _section(document: Any, source: str) -> tuple[str, dict[str, Any]]:
    for key in ("mcpServers", "servers"):
        section = as_object(document).get(key)
        if isinstance(section, dict):
            return key, as_object(section)
    raise ConfigError(f'{source}: has no servers; expected {{"mcpServers": {{"name": {{"command": …}}}}}}')


def _server(name: str, entry: Any, variables: Mapping[str, str]) -> ServerConfig:
    if not isinstance(entry, dict):
        raise ConfigError("config: must be an object")
    for key, value in as_object(entry).items():
        _check_depth(f"config.{key}", value)
    settings = {_snake(key): value for key, value in _expand(as_object(entry), variables, "config").items()}
    if isinstance(settings.get("auth"), dict):
        settings["auth"] = _auth(as_object(settings["auth"]), variables)
    transport = settings.pop("type", None) or settings.pop("transport", None) or AUTO
    settings.pop("transport", None)
    if "http_url" in settings:
        settings["endpoint"] = settings.pop("http_url")
        transport = HTTP if transport == AUTO else transport
    if isinstance(settings.get("tools"), list):  # as other hosts write it
        settings["tools"] = {"allow": settings["tools"]}
    if not isinstance(transport, str) or canonical_transport(transport) not in _TYPED:
        raise ConfigError(f"config.type: unknown transport {transport!r}; known are {', '.join(sorted(_TYPED))}")
    return ServerConfig(name, transport, {key: value for key, value in settings.items() if key not in _HOST_KEYS})


def _auth(entry: dict[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """`{"env": NAME}` means the environment that the file is read with; that of this process is asked when needed."""
    auth = {_snake(key): value for key, value in entry.items()}
    for key, value in auth.items():
        name = as_object(value).get("env")
        if isinstance(name, str) and len(value) == 1 and variables is not os.environ:
            try:
                check_variable(name)
            except ValueError as error:
                raise ConfigError(f"config.auth.{key}: {error}") from None
            if not variables.get(name):
                raise ConfigError(f"config.auth.{key}: the environment has no {name}; set it")
            auth[key] = variables[name]
    return auth


def _check_depth(path: str, value: Any) -> None:
    """Refuse what no setting is, before anything follows it down: it may go deeper than Python does.

    Raises:
        ConfigError: It has more than 16 levels.
    """
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [member for one in level for member in _members(one)]
        if not level:
            return
    raise ConfigError(f"{path}: is nested too deep; {_MOST_LEVELS} levels are the most")


def _members(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else list(as_object(value).values())


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower()


def _expand(value: Any, variables: Mapping[str, str], path: str) -> Any:
    if isinstance(value, str):
        if "${input:" in value:
            raise ConfigError(f"{path}: ${{input:…}} asks a person; write ${{env:NAME}} and set that")
        return _VARIABLE.sub(lambda match: _variable(match, variables, path), value)
    if isinstance(value, dict):
        return {key: _expand(member, variables, f"{path}.{key}") for key, member in as_object(value).items()}
    if isinstance(value, list):
        return [_expand(item, variables, f"{path}.{index}") for index, item in enumerate(cast("list[Any]", value))]
    return value


def _variable(match: re.Match[str], variables: Mapping[str, str], path: str) -> str:
    name, default = match.groups()
    if name in variables and (variables[name] or default is None):
        return variables[name]
    if default is None:
        raise ConfigError(f"{path}: the environment has no {name}; set it, or write ${{{name}:-default}}")
    return default
