"""The client scenarios of the official conformance suite, at the last revision of each era."""

import pytest

from tests.conformance import client, run

pytestmark = pytest.mark.skipif(run.missing() is not None, reason=run.missing() or "")


@pytest.mark.parametrize("revision", run.REVISIONS)
def test_every_scenario_passes(revision: str) -> None:
    outcomes = list(run.run_all(revision))

    assert outcomes
    failed = [outcome for outcome in outcomes if not outcome.ok]
    assert not failed, "\n\n".join(f"{outcome.scenario}:\n{outcome.output}" for outcome in failed)


def test_the_client_knows_no_scenario_that_the_suite_has_not() -> None:
    listed = {scenario for revision in run.REVISIONS for scenario in run.scenarios(revision)}

    assert set(client.SCENARIOS) == listed


def test_a_failing_client_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CLIENT", "false")

    outcome = run.run("tools_call", run.REVISIONS[-1])

    assert not outcome.ok
    assert outcome.checks["FAILURE"] > 0


def test_no_scenario_at_all_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_revision: str) -> list[str]:
        return []

    monkeypatch.setattr(run, "scenarios", nothing)

    assert run.main() == 1
