"""Which revision to speak: one row for each rule."""

import itertools
from typing import NamedTuple

import pytest

from fastapi_server.mcp.errors import RPCError
from fastapi_server.mcp.protocol.eras import HANDSHAKE_VERSIONS, KNOWN_VERSIONS, STATELESS_VERSIONS
from fastapi_server.mcp.protocol.negotiation import (
    RECOGNISED,
    Agreed,
    Answer,
    Discover,
    Initialize,
    Outcome,
    Refused,
    Step,
    Try,
    first_step,
    is_still_spoken,
    next_step,
)

OLD, NEW = "2025-11-25", "2026-07-28"
HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED = -32020, -32021, -32022
METHOD_NOT_FOUND, INVALID_PARAMS = -32601, -32602

probed = Discover(NEW)
opened = Initialize(OLD)
pinned = Initialize("2025-06-18", exactly=True)


def result(*versions: str) -> Answer:
    return Answer(Outcome.RESULT, versions)


def error(code: int, *versions: str, text: str = "no") -> Answer:
    return Answer(Outcome.ERROR, versions, code, text)


def refusal(reason: str) -> Refused:
    """A step to compare with: the reason need only contain this."""
    return Refused(reason)


class Row(NamedTuple):
    """What was tried and how often probed, what came back, what follows."""

    tried: Try
    probes: int
    answer: Answer
    then: Step


NOTHING_IN_COMMON = "no protocol revision in common"
SILENT, DIED = Answer(Outcome.SILENT), Answer(Outcome.DIED, text="exit code 1")
HTTP_REFUSAL = Answer(Outcome.REFUSED, text="HTTP 404")

