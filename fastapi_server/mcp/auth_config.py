"""Typed settings for signing in: what `auth` of a configuration may be, and secrets that come from elsewhere."""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias, TypeGuard, cast, runtime_checkable
from urllib.parse import SplitResult, urlsplit

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic.dataclasses import dataclass as validated

from fastapi_server.mcp.errors import ConfigError

_STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

LOOPBACK_REDIRECT = "http://127.0.0.1:8976/callback"
"""Where a browser is sent after signing in, unless `redirect_uri` says otherwise (RFC 8252, 7.3)."""


@validated(config=_STRICT, frozen=True)
class Secret:
    """A secret, or where it is found. It never shows.

    Attributes:
        value: The secret itself.
        env: The environment variable that holds it, looked up each time it is needed.
        file: The file that holds it, read each time it is needed; `~` is the home directory, and white space around the
            secret does not count.
    """

    value: str | None = Field(default=None, repr=False)
    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Secret":
        if sum(source is not None for source in (self.value, self.env, self.file)) != 1:
            raise ValueError("needs exactly one of env and file")
        return self

    def reveal(self, field: str = "auth") -> str:
        """The secret.

        Args:
            field: Of the configuration, whose secret it is: for the error.

        Raises:
            ConfigError: The variable is not set, or the file cannot be read, or it is empty.
        """
        if self.env is not None:
            found, fault = os.environ.get(self.env), f"the environment variable {self.env} is empty or not set; set it"
        elif self.file is not None:
            found, fault = self._read(field), f"the file {self.file} is empty; write the secret into it"
        else:
            found, fault = self.value, "is empty"
        if not found:
            raise ConfigError(f"config.{field}: {fault}")
        return found

    def _read(self, field: str) -> str:
        assert self.file is not None
        try:
            return self.file.expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError, RuntimeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            raise ConfigError(f"config.{field}: the file {self.file} cannot be read: {why}") from None


_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def check_variable(name: str | None) -> None:
    """Of an environment variable.

    Raises:
        ValueError: It can be none: perhaps it is the secret itself, so it is not shown.
    """
    if name is not None and not _VARIABLE.fullmatch(name):
        raise ValueError("env must be the name of an environment variable, not what it holds")


def _as_secret(given: Any) -> Any:
    """A string is the secret itself; a mapping says where it is. Callables pass, for those fields that take one."""
    if given is None or isinstance(given, Secret) or callable(given):
        return given
    if isinstance(given, str):
        return Secret(value=given)
    members: Mapping[str, Any] = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}
    sources = [where for where in members.values() if isinstance(where, (str, Path)) and str(where)]
    if len(members) != 1 or len(sources) != 1 or not set(members) <= {"env", "file"}:
        raise ValueError('must be a string, {"env": NAME} or {"file": PATH}')
    check_variable(members.get("env"))
    return Secret(**members)


def revealed(secret: Secret | str, field: str) -> str:
    """A secret's text, whether it is wrapped yet or not; `field` of `auth` is named where there is none."""
    return secret if isinstance(secret, str) else secret.reveal(f"auth.{field}")


@runtime_checkable
class Store(Protocol):
    """Keeps tokens; `fastapi_server.mcp.auth.stores.TokenStore` says what each method has to do."""

    async def get(self, key: str) -> dict[str, Any] | None: ...
    async def set(self, key: str, value: dict[str, Any] | None) -> None: ...
    def lock(self, key: str) -> AbstractAsyncContextManager[None]: ...


@validated(config=_STRICT, frozen=True)
class AuthorizationResponse:
    """What the authorization server sent back through the browser (RFC 6749, 4.1.2; RFC 9207).

    Attributes:
        code: The authorization code; empty where there is an `error`.
        state: As it was sent.
        iss: The issuer, where the response names it.
        error: Why there is no code. Nothing is to be shown of it before `state` and `iss` are found to be right, which
            is done by whoever asked for the sign-in.
        error_description: Likewise.
    """

    code: str = Field(default="", repr=False)
    state: str | None = Field(default=None, repr=False)
    iss: str | None = None
    error: str | None = Field(default=None, kw_only=True)
    error_description: str | None = Field(default=None, kw_only=True)


