"""When votes decide about a candidate."""

import pytest

from services.frb_intake.domain import VoteRule
from shared.events.frb import FrbStatus, FrbVotes
from tests.support.coincidence import a_burst_record

CONFIRMED, REJECTED = FrbStatus.CONFIRMED, FrbStatus.REJECTED


@pytest.mark.parametrize(
    ("rule", "confirm", "reject", "expected"),
    [
        (VoteRule(), 9, 0, None),
        (VoteRule(), 0, 9, None),
        (VoteRule(confirm_votes=2), 1, 0, None),
        (VoteRule(confirm_votes=2), 2, 0, CONFIRMED),
        (VoteRule(confirm_votes=2), 2, 1, None),
        (VoteRule(confirm_votes=2, max_reject_votes=1), 2, 1, CONFIRMED),
        (VoteRule(confirm_votes=2), 0, 2, None),
        (VoteRule(confirm_votes=2, reject_votes=3), 0, 3, REJECTED),
        (VoteRule(reject_votes=3), 1, 3, None),
        (VoteRule(reject_votes=3, max_confirm_votes=1), 1, 3, REJECTED),
    ],
)
def test_votes_decide_when_enough_agree_and_not_too_many_do_not(
    rule: VoteRule, confirm: int, reject: int, expected: FrbStatus | None
) -> None:
    votes = FrbVotes(confirm=confirm, reject=reject, unsure=5)
    decision = rule.decision(a_burst_record(votes=votes))
    assert (decision[0] if decision else None) == expected


@pytest.mark.parametrize("status", [CONFIRMED, REJECTED, FrbStatus.WITHDRAWN])
def test_what_is_decided_is_not_decided_by_votes(status: FrbStatus) -> None:
    votes = FrbVotes(confirm=2, reject=2, unsure=0)
    rule = VoteRule(confirm_votes=1, max_reject_votes=9, reject_votes=1, max_confirm_votes=9)
    assert rule.decision(a_burst_record(status=status, votes=votes)) is None
