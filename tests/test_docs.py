"""The documents: every program in them runs and prints what they say, and they leave nothing out.

Fences of a page:

- `python` is a whole program. `python client` is the inside of an `async with` in which `client` is a connected client
  of the bundled demo server. `python test` is a module of tests, which pass.
- `text output` after a program is what it prints; `…` stands for anything on its line, alone on a line for any lines.
- `json mcp.json` is a file of that name beside the page's programs.
"""

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import fastapi_server.mcp
from fastapi_server.mcp import (
    ClientMetrics,
    ConfigFile,
    ConnectionState,
    Delivery,
    Handlers,
    HTTPConfig,
    MCPClient,
    MCPClientError,
    MCPClientFactory,
    ServerConfig,
    SSEConfig,
    StdioConfig,
    errors,
)
from fastapi_server.mcp.clients.lifecycle import MOVES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

BLOCK_SECONDS = 50

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<title>.+)$", re.MULTILINE)
_FAULTS = re.compile(r"Traceback|Unclosed|never (?:awaited|retrieved)|Warning:")

_AROUND = """\
import asyncio
from fastapi_server.mcp import MemoryMCPClient
from fastapi_server.mcp.demo.servers import weather_server

async def main():
    async with MemoryMCPClient("weather", weather_server("weather")) as client:
{body}

asyncio.run(main())
"""

_TESTED = """\
import sys
import pytest

options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
sys.exit(pytest.main([*options, "test_page.py"]))
"""


@dataclass(frozen=True)
class Block:
    """One program of a page.

    Attributes:
        line: Where it begins.
        program: What is run.
        files: What stands beside it, by name.
        output: What it prints, where the page says so.
    """

    page: str
    line: int
    program: str
    files: dict[str, str]
    output: str | None

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    shared = {fence["info"].split()[1]: fence["body"] for fence in fences if fence["info"].startswith("json ")}
    for fence, following in zip(fences, [*fences[1:], None], strict=False):
        language, *words = fence["info"].split() or [""]
        if language != "python":
            continue
        assert set(words) <= {"client", "test"}, f"{page.name}: unknown words in ```{fence['info']}"
        body, files = fence["body"], shared
        if "client" in words:
            body = _AROUND.format(body=textwrap.indent(body, " " * 8))
        elif "test" in words:
            body, files = _TESTED, {**files, "test_page.py": body}
        output = following["body"] if following is not None and following["info"] == "text output" else None
        yield Block(page.name, text.count("\n", 0, fence.start()) + 1, body, files, output)


BLOCKS = [block for page in PAGES for block in _blocks(page)]


def _run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    for name, content in block.files.items():
        (folder / name).write_text(content, encoding="utf-8")
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    command = [sys.executable, "-W", "error", "-c", block.program]
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_SECONDS,
        check=False,
    )


def _pattern(output: str) -> re.Pattern[str]:
    lines = output.splitlines(keepends=True)
    return re.compile("".join("(.*\n)*" if line == "…\n" else re.escape(line).replace("…", ".*") for line in lines))


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in BLOCKS])
def test_every_program_runs_and_prints_what_the_page_says(block: Block, tmp_path: Path) -> None:
    ended = _run(block, tmp_path)
    assert ended.returncode == 0, f"{block.name}: exit status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert not _FAULTS.search(ended.stderr), ended.stderr
    if block.output is not None:
        assert _pattern(block.output).fullmatch(ended.stdout), f"{block.name} prints:\n{ended.stdout}"


def test_every_output_follows_a_program() -> None:
    shown = sum(fence["info"] == "text output" for page in PAGES for fence in _FENCE.finditer(page.read_text("utf-8")))
    assert shown == sum(block.output is not None for block in BLOCKS)


# Links.


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = (match["title"].strip().lower() for match in _HEADING.finditer(prose))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_relative_link_resolves(page: Path) -> None:
    for match in _LINK.finditer(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            assert anchor in _anchors(linked), f"{linked.name} has no heading #{anchor}"


def test_every_test_that_the_security_page_names_is_there() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)", sources))
    named = {word for word in _code(DOCS / "security.md") if word.startswith("test_")}
    assert named
    assert named - defined == set()


