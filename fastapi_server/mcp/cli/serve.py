"""`mcp-clients serve`: the gateway, where its extra is installed."""

from pathlib import Path

import typer
from pydantic import ValidationError

from fastapi_server.mcp import ConfigError
from fastapi_server.mcp.cli.render import complain
from fastapi_server.mcp.cli.run import Status

_NEEDED = frozenset(
    {"aiosqlite", "alembic", "cryptography", "fastapi", "jwt", "limits", "mcp", "prometheus_client"}
    | {"pydantic_settings", "sqlalchemy", "sse_starlette", "starlette", "uvicorn", "watchfiles"}
)


def run_gateway(config: Path | None, host: str, port: int, require_key: bool) -> None:
    """Serve until somebody ends it; what is wrong is said in one line, with status 2."""
    try:
        _serve(config, host, port, require_key)
    except ConfigError as error:
        complain(error)
        raise typer.Exit(Status.USAGE) from None


def _serve(config: Path | None, host: str, port: int, require_key: bool) -> None:
    try:
        from fastapi_server.gateway.serve import serve  # noqa: PLC0415 (only this command needs it)
        from fastapi_server.gateway.settings import Settings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _NEEDED:
            raise
        raise ConfigError(f'serve needs {error.name}: install "mcp-client-factory[gateway]"') from None
    try:
        settings = Settings()
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"environment: {'; '.join(problems)}") from None
    given = {"config": config or settings.config, "require_key": require_key or settings.require_key}
    serve(settings.model_copy(update=given), host, port)
