"""Event streams: the whole grammar of https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2."""

from typing import NamedTuple

from fastapi_server.mcp.errors import MessageTooLargeError

_BOM = b"\xef\xbb\xbf"
_LONGEST_RETRY = 10


class Event(NamedTuple):
    """One dispatched event.

    Attributes:
        data: UTF-8 bytes, lines joined by a newline. Empty for an event that only carries an id or a retry time.
        event: The type, `message` where the stream names none.
        id: The last event id *seen so far on the stream*, which a new connection sends as `Last-Event-ID`.
    """

    data: bytes | bytearray
    event: str
    id: str


class EventParser:
    """Bytes of an event stream in any chunks, events out.

    Events without data are dispatched too where they set an id (revision 2025-11-25 primes a stream so), although a
    browser would drop them.

    Args:
        limit: Largest event accepted, in bytes: its lines of data, or one line of another kind, line ends not counted.

    Attributes:
        last_event_id: What to send as `Last-Event-ID` when the stream has to be opened again; empty for nothing. It is
            the id of an event that has come whole: one that broke off is to be sent again.
        retry: Seconds to wait before that, where the server has said so.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = b""
        self._rest = bytearray()
        self._started = False
        self._after_cr = False
        self._data: list[bytes | bytearray] = []
        self._size = 0
        self._event = ""
        self._id = ""
        self._id_seen = False
        self.last_event_id = ""
        self.retry: float | None = None

    def successor(self) -> "EventParser":
        """A parser for the connection that continues this stream: it knows the last id and the time to wait."""
        successor = EventParser(self._limit)
        successor._id = successor.last_event_id = self.last_event_id
        successor.retry = self.retry
        return successor

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes.

        Raises:
            MessageTooLargeError: An event is larger than the limit.
        """
        if not self._started:
            chunk = self._without_bom(chunk)
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):  # the second half of a \r\n
            chunk = chunk[1:]
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        elif chunk:
            self._after_cr = False
        first, newline, more = chunk.partition(b"\n")
        if not newline:
            self._keep(first)
            return []
        line: bytes | bytearray = first
        if self._rest:  # a large line is not copied once more: it grows where it is
            line, self._rest = self._rest, bytearray()
            line += first
        *lines, rest = more.split(b"\n")
        events = [event for line in (line, *lines) if (event := self._line(line)) is not None]
        self._keep(rest)
        return events

    def _keep(self, part: bytes) -> None:
        """A line that has not ended yet: what was searched once is not searched again."""
        self._rest += part
        if self._size + len(self._rest) > self._limit:
            raise MessageTooLargeError.of("an event", self._limit)

    def _without_bom(self, chunk: bytes) -> bytes:
        """What follows a byte order mark; nothing until it is known whether the stream starts with one."""
        self._head += chunk
        if len(self._head) < len(_BOM) and _BOM.startswith(self._head):
            return b""
        self._started = True
        head, self._head = self._head, b""
        return head.removeprefix(_BOM)

    def _line(self, line: bytes | bytearray) -> Event | None:
        if not line:
            return self._dispatch()
        if self._size + len(line) > self._limit:
            raise MessageTooLargeError.of("an event", self._limit)
        if line.startswith(b"data: "):
            self._size += len(line)
            if isinstance(line, bytearray):
                del line[:6]  # which moves nothing
                self._data.append(line)
            else:
                self._data.append(line[6:])
        else:
            self._field(line)
        return None

    def _field(self, line: bytes | bytearray) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
                self._size += len(line)
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
                self._id_seen = True
            case b"retry" if value.isdigit() and len(value) <= _LONGEST_RETRY:
                self.retry = int(value) / 1000
            case _:
                pass  # a comment (its name is empty), or a field of the future

    def _dispatch(self) -> Event | None:
        event = None
        self.last_event_id = self._id
        if self._data or self._id_seen:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            event = Event(data, self._event or "message", self.last_event_id)
        self._data.clear()
        self._size = 0
        self._event = ""
        self._id_seen = False
        return event
