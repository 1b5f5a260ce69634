"""Giving up a block at a certain time, by timers of one's own and by shared ones."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastapi_server.mcp.clients.deadline import _OF_LOOPS, _SOON, _TICK, Deadline

FAR = _SOON + 0.1


def after(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.05, FAR])
async def test_a_block_is_given_up_not_too_early_and_hardly_late(seconds: float) -> None:
    when = after(seconds)
    with pytest.raises(TimeoutError), Deadline(when) as deadline:
        await asyncio.sleep(60)
    assert deadline.expired
    assert after(0) >= when
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.parametrize("seconds", [0.05, FAR, None])
async def test_a_block_that_ends_in_time_leaves_nothing(seconds: float | None) -> None:
    with Deadline(None if seconds is None else after(seconds)) as deadline:
        await asyncio.sleep(0)
    assert not deadline.expired
    assert deadline._watch is None
    deadline.expire()
    deadline.move(after(0))
    await asyncio.sleep(0.01)


async def test_those_of_one_tick_share_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def noted(when: float, callback: Callable[..., Any], *args: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append((when, callback, args))
        return call_at(when, callback, *args, **more)

    monkeypatch.setattr(loop, "call_at", noted)
    when = (int(after(60) / _TICK) + 0.5) * _TICK
    for _ in range(1000):
        with Deadline(when):
            pass

    async def late() -> None:
        with Deadline(when):
            await loop.create_future()

    blocks = [asyncio.create_task(late()) for _ in range(100)]
    await asyncio.sleep(0)
    [(at, over, args)] = timers
    assert when <= at <= when + _TICK
    over(*args)
    outcomes = await asyncio.gather(*blocks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TimeoutError}
    assert id(loop) in _OF_LOOPS


async def test_whoever_cancels_the_block_is_not_taken_for_the_deadline() -> None:
    async def work() -> None:
        with Deadline(after(60)):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_in_the_same_turn_as_it_expires_it_is_cancelled() -> None:
    inside: list[Deadline] = []

    async def work() -> None:
        with Deadline(None) as deadline:
            inside.append(deadline)
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    inside[0].expire()
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_the_block_raises_itself_is_raised() -> None:
    async def refuse_to_be_given_up() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("mine") from None

    with pytest.raises(ValueError, match="mine"), Deadline(after(0.01)):
        await refuse_to_be_given_up()
    await asyncio.sleep(0)


async def test_one_that_expires_as_its_own_block_ends_says_nothing() -> None:
    with Deadline(None) as deadline:
        deadline.expire()
    await asyncio.sleep(0.01)
    assert not deadline.expired


async def test_it_may_be_moved_and_called_off() -> None:
    async def moving(deadline: Deadline) -> None:
        deadline.move(after(60))
        deadline.move(after(0.01))
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError), Deadline(after(FAR)) as deadline:
        await moving(deadline)


async def test_the_inner_of_two_is_told_from_the_outer() -> None:
    with Deadline(after(60)) as outer:
        with pytest.raises(TimeoutError), Deadline(after(0.01)):
            await asyncio.sleep(60)
        await asyncio.sleep(0)
    assert not outer.expired
    with pytest.raises(TimeoutError), Deadline(after(0.01)), Deadline(after(60)) as inner:
        await asyncio.sleep(60)
    assert not inner.expired


def test_an_event_loop_that_is_gone_is_forgotten() -> None:
    async def use() -> int:
        with Deadline(after(60)):
            return id(asyncio.get_running_loop())

    before = len(_OF_LOOPS)
    for _ in range(5):
        asyncio.run(use())
    assert len(_OF_LOOPS) <= before + 1
