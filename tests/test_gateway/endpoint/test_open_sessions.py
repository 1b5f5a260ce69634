"""Sessions make way for others of their owner only, and ids that have ended are known until they expire."""

import pytest

from fastapi_server.gateway.endpoint import open_sessions
from fastapi_server.gateway.endpoint.open_sessions import OpenSessions


def test_the_one_that_its_owner_has_not_used_for_longest_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_sessions, "_MOST_OF_ONE", 2)
    sessions = OpenSessions(60)
    closed = [sessions.opened(*one) for one in (("b", "bob", "b-1"), ("x", "ann", "a-1"), ("y", "ann", "a-2"))]
    sessions.inner("x")

    assert closed == [None, None, None]
    assert sessions.opened("z", "ann", "a-3") == "a-2"
    assert [sessions.inner(sealed) for sealed in ("b", "x", "y", "z")] == ["b-1", "a-1", None, "a-3"]


def test_of_all_the_one_that_was_not_used_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_sessions, "_MOST", 2)
    sessions = OpenSessions(60)
    for owner in ("ann", "bob", "eve"):
        assert sessions.opened(f"of {owner}", owner, owner) is None
        sessions.end(f"another of {owner}", now=0)

    assert [sessions.inner(f"of {owner}") for owner in ("ann", "bob", "eve")] == [None, "bob", "eve"]
    assert [sessions.has_ended(f"another of {owner}") for owner in ("ann", "bob", "eve")] == [False, True, True]


def test_one_that_was_lost_and_is_open_again_stays() -> None:
    sessions = OpenSessions(60)
    sessions.opened("id", "ann", "first")
    sessions.lost("id", "first")
    assert sessions.inner("id") is None
    sessions.opened("id", "ann", "second")
    sessions.lost("id", "first")
    assert sessions.inner("id") == "second"


def test_what_has_ended_is_forgotten_when_it_has_expired() -> None:
    sessions = OpenSessions(60)
    sessions.opened("early", "ann", "inner")
    sessions.end("early", now=0)
    assert sessions.inner("early") is None
    sessions.end("late", now=59)
    assert sessions.has_ended("early")
    sessions.end("last", now=60)
    assert [sessions.has_ended(sealed) for sealed in ("early", "late", "last")] == [False, True, True]
