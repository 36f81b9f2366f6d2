"""What a burst may become, whatever happens to it in whatever order."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.frb_intake import domain
from services.frb_intake.domain import TRANSITIONS, Measured, NewBurst, TransitionError, WithdrawnError
from shared.errors import InvalidInputError
from shared.events.frb import FrbChange, FrbEvent, FrbMeasurement, FrbStatus
from shared.sky.localisation import Ellipse

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PEOPLE, RATINGS = st.sampled_from(["ada", "ben", "eva"]), st.sampled_from(["confirm", "reject", "unsure"])
DMS = st.floats(0, 3000)


def measured(dm_pc_cm3: float) -> Measured:
    return Measured("MB", "v1", dm_pc_cm3=dm_pc_cm3, ellipse=Ellipse(77, 26, 0.05, 0.05, 0, 0.68))


def a_burst(dm_pc_cm3: float | None = None) -> FrbEvent:
    new = NewBurst(submitted_by="ada", origin="upload")
    what = None if dm_pc_cm3 is None else measured(dm_pc_cm3)
    return domain.create(new, frb_id=17, observatory="TOCSIN", now=NOW, measured=what)


class BurstMachine(RuleBasedStateMachine):
    """A burst, what people do with it, and a plain account of what it must be then."""

    @initialize(dm=st.none() | DMS)
    def come_in(self, dm: float | None) -> None:
        self.history = [a_burst(dm)]
        self.status = FrbStatus.CANDIDATE
        self.votes: dict[str, str] = {}
        self.measurements: list[FrbMeasurement] = [self.burst.first] if self.burst.first else []

    @property
    def burst(self) -> FrbEvent:
        return self.history[-1]

    def become(self, burst: FrbEvent) -> None:
        assert self.status is not FrbStatus.WITHDRAWN
        self.history.append(burst)

    @rule(status=st.sampled_from(list(FrbStatus)), seconds=st.integers(-60, 60))
    def decide(self, status: FrbStatus, seconds: int) -> None:
        now = self.burst.changed_at + timedelta(seconds=seconds)
        if status in TRANSITIONS.get(self.status, ()):
            self.become(domain.with_status(self.burst, status, reason="Seen.", by="op", now=now))
            self.status = status
        else:
            refusal = WithdrawnError if self.status is FrbStatus.WITHDRAWN else TransitionError
            with pytest.raises(refusal):
                domain.with_status(self.burst, status, reason="Seen.", by="op", now=now)

    @rule(who=PEOPLE, rating=RATINGS)
    def vote(self, who: str, rating: str) -> None:
        previous = self.votes.get(who)
        if self.status is FrbStatus.WITHDRAWN:
            with pytest.raises(WithdrawnError):
                domain.with_vote(self.burst, rating, previous=previous, by=who, now=NOW)
        else:
            self.become(domain.with_vote(self.burst, rating, previous=previous, by=who, now=NOW))
            self.votes[who] = rating

    @rule(dm=DMS)
    def measure(self, dm: float) -> None:
        if self.status is FrbStatus.WITHDRAWN:
            with pytest.raises(WithdrawnError):
                domain.with_measurement(self.burst, measured(dm), by="ada", now=NOW)
        else:
            self.become(domain.with_measurement(self.burst, measured(dm), by="ada", now=NOW))
            assert self.burst.latest is not None
            assert self.burst.latest.dm_pc_cm3 == dm
            self.measurements.append(self.burst.latest)

    @invariant()
    def it_is_what_was_done_to_it(self) -> None:
        burst, counts = self.burst, Counter(self.votes.values())
        assert burst.status is self.status
        assert {name: count for name, count in burst.votes.model_dump().items() if count} == counts
        assert (burst.first, burst.latest) == (
            (self.measurements[0], self.measurements[-1]) if self.measurements else (None, None)
        )
        assert [measurement.number for measurement in self.measurements] == [
            number + 1 for number in range(len(self.measurements))
        ]

    @invariant()
    def its_history_goes_forward(self) -> None:
        assert [burst.revision for burst in self.history] == [n + 1 for n in range(len(self.history))]
        assert len({burst.event_id for burst in self.history}) == len(self.history)
        times = [burst.changed_at for burst in self.history]
        assert times == sorted(times)


TestBurst = BurstMachine.TestCase
TestBurst.settings = settings(max_examples=50, stateful_step_count=15, deadline=None)
# The first redshift costs a table of half a second.


def test_no_status_leads_to_itself_and_a_withdrawn_burst_nowhere() -> None:
    assert all(status not in following for status, following in TRANSITIONS.items())
    assert not TRANSITIONS[FrbStatus.WITHDRAWN]


def test_a_refused_decision_names_what_is_possible() -> None:
    with pytest.raises(TransitionError, match="one of confirmed, rejected, withdrawn, from candidate"):
        domain.with_status(a_burst(), FrbStatus.CANDIDATE, reason=".", by="op", now=NOW)


@pytest.mark.parametrize(
    ("time", "is_possible"),
    [
        (None, True),
        (NOW, True),
        (NOW + timedelta(seconds=59), True),
        (NOW + timedelta(seconds=61), False),
        (datetime(1967, 1, 1, tzinfo=UTC), True),
        (datetime(1966, 12, 31, tzinfo=UTC), False),
    ],
)
def test_a_burst_arrived_between_the_first_pulsar_and_now(time: datetime | None, is_possible: bool) -> None:
    if is_possible:
        domain.check_time(time, NOW)
    else:
        with pytest.raises(InvalidInputError, match="time_of_arrival"):
            domain.check_time(time, NOW)


def test_a_note_may_be_corrected_after_the_end() -> None:
    gone = domain.with_status(a_burst(), FrbStatus.WITHDRAWN, reason=".", by="op", now=NOW)
    noted = domain.with_correction(gone, by="gcn", now=NOW, note="Late.")
    assert (noted.change, noted.status, noted.note) == (FrbChange.CORRECTED, FrbStatus.WITHDRAWN, "Late.")
