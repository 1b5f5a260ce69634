"""A FastAPI server around the MCP client runtime in `fastapi_server.mcp`."""
