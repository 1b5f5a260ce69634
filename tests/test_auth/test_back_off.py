"""How long no token is got for a server that takes none."""

from dataclasses import asdict

import msgspec

from fastapi_server.mcp.auth.back_off import BackOff


def test_each_fruitless_sign_in_doubles_the_pause_up_to_an_hour() -> None:
    back_off, pauses = BackOff(refused=["x"]), list[float]()
    for _ in range(10):
        back_off.has_tried("sign-in", 1000.0)
        pauses.append(back_off.until["sign-in"] - 1000.0)
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_a_refresh_waits_as_long_as_a_sign_in_and_doubles_nothing() -> None:
    back_off = BackOff(refused=["x"])
    back_off.has_tried("refresh", 1000.0)
    assert back_off.again("refresh") == 1030.0
    assert back_off.again("sign-in") == 0.0
    back_off.has_tried("sign-in", 1000.0)
    back_off.has_tried("refresh", 1000.0)
    assert back_off.until == {"sign-in": 1030.0, "refresh": 1030.0}


def test_where_nothing_was_refused_nothing_waits() -> None:
    back_off = BackOff()
    back_off.has_tried("sign-in", 1000.0)
    assert back_off.again("sign-in") == 0.0
    back_off.note(["x"])
    assert back_off.again("sign-in") == 1030.0


def test_what_was_refused_is_kept_once_and_not_without_end() -> None:
    back_off = BackOff()
    back_off.note(str(number) for number in range(300))
    back_off.note(["299"])
    assert back_off.refused == [str(number) for number in range(44, 300)]


def test_it_comes_back_from_a_store_as_it_was() -> None:
    back_off = BackOff({"refresh": 1.0}, 2, ["x"])
    assert msgspec.convert(asdict(back_off), BackOff) == back_off