RULES = {
    # The probe is answered with a result.
    "discover: result with a stateless revision": Row(probed, 1, result(NEW), Agreed(NEW)),
    "discover: result with both eras": Row(probed, 1, result(OLD, NEW), Agreed(NEW)),
    "discover: result with a later revision, too": Row(probed, 1, result(NEW, "2099-01-01"), Agreed(NEW)),
    "discover: result with handshake revisions only": Row(
        probed, 1, result("2024-11-05", "2025-06-18"), Initialize("2025-06-18")
    ),
    "discover: result with unknown revisions only": Row(
        probed, 1, result("2099-01-01"), refusal(f"{NOTHING_IN_COMMON}: the server speaks 2099-01-01;")
    ),
    "discover: result with no revision": Row(
        probed, 1, result(), refusal(f"{NOTHING_IN_COMMON}: the server speaks no revision at all;")
    ),
    # The probe is answered with an error that only a stateless server gives.
    "discover: -32022 naming a stateless revision": Row(probed, 1, error(UNSUPPORTED, NEW), Discover(NEW)),
    "discover: -32022 naming both eras": Row(probed, 1, error(UNSUPPORTED, OLD, NEW), Discover(NEW)),
    "discover: -32022 naming handshake revisions only": Row(
        probed, 1, error(UNSUPPORTED, "2024-11-05", OLD), Initialize(OLD)
    ),
    "discover: -32022 naming unknown revisions": Row(
        probed, 1, error(UNSUPPORTED, "2099-01-01"), refusal(NOTHING_IN_COMMON)
    ),
    "discover: -32022 naming nothing": Row(probed, 1, error(UNSUPPORTED), refusal(NOTHING_IN_COMMON)),
    "discover: -32022 to the second probe": Row(probed, 2, error(UNSUPPORTED, NEW), refusal(NOTHING_IN_COMMON)),
    "discover: -32022 to the second probe, both eras": Row(
        probed, 2, error(UNSUPPORTED, OLD, NEW), refusal(NOTHING_IN_COMMON)
    ),
    "discover: -32022 to the second probe, handshake revisions only": Row(
        probed, 2, error(UNSUPPORTED, OLD), Initialize(OLD)
    ),
    "discover: -32020": Row(
        probed,
        1,
        error(HEADER_MISMATCH, text="Mcp-Method is missing"),
        refusal("rejected server/discover: Mcp-Method is missing (code -32020)"),
    ),
    "discover: -32021": Row(
        probed,
        1,
        error(MISSING_CAPABILITY, text="elicitation needed"),
        refusal("rejected server/discover: elicitation needed (code -32021)"),
    ),
    # The probe is answered with anything else: the server knows only the handshake.
    "discover: method not found": Row(probed, 1, error(METHOD_NOT_FOUND), opened),
    "discover: invalid params": Row(probed, 1, error(INVALID_PARAMS), opened),
    "discover: an error of its own": Row(probed, 1, error(-1), opened),
    "discover: an unrecognised error that names a stateless revision": Row(probed, 1, error(-32000, NEW), opened),
    "discover: HTTP refusal": Row(probed, 1, HTTP_REFUSAL, opened),
    "discover: silent": Row(probed, 1, SILENT, opened),
    "discover: died": Row(probed, 1, DIED, Initialize(OLD, reopen=True)),
    "discover: died, and initialize is an error": Row(
        Initialize(OLD, reopen=True), 1, error(METHOD_NOT_FOUND), Discover(NEW)
    ),
    "discover: died, and initialize is refused": Row(Initialize(OLD, reopen=True), 1, HTTP_REFUSAL, Discover(NEW)),
    "discover: died twice, and initialize is an error": Row(
        Initialize(OLD, reopen=True),
        2,
        error(METHOD_NOT_FOUND, text="no such method"),
        refusal("rejected initialize: no such method (code -32601)"),
    ),
    # The handshake.
    "initialize: the revision offered": Row(opened, 1, result(OLD), Agreed(OLD)),
    "initialize: an older revision": Row(opened, 1, result("2024-11-05"), Agreed("2024-11-05")),
    "initialize: a later handshake revision than offered": Row(Initialize("2024-11-05"), 0, result(OLD), Agreed(OLD)),
    "initialize: an unknown revision": Row(
        opened, 1, result("2099-01-01"), refusal(f"{NOTHING_IN_COMMON}: the server speaks 2099-01-01;")
    ),
    "initialize: a stateless revision": Row(opened, 1, result(NEW), refusal(NOTHING_IN_COMMON)),
    "initialize: no revision": Row(opened, 1, result(), refusal(NOTHING_IN_COMMON)),
    "initialize: the pinned revision": Row(pinned, 0, result("2025-06-18"), Agreed("2025-06-18")),
    "initialize: another than the pinned revision": Row(
        pinned, 0, result(OLD), refusal(f"the configuration pins revision 2025-06-18; the server answered {OLD}")
    ),
    "initialize: an error": Row(
        opened, 1, error(INVALID_PARAMS, text="bad client"), refusal("rejected initialize: bad client (code -32602)")
    ),
    "initialize: HTTP refusal": Row(
        opened, 1, HTTP_REFUSAL, refusal("did not answer initialize with a result of MCP: HTTP 404")
    ),
    # Late evidence of the stateless era.
    "initialize: -32022 naming a stateless revision, probed once": Row(
        opened, 1, error(UNSUPPORTED, NEW), Discover(NEW)
    ),
    "initialize: -32022 naming a stateless revision, never probed": Row(
        opened, 0, error(UNSUPPORTED, NEW), Discover(NEW)
    ),
    "initialize: -32022 naming a stateless revision, probed twice": Row(
        opened, 2, error(UNSUPPORTED, NEW), refusal(NOTHING_IN_COMMON)
    ),
    "initialize: -32022 naming nothing of ours": Row(
        opened, 1, error(UNSUPPORTED, "2099-01-01"), refusal(NOTHING_IN_COMMON)
    ),
    "initialize: -32022 where the configuration pins a revision": Row(
        pinned, 0, error(UNSUPPORTED, NEW), refusal("pins revision 2025-06-18; the server speaks 2026-07-28")
    ),
    "initialize: -32022 naming nothing where the configuration pins a revision": Row(
        pinned, 0, error(UNSUPPORTED), refusal("pins revision 2025-06-18; the server speaks no other")
    ),
}


@pytest.mark.parametrize("row", RULES.values(), ids=RULES)
def test_rule(row: Row) -> None:
    then = next_step(row.tried, row.answer, probes=row.probes)
    if isinstance(row.then, Refused):
        assert isinstance(then, Refused)
        assert row.then.reason in then.reason
    else:
        assert then == row.then


