"""Answers of name servers as sets of workers."""

from __future__ import annotations

import pytest

from bokeh_gateway.balance.dns_set import Change, Found, bounded_ttl, by_priority, changes, resolved, retry_after
from bokeh_gateway.config.schema import ServerAddress
from bokeh_gateway.config.server_name import parse_place

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


NAME = "dns+a://workers:5006"


@pytest.mark.parametrize(
    ("servers", "answer", "expected"),
    [
        pytest.param([NAME], [B, A], ["10.0.0.1:5006", "10.0.0.2:5006"], id="in-one-order"),
        pytest.param([NAME], None, [], id="not-answered-yet"),
        pytest.param(["a:1", NAME, "b:2"], [A], ["a:1", "10.0.0.1:5006", "b:2"], id="among-others"),
        pytest.param(["10.0.0.1:5006", NAME], [A, B], ["10.0.0.1:5006", "10.0.0.2:5006"], id="named-twice"),
        pytest.param(["unix:/run/a", "b:2"], None, ["unix:/run/a", "b:2"], id="no-name"),
    ],
)
def test_names_are_replaced_by_what_they_stand_for(
    servers: list[str], answer: list[Found] | None, expected: list[str]
) -> None:
    answers = {} if answer is None else {parse_place(NAME): answer}
    listed = [ServerAddress(address=parse_place(server)) for server in servers]
    assert [str(server) for server in resolved(listed, answers)] == expected  # type: ignore[arg-type]


def test_records_and_file_say_together_what_a_server_is() -> None:
    """Weights multiply; a backup is one by the word of either."""
    name = parse_place("dns+srv://workers")
    server = ServerAddress(address=name, weight=3, slow_start=5.0)
    one, two = resolved([server], {name: [A._replace(weight=2), B._replace(backup=True)]})  # type: ignore[dict-item]
    assert [(one.weight, one.backup, one.slow_start), (two.weight, two.backup)] == [(6, False, 5.0), (3, True)]
    (plain,) = resolved([server.model_copy(update={"backup": True})], {name: [A]})  # type: ignore[dict-item]
    assert plain.backup
