"""What is seen at one path: all servers under names that lead back to them, or one server as it is."""

from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote, unquote

from fastapi_server.gateway.caller import Caller
from fastapi_server.mcp import ClientPool, ConfigError

_SEPARATOR = "__"
_SCHEME = "mcp://"
_MOST_QUOTED = 200

VIEW_KEY = "gateway.view"
"""Where an ASGI scope holds its `View`."""

LOOKING: ContextVar["View"] = ContextVar("LOOKING")
"""The same, for what the SDK calls without a request."""


@dataclass(frozen=True)
class View:
    """A path and who looks.

    Attributes:
        caller: Whose rules hold.
        only: The one server of `/mcp/{server}`; `None` for `/mcp`.
    """

    caller: Caller
    only: str | None = None

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """Who looks, and at which path."""
        return self.caller.name, self.caller.principal, self.only

    def servers(self, pool: ClientPool) -> list[str]:
        """The servers that are there for the caller."""
        return [name for name in pool.servers if self.shows(name)]

    def has(self, pool: ClientPool, server: str) -> bool:
        """Whether a server is there for the caller."""
        return self.shows(server) and pool.config_of(server) is not None

    def shows(self, server: str) -> bool:
        """Whether the caller may see a server, there or not; never one whose names would lead back to another."""
        ambiguous = _SEPARATOR in server or server.endswith(_SEPARATOR[0])
        return not ambiguous and self.only in {None, server} and self.caller.may_use(server)

    def shown(self, server: str, catalogue_name: str) -> str:
        """A tool's or a prompt's name here, by its name in the catalogue."""
        return catalogue_name if self.only is None else catalogue_name.removeprefix(server + _SEPARATOR)

    def tool(self, pool: ClientPool, name: str) -> tuple[str, str]:
        """The server of a tool's name here, and what the tool is called there.

        Raises:
            ConfigError: There is no such tool, or none that the caller may use.
        """
        try:
            server, original = pool.resolve(self._qualified(name), self.caller.tools)
        except ConfigError:
            raise _nothing(name) from None
        return self._allowed(pool, server, name), original

    def prompt(self, pool: ClientPool, name: str) -> tuple[str, str]:
        """The same for a prompt.

        Raises:
            ConfigError: There is no such server.
        """
        server, original = self.parts(name)
        return self._allowed(pool, server, name), original

    def parts(self, name: str) -> tuple[str, str]:
        """The server that the name of a tool or a prompt begins with, there or not, and the rest."""
        server, _, original = self._qualified(name).partition(_SEPARATOR)
        return server, original

    def prompt_name(self, server: str, name: str) -> str:
        """A prompt's name here."""
        return name if self.only is not None else f"{server}{_SEPARATOR}{name}"

    def uri(self, server: str, uri: str) -> str:
        """A resource's URI, or the template of one, here."""
        return uri if self.only is not None else f"{_SCHEME}{quote(server, safe='')}/{uri}"

    def resource(self, pool: ClientPool, uri: str) -> tuple[str, str]:
        """The server of a URI here, and the resource's URI there.

        Raises:
            ConfigError: It names no server that the caller may use.
        """
        if self.only is not None:
            return self._allowed(pool, self.only, uri), uri
        server, _, original = uri.removeprefix(_SCHEME).partition("/")
        if not uri.startswith(_SCHEME) or not original:
            raise ConfigError(f"there is no resource {_quoted(uri)} here; they look like {_SCHEME}server/uri")
        return self._allowed(pool, unquote(server), uri), original

    def _qualified(self, name: str) -> str:
        return name if self.only is None else f"{self.only}{_SEPARATOR}{name}"

    def _allowed(self, pool: ClientPool, server: str, name: str) -> str:
        if not self.has(pool, server):
            raise _nothing(name)
        return server


def _nothing(name: str) -> ConfigError:
    """The same for what does not exist and what is hidden."""
    return ConfigError(f"there is no {_quoted(name)} here")


def _quoted(name: str) -> str:
    """As much of a name as tells which is meant: who asks may have sent megabytes."""
    return repr(name if len(name) <= _MOST_QUOTED else name[:_MOST_QUOTED] + "…")
