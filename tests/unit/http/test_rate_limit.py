"""Nobody gets more than the rate and the burst, and who waits as long as told gets on."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.rate_limit import RateLimiter, network_of


@dataclass
class Clock:
    now: float = 1e6

    def __call__(self) -> float:
        return self.now


def a_limiter(*, rate_per_s: float = 2.0, burst: int = 3, max_keys: int = 10) -> tuple[RateLimiter, Clock]:
    clock = Clock()
    return RateLimiter(rate_per_s=rate_per_s, burst=burst, max_keys=max_keys, clock=clock), clock


def test_a_burst_passes_and_then_the_rate() -> None:
    limiter, clock = a_limiter()
    assert [limiter.check("maria") for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    clock.now += 0.5
    assert [limiter.check("maria") for _ in range(2)] == [0, 0.5]


def test_callers_do_not_pay_for_each_other() -> None:
    limiter, _ = a_limiter(burst=1)
    assert [limiter.check(name) for name in ("maria", "joao", "maria")] == [0, 0, 0.5]


def test_rest_never_earns_more_than_a_burst() -> None:
    limiter, clock = a_limiter()
    limiter.check("maria")
    clock.now += 1e6
    assert [limiter.check("maria") for _ in range(4)] == [0, 0, 0, 0.5]


@given(
    st.floats(0.01, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 3), min_size=1, max_size=100),
)
def test_no_pattern_of_requests_gets_more(rate_per_s: float, burst: int, pauses_s: list[float]) -> None:
    limiter, clock = a_limiter(rate_per_s=rate_per_s, burst=burst)
    began, passed = clock.now, 0
    for pause_s in pauses_s:
        clock.now += pause_s
        passed += limiter.check("maria") == 0
        assert passed <= burst + rate_per_s * (clock.now - began) + 1e-3


@given(st.floats(0.01, 1000), st.integers(1, 50), st.lists(st.floats(0, 1), max_size=80))
def test_who_waits_as_long_as_told_gets_on(rate_per_s: float, burst: int, pauses_s: list[float]) -> None:
    limiter, clock = a_limiter(rate_per_s=rate_per_s, burst=burst)
    for pause_s in pauses_s:
        clock.now += pause_s
        if wait_s := limiter.check("maria"):
            clock.now += wait_s + 1e-6  # a microsecond: the clock itself is no finer at this size
            assert limiter.check("maria") == 0


def test_memory_is_bounded_and_the_longest_silent_is_forgotten_first() -> None:
    limiter, _ = a_limiter(burst=1, max_keys=3)
    for name in ("maria", "joao", "ines", "maria", "rui"):
        limiter.check(name)
    assert limiter.check("maria") > 0  # still known
    assert limiter.check("joao") == 0  # forgotten for rui


def test_what_is_given_back_can_be_taken_again_and_no_more() -> None:
    limiter = RateLimiter(rate_per_s=0.001, burst=2)
    for _ in range(5):
        assert limiter.check("ada") == 0
        limiter.give_back("ada")
    limiter.give_back("ada")
    assert [limiter.check("ada") > 0 for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("a socket", "a socket"),
        (None, ""),
    ],
)
def test_an_address_of_ipv6_counts_as_its_network(address: str | None, network: str) -> None:
    assert network_of(address) == network
