"""What the gateway is told when it starts: by arguments, or by `GATEWAY_…` in the environment."""

import difflib
import json
import os
from pathlib import Path
from typing import Annotated, Self, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX = "GATEWAY_"
_SECRET_LENGTH = 32
_NEAR = 0.75


def _split(value: object) -> object:
    """Words between commas, or a list in JSON."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else [word.strip() for word in value.split(",")]


_Words: TypeAlias = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """The settings of one gateway process.

    Attributes:
        config: An `mcp.json` whose servers are served beside those in the database, and which is watched.
        demo: Start the bundled demo servers where neither a file nor the database has any.
        database: URL of SQLAlchemy, for SQLite (`sqlite+aiosqlite:///gateway.db`) or PostgreSQL
            (`postgresql+asyncpg://…`).
        secret: At least 32 random characters that seal session ids, request states and the servers in the database;
            every process of one gateway needs the same. Left out, one is made and kept in the database.
        require_key: Refuse who brings neither an API key nor a bearer token. Must be on beyond loopback, and is where
            `oidc_issuer` is set; without it, only callers on this machine are let in without one.
        oidc_issuer: Accept bearer tokens of this OpenID provider; its keys are found by discovery.
        oidc_audience: What a bearer token must be meant for; required with `oidc_issuer`, and only with it.
        allowed_hosts: What `Host` may say, `*` in a port for any; loopback names are always allowed. In the
            environment, this and other lists are words between commas.
        allowed_origins: What `Origin` may say, where a browser sends it; loopback names are always allowed.
        cors_origins: Origins whose pages may read our answers; none by default.
        max_request_bytes: Largest request body accepted; a larger one is answered with 413.
        rate_limit: Requests of one principal, or of one address without one, in the words of the library `limits`,
            such as `600/minute`.
        patience: Seconds that a list waits for a server that has not been heard of yet.
        question_seconds: How long a server's question waits for the answer of a caller without a session.
        session_hours: How long a session id is good for.
        audit_arguments: Keep the arguments of calls in the audit log, secrets redacted.
        history_days: How long the audit log and the history of metrics are kept.
        drain_seconds: How long calls in flight may go on when the gateway is asked to end, or their server is drained,
            connected again, changed or removed.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", hide_input_in_errors=True)

    config: Path | None = None
    demo: bool = True
    database: str = "sqlite+aiosqlite:///gateway.db"
    secret: SecretStr | None = None
    require_key: bool = False
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    allowed_hosts: _Words = Field(default_factory=list[str])
    allowed_origins: _Words = Field(default_factory=list[str])
    cors_origins: _Words = Field(default_factory=list[str])
    max_request_bytes: int = Field(default=4 * 1024 * 1024, gt=0)
    rate_limit: str = "6000/minute"
    patience: float = Field(default=2.0, ge=0)
    question_seconds: float = Field(default=600.0, gt=0)
    session_hours: float = Field(default=24.0, gt=0)
    audit_arguments: bool = False
    history_days: float = Field(default=30.0, gt=0)
    drain_seconds: int = Field(default=10, ge=0)

    @property
    def must_identify(self) -> bool:
        """Whether who brings no key and no token is refused."""
        return self.require_key or self.oidc_issuer is not None

    @field_validator("secret")
    @classmethod
    def _long(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < _SECRET_LENGTH:
            raise ValueError(f"must have {_SECRET_LENGTH} characters at least, such as openssl rand -base64 32 prints")
        return secret

    @model_validator(mode="after")
    def _no_typing_errors(self) -> Self:
        """What is nearly a setting is one that somebody believes in. Other names may be anybody's."""
        for name in os.environ:
            word = name.upper().removeprefix(_PREFIX).lower()
            if name.upper().startswith(_PREFIX) and word not in type(self).model_fields:
                for near in difflib.get_close_matches(word, type(self).model_fields, n=1, cutoff=_NEAR):
                    raise ValueError(f"{name} is no setting; {_PREFIX}{near.upper()} is one")
        return self

    @model_validator(mode="after")
    def _issuer_with_audience(self) -> Self:
        if self.oidc_issuer is not None and self.oidc_audience is None:
            raise ValueError("oidc_issuer needs oidc_audience: a token that is meant for others must not open this")
        if self.oidc_audience is not None and self.oidc_issuer is None:
            raise ValueError("oidc_audience needs oidc_issuer: nobody is known whose tokens would be good")
        return self
