"""The program `mcp-clients`: run as a program where that matters, its commands awaited directly where not."""

import asyncio
import json
import logging
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from rich.console import Console
from typer.testing import CliRunner

from fastapi_server.mcp import (
    AuthenticationError,
    CallTimeoutError,
    ConfigError,
    ConnectTimeoutError,
    MCPClientError,
    MCPConnectionError,
    ProtocolError,
    RPCError,
    ServerInfo,
    StdioConfig,
    ToolResult,
    testing,
)
from fastapi_server.mcp.cli import arguments, ask, content, detect, overview, render, target
from fastapi_server.mcp.cli.app import app
from fastapi_server.mcp.cli.run import Status, status_of
from fastapi_server.mcp.cli.target import Options
from fastapi_server.mcp.clients.handshake import Probe
from fastapi_server.mcp.protocol.negotiation import Answer, Discover, Initialize, Outcome
from fastapi_server.mcp.testing.http_peer import Seen, http_peer
from tests.test_demo import processes_at_home_in

PROGRAM = [sys.executable, "-m", "fastapi_server.mcp"]
PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))
NOWHERE = "http://127.0.0.1:9/mcp"

Capture = pytest.CaptureFixture[str]


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The program, with its output piped."""
    quiet = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "MCP_CONFIG"}}
    return subprocess.run([*PROGRAM, *args], check=False, capture_output=True, text=True, env={**quiet, **env})


def command(*words: str) -> str:
    return shlex.join([sys.executable, *words])


@pytest.fixture
def stdio_command() -> str:
    return command("-m", "fastapi_server.mcp.demo.servers", "stdio")


@pytest.fixture
def config(
    tmp_path: Path, stdio_server: dict[str, object], sse_server: str, handshake_server: str, stateless_server: str
) -> Path:
    """Four servers that work."""
    servers = {
        "local": stdio_server,
        "events": {"url": sse_server},
        "sessions": {"url": handshake_server},
        "stateless": {"url": stateless_server},
    }
    return write(tmp_path, servers)


def write(folder: Path, servers: dict[str, Any]) -> Path:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


@pytest.fixture
def broken_config(config: Path) -> Path:
    """The same four, one that nobody listens for, one that ends at once, and an entry that is wrong."""
    servers: dict[str, Any] = json.loads(config.read_text())["mcpServers"]
    servers["gone"] = {"url": NOWHERE}
    servers["ends"] = {"command": sys.executable, "args": [PEER, "--exit-at-start", "3", "--stderr", "out of\npaper\n"]}
    servers["wrong"] = {"url": "ftp://example.com"}
    return write(config.parent, servers)


class TestTheProgram:
    def test_list_for_machines(self, broken_config: Path) -> None:
        done = run("list", "--json", "--config", str(broken_config))
        told = json.loads(done.stdout)
        assert done.returncode == 3
        reached = {one["name"]: (one["transport"], one["revision"]) for one in told["servers"] if "error" not in one}
        assert reached == {
            "local": ("stdio", "2026-07-28"),
            "events": ("sse", "2025-11-25"),
            "sessions": ("http", "2025-11-25"),
            "stateless": ("http", "2026-07-28"),
        }
        errors = {one["name"]: one["error"]["type"] for one in told["servers"] if "error" in one}
        assert errors == {"gone": "MCPConnectionError", "ends": "ProcessExitedError"}
        assert "mcpServers.wrong" in told["problems"][0]

    def test_call_over_stdio(self, stdio_command: str) -> None:
        done = run("call", stdio_command, "forecast", "--arg", "city=Oslo")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {"city": "Oslo", "celsius": 7.0, "sky": "rain"}

    def test_call_at_a_url(self, handshake_server: str) -> None:
        done = run("call", handshake_server, "survey", "--json", '{"cities": ["Oslo", "Lisbon"]}')
        assert (done.returncode, done.stdout, done.stderr) == (0, "Oslo: rain, Lisbon: sunny\n", "")

    def test_detect(self, handshake_server: str) -> None:
        done = run("detect", handshake_server)
        assert done.returncode == 0
        lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
        assert lines[2].startswith("Streamable HTTP server/discover 2026-07-28 HTTP 400 Bad Request")
        assert lines[3].startswith("Streamable HTTP initialize 2025-11-25 speaks 2025-11-25")
        assert lines[-1] == "Found: Streamable HTTP, 2025-11-25 (handshake), weather-handshake 1.0.0"

    @pytest.mark.parametrize(
        ("args", "status", "said"),
        [
            (["list", "--config", "no-such.json"], 2, "no-such.json: cannot be read"),
            (["tools", NOWHERE], 3, "cannot connect to http://127.0.0.1:9/mcp"),
            (["tools", "./no-such-program"], 3, "command not found"),
            (["tools", command(PEER, "--initialize", "silent"), "--timeout", "0.5"], 4, "no connection"),
            (["call", command(PEER), "no-such-tool"], 1, "no-such-tool"),
        ],
    )
    def test_an_error_is_one_line_and_a_status(self, args: list[str], status: int, said: str) -> None:
        done = run(*args)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1

    def test_an_unknown_tool(self, stateless_server: str) -> None:
        done = run("call", stateless_server, "no-such-tool")
        assert (done.returncode, done.stdout) == (1, "")
        assert "Unknown tool: no-such-tool" in done.stderr

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_interrupted_it_leaves_no_process(self, number: signal.Signals, status: int, tmp_path: Path) -> None:
        log = tmp_path / "log"
        server = command(PEER, "--initialize", "silent", "--log", str(log))
        env = {**os.environ, "HOME": str(tmp_path)}
        with subprocess.Popen([*PROGRAM, "tools", server], env=env, stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: log.exists() and "initialize" in log.read_text())
            assert len(processes_at_home_in(tmp_path)) == 2
            process.send_signal(number)
            _, said = process.communicate()
        assert (process.returncode, said) == (status, "")
        assert processes_at_home_in(tmp_path) == []

    def test_without_the_extra_it_says_what_to_install(self) -> None:
        code = "import sys; sys.modules['typer'] = None; from fastapi_server.mcp.__main__ import main; main()"
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == 'mcp-clients needs typer and rich: install "mcp-client-factory[cli]"\n'

    def test_another_missing_module_is_no_missing_extra(self) -> None:
        code = "import sys; from fastapi_server.mcp.__main__ import main; sys.modules['shlex'] = None; main()"
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert "ModuleNotFoundError: import of shlex" in done.stderr

    def test_interrupted_before_it_has_begun(self, tmp_path: Path) -> None:
        (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
        done = run("list", PYTHONPATH=str(tmp_path))
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

    def test_output_that_cannot_show_a_character_shows_another(self, tmp_path: Path) -> None:
        path = write(tmp_path, {"städtisch": {"url": NOWHERE}})
        done = run("list", "--config", str(path), PYTHONIOENCODING="ascii")
        assert done.returncode == 3
        assert "st?dtisch" in done.stdout

    def test_progress_is_shown_on_a_terminal(self, handshake_server: str) -> None:
        ours, theirs = pty.openpty()
        args = ["call", handshake_server, "survey", "--arg", 'cities=["Oslo", "Lisbon"]']
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        done = subprocess.run([*PROGRAM, *args], check=False, stdout=subprocess.PIPE, stderr=theirs, env=env, text=True)
        os.close(theirs)
        seen = os.read(ours, 1 << 16).decode()
        os.close(ours)
        assert (done.returncode, done.stdout) == (0, "Oslo: rain, Lisbon: sunny\n")
        assert "survey: Lisbon" in seen

    def test_the_installed_script_is_the_same_program(self) -> None:
        script = Path(sys.executable).parent / "mcp-clients"
        assert script.exists()
        told = [subprocess.check_output([*start, "--help"], text=True) for start in ([str(script)], PROGRAM)]
        assert told[0] == told[1]
        for status in ("0: done", "1: the tool", "2: the command", "3: the server", "4: timeout", "130: Ctrl-C"):
            assert status in told[0]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestTheCommandLine:
    @pytest.mark.parametrize(
        "args",
        [
            ["no-such-command"],
            ["call", "server"],
            ["list", "--timeout", "soon"],
            ["list", "--output", "xml"],
            ["detect"],
            [],
        ],
    )
    def test_a_wrong_one_exits_with_2(self, args: list[str]) -> None:
        assert CliRunner().invoke(app, args).exit_code == 2

    @pytest.mark.parametrize(
        "name", ["demo", "list", "tools", "call", "read", "prompts", "ping", "detect", "login", "logout"]
    )
    def test_every_command_has_help_with_the_statuses(self, name: str) -> None:
        done = CliRunner().invoke(app, [name, "--help"])
        assert done.exit_code == 0
        assert "4: timeout" in done.output

    @pytest.mark.parametrize(
        "args",
        [
            ["--config", "no-such.json", "list"],
            ["list", "-c", "no-such.json"],
            ["tools", "name", "-c", "no-such.json"],
            ["call", "name", "tool", "-c", "no-such.json"],
            ["read", "name", "-c", "no-such.json"],
            ["read", "name", "uri:x", "-c", "no-such.json"],
            ["prompts", "-c", "no-such.json"],
            ["prompts", "name", "prompt", "-c", "no-such.json"],
            ["ping", "-c", "no-such.json"],
            ["detect", "name", "-c", "no-such.json"],
            ["login", "name", "--again", "-c", "no-such.json"],
            ["logout", "name", "-c", "no-such.json"],
        ],
    )
    async def test_options_reach_the_command(self, args: list[str]) -> None:
        done = await asyncio.to_thread(CliRunner().invoke, app, args)
        assert done.exit_code == 2
        assert "no-such.json: cannot be read" in done.output

    @pytest.mark.parametrize(
        "args",
        [
            ["--json", "ping", NOWHERE],
            ["--output", "json", "ping", NOWHERE],
            ["ping", NOWHERE, "--json"],
            ["ping", NOWHERE, "-o", "json"],
        ],
    )
    async def test_json_may_be_asked_for_before_or_after_the_command(self, args: list[str]) -> None:
        done = await asyncio.to_thread(CliRunner().invoke, app, args)
        assert done.exit_code == 3
        assert json.loads(done.stdout)["servers"][0]["error"]["delivery"] == "not_sent"


def test_the_page_names_every_command_option_and_status() -> None:
    page = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text()
    for one in app.registered_commands:
        assert one.callback is not None
        name = one.name or one.callback.__name__
        assert re.search(rf"^\| `{name}\b", page, re.MULTILINE), name
        told = CliRunner().invoke(app, [name, "--help"]).output
        for option in set(re.findall(r"--[a-z]+", told)) - {"--help"}:
            assert option in page, option
    for status in Status:
        assert f"\n| {status:d} |" in page


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RPCError("no"), 1),
        (ProtocolError("odd"), 1),
        (MCPClientError("no"), 1),
        (ConfigError("no"), 2),
        (MCPConnectionError("no"), 3),
        (AuthenticationError("no", status=401), 3),
        (ConnectTimeoutError("late"), 4),
        (CallTimeoutError("late"), 4),
    ],
)
def test_the_status_of_an_error(error: MCPClientError, status: int) -> None:
    assert status_of(error) == status


class TestTarget:
    """What the user points at."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MCP_CONFIG", raising=False)

    def test_the_file_is_the_one_given_then_here_then_in_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert target.config_path(None) is None
        monkeypatch.setenv("MCP_CONFIG", "elsewhere.json")
        assert target.config_path(None) == Path("elsewhere.json")
        write(tmp_path, {})
        assert target.config_path(None) == Path("mcp.json")
        assert target.config_path(Path("given.json")) == Path("given.json")

    def test_no_file_at_all(self) -> None:
        with pytest.raises(ConfigError, match=r"no \./mcp\.json and \$MCP_CONFIG is not set"):
            target.select(None, Options())

    def test_all_servers_of_the_file(self, tmp_path: Path) -> None:
        write(tmp_path, {"a": {"command": "x"}, "b": {"url": "http://x"}, "c": {}})
        selection = target.select(None, Options(timeout=1.5))
        assert [(one.name, one.transport, one.config.timeout) for one in selection.servers] == [
            ("a", "stdio", 1500),
            ("b", "auto", 1500),
        ]
        assert len(selection.problems) == 1

    def test_a_name_comes_before_a_command(self, tmp_path: Path) -> None:
        write(tmp_path, {"python3": {"command": "mine"}})
        (server,) = target.select("python3", Options()).servers
        assert server.config == StdioConfig(command="mine")

    def test_a_url_keeps_its_secrets_out_of_its_name(self) -> None:
        server = target.only("https://example.com:8443/mcp?token=secret", Options())
        assert (server.name, server.transport) == ("example.com:8443/mcp", "auto")
        assert server.config.endpoint == "https://example.com:8443/mcp?token=secret"

    @pytest.mark.parametrize(
        ("text", "name", "words"),
        [
            ("npx -y 'a b'", "npx", ["npx", "-y", "a b"]),
            ("./server", "server", ["./server"]),
            (sys.executable, Path(sys.executable).name, [sys.executable]),
            ("sh", "sh", ["sh"]),
        ],
    )
    def test_a_command_line(self, text: str, name: str, words: list[str]) -> None:
        server = target.only(text, Options())
        assert (server.name, server.transport) == (name, "stdio")
        assert [server.config.command, *server.config.args] == words

    @pytest.mark.parametrize("text", ["no-such-thing", "", "  "])
    def test_none_of_these(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"is no server \(no mcp\.json was found\), no URL, and no command"):
            target.only(text, Options())
        write(tmp_path, {"a": {"command": "x"}, "b": {"command": "x"}})
        with pytest.raises(ConfigError, match=r"is no server \(mcp\.json has a, b\)"):
            target.only(text, Options())

    def test_a_host_and_port_may_be_a_url(self) -> None:
        with pytest.raises(ConfigError, match="http://localhost:8000/mcp may be meant"):
            target.only("localhost:8000/mcp", Options())

    def test_a_server_whose_entry_is_wrong_says_what_is_wrong(self, tmp_path: Path) -> None:
        write(tmp_path, {"a": {"url": "ftp://x"}, "b": {}})
        for name in "ab":
            with pytest.raises(ConfigError, match=rf"mcpServers\.{name}"):
                target.only(name, Options())

    def test_a_quote_left_open(self) -> None:
        with pytest.raises(ConfigError, match="No closing quotation"):
            target.only("npx 'a", Options())


