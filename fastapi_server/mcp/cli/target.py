"""What the user points at: servers of an `mcp.json`, a URL, or a command line."""

import dataclasses
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fastapi_server.mcp import ConfigError, ConfigFile, ServerConfig, load_config

CONFIG_FILE = Path("mcp.json")
CONFIG_VARIABLE = "MCP_CONFIG"
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(?:/|\Z)")


@dataclass(frozen=True)
class Options:
    """What every command takes.

    Attributes:
        config: The `mcp.json`; left out, the one found by `config_path`.
        timeout: Seconds, instead of what each server's configuration says.
        as_json: Write for a machine.
    """

    config: Path | None = None
    timeout: float | None = None
    as_json: bool = False


@dataclass(frozen=True)
class Selection:
    """The servers meant, and what is wrong with others of the same file."""

    servers: list[ServerConfig]
    problems: list[ConfigError]


def select(server: str | None, options: Options) -> Selection:
    """The servers that a command is about: one, or all of the configuration.

    Raises:
        ConfigError: There is no such server or no such file, or it is wrong.
    """
    if server is not None:
        return Selection([only(server, options)], [])
    path = config_path(options.config)
    if path is None:
        raise ConfigError(
            f"there is no ./{CONFIG_FILE} and ${CONFIG_VARIABLE} is not set; "
            "give --config FILE, or a URL or a command line as SERVER"
        )
    file = load_config(path)
    return Selection([_with_timeout(one, options.timeout) for one in file.servers.values()], file.problems)


def only(server: str, options: Options) -> ServerConfig:
    """The one server that a command is about: a name from the configuration, a URL or a command line.

    Raises:
        ConfigError: It is none of these.
    """
    return _with_timeout(_resolve(server, options.config), options.timeout)


def config_path(given: Path | None) -> Path | None:
    """The file given; else ./mcp.json, if it exists; else the one that `$MCP_CONFIG` names."""
    if given is not None:
        return given
    if CONFIG_FILE.is_file():
        return CONFIG_FILE
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else None


def _resolve(server: str, config: Path | None) -> ServerConfig:
    if server.startswith(("http://", "https://")):
        parts = urlsplit(server)
        return ServerConfig(f"{parts.netloc.rpartition('@')[2]}{parts.path}", config={"endpoint": server})
    path = config_path(config)
    file = load_config(path) if path is not None else ConfigFile({}, [])
    if server in file.servers:
        return file.servers[server]
    for problem in file.problems:
        if f"ervers.{server}." in problem.message or f"ervers.{server}:" in problem.message:  # mcpServers or servers
            raise problem
    if _HOST_AND_PORT.match(server) and not os.path.exists(server):
        raise ConfigError(f"{server!r} is no URL: http://{server} may be meant")
    command = _command(server)
    if command is None:
        has = f"{path} has {', '.join(file.servers) or 'none'}" if path else "no mcp.json was found"
        raise ConfigError(f"{server!r} is no server ({has}), no URL, and no command that exists")
    program, *args = command
    return ServerConfig(Path(program).name, config={"command": program, "args": args})


def _command(text: str) -> list[str] | None:
    """The words of a command line; `None` for one word that names no program."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no command line: {error}") from None
    if not words or (len(words) == 1 and os.sep not in text and shutil.which(text) is None):
        return None
    return words


def _with_timeout(server: ServerConfig, seconds: float | None) -> ServerConfig:
    if seconds is None:
        return server
    config = dataclasses.replace(server.config, timeout=max(1, round(seconds * 1000)))
    return dataclasses.replace(server, config=config)
