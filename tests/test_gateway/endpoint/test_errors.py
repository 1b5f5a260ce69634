"""What cannot be answered is refused with the right code, says where and what, and shows no secret."""

import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fastapi_server.mcp import RPCError
from tests.test_gateway.endpoint.conftest import StartGateway
from tests.test_gateway.endpoint.test_sessions import Raw, raw

__all__ = ["raw"]

SECRET = "hunter2-hunter2"
DIES = "import sys, os; sys.stderr.write(os.environ['TOKEN'] + '\\n'); sys.exit(3)"
BROKEN: dict[str, dict[str, Any]] = {
    "missing": {"command": "no-such-program", "args": [f"--token={SECRET}"]},
    "dying": {"command": sys.executable, "args": ["-c", DIES], "env": {"TOKEN": SECRET}},
    "away": {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": f"Bearer {SECRET}"}},
    "silent": {"command": sys.executable, "args": ["-c", "import sys; sys.stdin.read()"], "timeout": 500},
}
TROUBLED = str(Path(__file__).parents[2] / "servers/troubled.py")
PREFIX = "io.modelcontextprotocol/"


class Stateless:
    """A client of the stateless era that knows only HTTP."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str) -> AsyncGenerator["Stateless"]:
        async with aiohttp.ClientSession() as http:
            yield cls(http, url)

    async def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        named = {"Mcp-" + name.capitalize(): value for name, value in headers.items()}
        sent = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            **named,
        }
        async with self._http.post(self._url, data=body, headers=sent) as answer:
            text = await answer.text()
            data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(data[-1] if data else text if is_json else "{}")

    async def ask(self, method: str, name: str = "", /, **params: Any) -> tuple[int, dict[str, Any]]:
        abilities = params.pop("abilities", {})
        meta = {
            f"{PREFIX}protocolVersion": "2026-07-28",
            f"{PREFIX}clientInfo": {"name": "t", "version": "1"},
            f"{PREFIX}clientCapabilities": abilities,
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        return await self.post(json.dumps(message).encode(), method=method, **({"name": name} if name else {}))

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        responses: Mapping[str, Any] | None = None,
        state: str | None = None,
        **abilities: Any,
    ) -> dict[str, Any]:
        again = {"inputResponses": responses, "requestState": state} if state is not None else {}
        _, answer = await self.ask("tools/call", tool, name=tool, arguments=arguments, abilities=abilities, **again)
        return answer


@pytest.mark.parametrize("name", BROKEN)
async def test_a_server_that_is_down(gateway: StartGateway, raw: Raw, name: str) -> None:
    async with gateway({name: BROKEN[name]}) as running, Stateless.at(running.url) as stateless:
        session = await raw.open(running.url)
        tool = f"{name}__echo"
        _, _, in_session = await raw.post(running.url, _call(tool), session=session)
        without = await stateless.call(tool, {})
        asked = await stateless.call(tool, {}, elicitation={})
        _, listed = await stateless.ask("tools/list")

    for answer in (in_session, without, asked):
        error = answer["error"]
        assert error["code"] == RPCError.INTERNAL_ERROR
        assert f"server '{name}'" in error["message"]
        assert SECRET not in json.dumps(answer)
    assert listed["result"]["tools"] == []


def troubled(*flags: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-S", TROUBLED, *flags]}


DEEP = {
    "tools/call": {"name": "deep__life-1", "arguments": {}},
    "resources/read": {"uri": "mcp://deep/x:deep"},
    "prompts/get": {"name": "deep__deep"},
}


@pytest.mark.parametrize("method", DEEP)
@pytest.mark.parametrize("levels", [200, 250, 900])
async def test_a_result_that_is_nested_too_deep(gateway: StartGateway, raw: Raw, method: str, levels: int) -> None:
    deep = troubled("--deep", method, str(levels))
    name = str(DEEP[method].get("uri", DEEP[method].get("name")))
    async with gateway({"deep": deep}) as running, Stateless.at(running.url) as stateless:
        session = await raw.open(running.url)
        _, _, in_session = await raw.post(
            running.url, {"id": 7, "method": method, "params": DEEP[method]}, session=session
        )
        _, without = await stateless.ask(method, name, **DEEP[method])
        _, asked = await stateless.ask(method, name, **DEEP[method], abilities={"elicitation": {}})

    for answer in (in_session, without, asked):
        if levels == 200:
            assert answer["result"]["_meta"]["deep"]
        else:
            assert answer["error"]["code"] == RPCError.INTERNAL_ERROR
            assert answer["error"]["message"].startswith("server 'deep' (stdio): what it answered cannot be passed on")


async def test_an_error_that_is_nested_too_deep(gateway: StartGateway, raw: Raw) -> None:
    deep = troubled("--fails", "tools/call", "--deep", "nothing", "300")
    async with gateway({"deep": deep}) as running, Stateless.at(running.url) as stateless:
        session = await raw.open(running.url)
        _, _, in_session = await raw.post(running.url, _call("deep__life-1"), session=session)
        without = await stateless.call("deep__life-1", {})

    for answer in (in_session, without):
        assert answer["error"] == {"code": RPCError.INTERNAL_ERROR, "message": "out of order"}


def _call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


async def test_what_is_no_request(gateway: StartGateway) -> None:
    async with gateway({}, max_request_bytes=10_000) as running, Stateless.at(running.url) as stateless:
        outcomes = {
            "no JSON": await stateless.post(b'{"jsonrpc": '),
            "a batch": await stateless.post(b'[{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]'),
            "no request": await stateless.post(b"17"),
            "an unknown method": await stateless.ask("tools/frobnicate"),
            "no such tool": await stateless.ask("tools/call", "a__b", name="a__b", arguments={}),
            "no name": await stateless.ask("tools/call", "b", name="b", arguments={}),
            "no such prompt": await stateless.ask("prompts/get", "a__b", name="a__b"),
            "no such resource": await stateless.ask("resources/read", "x://y", uri="x://y"),
            "no tool named": await stateless.ask("tools/call"),
        }
        too_large, _ = await stateless.post(b'{"jsonrpc": "2.0", "id": 1, "method": "' + b"x" * 10_000 + b'"}')

    assert {what: (status, answer["error"]["code"]) for what, (status, answer) in outcomes.items()} == {
        "no JSON": (400, RPCError.PARSE_ERROR),
        "a batch": (400, RPCError.INVALID_REQUEST),
        "no request": (400, RPCError.INVALID_REQUEST),
        "an unknown method": (404, RPCError.METHOD_NOT_FOUND),
        "no such tool": (400, RPCError.INVALID_PARAMS),
        "no name": (400, RPCError.INVALID_PARAMS),
        "no such prompt": (400, RPCError.INVALID_PARAMS),
        "no such resource": (400, RPCError.INVALID_PARAMS),
        "no tool named": (400, RPCError.INVALID_PARAMS),
    }
    assert too_large == 413


async def test_what_is_no_request_in_a_session(gateway: StartGateway, raw: Raw) -> None:
    async with gateway({}) as running:
        session = await raw.open(running.url)
        unknown = await raw.post(running.url, {"id": 2, "method": "tools/frobnicate"}, session=session)
        no_tool = await raw.post(running.url, _call("a__b"), session=session)
        no_name = await raw.post(running.url, {"id": 3, "method": "tools/call", "params": {}}, session=session)

    assert unknown[2]["error"]["code"] == RPCError.METHOD_NOT_FOUND
    assert no_tool[2]["error"]["code"] == no_name[2]["error"]["code"] == RPCError.INVALID_PARAMS


async def test_the_path_of_a_server_that_is_not_there(gateway: StartGateway) -> None:
    async with gateway({}) as running, Stateless.at(f"{running.url}/missing") as stateless:
        status, answer = await stateless.ask("tools/list")

    assert status == 404
    assert answer["error"]["message"] == "there is no such server"
