"""Signing in: what goes into the headers of each request, and what is done when the server refuses it.

The official SDK is imported when a configuration asks for OAuth (extra `oauth`), and not before.
"""

from fastapi_server.mcp.auth.stores import TokenStore


async def complete_authorization(
    state: str, code: str, iss: str | None = None, *, store: TokenStore | None = None, principal: str | None = None
) -> None:
    """Finish a sign-in that `AuthorizationRequired` began: in any process that has the same token store.

    It can be tried once, and again where the error's `delivery` is `not_sent` or `code` is none; afterwards the next
    call of any client of that server and principal simply works.

    Args:
        state: As the browser brought it back to the redirect URI.
        code: Likewise.
        iss: Likewise, where it was there (RFC 9207).
        store: That of the client's configuration; left out, the one that clients of this process have by default.
        principal: Who came back. Pass whom your own session says it is, never what the browser says: otherwise one
            person can have another sign in for them.

    Raises:
        AuthenticationError: There is no such sign-in, it is too late, it was begun for another principal, the response
            came from another authorization server, or that one gives no token.
        MCPConnectionError: The authorization server cannot be reached.
    """
    from fastapi_server.mcp.auth.authorization import complete  # noqa: PLC0415 - brings the SDK, which is slow

    await complete(state, code, iss, store, principal)
