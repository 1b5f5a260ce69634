"""One weather server, over each transport and in each era: `python -m fastapi_server.mcp.demo.servers TRANSPORT`."""

import argparse
import asyncio
import logging
import socket
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Forecast(BaseModel):
    """Structured output, so that the client has a schema to check."""

    city: str
    celsius: float
    sky: str


_FORECASTS = {
    "Lisbon": Forecast(city="Lisbon", celsius=24.5, sky="sunny"),
    "Oslo": Forecast(city="Oslo", celsius=7.0, sky="rain"),
    "Nairobi": Forecast(city="Nairobi", celsius=21.0, sky="cloudy"),
}


def weather_server(name: str) -> MCPServer:
    """Two tools, a resource and a prompt."""
    server = MCPServer(name, version="1.0.0", instructions="Ask for the weather of Lisbon, Oslo or Nairobi.")

    @server.tool()
    def forecast(city: str) -> Forecast:
        """The weather in a city."""
        if city not in _FORECASTS:
            raise ToolError(f"no forecast for {city}; try {', '.join(_FORECASTS)}")
        return _FORECASTS[city]

    @server.tool()
    async def survey(context: Context, cities: list[str]) -> str:
        """The weather in many cities, with progress."""
        for done, city in enumerate(cities, 1):
            await context.report_progress(done, len(cities), city)
        return ", ".join(f"{city}: {_FORECASTS[city].sky}" for city in cities if city in _FORECASTS)

    @server.resource("weather://cities")
    def cities() -> str:
        """The cities that have a forecast."""
        return "\n".join(_FORECASTS)

    @server.prompt()
    def packing(city: str) -> str:
        """What to pack for a city."""
        return f"What should I pack for {city}? Use the forecast tool first."

    return server


class HandshakeEraOnly:
    """Refuses revision 2026-07-28 as servers did before it was written."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope.get("headers", [])
        if dict(headers).get(b"mcp-protocol-version", b"").startswith(b"2026"):
            refusal = PlainTextResponse("Bad Request: unsupported protocol version", status_code=400)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def app_for(transport: str) -> Any:
    """The ASGI application of one of the HTTP servers."""
    match transport:
        case "sse":
            return weather_server("weather-sse").sse_app()
        case "handshake":
            return HandshakeEraOnly(weather_server("weather-handshake").streamable_http_app())
        case _:
            return weather_server("weather-stateless").streamable_http_app(json_response=True)


def main() -> None:
    """Run one server: on standard input and output, or on a free port of 127.0.0.1 that is printed first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transport", choices=["stdio", "sse", "handshake", "stateless"])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if arguments.transport == "stdio":
        weather_server("weather-stdio").run("stdio")
        return
    # The protocol is named, because only then does asyncio switch off Nagle's delay on what is accepted.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", arguments.port))
        listener.listen()  # before anybody hears of the port
        print(listener.getsockname()[1], flush=True)
        server = uvicorn.Server(uvicorn.Config(app_for(arguments.transport), log_level="warning", lifespan="on"))
        asyncio.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    main()
