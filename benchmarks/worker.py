"""The process of one contender: `python -m benchmarks.worker JOB`, with a job and its outcome as JSON."""

import asyncio
import logging
import sys
from typing import cast

import msgspec

from benchmarks.contenders import OURS_UVLOOP, contender
from benchmarks.measures import kind
from benchmarks.measures.bench import Bench
from benchmarks.plan import Job
from benchmarks.sample import Sample


async def _work(job: Job) -> dict[str, Sample | str]:
    bench = Bench(contender(job.contender), job.server, job.seconds)
    outcome: dict[str, Sample | str] = {}
    for measure in job.measures:
        try:
            outcome[measure.name] = await kind(measure.kind)(bench, **measure.options)
        except Exception as error:
            outcome[measure.name] = _told(error)
    return outcome


def _told(error: BaseException) -> str:
    """The first error of a group, and of the groups in it."""
    if isinstance(error, BaseExceptionGroup):
        return _told(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    return f"{type(error).__name__}: {error}"


def _run(job: Job) -> dict[str, Sample | str]:
    if job.contender != OURS_UVLOOP:
        return asyncio.run(_work(job))
    import uvloop  # noqa: PLC0415 - only where it is measured

    return uvloop.run(_work(job))


if __name__ == "__main__":
    logging.disable()
    print(msgspec.json.encode(_run(msgspec.json.decode(sys.argv[1], type=Job))).decode())
