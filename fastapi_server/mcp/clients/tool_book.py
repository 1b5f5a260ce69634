"""What calls need to know of a server's tools: headers for their arguments, output schemas, what may be repeated."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec
from mcp_types import CallToolResult, Tool, ToolAnnotations

from fastapi_server.mcp.errors import ProtocolError
from fastapi_server.mcp.protocol.headers import ParamHeaders, mirror_arguments, param_headers

logger = logging.getLogger("fastapi_server.mcp")


_MOST_UNLISTED = 1_000


class _Compiled(NamedTuple):
    schema: dict[str, Any]
    text: bytes
    validator: Any


class ToolBook:
    """The tools of one server, as last listed. It keeps nothing of a list that no call asks for.

    Args:
        server: Its name.
        trusted: What the tools say of themselves is believed.
        redacted: Gives a text of the server's without our credentials.

    Attributes:
        repeatable: Names of the tools that only read, or that do no more when they are called twice, as they say.
    """

    def __init__(self, server: str, *, trusted: bool = False, redacted: Callable[[str], str] = str) -> None:
        self._server = server
        self._trusted = trusted
        self._redacted = redacted
        self.repeatable: set[str] = set()
        self._schemas: dict[str, dict[str, Any] | None] = {}
        self._headers: dict[str, ParamHeaders] = {}
        self._compiled: dict[str, _Compiled] = {}
        self._unlisted: set[str] = set()

    def learn(self, tools: list[Tool], *, mirrored: bool) -> list[Tool]:
        """Remember a complete list, and return the tools that may be used.

        Args:
            tools: As the server lists them.
            mirrored: Arguments may be mirrored into HTTP headers; a tool with an invalid `x-mcp-header` is left out
                (2026-07-28, Streamable HTTP, "Schema Extension").
        """
        self._headers = {}
        if mirrored:
            tools = [tool for tool in tools if self._mirrors(tool)]
        self._schemas = {tool.name: tool.output_schema for tool in tools}  # of two with one name the last one counts
        if self._trusted:
            repeatable = {tool.name: _is_repeatable(tool.annotations) for tool in tools}
            self.repeatable = {name for name, may_be in repeatable.items() if may_be}
        return tools

    def _mirrors(self, tool: Tool) -> bool:
        try:
            headers = param_headers(tool.input_schema)
        except ProtocolError as error:
            said = self._redacted(f"tool {tool.name!r} is left out: {error.message}")
            logger.warning("server %r: %s", self._server, said)
            return False
        if headers:
            self._headers[tool.name] = headers
        return True

    def _validator(self, name: str, schema: dict[str, Any]) -> Any:
        """For the output schema of a tool, compiled when a result first asks for it.

        Raises:
            ValueError: The schema itself is wrong, or refers to the network.
        """
        compiled = self._compiled.get(name)
        if compiled is not None and compiled.schema is schema:
            return compiled.validator
        text = msgspec.json.encode(schema)  # `1` and `true` are equal in Python
        if compiled is None or compiled.text != text:
            validator = jsonschema_rs.validator_for(schema or True, retriever=_refuse)
        else:
            validator = compiled.validator
        self._compiled[name] = _Compiled(schema, text, validator)
        return validator

    def forget(self) -> None:
        """The tools may have changed."""
        self._schemas, self._headers, self._compiled = {}, {}, {}
        self.repeatable.clear()
        self._unlisted.clear()

    def worth_listing(self, name: str) -> bool:
        """Whether to list the tools would tell more of this one: once for each name that the list lacks."""
        if name in self._schemas or name in self._unlisted or len(self._unlisted) >= _MOST_UNLISTED:
            return False
        self._unlisted.add(name)
        return True

    def headers(self, name: str, arguments: Mapping[str, Any]) -> dict[str, str]:
        """The `Mcp-Param-*` headers for a call; none for a tool not listed yet."""
        headers = self._headers.get(name)
        return mirror_arguments(headers, arguments) if headers else {}

    def breach(self, name: str, result: CallToolResult) -> str | None:
        """How a result breaks the tool's output schema; `None` where it keeps to it, or there is none."""
        schema = self._schemas.get(name)
        if schema is None or result.is_error:
            return None
        problem = self._problem(name, schema, result)
        if problem is None:
            return None
        return self._redacted(f"the result of tool {name!r} breaks its output schema: {problem}")

    def _problem(self, name: str, schema: dict[str, Any], result: CallToolResult) -> str | None:
        if result.structured_content is None:
            return "it has no structuredContent"
        try:
            validator = self._validator(name, schema)
        except ValueError as error:
            return f"the schema cannot be used: {error}"
        error = next(validator.iter_errors(result.structured_content), None)
        if error is None:
            return None
        path = "/".join(str(step) for step in error.instance_path) or "(root)"
        return f"{path}: {error.message}"


def _is_repeatable(hints: ToolAnnotations | None) -> bool:
    return hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)


def _refuse(uri: str) -> Any:
    raise ValueError(f"it refers to {uri}; references outside the schema are never fetched")
