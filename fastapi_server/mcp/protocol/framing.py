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

    def feed(self, data: bytes) -> list[bytes | bytearray]:
        r"""The lines that `data` completes, without `\n` or `\r\n`; empty lines are left out.

        Raises:
            MessageTooLargeError: A line is longer than the limit.
        """
        first, newline, more = data.partition(b"\n")
        if not newline:
            self._rest += data
            self._check_rest()
            return []
        line: bytes | bytearray = first
        if self._rest:
            line, self._rest = self._rest, bytearray()
            line += first
        lines = [line]
        if more:
            *others, rest = more.split(b"\n")
            lines += others
            self._rest += rest
            self._check_rest()
        return [line for line in map(self._checked, lines) if line]

    def _checked(self, line: bytes | bytearray) -> bytes | bytearray:
        line = line.removesuffix(b"\r")
        self._check(len(line))
        return line

    def _check_rest(self) -> None:
        self._check(len(self._rest) - self._rest.endswith(b"\r"))  # half of a `\r\n`, perhaps

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise MessageTooLargeError(
                f"a message is larger than max_message_bytes = {self._limit:,}; raise it for this server "
                "if it is meant to send so much",
                limit=self._limit,
            )
