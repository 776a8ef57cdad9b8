"""What is remembered of how often something was done."""

from __future__ import annotations

import pytest

from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.rate_table import WINDOW, Rates, RateTable

NEVER = float("-inf")


def table(slots: int = 1) -> RateTable:
    """By default one window."""
    return RateTable(Lock(), slots=slots)


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def test_what_is_put_is_there() -> None:
    made = table()
    assert made.get(key(1)) is None
    made.put(key(1), (5.0, 1, 0), NEVER)
    made.put(key(1), (5.0, 2, 1), NEVER)
    made.put(key(2), (6.0, 1, 0), NEVER)
    assert (made.get(key(1)), made.get(key(2))) == ((5.0, 2, 1), (6.0, 1, 0))


@pytest.mark.parametrize(
    ("entries", "over", "gone"),
    [
        pytest.param({3: (50.0, 9, 0), 4: (40.0, 1, 0)}, 50.0, 3, id="first-what-is-over"),
        pytest.param({3: (1.0, 9, 0), 4: (90.0, 1, 0)}, NEVER, 4, id="then-the-lowest-count"),
        pytest.param({3: (1.0, 2, 0), 4: (90.0, 1, 2), 5: (91.0, 2, 0)}, NEVER, 3, id="with-what-is-under-way"),
        pytest.param({3: (92.0, 1, 0), 4: (91.0, 1, 0)}, NEVER, 4, id="among-these-the-oldest"),
    ],
)
def test_who_makes_room(entries: dict[int, tuple[float, int, int]], over: float, gone: int) -> None:
    made = table()
    everyone = dict.fromkeys(range(1, WINDOW + 1), (99.0, 5, 0)) | entries
    for number, counted in everyone.items():
        made.put(key(number), counted, NEVER)
    made.put(key(1000), (100.0, 1, 0), over)
    assert made.get(key(1000)) == (100.0, 1, 0)
    assert [number for number in everyone if made.get(key(number)) is None] == [gone]


def test_a_flood_of_addresses_does_not_push_out_who_has_used_up_his_tries() -> None:
    rates = Rates(table(slots=256), b"sessions", b"secret")
    rates.put("203.0.113.1", (1.0, 5, 0), NEVER)
    for number in range(20_000):
        rates.put(f"2001:db8:{number:x}::", (2.0, 1, 0), NEVER)
    assert rates.get("203.0.113.1") == (1.0, 5, 0)


def test_kinds_and_secrets_keep_names_apart() -> None:
    made = table(slots=64)
    Rates(made, b"sessions", b"secret").put("a", (1.0, 1, 0), NEVER)
    assert Rates(made, b"passwords", b"secret").get("a") is None
    assert Rates(made, b"sessions", b"other").get("a") is None
    assert Rates(made, b"sessions", b"secret").get("a") == (1.0, 1, 0)
