"""What callers may use."""

import pytest

from fastapi_server.gateway.caller import Caller
from fastapi_server.mcp import ToolRules


@pytest.mark.parametrize(
    ("servers", "allow", "usable"),
    [
        (None, None, {"weather", "weather2", "files"}),
        ([], None, set[str]()),
        (["weather*"], None, {"weather", "weather2"}),
        (None, [], set[str]()),
        (None, ["weather__*"], {"weather"}),
        (None, ["weather__forecast"], {"weather"}),
        (None, ["weather*"], {"weather", "weather2"}),
        (None, ["weather?__forecast"], {"weather", "weather2"}),
        (None, ["*__read"], {"weather", "weather2", "files"}),
        (None, ["[f]iles__read"], {"weather", "weather2", "files"}),
        (["weather"], ["files__*", "weather2__x"], set[str]()),
        (["files", "weather"], ["files__*"], {"files"}),
    ],
)
def test_servers_by_their_names_and_by_the_tools_that_are_allowed(
    servers: list[str] | None, allow: list[str] | None, usable: set[str]
) -> None:
    caller = Caller("ann", servers=servers, tools=ToolRules(allow=allow))
    assert {name for name in ("weather", "weather2", "files") if caller.may_use(name)} == usable
