"""The names under which a token store keeps things."""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["tokens", "client", "issuer", "pending", "holders"]


def store_key(
    kind: Kind,
    *,
    server: str,
    principal: str | None = None,
    holder: Sequence[str | None] = (),
    issuer: str | None = None,
) -> str:
    """The key for what belongs to a server, a principal, a holder and an issuer: different for any two that differ.

    Args:
        kind: `tokens`; `client`, a registration; `issuer`, what was discovered, and when to sign in again; `pending`,
            a sign-in that a person has to finish, whose `server` is its `state`; or `holders`, of a server and
            principal.
        server: URL of the MCP server.
        principal: On whose behalf; `None` for nobody in particular.
        holder: What tells one registered client or account from another.
        issuer: Of the authorization server.

    Returns:
        Letters, digits and `-` only, so that it can be the name of a file; nothing secret shows.
    """
    parts = json.dumps([server, principal, holder, issuer])
    return f"{kind}-{hashlib.sha256(parts.encode()).hexdigest()}"
