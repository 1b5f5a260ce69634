"""MCP clients over stdio, HTTP+SSE and Streamable HTTP, in both eras of the protocol, and the factory of them."""

from mcp_types import CallToolResult as ToolResult
from mcp_types import Completion, GetPromptResult, Prompt, Resource, ResourceTemplate, Root, Tool
from mcp_types import ReadResourceResult as ResourceContent

from fastapi_server.mcp.admission import PoolLimits
from fastapi_server.mcp.auth import complete_authorization
from fastapi_server.mcp.auth.file_store import FileTokenStore
from fastapi_server.mcp.auth.keyring_store import KeyringTokenStore
from fastapi_server.mcp.auth.keys import store_key
from fastapi_server.mcp.auth.stores import MemoryTokenStore, TokenStore
from fastapi_server.mcp.auth_config import (
    AuthorizationResponse,
    BearerAuth,
    ClientCredentials,
    EnterpriseManaged,
    Interaction,
    OAuth,
    Secret,
    WorkloadIdentity,
)
from fastapi_server.mcp.catalogue import Catalogue
from fastapi_server.mcp.client_factory import MCPClientFactory, make_client
from fastapi_server.mcp.clients.auto_client import AutoMCPClient
from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.channel import Channel, CorrelatingChannel, Request
from fastapi_server.mcp.clients.handlers import HandlerContext, Handlers
from fastapi_server.mcp.clients.handshake import Probe, ServerInfo
from fastapi_server.mcp.clients.hooks import ErrorEvent, Hooks, RequestEvent, ResponseEvent, StateEvent
from fastapi_server.mcp.clients.http_client import HTTPMCPClient
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.clients.memory_client import MemoryMCPClient
from fastapi_server.mcp.clients.sse_client import SSEMCPClient
from fastapi_server.mcp.clients.stdio_client import StdioMCPClient
from fastapi_server.mcp.clients.subscriptions import Change, Subscription
from fastapi_server.mcp.config import (
    CommonConfig,
    ConfigFile,
    HTTPConfig,
    ServerConfig,
    SSEConfig,
    StdioConfig,
    ToolRules,
    load_config,
    parse_config,
)
from fastapi_server.mcp.errors import (
    AuthenticationError,
    AuthorizationRequired,
    BusyError,
    CallTimeoutError,
    CircuitOpenError,
    ClientClosedError,
    CommandNotFoundError,
    ConfigError,
    ConnectTimeoutError,
    Delivery,
    HandshakeError,
    HTTPStatusError,
    InputRequiredError,
    InvalidResultError,
    MCPClientError,
    MCPConnectionError,
    MessageTooLargeError,
    OutcomeUnknownError,
    ProcessExitedError,
    ProtocolError,
    RateLimitError,
    RPCError,
    SessionExpiredError,
    SkillRejected,
    StructuredOutputError,
    TokenStoreError,
)
from fastapi_server.mcp.members import PoolKey
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.pool import ClientPool
from fastapi_server.mcp.protocol.eras import EraName
from fastapi_server.mcp.skills import Skill, SkillFile, list_skills, load_skill, read_skill_file

__all__ = [
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
    "store_key",
]