class TestArguments:
    def test_pairs(self) -> None:
        assert arguments.pairs(["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}

    @pytest.mark.parametrize("text", ["a", "=1", ""])
    def test_no_pair(self, text: str) -> None:
        with pytest.raises(ConfigError, match="--arg takes NAME=VALUE"):
            arguments.pairs([text])

    def test_a_json_object(self) -> None:
        assert arguments.json_object(None) == {}
        assert arguments.json_object('{"a": 1}') == {"a": 1}

    @pytest.mark.parametrize("text", ["[1]", "{", "null", "--arg"])
    def test_no_json_object(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"--json .*--output json"):
            arguments.json_object(text)

    @pytest.mark.parametrize(
        ("schema", "text", "value"),
        [
            # Nothing is known: JSON where it is JSON.
            ({}, "1", 1),
            ({}, "Oslo", "Oslo"),
            ({}, "[1, 2]", [1, 2]),
            ({}, "NaN", "NaN"),
            (True, "true", True),
            # Strings stay strings.
            ({"type": "string"}, "1", "1"),
            ({"type": "string"}, '"quoted"', '"quoted"'),
            ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "1", "1"),
            ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", None),
            ({"$ref": "#/$defs/city"}, "1", "1"),
            # Everything else is JSON, or the server's to refuse.
            ({"type": "integer"}, "1", 1),
            ({"type": "integer"}, "one", "one"),
            ({"type": "number"}, "1", 1),
            ({"type": ["string", "number"]}, "1", 1),
            ({"type": ["string", "integer"]}, "1.5", "1.5"),
            ({"oneOf": [{"type": "string"}, {"type": "array"}]}, '["a"]', ["a"]),
            ({"oneOf": [{"type": "string"}, {"type": "object"}]}, "true", "true"),
            ({"$ref": "#/$defs/circle"}, "1", 1),
            ({"$ref": "#/nowhere"}, "1", 1),
            ({"type": [7, {}], "anyOf": 7, "oneOf": "no"}, "1", 1),
        ],
    )
    def test_the_schema_decides(self, schema: Any, text: str, value: object) -> None:
        definitions = {"city": {"type": "string"}, "circle": {"$ref": "#/$defs/circle"}}
        whole = {"type": "object", "properties": {"x": schema}, "$defs": definitions}
        assert arguments.typed({"x": text}, whole) == {"x": value}


class TestRender:
    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.0012, "1.2 ms"), (0.0999, "99.9 ms"), (0.25, "250 ms"), (2, "2.00 s")]
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert render.duration(seconds) == text

    @pytest.mark.parametrize(("count", "text"), [(5, "5 bytes"), (1500, "1.5 kB"), (2_000_000, "2.0 MB")])
    def test_sizes(self, count: int, text: str) -> None:
        assert render.size(count) == text

    def test_a_server_cannot_write_to_the_terminal_as_it_likes(self) -> None:
        assert render.shown("a\x1b[2Jb\r\n\tc\x9b\x07") == "a\\x1b[2Jb\n\tc\\x9b\\x07"

    def test_names(self) -> None:
        assert render.protocol_name(ServerInfo()) == "bare JSON-RPC"
        assert render.server_name(ServerInfo()) == "(does not say)"
        assert render.transport_name("mine") == "mine"

    def test_on_a_terminal_it_is_made_safe_and_elsewhere_left_alone(
        self, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        render.say("\x1b[2J")
        render.say("line\n")
        render.say_json({"a": "\x9b"})
        assert capsys.readouterr().out == '\x1b[2J\nline\n{\n  "a": "\\u009b"\n}\n'
        monkeypatch.setattr(render, "out", lambda: Console(force_terminal=True, color_system=None, markup=False))
        render.say("\x1b[2J [bold]")
        render.say_json({"a": "\x9b"})
        assert capsys.readouterr().out == '\\x1b[2J [bold]\n{\n  "a": "\\u009b"\n}\n'

    def test_what_has_no_json_form_is_a_bug(self) -> None:
        with pytest.raises(TypeError, match="object has no JSON form"):
            render.say_json(object())

    def test_warnings_of_the_clients_are_shown(self, capsys: Capture) -> None:
        logger = logging.getLogger("fastapi_server.mcp")
        before = logger.handlers
        try:
            render.show_warnings()
            logger.warning("careful: %s", "\x1b")
            logger.info("nothing")
        finally:
            logger.handlers = before
        assert capsys.readouterr().err == "warning: careful: \\x1b\n"


class TestContent:
    @pytest.mark.parametrize(
        ("blocks", "structured", "shown"),
        [
            (["plain"], None, "plain\n"),
            (['{"a": 1}'], {"a": 1}, '{\n  "a": 1\n}\n'),
            (["see below"], {"a": 1}, 'see below\n{\n  "a": 1\n}\n'),
            (["Oslo"], {"result": "Oslo"}, "Oslo\n"),
            (["1", "2"], {"result": [1, 2]}, '{\n  "result": [\n    1,\n    2\n  ]\n}\n'),
            (["a", "b"], {"result": ["a", "b"]}, '{\n  "result": [\n    "a",\n    "b"\n  ]\n}\n'),
            ([], {"result": 7}, '{\n  "result": 7\n}\n'),
            ([], None, ""),
        ],
    )
    def test_what_is_said_twice_is_shown_once(
        self, blocks: list[str], structured: dict[str, Any] | None, shown: str, capsys: Capture
    ) -> None:
        texts: list[Any] = [TextContent(text=text) for text in blocks]
        content.say_result(ToolResult(content=texts, structured_content=structured))
        assert capsys.readouterr().out == shown

    @pytest.mark.parametrize(
        ("block", "text"),
        [
            (ImageContent(data="aGVsbG8=", mime_type="image/png"), "(image, image/png, 5 bytes)"),
            (AudioContent(data="A" * 4000, mime_type="audio/wav"), "(audio, audio/wav, 3.0 kB)"),
            (ResourceLink(uri="file:///a", name="a"), "(link to file:///a, type not said)"),
            (EmbeddedResource(resource=TextResourceContents(uri="file:///a", text="inside")), "inside"),
            (
                EmbeddedResource(resource=BlobResourceContents(uri="file:///a", blob="AAAA", mime_type="x/y")),
                "(file:///a, x/y, 3 bytes)",
            ),
        ],
    )
    def test_what_is_not_text_becomes_a_line(self, block: Any, text: str) -> None:
        assert content.block_text(block) == text


class TestOverview:
    @pytest.fixture
    def wide(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A terminal in which no cell is wrapped, however long a start took."""
        monkeypatch.setenv("COLUMNS", "400")
        render.out.cache_clear()
        yield
        render.out.cache_clear()

    @pytest.mark.usefixtures("wide")
    async def test_list(self, broken_config: Path, capsys: Capture) -> None:
        assert await overview.show_list(None, Options(broken_config)) == 3
        out, err = capsys.readouterr()
        rows = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}
        assert rows["local"].startswith("local stdio 2026-07-28 (stateless)")
        assert rows["events"].startswith("events HTTP+SSE 2025-11-25 (handshake)")
        assert rows["gone"].startswith("gone Streamable HTTP - cannot connect to http://127.0.0.1:9/mcp")
        assert rows["ends"].startswith("ends stdio - the process exited with code 3")
        assert "paper" in out  # the last line of what it wrote
        assert err.startswith(f"error: {broken_config}: mcpServers.wrong")

    async def test_list_without_servers(self, tmp_path: Path, capsys: Capture) -> None:
        assert await overview.show_list(None, Options(write(tmp_path, {}))) == 0
        assert capsys.readouterr().out == "no servers\n"

    async def test_a_wrong_entry_alone_is_a_wrong_configuration(self, tmp_path: Path, stateless_server: str) -> None:
        path = write(tmp_path, {"good": {"url": stateless_server}, "wrong": {}})
        assert await overview.show_list(None, Options(path)) == 2

    async def test_tools(self, broken_config: Path, capsys: Capture) -> None:
        assert await overview.show_tools(None, Options(broken_config)) == 3
        out, err = capsys.readouterr()
        assert out.count("The weather in a city.") == 4
        assert "stateless  Streamable HTTP, 2026-07-28 (stateless): 2 tools" in out
        assert "city: string" in out
        assert "cities: string[]" in out
        assert "error: server 'ends' (stdio): the process exited with code 3; its stderr ends:\nout of\npaper\n" in err

    async def test_tools_for_machines(self, stateless_server: str, capsys: Capture) -> None:
        assert await overview.show_tools(stateless_server, Options(as_json=True)) == 0
        (server,) = json.loads(capsys.readouterr().out)["servers"]
        assert server["era"] == "stateless"
        assert [tool["name"] for tool in server["tools"]] == ["forecast", "survey"]
        assert server["tools"][0]["inputSchema"]["required"] == ["city"]

    async def test_prompts(self, sse_server: str, capsys: Capture) -> None:
        assert await overview.show_prompts(sse_server, Options()) == 0
        out = capsys.readouterr().out
        assert "1 prompt\n" in out
        assert "packing  city       What to pack for a city." in out

    async def test_resources(self, handshake_server: str, capsys: Capture) -> None:
        assert await overview.show_resources(handshake_server, Options()) == 0
        assert "weather://cities  text/plain  The cities that have a forecast." in capsys.readouterr().out

    async def test_a_server_without_any_is_not_asked_for_them(self, capsys: Capture) -> None:
        async with http_peer() as peer:
            assert await overview.show_prompts(f"{peer.url}/mcp", Options()) == 0
            assert await overview.show_resources(f"{peer.url}/mcp", Options()) == 0
            assert not {"prompts/list", "resources/list"} & set(peer.methods())
        assert "no prompts" in capsys.readouterr().out

    async def test_a_server_that_does_not_know_a_list_has_none(self, capsys: Capture) -> None:
        async with http_peer() as peer:

            @peer.on("tools/list")
            async def _tools(seen: Seen) -> web.StreamResponse:
                return seen.error(-32601, "Method not found")

            assert await overview.show_list(f"{peer.url}/mcp", Options()) == 0

            @peer.on("tools/list")
            async def _broken(seen: Seen) -> web.StreamResponse:
                return seen.error(-32603, "out of order")

            assert await overview.show_list(f"{peer.url}/mcp", Options()) == 1
        assert "out of order" in capsys.readouterr().out

    async def test_ping(self, broken_config: Path, capsys: Capture) -> None:
        assert await overview.show_ping(None, Options(broken_config)) == 3
        out, err = capsys.readouterr()
        assert [line.split()[0] for line in out.splitlines()[2:]] == ["local", "events", "sessions", "stateless"]
        assert "server 'gone' (http): cannot connect" in err

    async def test_ping_that_nobody_answers(self, capsys: Capture) -> None:
        assert await overview.show_ping(NOWHERE, Options()) == 3
        assert capsys.readouterr().out == ""

    async def test_ping_for_machines(self, sse_server: str, capsys: Capture) -> None:
        assert await overview.show_ping(sse_server, Options(as_json=True)) == 0
        (server,) = json.loads(capsys.readouterr().out)["servers"]
        assert server["transport"] == "sse"
        assert 0 < server["ping_seconds"] < 5

    async def test_arguments_of_every_kind(self, capsys: Capture) -> None:
        schema = {
            "type": "object",
            "required": ["a"],
            "properties": {
                "a": {"type": "array"},
                "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "c": {"type": "array", "items": {"type": "integer"}},
                "d": {"anyOf": 7},
            },
        }
        async with http_peer() as peer:

            @peer.on("tools/list")
            async def _tools(seen: Seen) -> web.StreamResponse:
                return seen.json({"tools": [{"name": "t", "inputSchema": schema, "description": "One.\n    Two."}]})

            assert await overview.show_tools(f"{peer.url}/mcp", Options()) == 0
        cells = [line.rstrip() for line in capsys.readouterr().out.splitlines()[3:7]]
        assert cells == [
            "t     a: array            One.",
            "      [b: string | null]  Two.",
            "      [c: integer[]]",
            "      [d]",
        ]


class TestAsk:
    async def test_a_call_for_machines(self, sse_server: str, capsys: Capture) -> None:
        assert await ask.show_call(sse_server, "forecast", ["city=Oslo"], None, Options(as_json=True)) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["structuredContent"] == {"city": "Oslo", "celsius": 7.0, "sky": "rain"}
        assert told["isError"] is False

    async def test_an_error_of_the_tool(self, sse_server: str, capsys: Capture) -> None:
        assert await ask.show_call(sse_server, "forecast", ["city=Ur"], None, Options()) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: tool 'forecast': ")
        assert await ask.show_call(sse_server, "forecast", ["city=Ur"], None, Options(as_json=True)) == 1
        assert json.loads(capsys.readouterr().out)["isError"] is True

    async def test_an_error_without_a_word(self, capsys: Capture) -> None:
        async with http_peer() as peer:

            @peer.on("tools/call")
            async def _call(seen: Seen) -> web.StreamResponse:
                return seen.json({"content": [], "isError": True})

            assert await ask.show_call(f"{peer.url}/mcp", "t", [], None, Options()) == 1
        assert capsys.readouterr().err == "error: tool 't': failed, and does not say why\n"

    async def test_strings_stay_strings_and_args_come_after_json(self, capsys: Capture) -> None:
        async with http_peer() as peer:
            schema = {"type": "object", "properties": {"s": {"type": "string"}}}

            @peer.on("tools/list")
            async def _tools(seen: Seen) -> web.StreamResponse:
                return seen.json({"tools": [{"name": "t", "inputSchema": schema}]})

            args = ["s=1", "n=2"]
            assert await ask.show_call(f"{peer.url}/mcp", "t", args, '{"n": 0, "m": 3}', Options()) == 0
            assert await ask.show_call(f"{peer.url}/mcp", "unknown", args, None, Options()) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
            {"s": "1", "n": 2, "m": 3},
            {"s": 1, "n": 2},
        ]

    async def test_a_server_that_does_not_list_its_tools_is_called_all_the_same(self, capsys: Capture) -> None:
        async with http_peer() as peer:

            @peer.on("tools/list")
            async def _tools(seen: Seen) -> web.StreamResponse:
                return seen.error(-32601, "Method not found")

            assert await ask.show_call(f"{peer.url}/mcp", "t", ["a=1"], None, Options()) == 0
        assert json.loads(capsys.readouterr().out) == {"a": 1}

    async def test_a_resource(self, stateless_server: str, capsys: Capture) -> None:
        assert await ask.show_resource(stateless_server, "weather://cities", Options()) == 0
        assert capsys.readouterr().out == "Lisbon\nOslo\nNairobi\n"
        assert await ask.show_resource(stateless_server, "weather://cities", Options(as_json=True)) == 0
        assert json.loads(capsys.readouterr().out)["contents"][0]["uri"] == "weather://cities"

    async def test_a_prompt(self, handshake_server: str, capsys: Capture) -> None:
        assert await ask.show_prompt(handshake_server, "packing", ["city=Oslo"], Options()) == 0
        assert capsys.readouterr().out == "user: What should I pack for Oslo? Use the forecast tool first.\n"
        assert await ask.show_prompt(handshake_server, "packing", ["city=Oslo"], Options(as_json=True)) == 0
        assert json.loads(capsys.readouterr().out)["messages"][0]["role"] == "user"


class TestDetect:
    async def probes(self, server: str, capsys: Capture, *, status: int = 0) -> tuple[list[list[str]], dict[str, Any]]:
        assert await detect.show_detection(server, Options(as_json=True)) == status
        told = json.loads(capsys.readouterr().out)
        return [[one["transport"], one["sent"], one["answer"]] for one in told["probes"]], told

    async def test_sse(self, sse_server: str, capsys: Capture) -> None:
        probes, told = await self.probes(sse_server, capsys)
        assert probes == [
            ["sse", "GET the event stream", "an event stream"],
            ["sse", "initialize 2025-11-25", "speaks 2025-11-25"],
        ]
        assert told["verdict"] == {
            "transport": "sse",
            "era": "handshake",
            "revision": "2025-11-25",
            "server": {"name": "weather-sse", "version": "1.0.0"},
        }

    async def test_the_stateless_era(self, stateless_server: str, capsys: Capture) -> None:
        probes, told = await self.probes(stateless_server, capsys)
        assert probes == [["http", "server/discover 2026-07-28", "speaks 2026-07-28"]]
        assert told["verdict"]["era"] == "stateless"

    async def test_stdio(self, stdio_command: str, capsys: Capture) -> None:
        probes, told = await self.probes(stdio_command, capsys)
        assert probes == [
            ["stdio", "start the process", "it runs"],
            ["stdio", "server/discover 2026-07-28", "speaks 2026-07-28"],
        ]
        assert told["verdict"]["transport"] == "stdio"

    async def test_a_server_that_dies_of_the_probe(self, capsys: Capture) -> None:
        probes, told = await self.probes(command(PEER, "--discover", "exit"), capsys)
        assert [sent for _transport, sent, _answer in probes] == [
            "start the process",
            "server/discover 2026-07-28",
            "start the process",
            "initialize 2025-11-25",
        ]
        assert "the process exited with code" in probes[1][2]
        assert told["verdict"]["era"] == "handshake"

    async def test_no_server_at_all(self, capsys: Capture) -> None:
        async with http_peer() as peer:

            async def nothing(_seen: Seen) -> web.StreamResponse:
                return web.Response(status=404, text="nothing here")

            peer.handlers.update({"server/discover": nothing, "initialize": nothing, "GET": nothing})
            probes, told = await self.probes(f"{peer.url}/mcp", capsys, status=3)
            assert await detect.show_detection(f"{peer.url}/mcp", Options()) == 3
        refusal = "HTTP 404 Not Found: nothing here"
        assert probes == [
            ["http", "server/discover 2026-07-28", refusal],
            ["http", "initialize 2025-11-25", refusal],
            ["sse", "GET the event stream", refusal],
            ["rest", "GET /health", refusal],
        ]
        assert (told["verdict"], told["error"]["type"]) == (None, "HandshakeError")
        out, err = capsys.readouterr()
        assert "\nFound:" not in out
        assert "no MCP server was found" in err

    async def test_the_rest_dialect_is_found_last(self, capsys: Capture) -> None:
        async with http_peer() as peer:

            async def answer(seen: Seen) -> web.StreamResponse:
                if seen.http.path == "/mcp/health":
                    return web.json_response({})
                if seen.http.path == "/mcp/initialize":
                    return web.json_response({"serverInfo": {"name": "resty", "version": "2"}})
                return web.Response(status=404)

            for method in ("server/discover", "initialize", "GET", "POST"):
                peer.handlers[method] = answer
            probes, told = await self.probes(f"{peer.url}/mcp", capsys)
            assert await detect.show_detection(f"{peer.url}/mcp", Options()) == 0
        assert probes[3:] == [["rest", "GET /health", "HTTP 200"], ["rest", "POST /initialize", "a result"]]
        assert told["verdict"]["transport"] == "rest"
        assert "Found: REST dialect, bare JSON-RPC, resty 2" in capsys.readouterr().out

    async def test_nobody_listens(self, capsys: Capture) -> None:
        probes, told = await self.probes(NOWHERE, capsys, status=3)
        assert len(probes) == 1
        assert probes[0][2].startswith("cannot connect to http://127.0.0.1:9/mcp")
        assert told["error"]["type"] == "MCPConnectionError"

    @pytest.mark.parametrize(
        ("dialect", "probe", "sent", "answer"),
        [
            (
                "mcp",
                Probe("stdio", Discover("2026-07-28"), Answer(Outcome.SILENT)),
                "server/discover",
                "nothing within",
            ),
            (
                "mcp",
                Probe("http", Initialize("2025-11-25"), Answer(Outcome.ERROR, (), -1, "no")),
                "init",
                "error -1: no",
            ),
            ("mcp", Probe("http", None, MCPConnectionError("no")), "connect", "no"),
            ("rpc", Probe("sse", None, Answer(Outcome.RESULT)), "POST /connect", "an event stream"),
            ("rest", Probe("http", None, Answer(Outcome.RESULT)), "GET /health", "HTTP 200"),
        ],
    )
    def test_other_answers(self, dialect: str, probe: Probe, sent: str, answer: str) -> None:
        record = detect.Record(dialect)
        record.told(probe)
        assert record.lines[0].sent.startswith(sent)
        assert record.lines[0].answer.startswith(answer)
