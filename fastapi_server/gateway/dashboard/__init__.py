"""The dashboard at `/`: static files that talk to the REST interface, without a build step."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent
_HEADERS = {"Cache-Control": "no-cache"}


class _Asked(StaticFiles):
    """Files that a browser asks for anew each time, by their tag: after an upgrade all of them fit together."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response


def install(app: FastAPI) -> None:
    """Serve the page at `/`, and what it needs under `/dashboard`. Neither tells anything: the page asks for a key."""

    async def page() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers=_HEADERS)

    app.add_api_route("/", page, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/dashboard", _Asked(directory=FOLDER / "static"), name="dashboard")
