"""MCP clients over stdio, HTTP+SSE and Streamable HTTP, in both eras of the protocol, and the factory of them.

What there is stands in `__init__.pyi`. Each name is imported when it is first asked for, with what it needs: not
everybody talks HTTP, or starts processes.
"""

import lazy_loader  # pyright: ignore[reportMissingTypeStubs]

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(  # pyright: ignore[reportUnknownVariableType]
    __name__, __file__
)
