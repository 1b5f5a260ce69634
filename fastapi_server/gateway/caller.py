"""Who calls the gateway, and what they may see and do."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi_server.mcp import ToolRules

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Caller:
    """Somebody who was let in.

    Attributes:
        name: Of the API key, or the subject of a bearer token; what the audit log calls them.
        principal: On whose behalf the gateway's clients work; `None` where nobody has to say who they are.
        admin: May change servers and keys, and see the audit log.
        servers: Patterns of the servers that they may use; `None` for all.
        tools: Which tools they may use, by the names of the catalogue (`server__tool`).
        metrics: May read the metrics of all servers, as administrators may.
    """

    name: str = "anonymous"
    principal: str | None = None
    admin: bool = False
    servers: Sequence[str] | None = None
    tools: ToolRules = field(default_factory=ToolRules)
    metrics: bool = False

    def may_use(self, server: str) -> bool:
        """Whether a server is there for them: for who may use certain tools only, those servers are that have them."""
        named = self.servers is None or any(fnmatch.fnmatchcase(server, pattern) for pattern in self.servers)
        return named and (self.tools.allow is None or any(_concerns(pattern, server) for pattern in self.tools.allow))


def _concerns(pattern: str, server: str) -> bool:
    """Whether a pattern of tools may match any of a server, as far as it is literal."""
    literal, tools_of = _WILDCARD.split(pattern, maxsplit=1)[0], f"{server}__"
    return tools_of.startswith(literal) or literal.startswith(tools_of)


ANYONE = Caller(admin=True)
"""Everybody, where no key is required: only on loopback."""

SCOPE_KEY = "gateway.caller"
"""Where an ASGI scope holds its `Caller`."""
