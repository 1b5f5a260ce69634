"""`python -m tests.servers.gateway FILE`: a gateway in front of the servers of an `mcp.json`.

Prints a free port, then serves there.
"""

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn

from fastapi_server.gateway import Settings, create_app


async def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        print(listener.getsockname()[1], flush=True)
        file = Path(sys.argv[1])
        database = f"sqlite+aiosqlite:///{file.with_suffix('.db')}"
        app = create_app(Settings(config=file, database=database, rate_limit="1000000/second"))
        config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2)
        await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
