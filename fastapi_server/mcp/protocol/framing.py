"""Newline-delimited messages (MCP, stdio transport): bytes in any chunks, lines out."""

from fastapi_server.mcp.errors import MessageTooLargeError


class LineFramer:
    r"""Cuts a stream of bytes at `\n`. What was searched once is never searched again.

    Args:
        limit: Longest line accepted, in bytes, its newline not counted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        r"""The lines that `data` completes, without `\n` or `\r\n`; empty lines are left out.

        Raises:
            MessageTooLargeError: A line is longer than the limit.
        """
        end = data.rfind(b"\n")
        if end < 0:
            self._rest += data
            self._check_rest()
            return []
        head = data[:end]
        if self._rest:
            self._rest += head
            head = bytes(self._rest)
            self._rest.clear()
        self._rest += data[end + 1 :]
        lines = [line.removesuffix(b"\r") for line in head.split(b"\n")]
        for line in lines:
            self._check(len(line))
        self._check_rest()
        return [line for line in lines if line]

    @property
    def pending(self) -> bytes:
        """The line begun and not ended yet."""
        return bytes(self._rest)

    def _check_rest(self) -> None:
        self._check(len(self._rest) - self._rest.endswith(b"\r"))  # half of a `\r\n`, perhaps

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise MessageTooLargeError(
                f"a message is larger than max_message_bytes = {self._limit:,}; raise it for this server "
                "if it is meant to send so much",
                limit=self._limit,
            )
