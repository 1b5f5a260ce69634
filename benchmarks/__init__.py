"""Our client, the official SDK, FastMCP and a hand-written loop, measured in one run against native stub servers."""
