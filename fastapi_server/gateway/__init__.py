"""The FastAPI server around the clients: one MCP endpoint over many servers, a REST interface and a dashboard.

`uvicorn fastapi_server.gateway:app` serves it, configured by the environment (see `Settings`).
"""

from typing import TYPE_CHECKING, Any

from fastapi_server.gateway.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fastapi_server.gateway.application import create_app

    app: FastAPI

__all__ = ["Settings", "app", "create_app"]


def __getattr__(name: str) -> Any:
    """`app` is made when it is asked for: making it reads the environment."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastapi_server.gateway.application import create_app  # noqa: PLC0415 (who wants only the settings needs none)

    globals()[name] = create_app(Settings()) if name == "app" else create_app
    return globals()[name]
