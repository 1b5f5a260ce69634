"""The command line `mcp-clients`. Needs the extra `cli`."""
