"""A server whose names have slashes."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("odd")


@server.tool(name="a/b")
def tool() -> str:
    """Says so."""
    return "slash"


@server.prompt(name="c/d")
def prompt() -> str:
    """Says so."""
    return "slash"


if __name__ == "__main__":
    server.run("stdio")
