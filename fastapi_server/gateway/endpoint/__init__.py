"""`/mcp`: one MCP endpoint over all servers, in both eras."""
