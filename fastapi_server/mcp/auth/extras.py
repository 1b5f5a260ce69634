"""What to say where an extra has not been installed."""

from fastapi_server.mcp.errors import ConfigError


def missing_extra(what: str, extra: str, error: ModuleNotFoundError) -> ConfigError:
    """The error for a part of this package whose extra is missing."""
    return ConfigError(f'{what} needs {error.name}: install "mcp-client-factory[{extra}]"')