@runtime_checkable
class Interaction(Protocol):
    """A person at a desk: opens a URL for them, and waits until they come back.

    Clients may share one: the next sign-in begins when the one before has come back.
    """

    async def redirect(self, url: str) -> None:
        """Show the authorization page."""
        ...

    async def callback(self) -> AuthorizationResponse:
        """Wait for the redirect to `redirect_uri`, and return what it carried, an error too.

        Raises:
            AuthenticationError: They declined, without being sent back.
        """
        ...


@validated(config=_STRICT, frozen=True)
class BearerAuth:
    """A token that is simply there: `Authorization: Bearer …`.

    Attributes:
        token: Looked up for each request, so that the variable or the file may change.
    """

    token: Secret | str
    type: Literal["bearer"] = "bearer"

    _token = field_validator("token", mode="plain")(_as_secret)


_LOOPBACK = re.compile(r"(.+\.)?localhost|127\.\d+\.\d+\.\d+|::1")


def _checked_url(url: str | None, settings: ValidationInfo) -> str | None:
    if url is None:
        return None
    parts = _parts_of(url)
    insecure = parts.scheme == "http" and not _LOOPBACK.fullmatch(parts.hostname or "")
    if insecure and _origin_of(parts) not in settings.data.get("insecure_origins", ()):
        raise ValueError(
            "must start with https:// unless it is on this machine: secrets go there "
            "(its origin may be named in insecure_origins)"
        )
    return url


def _checked_origins(urls: list[str]) -> list[str]:
    for url in urls:
        parts = _parts_of(url)
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must be origins, such as http://auth:8080")
    return [_origin_of(urlsplit(url)) for url in urls]


def _parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # its text quotes the URL
        parts, usable = urlsplit(""), False
    if not usable or parts.username or parts.password:
        raise ValueError("must be a URL that starts with http:// or https:// and names a host, without credentials")
    return parts


def _origin_of(parts: SplitResult) -> str:
    default_port = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(default_port)}"


@validated(config=_STRICT, frozen=True)
class OAuthCommon:
    """What every way of getting a token from an authorization server has.

    Attributes:
        insecure_origins: Origins (`http://auth:8080`) that secrets may be sent to without TLS, and on any address.
        scopes: Ask for these, and for what a challenge adds; left out, what the server advertises.
        issuer: The only authorization server that may be used; left out, the one that the server names.
        dpop: Bind the tokens to a key of this client (RFC 9449).
        store: Keeps the tokens; left out, this process does, until it ends.
    """

    insecure_origins: list[str] = Field(default_factory=list[str], kw_only=True)  # the URLs below look into it
    scopes: list[str] | None = Field(default=None, kw_only=True)
    issuer: str | None = Field(default=None, kw_only=True)
    dpop: bool = Field(default=False, kw_only=True)
    store: Store | None = Field(default=None, kw_only=True, repr=False)

    _origins = field_validator("insecure_origins")(_checked_origins)
    _issuer = field_validator("issuer")(_checked_url)


