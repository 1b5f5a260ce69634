"""Resources of the `everything` server."""

import base64
import json

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    BlobResourceContents,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = base64.b64encode(
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0"
).decode()

_TEXTS = {
    "test://static-text": "This is the content of the static text resource.",
    "test://watched-resource": "Watched resource content",
    "test://embedded-resource": "This is an embedded resource content.",
}

RESOURCES = [
    *(Resource(uri=uri, name=uri.removeprefix("test://"), mime_type="text/plain") for uri in _TEXTS),
    Resource(uri="test://static-binary", name="static-binary", mime_type="image/png"),
]
TEMPLATES = [ResourceTemplate(uri_template="test://template/{id}/data", name="template", mime_type="application/json")]


def read(uri: str) -> ReadResourceResult:
    if uri == "test://static-binary":
        return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)])
    if uri in _TEXTS:
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type="text/plain", text=_TEXTS[uri])])
    if uri.startswith("test://template/") and uri.endswith("/data"):
        number = uri.removeprefix("test://template/").removesuffix("/data")
        text = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type="application/json", text=text)])
    raise MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})
