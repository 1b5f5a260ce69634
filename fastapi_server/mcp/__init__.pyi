from .admission import PoolLimits
from .auth import complete_authorization
from .auth.file_store import FileTokenStore
from .auth.keyring_store import KeyringTokenStore
from .auth.keys import store_key
from .auth.stores import MemoryTokenStore, TokenStore
from .auth_config import (
    AuthorizationResponse,
    BearerAuth,
    ClientCredentials,
    EnterpriseManaged,
    FlowAuth,
    Interaction,
    OAuth,
    Secret,
    WorkloadIdentity,
)
from .catalogue import Catalogue
from .client_factory import MCPClientFactory, make_client
from .clients.auto_client import AutoMCPClient
from .clients.base_client import MCPClient
from .clients.channel import Channel, CorrelatingChannel, Request
from .clients.handlers import HandlerContext, Handlers
from .clients.handshake import Probe, ServerInfo
from .clients.hooks import ErrorEvent, Hooks, RequestEvent, ResponseEvent, StateEvent
from .clients.http_client import HTTPMCPClient
from .clients.lifecycle import ConnectionState
from .clients.memory_client import MemoryMCPClient
from .clients.sse_client import SSEMCPClient
from .clients.stdio_client import StdioMCPClient
from .clients.subscriptions import Change, Subscription
from .config import (
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
from .errors import (
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
from .members import PoolKey
from .metrics import ClientMetrics
from .pool import ClientPool
from .protocol.eras import EraName
from .redaction import redacted_settings
from .skills import Skill, SkillFile, list_skills, load_skill, read_skill_file
from .types import (
    Completion,
    GetPromptResult,
    Prompt,
    Resource,
    ResourceContent,
    ResourceTemplate,
    Root,
    Tool,
    ToolResult,
)

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
