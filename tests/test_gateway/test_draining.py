"""How the gateway ends under uvicorn; what happens to calls when it gets a signal is tested where it is a program."""

import asyncio
import threading
from pathlib import Path

import aiohttp
import uvicorn
from fastapi import FastAPI

from fastapi_server.gateway import create_app
from tests.test_gateway.gateways import listening, settings_at


async def _end_amid_a_stream(app: FastAPI) -> None:
    async with aiohttp.ClientSession() as http:
        async with listening(app, grace=None) as url:
            events = await http.get(f"{url}/api/events")
            assert events.status == 200
            await events.content.readany()
            reading = asyncio.create_task(events.content.read())
        await reading  # in good order


async def test_told_to_end_by_no_signal_it_ends_its_streams(tmp_path: Path) -> None:
    await _end_amid_a_stream(create_app(settings_at(tmp_path)))


def test_the_application_may_run_again_in_another_event_loop(tmp_path: Path) -> None:
    app = create_app(settings_at(tmp_path))
    for _ in range(2):
        asyncio.run(_end_amid_a_stream(app))


async def test_in_a_thread_it_takes_the_signals_of_no_other_server(tmp_path: Path) -> None:
    async with listening(FastAPI()):
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings_at(tmp_path)), port=0, log_level="warning", loop="asyncio")
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started and thread.is_alive():
            await asyncio.sleep(0.01)
        assert server.started
        server.should_exit = True
        await asyncio.to_thread(thread.join)
