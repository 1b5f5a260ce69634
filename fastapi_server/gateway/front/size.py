"""How large a request may be."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_server.gateway.problems import problem


class SizeLimit:
    """Refuses a request whose body is too large with 413. It is read before anything is done with it.

    Args:
        app: What is served.
        most: Largest body, in bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        messages = await whole_body(scope, receive, self._most)
        if messages is None:
            await problem(413, f"more than {self._most} bytes")(scope, receive, send)
            return
        await self._app(scope, once_more(messages, receive), send)


async def whole_body(scope: Scope, receive: Receive, most: int) -> list[Message] | None:
    """The body in one message, and the end of the connection where it came first; `None` for what is too large."""
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        return None
    body, message = bytearray(), await receive()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body", False):
            return [{"type": "http.request", "body": bytes(body), "more_body": False}]
        message = await receive()
    return [{"type": "http.request", "body": bytes(body), "more_body": True}, message]


def once_more(messages: list[Message], receive: Receive) -> Receive:
    """Gives what was read already, and then what comes."""

    async def read_before() -> Message:
        return messages.pop(0) if messages else await receive()

    return read_before
