"""Applications that listen on this machine."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def listening(
    app: web.Application, *, handler_cancellation: bool = False, shutdown_timeout: float = 0.1
) -> AsyncGenerator[str]:
    """An application on a port that is free; gives its URL, without a path.

    Args:
        app: What answers.
        handler_cancellation: A handler ends when its client hangs up.
        shutdown_timeout: Seconds that handlers have to end in.
    """
    runner = web.AppRunner(app, handler_cancellation=handler_cancellation, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
