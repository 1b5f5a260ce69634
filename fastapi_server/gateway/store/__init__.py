"""What outlives the process: servers, API keys, the audit log, the history of metrics, and the sealing key."""

from fastapi_server.gateway.store.engine import StoreRefused, StoreUnavailable
from fastapi_server.gateway.store.sealing import Seal
from fastapi_server.gateway.store.store import AuditQuery, Store
from fastapi_server.gateway.store.tables import APIKey, AuditEntry, MetricsPoint, StoredServer

__all__ = [
    "APIKey",
    "AuditEntry",
    "AuditQuery",
    "MetricsPoint",
    "Seal",
    "Store",
    "StoreRefused",
    "StoreUnavailable",
    "StoredServer",
]
