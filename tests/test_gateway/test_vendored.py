"""What the dashboard has copies of is what npm has, of the versions that package.json pins."""

import hashlib
import json
from pathlib import Path

import pytest

from fastapi_server.gateway import dashboard

ROOT = Path(__file__).parents[2]
VENDOR = dashboard.FOLDER / "static" / "vendor"
SOURCES = {
    "preact.min.umd.js": "preact/dist/preact.min.umd.js",
    "hooks.umd.js": "preact/hooks/dist/hooks.umd.js",
    "preact.LICENSE": "preact/LICENSE",
    "htm.umd.js": "htm/dist/htm.umd.js",
    "htm.LICENSE": "htm/LICENSE",
    "uPlot.iife.min.js": "uplot/dist/uPlot.iife.min.js",
    "uPlot.min.css": "uplot/dist/uPlot.min.css",
    "uplot.LICENSE": "uplot/LICENSE",
}


def test_nothing_else_is_there() -> None:
    assert {path.name for path in VENDOR.iterdir()} == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_copy_is_that_of_the_pinned_version(name: str) -> None:
    source = ROOT / "node_modules" / SOURCES[name]
    package = SOURCES[name].split("/")[0]
    if not source.exists():
        pytest.skip(f"node_modules lacks {package}: npm ci")
    pinned = json.loads((ROOT / "package.json").read_text())["devDependencies"][package]
    installed = json.loads((ROOT / "node_modules" / package / "package.json").read_text())["version"]
    assert installed == pinned
    copy = hashlib.sha256((VENDOR / name).read_bytes()).hexdigest()
    assert copy == hashlib.sha256(source.read_bytes()).hexdigest()


def test_nothing_is_loaded_from_another_host_or_written_into_the_page() -> None:
    for path in [dashboard.FOLDER / "index.html", *(dashboard.FOLDER / "static").glob("*.*")]:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text.replace("https://example.com", ""), path.name
    page = (dashboard.FOLDER / "index.html").read_text("utf-8")
    assert "<style" not in page
    assert page.count("<script") == page.count("<script src=")
