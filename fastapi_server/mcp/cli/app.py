"""The commands of `mcp-clients`, with their options and their help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fastapi_server.mcp.cli import ask, overview
from fastapi_server.mcp.cli.demo import show_demo
from fastapi_server.mcp.cli.detect import show_detection
from fastapi_server.mcp.cli.login import show_login, show_logout
from fastapi_server.mcp.cli.run import run
from fastapi_server.mcp.cli.serve import run_gateway
from fastapi_server.mcp.cli.target import Options

_STATUSES = """Exit status:

- 0: done
- 1: the tool or the server answered with an error
- 2: the command line or the configuration is wrong
- 3: the server cannot be reached
- 4: timeout
- 130: Ctrl-C
- 143: SIGTERM
"""


class Output(StrEnum):
    """For whom to write."""

    TEXT = "text"
    JSON = "json"


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_STATUSES,
)

ServerArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="SERVER", help="A name from the configuration, a URL, or a quoted command line.")
]
AnyServer: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="SERVER",
        help="A name from the configuration, a URL, or a quoted command line; left out, all of the configuration.",
    ),
]
ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Default: ./mcp.json, then the file that $MCP_CONFIG names."),
]
TimeoutOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        "-t",
        metavar="SECONDS",
        min=0.001,
        help="For connecting, and for the call. Default: as configured, else 30.",
    ),
]
OutputOption: TypeAlias = Annotated[Output, typer.Option("--output", "-o", help="For people, or for machines.")]
JSONOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Short for --output json.")]
ArgOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--arg", "-a", metavar="NAME=VALUE", help="An argument; may be given many times."),
]


@app.callback()
def everywhere(
    context: typer.Context, config: ConfigOption = None, output: OutputOption = Output.TEXT, json: JSONOption = False
) -> None:
    """Reach MCP servers over stdio, HTTP+SSE and Streamable HTTP, and see what they offer.

    Options given here, before the command, hold for the command.
    """
    given = {"config": config, "output": Output.JSON if json else output}
    names = [one.name or one.callback.__name__ for one in app.registered_commands if one.callback is not None]
    context.default_map = dict.fromkeys(names, given)


def _options(config: Path | None, timeout: float | None, output: Output, json: bool = False) -> Options:
    return Options(config, timeout, json or output is Output.JSON)


@app.command(epilog=_STATUSES)
def demo(output: OutputOption = Output.TEXT, json: JSONOption = False) -> None:
    """Start four demo servers, reach them all through one mcp.json, and show how each was found.

    Over stdio, HTTP+SSE, and Streamable HTTP in both eras of the protocol. Exits with status 1 if any of them failed.
    """
    run(show_demo(_options(None, None, output, json)))


@app.command("list", epilog=_STATUSES)
def list_servers(
    server: AnyServer = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TEXT,
    json: JSONOption = False,
) -> None:
    """Reach all servers of the configuration at the same time, and show who each is, or why it failed."""
    run(overview.show_list(server, _options(config, timeout, output, json)))


@app.command(epilog=_STATUSES)
def tools(
    server: AnyServer = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TEXT,
    json: JSONOption = False,
) -> None:
    """Show the tools of one server or all, with their arguments; those in brackets may be left out."""
    run(overview.show_tools(server, _options(config, timeout, output, json)))


@app.command(epilog=_STATUSES)
def call(
    server: ServerArgument,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="Its name.")],
    arg: ArgOption = None,
    json: Annotated[
        str | None, typer.Option("--json", metavar="OBJECT", help="The arguments as one JSON object.")
    ] = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Call a tool and show its answer.

    Here --json gives the arguments; for the answer as JSON use --output json. The VALUE of an --arg is read as JSON
    where it is JSON, and else is a string; what the tool's schema calls a string stays one.
    """
    run(ask.show_call(server, tool, arg or [], json, _options(config, timeout, output)))


@app.command(epilog=_STATUSES)
def read(
    server: ServerArgument,
    uri: Annotated[str | None, typer.Argument(metavar="URI", help="Left out: show which there are.")] = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TEXT,
    json: JSONOption = False,
) -> None:
    """Read a resource, or show which resources a server has."""
    options = _options(config, timeout, output, json)
    run(overview.show_resources(server, options) if uri is None else ask.show_resource(server, uri, options))


@app.command(epilog=_STATUSES)
def prompts(
    server: AnyServer = None,
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="Show this one, filled in.")] = None,
    arg: ArgOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TEXT,
    json: JSONOption = False,
) -> None:
    """Show the prompts of one server or all, or one prompt with its arguments filled in."""
    options = _options(config, timeout, output, json)
    if server is None or prompt is None:
        run(overview.show_prompts(server, options))
    else:
        run(ask.show_prompt(server, prompt, arg or [], options))


@app.command(epilog=_STATUSES)
def ping(
    server: AnyServer = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TEXT,
    json: JSONOption = False,
) -> None:
    """Make one round trip to one server or all, and show how long it took."""
    run(overview.show_ping(server, _options(config, timeout, output, json)))


@app.command(epilog=_STATUSES)
def detect(
    server: ServerArgument,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TEXT,
    json: JSONOption = False,
) -> None:
    """Find out which transport, era and revision a server speaks, and show what each probe was answered."""
    run(show_detection(server, _options(config, timeout, output, json)))


@app.command(epilog=_STATUSES)
def login(
    server: ServerArgument,
    config: ConfigOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", "-t", metavar="SECONDS", min=0.001, help="To wait for the browser to come back. Default: 300."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Sign in afresh, whatever tokens there are.")] = False,
    output: OutputOption = Output.TEXT,
    json: JSONOption = False,
) -> None:
    """Sign in to a server with the browser, and show what was granted.

    The tokens are kept in an encrypted file, or in what $MCP_TOKEN_STORE names: another file, or `keyring`. All other
    commands find them there.
    """
    run(show_login(server, _options(config, timeout, output, json), again=again))


@app.command(epilog=_STATUSES)
def logout(
    server: ServerArgument,
    config: ConfigOption = None,
    output: OutputOption = Output.TEXT,
    json: JSONOption = False,
) -> None:
    """Delete the tokens of a server from where login has put them."""
    run(show_logout(server, _options(config, None, output, json)))


@app.command(epilog=_STATUSES)
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="An mcp.json, which is watched. Default: what $GATEWAY_CONFIG names, else the servers in the "
            "database, else the demo servers.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0 for any that is free.")] = 8000,
    require_key: Annotated[bool, typer.Option("--require-key", help="Refuse who brings no API key or token.")] = False,
) -> None:
    """Serve all servers of the configuration as one: at /mcp, by REST, and with a dashboard.

    More settings are taken from the environment, as GATEWAY_…. Needs the extra `gateway`.
    """
    run_gateway(config, host, port, require_key)
