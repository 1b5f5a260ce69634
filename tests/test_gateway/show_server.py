"""A server with a tool for each kind of content, for the dashboard to show."""

import asyncio
import base64
import io
import math
import struct
import sys
import wave
import zlib
from typing import Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import AudioContent, ImageContent, ResourceLink, TextContent

server = MCPServer("studio", version="1.2.0", instructions="Draws gradients and renders frames.")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int) -> bytes:
    rows = [bytes(v for x in range(width) for v in (60 + x // 2, 70, 150 + y)) for y in range(height)]
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _tone() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(i / 4))) for i in range(8000)))
    return file.getvalue()


@server.tool()
def draw(width: int = 240, height: int = 90) -> list[TextContent | ImageContent | AudioContent | ResourceLink]:
    """Draws a gradient, plays a tone and links to the palette."""
    return [
        TextContent(type="text", text=f"A gradient of {width} by {height} pixels."),
        ImageContent(type="image", data=base64.b64encode(_png(width, height)).decode(), mime_type="image/png"),
        AudioContent(type="audio", data=base64.b64encode(_tone()).decode(), mime_type="audio/wav"),
        ResourceLink(type="resource_link", name="palette", uri="studio://palette", description="The colours used"),
    ]


@server.tool()
async def render(
    context: Context, frames: int = 5, quality: Literal["draft", "final"] = "draft", loop: bool = False
) -> str:
    """Renders frames one after another, and tells how far it is."""
    for frame in range(1, frames + 1):
        await asyncio.sleep(0.05)
        await context.report_progress(frame, frames, f"frame {frame}")
    return f"{frames} frames, {quality}{', in a loop' if loop else ''}"


@server.resource("studio://palette")
def palette() -> str:
    """The colours used."""
    return "#3c4696\n#b446f0"


if __name__ == "__main__":
    print("studio 1.2.0 is ready: 2 tools, 1 resource", file=sys.stderr, flush=True)
    server.run("stdio")
