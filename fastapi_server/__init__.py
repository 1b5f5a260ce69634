"""A FastAPI server around the MCP client runtime in `fastapi_server.mcp`."""

__version__ = "0.1.0"