@validated(config=_STRICT, frozen=True)
class OAuth(OAuthCommon):
    """A person signs in with a browser: the authorization code grant with PKCE (OAuth 2.1).

    Attributes:
        client_id: Of a client registered beforehand; left out, the client describes itself by `client_metadata_url`
            where the server takes that, and registers itself otherwise.
        client_secret: Of that client, if it has one.
        client_metadata_url: HTTPS URL of a client id metadata document of yours.
        client_name: What the authorization server shows to the person.
        redirect_uri: Where the browser comes back to.
        token_endpoint_auth_method: How the client with the secret identifies itself.
        interaction: Talks to the person; left out, `AuthorizationRequired` is raised.
    """

    client_id: str | None = None
    client_secret: Secret | str | None = Field(default=None, kw_only=True)
    client_metadata_url: str | None = Field(default=None, kw_only=True)
    client_name: str = Field(default="MCP client", kw_only=True)
    redirect_uri: str = Field(default=LOOPBACK_REDIRECT, kw_only=True)
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] = Field(
        default="client_secret_basic", kw_only=True
    )
    interaction: Interaction | None = Field(default=None, kw_only=True, repr=False)
    type: Literal["oauth"] = Field(default="oauth", kw_only=True)

    _secret = field_validator("client_secret", mode="plain")(_as_secret)
    _redirect = field_validator("redirect_uri")(_checked_url)

    @model_validator(mode="after")
    def _secret_of_somebody(self) -> "OAuth":
        if self.client_secret is not None and self.client_id is None:
            raise ValueError("client_secret needs a client_id")
        return self

    @field_validator("client_metadata_url")
    @classmethod
    def _https_with_a_path(cls, url: str | None) -> str | None:
        parts = _parts_of(url or "https://host/path")
        if parts.scheme != "https" or parts.path in {"", "/"}:
            raise ValueError("must be a URL that starts with https:// and has a path")
        return url


@validated(config=_STRICT, frozen=True)
class ClientCredentials(OAuthCommon):
    """A program signs in as itself: the client credentials grant (RFC 6749, 4.4).

    Attributes:
        client_id: As registered.
        client_secret: The client's secret; or
        private_key: its key in PEM form, which signs an assertion (RFC 7523, 2.2).
        algorithm: Of that signature.
        token_endpoint_auth_method: How the secret is sent.
    """

    client_id: str
    client_secret: Secret | str | None = Field(default=None, kw_only=True)
    private_key: Secret | str | None = Field(default=None, kw_only=True)
    algorithm: Literal["ES256", "ES384", "RS256", "PS256", "EdDSA"] = Field(default="ES256", kw_only=True)
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] = Field(
        default="client_secret_basic", kw_only=True
    )
    type: Literal["client_credentials"] = Field(default="client_credentials", kw_only=True)

    _secrets = field_validator("client_secret", "private_key", mode="plain")(_as_secret)

    @model_validator(mode="after")
    def _one_credential(self) -> "ClientCredentials":
        if (self.client_secret is None) == (self.private_key is None):
            raise ValueError("needs exactly one of client_secret and private_key")
        return self


AssertionSource: TypeAlias = Callable[[str], Awaitable[str]]
"""Asked for a JWT; told the issuer of the authorization server, which is its audience."""


@validated(config=_STRICT, frozen=True)
class WorkloadIdentity(OAuthCommon):
    """A workload signs in with the JWT that its platform gives it: the JWT bearer grant (RFC 7523, 2.1).

    Attributes:
        assertion: The JWT, where it is found, or an async callable that gets one for an audience.
        client_id: As registered, where the authorization server wants one.
    """

    assertion: Secret | str | AssertionSource
    client_id: str | None = Field(default=None, kw_only=True)
    type: Literal["workload_identity"] = Field(default="workload_identity", kw_only=True)

    _assertion = field_validator("assertion", mode="plain")(_as_secret)


