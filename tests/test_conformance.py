"""Client scenarios of the official conformance suite: a fast few of each revision.

`make conformance` runs them all.
"""

import pytest

from tests.conformance import client, run

pytestmark = pytest.mark.skipif(run.missing() is not None, reason=run.missing() or "")


FEW = {
    "2025-03-26": ["auth/2025-03-26-oauth-endpoint-fallback"],
    "2025-06-18": ["tools_call"],
    "2025-11-25": ["elicitation-sep1034-client-defaults", "auth/basic-cimd"],
    "2026-07-28": ["http-custom-headers", "sep-2322-client-request-state", "auth/dpop-nonce"],
}


@pytest.mark.parametrize("revision", FEW)
def test_scenarios_pass(revision: str) -> None:
    failed = [outcome for outcome in run.run_all(revision, FEW[revision]) if not outcome.ok]

    assert not failed, "\n\n".join(f"{outcome.scenario}:\n{outcome.output}" for outcome in failed)


def test_the_client_knows_no_scenario_that_the_suite_has_not() -> None:
    listed = {scenario for revision in run.REVISIONS for scenario in run.scenarios(revision)}

    assert set(client.SCENARIOS) == {name for name in listed if not name.startswith("auth/")}


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
