"""What `auth/sdk.py` uses of the official SDK without a promise: an upgrade that changes it fails here first."""

import ast
import inspect
import logging
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest
from mcp.client.auth import OAuthClientProvider, oauth2, utils
from mcp.shared.auth import OAuthClientMetadata

from fastapi_server.mcp.auth import quiet, sdk
from fastapi_server.mcp.auth.sdk import Provider

CALLED = {
    "_exchange_token_authorization_code": ["auth_code", "code_verifier"],
    "_expected_issuer": [],
    "_get_token_endpoint": [],
    "_handle_refresh_response": ["response"],
    "_handle_token_response": ["response"],
    "_refresh_token": [],
}
OVERRIDDEN = {"_perform_authorization": [], "_select_authorization_server": ["advertised"]}
SET = {"_initialized"}
WITHOUT_AWAIT = {"_expected_issuer", "_get_token_endpoint", "_select_authorization_server"}

CHANGED = (
    f"mcp {version('mcp')} has changed {{}}, which fastapi_server/mcp/auth/sdk.py {{}}: look there before upgrading"
)


@pytest.mark.parametrize(("name", "parameters"), [*CALLED.items(), *OVERRIDDEN.items()])
def test_the_sdk_has_the_private_methods_that_are_used(name: str, parameters: list[str]) -> None:
    method = getattr(OAuthClientProvider, name, None)
    changed = CHANGED.format(name, "calls" if name in CALLED else "overrides")
    assert method is not None, changed
    assert list(inspect.signature(method).parameters)[1:] == parameters, changed
    assert inspect.iscoroutinefunction(method) is (name not in WITHOUT_AWAIT), changed


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_flow_of_the_sdk_calls_what_is_overridden(name: str) -> None:
    assert name in OAuthClientProvider._auth_flow.__code__.co_names, CHANGED.format(name, "overrides")


def test_the_flow_of_the_sdk_loads_nothing_once_it_is_said_to_be_initialized() -> None:
    provider = OAuthClientProvider("https://h.example/mcp", OAuthClientMetadata(redirect_uris=None), sdk._NoStorage())
    assert vars(provider).get("_initialized") is False, CHANGED.format("_initialized", "sets")
    assert "_initialized" in OAuthClientProvider._auth_flow.__code__.co_names, CHANGED.format("_initialized", "sets")


def test_every_private_name_that_is_used_is_pinned() -> None:
    """Those that `Provider` neither makes nor defines are the SDK's."""
    whole = ast.parse(Path(sdk.__file__).read_text(encoding="utf-8"))
    init = ast.parse(textwrap.dedent(inspect.getsource(Provider.__init__)))
    own = vars(Provider).keys() | _of_self(init, ast.Store)
    private = {name for name, value in vars(Provider).items() if name.startswith("_") and inspect.isfunction(value)}
    assert _of_self(whole) - own == CALLED.keys() | SET
    assert private & vars(OAuthClientProvider).keys() - {"__init__"} == OVERRIDDEN.keys()


def _of_self(tree: ast.AST, context: type[ast.expr_context] = ast.expr_context) -> set[str]:
    """The private attributes of `self`."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, context))
    return {
        node.attr
        for node in found
        if isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr.startswith("_")
    }


def test_the_loggers_that_are_silenced_are_those_of_the_sdk() -> None:
    for module in (oauth2, utils):
        filters = logging.getLogger(module.__name__).filters
        assert any(isinstance(one, quiet._Quiet) for one in filters), CHANGED.format(
            f"the logger {module.__name__}", "silences"
        )
    assert oauth2.logger.name == oauth2.__name__, CHANGED.format("its logger", "silences")