@validated(config=_STRICT, frozen=True)
class EnterpriseManaged(OAuthCommon):
    """The employer's identity provider signs the person in (SEP-990): an ID token, for an ID-JAG, for a token.

    Attributes:
        client_id: Of this client at the server's authorization server.
        client_secret: Likewise.
        idp_token_endpoint: Where the identity provider exchanges tokens (RFC 8693).
        idp_client_id: Of this client at the identity provider.
        idp_client_secret: Likewise, where that has given it one; sent in the form.
        id_token: The person's ID token, where it is found, or an async callable that gets one; it is told the issuer
            for which the grant is wanted.
        token_endpoint_auth_method: How `client_secret` is sent.
    """

    client_id: str
    client_secret: Secret | str = Field(kw_only=True)
    idp_token_endpoint: str = Field(kw_only=True)
    idp_client_id: str = Field(kw_only=True)
    idp_client_secret: Secret | str | None = Field(default=None, kw_only=True)
    id_token: Secret | str | AssertionSource = Field(kw_only=True)
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] = Field(
        default="client_secret_basic", kw_only=True
    )
    type: Literal["enterprise_managed"] = Field(default="enterprise_managed", kw_only=True)

    _secrets = field_validator("client_secret", "idp_client_secret", "id_token", mode="plain")(_as_secret)
    _endpoint = field_validator("idp_token_endpoint")(_checked_url)


AuthCallable: TypeAlias = Callable[[], Awaitable[Mapping[str, str] | str]]
"""Asked before each request; gives headers, or a bearer token."""


def is_headers(given: object) -> TypeGuard[Mapping[str, str]]:
    """Whether what a callable gave is a mapping of names to values."""
    if not isinstance(given, Mapping):
        return False
    members = cast("Mapping[object, object]", given)
    return all(isinstance(name, str) and isinstance(value, str) for name, value in members.items())


OAuthSettings: TypeAlias = OAuth | ClientCredentials | WorkloadIdentity | EnterpriseManaged

_MODELS: dict[type, str] = {
    BearerAuth: "bearer",
    OAuth: "oauth",
    ClientCredentials: "client_credentials",
    WorkloadIdentity: "workload_identity",
    EnterpriseManaged: "enterprise_managed",
}
AUTH_TYPES = tuple(_MODELS.values())


def _kind(given: Any) -> str | None:
    if isinstance(given, Mapping):
        named = cast("Mapping[str, Any]", given).get("type")
        return named if isinstance(named, str) else None
    if type(given) in _MODELS:
        return _MODELS[type(given)]
    if isinstance(given, FlowAuth) or hasattr(given, "async_auth_flow") or hasattr(given, "auth_flow"):
        return "flow"
    return "callable" if callable(given) else None


@runtime_checkable
class AsyncAuthFlow(Protocol):
    """An `httpx.Auth`, as far as it is used here: its flow is a generator that takes responses and gives requests."""

    def async_auth_flow(self, request: Any, /) -> Any: ...


@runtime_checkable
class SyncAuthFlow(Protocol):
    """The same where only the plain generator is written."""

    def auth_flow(self, request: Any, /) -> Any: ...


AuthFlow: TypeAlias = AsyncAuthFlow | SyncAuthFlow


@validated(config=_STRICT, frozen=True)
class FlowAuth:
    """An auth flow whose own requests go further than a server may lead us.

    Attributes:
        flow: Of httpx or httpx2, or what looks like one.
        insecure_origins: Origins (`http://auth:8080`) that secrets may be sent to without TLS, and on any address.
    """

    flow: AuthFlow = Field(repr=False)
    insecure_origins: list[str] = Field(default_factory=list[str], kw_only=True)

    _origins = field_validator("insecure_origins")(_checked_origins)


AuthSetting: TypeAlias = Annotated[
    Annotated[BearerAuth, Tag("bearer")]
    | Annotated[OAuth, Tag("oauth")]
    | Annotated[ClientCredentials, Tag("client_credentials")]
    | Annotated[WorkloadIdentity, Tag("workload_identity")]
    | Annotated[EnterpriseManaged, Tag("enterprise_managed")]
    | Annotated[FlowAuth | AuthFlow, Tag("flow")]
    | Annotated[AuthCallable, Tag("callable")],
    Discriminator(
        _kind,
        custom_error_type="auth_type",
        custom_error_message=f"needs a type: {', '.join(AUTH_TYPES)}; or, from a program, a callable or an auth flow",
    ),
]
"""What `auth` may be: settings, an async callable, or an auth flow in the way of httpx."""
