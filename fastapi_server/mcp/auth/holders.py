"""To whom tokens are given, and who may use them."""

import hashlib

from fastapi_server.mcp.auth.account import Kept, Tokens
from fastapi_server.mcp.auth_config import EnterpriseManaged, OAuth, OAuthSettings, Secret, WorkloadIdentity


def holder_of(config: OAuthSettings) -> list[str | None]:
    """What tells one configuration's tokens from another's: each has a place of its own in a token store."""
    scopes = None if config.scopes is None else " ".join(sorted(config.scopes))
    holder = [config.type, config.client_id, config.issuer, scopes]
    match config:
        case OAuth():
            return [*holder, config.client_metadata_url]
        case WorkloadIdentity():
            return [*holder, _place_of(config.assertion)]
        case EnterpriseManaged():
            return [*holder, config.idp_token_endpoint, config.idp_client_id, _place_of(config.id_token)]
        case _:
            return holder


def identity_of(config: OAuthSettings, own: str) -> str | None:
    """Whom an assertion is about, where the holder does not say; nothing of it shows.

    Args:
        config: How to sign in.
        own: Of one client: whom a callable of the host's gives an assertion for is known to nobody else.
    """
    match config:
        case WorkloadIdentity(assertion=source) | EnterpriseManaged(id_token=source):
            return _identity_in(source, own)
        case _:
            return None


def tokens_for(config: OAuthSettings, kept: Kept, own: str) -> Tokens | None:
    """Those kept, unless they are for somebody else, or not bound to a key where they have to be."""
    tokens = kept.tokens
    if tokens is None or tokens.identity != identity_of(config, own):
        return None
    return None if config.dpop and tokens.proof_key is None else tokens


def _place_of(source: object) -> str | None:
    """Where an assertion is found, if that has a name."""
    return repr(source) if isinstance(source, Secret) and source.value is None else None


def _identity_in(source: object, own: str) -> str | None:
    if not isinstance(source, Secret):
        return own
    return None if source.value is None else hashlib.sha256(source.value.encode()).hexdigest()
