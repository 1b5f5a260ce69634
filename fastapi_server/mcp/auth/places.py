"""Where this package keeps files of the user that no configuration names."""

import os
from pathlib import Path


def state_folder() -> Path:
    """Below `$XDG_STATE_HOME`, by default `~/.local/state`."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "mcp-client-factory"
