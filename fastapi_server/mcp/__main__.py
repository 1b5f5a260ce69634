"""`python -m fastapi_server.mcp`, which is the program `mcp-clients`."""

import io
import sys


def main() -> None:
    """Run the command line; without the extra it needs, say so and exit with status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # rather a question mark than a traceback
    try:
        from fastapi_server.mcp.cli.app import app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"rich", "typer"}:
            raise
        print('mcp-clients needs typer and rich: install "mcp-client-factory[cli]"', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    app(prog_name="mcp-clients")


if __name__ == "__main__":
    main()
