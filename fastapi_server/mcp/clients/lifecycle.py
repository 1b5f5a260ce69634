"""The states of a client and the moves between them, as a table."""

from enum import StrEnum


class ConnectionState(StrEnum):
    """Where a client stands."""

    DISCONNECTED = "disconnected"
    """Nothing is open: before the first use, and after `disconnect`."""
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    """A channel that worked has died, and another one is being opened."""
    ERROR = "error"
    """The channel died, or could not be opened; `last_error` says why. The next call tries again."""


MOVES: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.DISCONNECTED: frozenset({ConnectionState.CONNECTING}),
    ConnectionState.CONNECTING: frozenset(
        {ConnectionState.CONNECTED, ConnectionState.ERROR, ConnectionState.DISCONNECTED}
    ),
    ConnectionState.CONNECTED: frozenset({ConnectionState.ERROR, ConnectionState.DISCONNECTED}),
    ConnectionState.RECONNECTING: frozenset(
        {ConnectionState.CONNECTED, ConnectionState.ERROR, ConnectionState.DISCONNECTED}
    ),
    ConnectionState.ERROR: frozenset(
        {ConnectionState.CONNECTING, ConnectionState.RECONNECTING, ConnectionState.DISCONNECTED}
    ),
}


class IllegalMoveError(RuntimeError):
    """A bug in this package: the table does not allow that move."""


def moved(state: ConnectionState, to: ConnectionState) -> ConnectionState:
    """The new state.

    Raises:
        IllegalMoveError: The table does not allow it.
    """
    if to not in MOVES[state]:
        raise IllegalMoveError(f"a client cannot go from {state} to {to}")
    return to
