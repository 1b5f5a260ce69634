"""Servers that misbehave when told to, for tests of those who use this package; `pytest` finds them as fixtures."""
