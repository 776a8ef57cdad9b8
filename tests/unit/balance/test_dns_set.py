"""Answers of name servers as sets of workers."""

from __future__ import annotations

import pytest

from bokeh_gateway.balance.dns_set import Change, Found, bounded_ttl, by_priority, changes, retry_after

A, B, C = (Found(f"10.0.0.{n}", 5006) for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("present", "answer", "expected"),
    [
        pytest.param([A, B], [B, A], Change((), ()), id="another-order"),
        pytest.param([A], [A, B, C], Change((B, C), ()), id="more"),
        pytest.param([A, B], [B], Change((), (A,)), id="fewer"),
        pytest.param([A], [B], Change((B,), (A,)), id="another"),
        pytest.param([A], [A, A], Change((), ()), id="twice"),
        pytest.param([A], [A._replace(weight=5)], Change((), ()), id="weight"),
        pytest.param([A], [A._replace(port=1)], Change((A._replace(port=1),), (A,)), id="port"),
    ],
)
def test_what_an_answer_changes(present: list[Found], answer: list[Found], expected: Change) -> None:
    assert changes(present, answer) == expected


def test_times_are_bounded() -> None:
    assert [bounded_ttl(ttl) for ttl in (0, 30, 86400)] == [1.0, 30.0, 60.0]
    assert [retry_after(n) for n in (0, 1, 3, 99)] == [1.0, 2.0, 8.0, 30.0]


def test_a_lower_priority_is_a_backup() -> None:
    found = by_priority([(10, A), (20, B._replace(weight=0)), (10, C)])
    assert [(one.backup, one.weight) for one in found] == [(False, 1), (True, 1), (False, 1)]
    assert by_priority([]) == []
