"""docs/faults.md names every test of this folder, and no other."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent


def test_the_page_and_the_tests_agree() -> None:
    tests = {
        node.name
        for file in HERE.glob("test_*_faults.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
    }
    page = (HERE.parent.parent / "docs" / "faults.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(test_\w+)`", page)) - {"test_faults"} == tests
