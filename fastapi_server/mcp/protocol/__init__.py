"""The protocol itself: pure functions and small classes. No asyncio, no sockets, no clock, no logging."""