FIRST = {
    "nothing known": (None, None, True, Discover(NEW)),
    "nothing known, on a transport without the stateless era": (None, None, False, Initialize(OLD)),
    "pinned to a handshake revision": ("2025-03-26", None, True, Initialize("2025-03-26", exactly=True)),
    "pinned to the stateless era": (NEW, None, True, Agreed(NEW)),
    "known to speak a handshake revision": (None, "2025-06-18", True, Initialize("2025-06-18")),
    "known to speak the stateless era": (None, NEW, True, Agreed(NEW)),
    "pinned to another than known": ("2025-03-26", NEW, True, Initialize("2025-03-26", exactly=True)),
    "pinned to the stateless era, known to speak the handshake": (NEW, OLD, True, Agreed(NEW)),
}


@pytest.mark.parametrize(("pin", "known", "probe", "step"), FIRST.values(), ids=FIRST)
def test_first_step(pin: str | None, known: str | None, probe: bool, step: Step) -> None:
    assert first_step(pin, known, probe=probe) == step


def test_the_codes_recognised_are_those_of_the_stateless_era() -> None:
    assert {HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED} == RECOGNISED
    assert RECOGNISED <= RPCError.UNTOUCHED


def test_the_newest_revision_of_each_era_is_tried_first() -> None:
    assert Discover(STATELESS_VERSIONS[-1]) == probed
    assert Initialize(HANDSHAKE_VERSIONS[-1]) == opened


def test_a_refusal_says_what_both_sides_speak() -> None:
    refused = next_step(probed, result("2099-01-01", "2098-01-01"), probes=1)
    assert isinstance(refused, Refused)
    assert "the server speaks 2099-01-01, 2098-01-01;" in refused.reason
    assert refused.reason.endswith("this client speaks " + ", ".join(KNOWN_VERSIONS))


# Whether it is spoken even now.


@pytest.mark.parametrize(
    ("answer", "spoken"),
    [
        (result(NEW), True),
        (result("2099-01-01"), False),
        (error(UNSUPPORTED, "2099-01-01"), False),
        (error(METHOD_NOT_FOUND), False),
        (error(INVALID_PARAMS), False),
        (error(HEADER_MISMATCH), True),
        (error(MISSING_CAPABILITY), True),
        (HTTP_REFUSAL, False),
        (SILENT, True),
        (DIED, True),
    ],
)
def test_a_server_shows_whether_it_was_replaced(answer: Answer, spoken: bool) -> None:
    assert is_still_spoken(NEW, answer) is spoken


# Every server there could be.

ANSWERS = [
    *(result(*versions) for versions in [(), (OLD,), (NEW,), (OLD, NEW), ("2099-01-01",)]),
    *(error(UNSUPPORTED, *versions) for versions in [(), (OLD,), (NEW,), (OLD, NEW), ("2099-01-01",)]),
    *(error(code) for code in [HEADER_MISMATCH, MISSING_CAPABILITY, METHOD_NOT_FOUND, -1]),
    SILENT,
    HTTP_REFUSAL,
    DIED,
]


def steps(first: Try | Agreed, to_discover: tuple[Answer, Answer], to_initialize: Answer) -> list[Step]:
    """What is done with a server that answers so; probed more than twice, it answers with an error."""
    done: list[Step] = [first]
    discovers = iter(to_discover)
    probes = 0
    while isinstance(step := done[-1], (Discover, Initialize)):
        probes += isinstance(step, Discover)
        answer = next(discovers) if isinstance(step, Discover) else to_initialize
        done.append(next_step(step, answer, probes=probes))
        assert len(done) < 10, "it never ends"
    return done


@pytest.mark.parametrize("pin", [None, *HANDSHAKE_VERSIONS, *STATELESS_VERSIONS])
@pytest.mark.parametrize("known", [None, OLD])
def test_negotiation_ends_and_probes_twice_at_most(pin: str | None, known: str | None) -> None:
    first = first_step(pin, known, probe=True)
    for once, twice, hand in itertools.product(ANSWERS, ANSWERS, ANSWERS):
        done = steps(first, (once, twice), hand)
        assert isinstance(done[-1], (Agreed, Refused))
        assert sum(isinstance(step, Discover) for step in done) <= 2
        if pin is not None and isinstance(done[-1], Agreed):
            assert done[-1].version == pin
        if isinstance(done[-1], Agreed):
            assert done[-1].version in KNOWN_VERSIONS
        else:
            assert done[-1].reason
