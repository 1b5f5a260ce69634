"""Server scenarios of the official conformance suite, through the gateway: a fast few of each era.

`make conformance` runs them all.
"""

import itertools
from collections.abc import Iterator

import pytest

from tests.conformance import run_server, suite

pytestmark = pytest.mark.skipif(suite.missing() is not None, reason=suite.missing() or "")

FEW = {
    "2025-06-18": ["server-initialize", "resources-subscribe"],
    "2025-11-25": ["server-session-lifecycle", "tools-call-elicitation", "tools-call-with-logging"],
    "2026-07-28": ["server-stateless", "input-required-result-multi-round", "http-custom-header-server-validation"],
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with run_server.started() as url:
        yield url


@pytest.mark.timeout(120)
@pytest.mark.parametrize("behind", run_server.BEHIND)
@pytest.mark.parametrize("revision", FEW)
def test_scenarios_pass(url: str, revision: str, behind: str) -> None:
    failed = [outcome for outcome in run_server.run_all(url, revision, behind, FEW[revision]) if not outcome.ok]

    assert not failed, "\n\n".join(f"{outcome.scenario}:\n{outcome.output}" for outcome in failed)


def test_what_is_left_out_is_there() -> None:
    listed = {name for revision in suite.REVISIONS for name in suite.scenarios("server", revision)}

    left_out = itertools.chain(run_server.LEFT_OUT, *run_server.LEFT_OUT_BEHIND.values())
    assert all(any(name.startswith(beginning) for name in listed) for beginning in left_out)
