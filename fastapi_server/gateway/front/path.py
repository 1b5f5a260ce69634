"""The path of a request, as the routes see it."""

from starlette.types import Scope


def path_within(scope: Scope) -> str:
    """The path below that which the application is mounted at (ASGI, HTTP connection scope, `root_path`)."""
    path: str = scope["path"]
    below = path.removeprefix(scope.get("root_path", ""))
    return below if below[:1] in {"", "/"} else path
