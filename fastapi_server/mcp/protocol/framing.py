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
            self._keep(data)
            return []
        line: bytes | bytearray = first
        if self._rest:  # a large line is not copied once more: it grows where it is
            line, self._rest = self._rest, bytearray()
            line += first
        if not more:
            line = self._checked(line)
            return [line] if line else []
        *others, rest = more.split(b"\n")
        lines = [checked for each in (line, *others) if (checked := self._checked(each))]
        self._keep(rest)
        return lines

    def _keep(self, part: bytes) -> None:
        if part:
            self._rest += part
            if len(self._rest) - self._rest.endswith(b"\r") > self._limit:  # half of a `\r\n`, perhaps
                raise MessageTooLargeError.of("a message", self._limit)

    def _checked(self, line: bytes | bytearray) -> bytes | bytearray:
        if line.endswith(b"\r"):
            line = line[:-1]
        if len(line) > self._limit:
            raise MessageTooLargeError.of("a message", self._limit)
        return line
