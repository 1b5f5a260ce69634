"""`python -m tests.servers.many_callers URL FILE`: 25 callers whose token has expired, in a process of their own.

Says `ready` once connected, begins when it reads a line, and says how many calls succeeded.
"""

import asyncio
import sys
import time
from pathlib import Path

from fastapi_server.mcp import FileTokenStore, HTTPConfig, HTTPMCPClient, OAuth
from fastapi_server.mcp.auth.oauth import OAuthAuthenticator


async def main() -> None:
    config = HTTPConfig(sys.argv[1], auth=OAuth(store=FileTokenStore(Path(sys.argv[2]))), retries=0)
    async with HTTPMCPClient("guarded", config) as client:
        authenticator = client.identity.authenticator
        assert isinstance(authenticator, OAuthAuthenticator)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        authenticator._clock = lambda: time.time() + 3601
        calls = [client.call_tool("echo", {"n": n}) for n in range(25)]
        print(len(await asyncio.gather(*calls)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
