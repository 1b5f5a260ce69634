"""A span for each call, and its context in the request. Needs the extra `opentelemetry`.

```python
pool = ClientPool(servers, make_client, hooks=Hooks(around=CallTracer()))
```

Names follow the OpenTelemetry semantic conventions for MCP, which are in development and may still change.
"""

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import Setter, TextMapPropagator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from fastapi_server.mcp.clients.hooks import OutgoingCall
from fastapi_server.mcp.errors import MCPClientError, RPCError
from fastapi_server.mcp.protocol.jsonrpc import as_object


class _Setter(Setter[dict[str, str]]):
    def set(self, carrier: dict[str, str], key: str, value: str) -> None:
        carrier[key] = value


_SETTER = _Setter()
_TARGETS = {"tools/call": "gen_ai.tool.name", "prompts/get": "gen_ai.prompt.name"}
_NETWORK = {"stdio": {"network.transport": "pipe"}}
_OVER_HTTP = {"network.transport": "tcp", "network.protocol.name": "http"}
_HTTP_TRANSPORTS = frozenset({"http", "sse"})


class CallTracer:
    """Goes into `Hooks(around=…)`: every call runs in a span of its own, whose parent is the caller's.

    What the propagator writes, by default `traceparent`, `tracestate` and `baggage`, is sent in `_meta` and, over HTTP,
    in headers. Arguments, results, principals and session ids are never recorded.

    Args:
        provider: Left out, the global one.
        propagator: Left out, the global one. `baggage` goes to every server, whoever runs it: to keep it at home, give
            `TraceContextTextMapPropagator()`.
    """

    def __init__(self, provider: TracerProvider | None = None, propagator: TextMapPropagator | None = None) -> None:
        self._tracer = trace.get_tracer("fastapi_server.mcp", tracer_provider=provider)
        self._propagator = propagator

    @contextmanager
    def __call__(self, call: OutgoingCall) -> Generator[None]:
        """The block that `call` runs inside of."""
        with self._tracer.start_as_current_span(
            _name(call),
            kind=SpanKind.CLIENT,
            attributes=_known_before(call),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            context: dict[str, str] = {}
            (self._propagator or propagate.get_global_textmap()).inject(context, setter=_SETTER)
            call.context = context
            try:
                yield
            except BaseException as error:
                _failed(span, error)
                raise
            else:
                if _tool_failed(call):
                    span.set_attribute("error.type", "tool_error")
                    span.set_status(Status(StatusCode.ERROR))
            finally:
                span.set_attributes(_known_after(call))


def _name(call: OutgoingCall) -> str:
    """A URI has too many values for a name; a tool or a prompt has few."""
    return f"{call.method} {call.target}" if call.method in _TARGETS and call.target else call.method


def _known_before(call: OutgoingCall) -> dict[str, str]:
    attributes = {"mcp.method.name": call.method, "mcp.server.name": call.server}
    if call.target is not None:
        if call.method in _TARGETS:
            attributes[_TARGETS[call.method]] = call.target
        elif call.method.startswith("resources/"):
            attributes["mcp.resource.uri"] = call.target
    if call.method == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    return attributes


def _known_after(call: OutgoingCall) -> dict[str, str]:
    attributes: dict[str, str] = {}
    if call.request_id is not None:
        attributes["jsonrpc.request.id"] = str(call.request_id)
    if call.protocol_version:
        attributes["mcp.protocol.version"] = call.protocol_version
    if call.transport is not None:
        attributes |= _OVER_HTTP if call.transport in _HTTP_TRANSPORTS else _NETWORK.get(call.transport, {})
    return attributes


def _failed(span: Span, error: BaseException) -> None:
    if isinstance(error, RPCError):
        span.set_attributes({"error.type": str(error.code), "rpc.response.status_code": str(error.code)})
    else:
        span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, error.message if isinstance(error, MCPClientError) else None))


def _tool_failed(call: OutgoingCall) -> bool:
    return call.method == "tools/call" and as_object(call.result).get("isError") is True
