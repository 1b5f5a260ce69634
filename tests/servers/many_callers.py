"""`python -m tests.servers.many_callers URL FILE`: 25 callers whose token has expired, in a process of their own.

Says `ready` once connected, begins when it reads a line, and says how many calls succeeded. With a client id at the end
it is a program that signs in as that, and whose token has not expired.
"""

import asyncio
import sys
import time
from pathlib import Path

from fastapi_server.mcp import ClientCredentials, FileTokenStore, HTTPConfig, HTTPMCPClient, OAuth
from fastapi_server.mcp.auth.oauth import OAuthAuthenticator


async def main() -> None:
    url, file, *program = sys.argv[1:]
    store = FileTokenStore(Path(file))
    auth = ClientCredentials(program[0], client_secret="s3cret", store=store) if program else OAuth(store=store)
    config = HTTPConfig(url, auth=auth, retries=0)
    async with HTTPMCPClient("guarded", config) as client:
        authenticator = client.identity.authenticator
        assert isinstance(authenticator, OAuthAuthenticator)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        if not program:
            authenticator._clock = lambda: time.time() + 3601
        calls = [client.call_tool("echo", {"n": n}) for n in range(25)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        print(sum(not isinstance(outcome, Exception) for outcome in outcomes), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
