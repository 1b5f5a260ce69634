"""The public names: a change here is a change that users see."""

import pytest

import fastapi_server.mcp

PUBLIC = [
    "AuthenticationError",
    "AuthorizationRequired",
    "AuthorizationResponse",
    "AutoMCPClient",
    "BearerAuth",
    "BusyError",
    "CallTimeoutError",
    "Catalogue",
    "Change",
    "Channel",
    "CircuitOpenError",
    "ClientClosedError",
    "ClientCredentials",
    "ClientMetrics",
    "ClientPool",
    "CommandNotFoundError",
    "CommonConfig",
    "Completion",
    "ConfigError",
    "ConfigFile",
    "ConnectTimeoutError",
    "ConnectionState",
    "CorrelatingChannel",
    "Delivery",
    "EnterpriseManaged",
    "EraName",
    "ErrorEvent",
    "FileTokenStore",
    "FlowAuth",
    "GetPromptResult",
    "HTTPConfig",
    "HTTPMCPClient",
    "HTTPStatusError",
    "HandlerContext",
    "Handlers",
    "HandshakeError",
    "Hooks",
    "InputRequiredError",
    "Interaction",
    "InvalidResultError",
    "KeyringTokenStore",
    "MCPClient",
    "MCPClientError",
    "MCPClientFactory",
    "MCPConnectionError",
    "MemoryMCPClient",
    "MemoryTokenStore",
    "MessageTooLargeError",
    "OAuth",
    "OutcomeUnknownError",
    "PoolKey",
    "PoolLimits",
    "Probe",
    "ProcessExitedError",
    "Prompt",
    "ProtocolError",
    "RPCError",
    "RateLimitError",
    "Request",
    "RequestEvent",
    "Resource",
    "ResourceContent",
    "ResourceTemplate",
    "ResponseEvent",
    "Root",
    "SSEConfig",
    "SSEMCPClient",
    "Secret",
    "ServerConfig",
    "ServerInfo",
    "SessionExpiredError",
    "Skill",
    "SkillFile",
    "SkillRejected",
    "StateEvent",
    "StdioConfig",
    "StdioMCPClient",
    "StructuredOutputError",
    "Subscription",
    "TokenStore",
    "TokenStoreError",
    "Tool",
    "ToolResult",
    "ToolRules",
    "WorkloadIdentity",
    "complete_authorization",
    "list_skills",
    "load_config",
    "load_skill",
    "make_client",
    "parse_config",
    "read_skill_file",
    "redacted_settings",
    "store_key",
]


def test_the_public_names_are_these() -> None:
    assert fastapi_server.mcp.__all__ == PUBLIC


def test_they_are_sorted_and_named_once() -> None:
    assert sorted(set(PUBLIC)) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_resolves(name: str) -> None:
    assert getattr(fastapi_server.mcp, name) is not None


def test_a_star_import_brings_them_all() -> None:
    namespace: dict[str, object] = {}
    exec("from fastapi_server.mcp import *", namespace)
    assert set(PUBLIC) <= set(namespace)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_of_ours_is_documented(name: str) -> None:
    public = getattr(fastapi_server.mcp, name)
    if public.__module__.startswith("fastapi_server."):
        assert public.__doc__
