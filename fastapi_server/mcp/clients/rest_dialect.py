"""The `rest` dialect of HTTP: plain REST calls instead of JSON-RPC."""

from typing import Any, cast
from urllib.parse import quote

import msgspec
from yarl import URL

from fastapi_server.mcp.clients.channel import Channel, Request
from fastapi_server.mcp.clients.http_origin import HTTPOrigin, Identity
from fastapi_server.mcp.config import HTTPConfig
from fastapi_server.mcp.errors import ProtocolError, RPCError
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol.eras import Era
from fastapi_server.mcp.protocol.jsonrpc import MALFORMED, ErrorObject, Message, as_object

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class RESTChannel(Channel):
    """`GET /health`, `POST /initialize`, `GET /tools/list`, `POST /tools/{name}/call` and the same for resources.

    A `sessionId` in the answer to `/initialize` goes with every later request, as `session_id`: in the query of a GET,
    in the body of a POST.

    Args:
        config: Of the server.
        metrics: Of the client.
        identity: Of the client.
        health_is_json: Insist on it: any web site may answer 200.
    """

    transport = "http"
    shared_stream = False
    is_dialect = True

    def __init__(
        self, config: HTTPConfig, metrics: ClientMetrics, identity: Identity, *, health_is_json: bool = False
    ) -> None:
        super().__init__(metrics)
        self._health_is_json = health_is_json
        self._origin = HTTPOrigin(config, identity)
        self._base = str(self._origin.url).rstrip("/")
        self._session: dict[str, str] = {}

    async def _open(self) -> None:
        response = await self._origin.send("GET", URL(f"{self._base}/health"), _JSON)
        async with response:
            if response.status != 200:
                raise await self._origin.refusal(response)
            if self._health_is_json and response.content_type != "application/json":
                raise ProtocolError(f"the answer to GET /health is {response.content_type}, like that of any web site")
            await self._origin.read(response)

    async def exchange(self, request: Request) -> Message:
        self._raise_if_lost()
        params = dict(request.params or {})
        match request.method:
            case "initialize":
                return await self._initialize(request, params)
            case "ping":
                return await self._call(request, "GET", "health", {})
            case "tools/list" | "resources/list":
                return await self._call(request, "GET", request.method, {})
            case "tools/call":
                path = f"tools/{quote(str(params['name']), safe='')}/call"
                return await self._call(request, "POST", path, {"arguments": params.get("arguments", {})})
            case "resources/read":
                return await self._call(request, "POST", "resources/read", {"uri": params["uri"]})
            case method:
                return Message(
                    id=request.id,
                    error=ErrorObject(RPCError.METHOD_NOT_FOUND, f"the rest dialect has no {method}"),
                )

    async def _initialize(self, request: Request, params: dict[str, Any]) -> Message:
        reply = await self._call(request, "POST", "initialize", params)
        session_id = as_object(reply.result).get("sessionId")
        if isinstance(session_id, str):
            self._session = {"session_id": session_id}
        return reply

    async def _call(self, request: Request, method: str, path: str, body: dict[str, Any]) -> Message:
        url = URL(f"{self._base}/{path}", encoded=True)
        if method == "GET":
            data, url = None, url.update_query(self._session)
        else:
            data = msgspec.json.encode({**body, **self._session})
            self.metrics.bytes_sent += len(data)
        response = await self._origin.send(method, url, {**_JSON, **request.headers}, data)
        async with response:
            if response.status >= 300:
                raise await self._origin.refusal(response)
            answer = await self._origin.read(response)
        self.metrics.bytes_received += len(answer)
        return Message(id=request.id, result=_shaped(request, self._unwrapped(answer)))

    def _unwrapped(self, body: bytes | bytearray) -> Any:
        """The `result` member of the body; a body without one is the result itself."""
        try:
            value = msgspec.json.decode(body)
        except MALFORMED:
            shown = self.shown(body)
        else:
            return as_object(value).get("result", value)
        raise ProtocolError(f"expected JSON, the server sent: {shown}")  # here: what was caught may hold the body

    async def notify(self, data: bytes, era: Era) -> None:
        """The dialect has no notifications: there is nobody to tell."""

    def redacted(self, text: str) -> str:
        return self._origin.redacted(text)

    async def _shut(self) -> None:
        await self._origin.close()


_LISTS = {"tools/list": "tools", "resources/list": "resources"}


def _shaped(request: Request, value: Any) -> Any:
    """The result as MCP has it: the dialect lets servers answer with a bare list, or with any value at all."""
    match request.method:
        case "tools/list" | "resources/list" if isinstance(value, list):
            return {_LISTS[request.method]: cast("list[Any]", value)}
        case "tools/call" if "content" not in as_object(value):
            shaped: dict[str, Any] = {"content": [{"type": "text", "text": _text(value)}]}
            if isinstance(value, dict):
                shaped["structuredContent"] = value
            return shaped
        case "resources/read" if "contents" not in as_object(value):
            return {"contents": [{"uri": (request.params or {}).get("uri"), "text": _text(value)}]}
        case _:
            return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
