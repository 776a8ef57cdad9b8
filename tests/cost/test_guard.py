"""The gateway's system calls per request and message, against the kept record: no clock, so no machine is too slow."""

from __future__ import annotations

import os

import pytest

from bench import guard
from bench.harness.meter import CannotTraceError


def test_nothing_costs_more_system_calls_than_in_the_record() -> None:
    """`python -m bench.guard --keep` writes the record anew, where a change is worth its calls."""
    try:
        now = guard.measured()
    except CannotTraceError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"system calls cannot be counted here: {error}")
    assert guard.dearer(now, guard.kept()["calls"]) == []


def test_nothing_calls_more_python_code_than_in_the_record() -> None:
    """What no system call shows: work of the interpreter for each request."""
    record = guard.kept()
    if record["python"] != guard.PYTHON:
        pytest.skip(f"the record was made with Python {record['python']}")
    assert guard.slower(guard.python_calls(), record["python_calls"]) == []


@pytest.mark.parametrize(
    ("calls", "dearer"),
    [
        pytest.param({"read": 2.0, "write": 2.0}, False, id="same"),
        pytest.param({"read": 2.0, "write": 2.4}, False, id="within-the-margin"),
        pytest.param({"read": 3.0, "write": 2.0}, True, id="a-call-more"),
        pytest.param({"read": 1.0}, False, id="less"),
    ],
)
def test_one_call_more_is_said(calls: dict[str, float], dearer: bool) -> None:
    """A guard that could not fail would guard nothing."""
    said = guard.dearer({"get": calls}, {"get": {"read": 2.0, "write": 2.0}})
    assert bool(said) is dearer


def test_a_case_without_record_is_said() -> None:
    """Otherwise a new case would pass for ever."""
    assert "not in the record" in guard.dearer({"new": {"read": 1.0}}, {})[0]


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        pytest.param(100.0, "", id="same"),
        pytest.param(104.0, "", id="within-the-margin"),
        pytest.param(120.0, "at most 106.0 allowed", id="more"),
        pytest.param(0.0, "no call of Python code was counted", id="blind"),
    ],
)
def test_more_python_code_is_said_and_so_is_a_count_of_nothing(calls: float, said: str) -> None:
    """A counter that looks at the wrong process would pass for ever."""
    assert said in "".join(guard.slower({"get": calls}, {"get": 100.0}))
    assert bool(said) is bool(guard.slower({"get": calls}, {"get": 100.0}))