def test_every_page_is_in_the_index() -> None:
    linked = {match["target"] for match in _LINK.finditer((DOCS / "index.md").read_text(encoding="utf-8"))}
    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} <= linked


# Nothing is left out.


def _code(*pages: Path) -> set[str]:
    """Every word of every piece of code on the pages."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    pieces = re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)) + [fence["body"] for fence in _FENCE.finditer(text)]
    return {word for piece in pieces for word in re.findall(r"\w+", piece)}


def _rows(page: str) -> list[list[str]]:
    """The cells of every table row of a page."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def _missing(wanted: Any, page: str) -> set[str]:
    return set(wanted) - _code(DOCS / page)


def test_every_public_name_is_mentioned() -> None:
    assert set(fastapi_server.mcp.__all__) - _code(*PAGES) == set()


def _fields(model: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(model)]


@pytest.mark.parametrize("model", [StdioConfig, SSEConfig, HTTPConfig])
def test_every_setting_is_in_a_table_with_its_default(model: type[Any]) -> None:
    rows = {row[0].strip("`"): row for row in _rows("configuration.md")}
    example = model("x" if model is StdioConfig else "http://x")
    for name in _fields(model):
        default = getattr(example, name)
        assert name in rows, f"configuration.md has no row for {name}"
        if isinstance(default, (bool, int, str)) and default not in {"x", "http://x"}:
            assert f"`{default}`" == rows[name][1].replace(",", ""), name


@pytest.mark.parametrize("model", [ServerConfig, ConfigFile])
def test_every_field_of_the_rest_of_the_configuration_is_there(model: type[Any]) -> None:
    assert _missing(_fields(model), "configuration.md") == set()


def _subclasses(kind: type[MCPClientError]) -> set[type[MCPClientError]]:
    return {kind, *(deeper for sub in kind.__subclasses__() for deeper in _subclasses(sub))}


def test_every_error_and_every_delivery_is_there() -> None:
    ours = {kind.__name__ for kind in _subclasses(MCPClientError) if kind.__module__ == errors.__name__}
    assert _missing(ours | set(Delivery), "errors.md") == set()
    rows = {row[0].strip("`") for row in _rows("errors.md")}
    assert ours - rows == set()


def test_the_error_tree_is_the_one_of_the_code() -> None:
    tree = _FENCE.search(errors.__doc__ or "")
    assert tree is not None
    assert tree["body"] in (DOCS / "errors.md").read_text(encoding="utf-8")


def _public(kind: type[Any]) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind) if not name.startswith("_")]


def test_every_verb_handler_and_counter_is_there() -> None:
    assert _missing(_public(MCPClient), "client.md") == set()
    assert _missing(_public(MCPClientFactory), "factory.md") == set()
    assert _missing(_fields(Handlers), "handlers.md") == set()
    assert _missing(ClientMetrics().to_dict(), "metrics.md") == set()


def test_the_table_of_states_is_the_one_of_the_code() -> None:
    rows = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[-1])) for row in _rows("lifecycle.md")}
    for state, moves in MOVES.items():
        assert rows[state] == set(moves), state
    assert set(ConnectionState) <= set(rows)


# Error texts.


def _templates() -> Iterator[str]:
    """Every text in the code, with `…` for what is filled in."""
    for source in (ROOT / "fastapi_server" / "mcp").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            match node:
                case ast.JoinedStr():
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                case ast.Constant(value=str(text)):
                    yield text
                case _:
                    pass


def test_every_error_text_in_the_troubleshooting_tables_is_one_of_the_code() -> None:
    texts = "\n".join(_templates())
    rows = [row for row in _rows("troubleshooting.md") if row[0].startswith("`")]
    assert len(rows) > 20
    unknown = [row[0] for row in rows for piece in re.findall(r"`([^`]+)`", row[0]) if piece not in texts]
    assert unknown == []
