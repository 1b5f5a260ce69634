"""Who may import whom: always downward. Read off the source, so that nothing has to be imported to know it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fastapi_server"
PACKAGE = "fastapi_server.mcp"

# Each may import those before it; modules on one line are one layer.
LAYERS: list[set[str]] = [
    {"errors"},
    {"protocol"},
    {"auth_config", "detection", "metrics", "resilience", "retry_after", "tls", "types"},
    {"config"},
    {"redaction"},
    {"auth"},
    {"clients"},
    {"members", "catalogue", "skills"},
    {"admission"},
    {"supervisor"},
    {"pool"},
    {"client_factory"},
    {"exporters"},
    {""},  # the public names
    {"testing", "loop_thread"},
    {"demo", "sync"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

NOT_IN_PROTOCOL = {"asyncio", "socket", "ssl", "time", "datetime", "logging", "aiohttp", "threading", "random", "os"}


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names if module == PACKAGE)
    return found


def layer_of(module: str) -> str | None:
    """The layer that a module of ours belongs to; `None` for a foreign one."""
    if module != PACKAGE and not module.startswith(PACKAGE + "."):
        return None
    first = module.removeprefix(PACKAGE).removeprefix(".").split(".")[0]
    return first if first in RANK else ""


def sources() -> list[Path]:
    return sorted((ROOT / "mcp").rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downward(path: Path) -> None:
    relative = path.relative_to(ROOT / "mcp")
    own = "" if relative.name == "__init__.py" and len(relative.parts) == 1 else relative.parts[0].removesuffix(".py")
    for module in imports_of(path):
        layer = layer_of(module)
        if layer is not None and layer != own and not (module == PACKAGE and layer == ""):
            assert RANK[layer] < RANK[own], f"{own} must not import {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "mcp" / "protocol").rglob("*.py")), ids=lambda path: path.name)
def test_the_protocol_is_pure(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports_of(path)}
    assert not roots & NOT_IN_PROTOCOL


@pytest.mark.parametrize("path", sorted((ROOT / "gateway").rglob("*.py")), ids=lambda path: path.name)
def test_the_gateway_uses_only_public_names(path: Path) -> None:
    ours = {module for module in imports_of(path) if module.startswith(f"{PACKAGE}.") and layer_of(module) != ""}
    # The demo servers are programs to start, and no part of the runtime: those who only want clients do not see them.
    assert {layer_of(module) for module in ours} <= {"demo", "exporters"}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_knows_the_gateway(path: Path) -> None:
    knows = any(module.startswith("fastapi_server.gateway") for module in imports_of(path))
    assert not knows or path.parent.name == "cli"


def test_protocol_imports_only_errors() -> None:
    for path in (ROOT / "mcp" / "protocol").rglob("*.py"):
        assert {layer_of(module) for module in imports_of(path)} <= {None, "protocol", "errors"}


def test_every_module_has_its_layer() -> None:
    names = {path.relative_to(ROOT / "mcp").parts[0].removesuffix(".py") for path in sources()}
    assert names - {"__init__"} <= set(RANK)
