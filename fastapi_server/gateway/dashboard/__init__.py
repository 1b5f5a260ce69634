"""The dashboard at `/`: static files that talk to the REST interface, without a build step."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent


def install(app: FastAPI) -> None:
    """Serve the page at `/`, and what it needs under `/dashboard`. Neither tells anything: the page asks for a key."""

    async def page() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers={"Cache-Control": "no-cache"})

    app.add_api_route("/", page, methods=["GET"], include_in_schema=False)
    app.mount("/dashboard", StaticFiles(directory=FOLDER / "static"), name="dashboard")
