"""The official SDK's OAuth flow, made to serve us: what it knows is given to it, what it finds out is taken from it."""

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, PKCEParameters
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    create_oauth_metadata_request,
    handle_auth_metadata_response,
    issuers_match,
    union_scopes,
    validate_authorization_response_iss,
)
from mcp.shared.auth import (
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import ValidationError
from yarl import URL

from fastapi_server.mcp.auth.account import Kept, Tokens
from fastapi_server.mcp.auth.discovery import metadata_in
from fastapi_server.mcp.auth.exchange import NO_PAGE, Exchange
from fastapi_server.mcp.auth.keys import Kind
from fastapi_server.mcp.auth.quiet import alone, quiet
from fastapi_server.mcp.auth.quoting import faulty_members, quoted
from fastapi_server.mcp.auth.reach import Reach, shown
from fastapi_server.mcp.errors import AuthenticationError

GrantRequest: TypeAlias = "Callable[[Provider], Awaitable[httpx2.Request]]"
"""Makes the token request once discovery and registration are over."""

Send: TypeAlias = Callable[[httpx2.Request], Awaitable[httpx2.Response]]
"""Sends a request to an authorization server."""

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@contextmanager
def in_our_words() -> Generator[None]:
    """Around everything the SDK does: it logs nothing meanwhile, and its errors become ours.

    Raises:
        AuthenticationError: It failed. Only the SDK's plain errors are quoted: the others may quote tokens and codes.
    """
    with alone(), _translated(), quiet():
        yield


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except OAuthFlowError as error:
        plain = type(error) is OAuthFlowError
        reason = quoted(str(error)) if plain else "the authorization server's answer is malformed"
        raise AuthenticationError(f"signing in failed: {reason}") from None
    except ValidationError:
        raise AuthenticationError("signing in failed: the authorization server's answer is malformed") from None


class _NoStorage:
    """The SDK's storage: nothing, since `Provider.restore` and `Provider.kept` carry everything."""

    async def get_tokens(self) -> OAuthToken | None:
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None: ...

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None: ...


class Provider(OAuthClientProvider):
    """One run of the flow.

    Args:
        server: URL of the MCP server.
        client_metadata: What the client says of itself.
        grant: Makes the token request.
        client_metadata_url: Its client id metadata document.
        fixed_client: A client registered beforehand; it never registers itself.
        issuer: The only authorization server to use.
        scopes: The ones configured, separated by spaces.
        challenged: Those that the refusal asked for, likewise.
        configured: URLs on further origins that may be followed.

    Attributes:
        authorized: It has come to the token request.
    """

    def __init__(
        self,
        server: str,
        client_metadata: OAuthClientMetadata,
        grant: GrantRequest,
        *,
        client_metadata_url: str | None = None,
        fixed_client: OAuthClientInformationFull | None = None,
        issuer: str | None = None,
        scopes: str | None = None,
        challenged: str | None = None,
        configured: Iterable[str] = (),
    ) -> None:
        resource = urlunsplit(urlsplit(server)._replace(query=""))  # RFC 8707, 2; and a query may hold a key
        super().__init__(resource, client_metadata, _NoStorage(), client_metadata_url=client_metadata_url)
        self._grant = grant
        self._fixed_client = fixed_client
        self._issuer = issuer
        self._scopes = scopes
        self._challenged = challenged
        self._reach = Reach(server, configured)
        self._granted: str | None = None
        self._answers: list[httpx2.Response] = []  # since the authorization server was chosen
        self._resource_metadata_url: str | None = None
        self.authorized = False

    def _comes_back_to(self, client: OAuthClientInformationFull) -> bool:
        """Whether a client that introduced itself before named the place that the browser comes back to now."""
        wanted = self.context.client_metadata.redirect_uris
        return wanted is None or client.redirect_uris is None or wanted[0] in client.redirect_uris

    def restore(
        self,
        kept: Kept,
        tokens: Tokens | None,
        now: float,
        intact: Callable[[Kind], AbstractContextManager[None]],
        *,
        browser: bool = True,
    ) -> None:
        """Begin with what the store holds.

        Args:
            kept: That.
            tokens: Those of it that are to be used. Whatever their age, the flow itself does not refresh them.
            now: Seconds since the epoch.
            intact: Around what reads a document of a kind.
            browser: One may be sent away, so the client has to be registered for where it comes back to.

        Raises:
            TokenStoreError: By `intact`.
        """
        context = self.context
        if tokens is not None:
            context.current_tokens = OAuthToken(
                access_token=tokens.access_token, refresh_token=tokens.refresh_token, scope=tokens.scope
            )
            self._granted = tokens.scope
        with intact("issuer"):
            if kept.metadata is not None:
                context.oauth_metadata = OAuthMetadata.model_validate(kept.metadata)
            if kept.resource_metadata is not None:
                context.protected_resource_metadata = ProtectedResourceMetadata.model_validate(kept.resource_metadata)
        context.auth_server_url = kept.auth_server_url
        self._resource_metadata_url = kept.resource_metadata_url
        if self._fixed_client is not None:
            self._issuer = self._issuer or kept.issuer
            context.client_info = self._fixed_client
        elif kept.client is not None:
            with intact("client"):
                client = OAuthClientInformationFull.model_validate(kept.client)
            expired = client.client_secret_expires_at and client.client_secret_expires_at <= now  # RFC 7591, 3.2.1
            if not expired and (not browser or self._comes_back_to(client)):
                context.client_info = client
        self._initialized = True

    def keep(self, kept: Kept) -> None:
        """Note what the flow has found out, all but the tokens; those of another issuer are gone.

        Where the server has sent us to an authorization server at which we have no client yet, nothing has changed.
        """
        context = self.context
        if context.client_info is None:
            return
        metadata = context.oauth_metadata
        issuer = str(metadata.issuer) if metadata is not None else context.auth_server_url
        if issuer != kept.issuer:
            kept.tokens = None
        kept.issuer = issuer
        kept.auth_server_url = context.auth_server_url
        kept.metadata = _dumped(metadata)
        kept.resource_metadata = _dumped(context.protected_resource_metadata)
        kept.resource_metadata_url = self._resource_metadata_url
        kept.client = None if self._fixed_client is not None else _dumped(context.client_info)

    async def refresh(self, send: Send) -> bool:
        """Exchange the refresh token. Whether that gave tokens; where it did not, the refresh token is dead.

        Raises:
            AuthenticationError: The answer makes no sense.
        """
        if not self.context.can_refresh_token():
            return False
        response = await send(await self._refresh_token())
        if response.status_code != 200:
            return False
        if not await self._handle_refresh_response(response):
            raise AuthenticationError("signing in failed: the authorization server's answer is malformed")
        return True

    def is_left(self, advertised: list[str]) -> bool:
        """Whether the server names others in the place of the authorization server that the tokens are of.

        Raises:
            AuthenticationError: It does, and the credentials are for that one.
        """
        if not advertised or any(issuers_match(one, self.audience) for one in advertised):
            return False
        self._choose(advertised)
        return True

    async def finds_another_token_endpoint(self, send: Send) -> bool:
        """Whether the authorization server says by now that it gives tokens elsewhere."""
        before, context = self.token_endpoint, self.context
        for url in build_oauth_authorization_server_metadata_discovery_urls(
            context.auth_server_url, context.server_url
        ):
            _, found = await handle_auth_metadata_response(await send(create_oauth_metadata_request(url)))
            if found is not None and issuers_match(str(found.issuer), self.audience):
                context.oauth_metadata = found
                break
        return self.token_endpoint != before

    def tokens(self, now: float, exchange: Exchange, identity: str | None = None) -> Tokens | None:
        """The tokens that the flow has now, as they are kept.

        Raises:
            AuthenticationError: They are of a type that they must not be used as (RFC 6749, 7.1), such as bearer tokens
                where they were to be bound to a key.
        """
        held = self.context.current_tokens
        if held is None:
            return None
        key = exchange.proof_key
        wanted = "Bearer" if key is None else "DPoP"
        if exchange.token_type != wanted:
            raise AuthenticationError(
                f"the authorization server gave a token of type {quoted(exchange.token_type)}, "
                f"where it must be {wanted} (config: auth.dpop)"
            )
        return Tokens(
            access_token=held.access_token,
            token_type=wanted,
            refresh_token=held.refresh_token,
            scope=held.scope,
            expires_at=None if held.expires_in is None else now + held.expires_in,
            lifetime=held.expires_in,
            proof_key=None if key is None else key.pem,
            identity=identity,
        )

    @property
    def scope(self) -> str | None:
        """What is being asked for."""
        return self.context.client_metadata.scope

    def note(self, answer: httpx2.Response) -> None:
        """Told of everything that the flow is told."""
        self._answers.append(answer)

    def check_metadata(self) -> None:
        """To be asked before anything but metadata is: the SDK would go to the MCP server's own default paths instead.

        Raises:
            AuthenticationError: The server's metadata (RFC 9728) is malformed; or an authorization server is named, and
                its metadata (RFC 8414) is not known; or that says that this client cannot register.
        """
        metadata, named = self.context.oauth_metadata, self._issuer or self.context.auth_server_url
        if named is None:
            for answer in self._answers:
                metadata_in(str(answer.url), answer.status_code, answer.content)
        elif metadata is None or not issuers_match(str(metadata.issuer), named):
            why = "; ".join(_fault_of(answer) for answer in self._answers) or "nothing leads to it"
            raise AuthenticationError(f"no usable metadata of the authorization server {shown(URL(named))}: {why}")
        if metadata is not None and metadata.registration_endpoint is None and self.context.client_info is None:
            documents = metadata.client_id_metadata_document_supported
            raise AuthenticationError(
                f"the authorization server {shown(URL(str(metadata.issuer)))} registers no clients: "
                "register one there, and give its client_id (config: auth.client_id)"
                + (", or describe it at a URL (config: auth.client_metadata_url)" if documents else "")
            )

    def _select_authorization_server(self, advertised: list[str]) -> str:
        self._resource_metadata_url = str(self._answers[-1].url)
        self._answers.clear()
        return self._choose(advertised)

    def _choose(self, advertised: list[str]) -> str:
        """The one configured, or the one that a client registered beforehand has been used with; else the first."""
        if self._issuer is None:
            return advertised[0]
        for server in advertised:
            if issuers_match(server, self._issuer):
                return server
        raise AuthenticationError(
            f"the server sends us to the authorization server {shown(URL(advertised[0]))}, but the credentials are for "
            f"{self._issuer} (config: auth.issuer)"
        )

    async def _perform_authorization(self) -> httpx2.Request:
        self.check_metadata()
        if self._scopes is not None:
            wider = union_scopes(self._scopes, self._granted if self._challenged else None)
            self.context.client_metadata.scope = union_scopes(wider, self._challenged)
        request = await self._grant(self)
        self.authorized = True
        return request

    # What grants are made of.

    def authorization_url(self, pkce: PKCEParameters, state: str, extra: Mapping[str, str]) -> str:
        """Where the person signs in (RFC 6749, 4.1.1; RFC 7636; RFC 8707).

        Raises:
            AuthenticationError: The authorization server has no PKCE with S256, which the specification wants refused;
                or no page, or none where a person may be sent.
        """
        context, client, metadata = self.context, self.context.client_info, self.context.oauth_metadata
        assert client is not None
        if metadata is not None and "S256" not in (metadata.code_challenge_methods_supported or ()):
            raise AuthenticationError("the authorization server does not say that it has PKCE with S256")
        endpoint = str(metadata.authorization_endpoint) if metadata else urljoin(self._server_base, "/authorize")
        if endpoint == NO_PAGE:
            raise AuthenticationError("the authorization server names no page where people sign in")
        refusal = self._reach.page_refusal_of(URL(endpoint))
        if refusal is not None:
            where = shown(URL(endpoint))
            raise AuthenticationError(f"the authorization page is at {where}, where no person is sent: {refusal}")
        parameters = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": self.redirect_uri,
            "state": state,
            "code_challenge": pkce.code_challenge,
            "code_challenge_method": "S256",
            **extra,
        }
        if context.should_include_resource_param(context.protocol_version):
            parameters["resource"] = context.get_resource_url()
        if self.scope:
            parameters["scope"] = self.scope
            if "offline_access" in self.scope.split():
                parameters["prompt"] = "consent"  # OpenID Connect Core, 11
        parts = urlsplit(endpoint)
        query = "&".join(filter(None, (parts.query, urlencode(parameters))))
        return urlunsplit(parts._replace(query=query))

    @property
    def redirect_uri(self) -> str:
        """Where the browser comes back to."""
        uris = self.context.client_metadata.redirect_uris
        return str(uris[0]) if uris else ""

    @property
    def resource(self) -> str:
        """The server as an audience (RFC 8707)."""
        return self.context.get_resource_url()

    @property
    def audience(self) -> str:
        """The authorization server as an audience: its issuer."""
        return str(self.context.oauth_metadata.issuer) if self.context.oauth_metadata else self._expected_issuer()

    @property
    def token_endpoint(self) -> str:
        """Where tokens come from."""
        return self._get_token_endpoint()

    @property
    def _server_base(self) -> str:
        return self.context.get_authorization_base_url(self.context.server_url)

    def check_response_issuer(self, iss: str | None) -> None:
        """RFC 9207, 2.4.

        Raises:
            OAuthFlowError: The response came from another authorization server than the request went to.
        """
        validate_authorization_response_iss(iss, self.context.oauth_metadata)

    async def code_request(self, code: str, verifier: str) -> httpx2.Request:
        """Exchange a code (RFC 6749, 4.1.3)."""
        return await self._exchange_token_authorization_code(code, verifier)

    async def take_token_response(self, response: httpx2.Response) -> None:
        """Read the tokens out of the answer to a token request."""
        await self._handle_token_response(response)

    def grant_request(self, parameters: dict[str, str], *, with_resource: bool = True) -> httpx2.Request:
        """A token request of any other grant, with the client's authentication, the resource and the scope."""
        data, headers = self.context.prepare_token_auth(dict(parameters), dict(_FORM))
        if with_resource and self.context.should_include_resource_param(self.context.protocol_version):
            data["resource"] = self.resource
        if self.scope:
            data["scope"] = self.scope
        return httpx2.Request("POST", self.token_endpoint, data=data, headers=headers)


def _fault_of(answer: httpx2.Response) -> str:
    """Why there is no metadata in an answer."""
    where = shown(URL(str(answer.url)))
    if answer.status_code != 200:
        return f"{where} answers with HTTP {answer.status_code}"
    try:
        OAuthMetadata.model_validate_json(answer.content)
    except ValidationError as error:
        return f"{where} is malformed ({faulty_members(error)})"
    return f"{where} is about another"


def _dumped(model: Any) -> dict[str, Any] | None:
    return None if model is None else model.model_dump(mode="json", exclude_none=True)
