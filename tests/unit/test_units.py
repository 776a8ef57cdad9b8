"""Sizes and durations as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("64 KiB", 65536, id="iec"),
        pytest.param("64KiB", 65536, id="no-space"),
        pytest.param("20 MB", 20_000_000, id="si"),
        pytest.param("20 mib", 20 * 1024 * 1024, id="any-case"),
        pytest.param("1.5 KiB", 1536, id="fraction"),
        pytest.param(" 7 bytes ", 7, id="spaces-around"),
        pytest.param("0", 0, id="zero-needs-no-unit"),
        pytest.param("1 GiB", 1024**3, id="gib"),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    """SI is decimal, IEC is binary."""
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("10 s", 10.0, id="s"),
        pytest.param("10s", 10.0, id="no-space"),
        pytest.param("500 ms", 0.5, id="ms"),
        pytest.param("1.5 min", 90.0, id="fraction"),
        pytest.param("2 minutes", 120.0, id="word"),
        pytest.param("1 h", 3600.0, id="h"),
        pytest.param("365 days", 365 * 86400.0, id="days"),
        pytest.param("0.1 s", 0.1, id="exact"),
        pytest.param("0", 0.0, id="zero-needs-no-unit"),
    ],
)
def test_durations(text: str, expected: float) -> None:
    """Always seconds."""
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "-1 s", "+1 s", "1e3 s", "10 parsecs", "s", "1 000 s", "1.s", "inf s", "none"]
)
def test_a_duration_that_is_none_names_the_units(text: str) -> None:
    """The message is enough to mend the file."""
    with pytest.raises(ValueError, match=r"a duration with its unit \(ms, s, min, h, d\), such as \"10 s\""):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "64", "-1 KiB", "64 K", "64 KiBi", "64 Kib x", "none", "9" * 400 + " B"])
def test_a_size_that_is_none_names_the_units(text: str) -> None:
    """The message is enough to mend the file."""
    with pytest.raises(ValueError, match=r"a size with its unit \(B, KB, MB, GB, KiB, MiB, GiB\)"):
        parse_size(text)


def test_a_byte_has_no_parts() -> None:
    """Half a byte is a slip of the pen."""
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("0.3 B")


@given(st.integers(0, 2**45))
def test_sizes_come_back(size: int) -> None:
    """What messages print can be pasted into the file."""
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**12))
def test_durations_come_back(milliseconds: int) -> None:
    """What messages print can be pasted into the file."""
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(300, "5 min"), (0.25, "250 ms"), (1.5, "1500 ms"), (0, "0 s"), (86400, "1 d"), (0.0001, "0.0001 s")],
)
def test_durations_are_printed_in_whole_units(seconds: float, expected: str) -> None:
    """The largest unit without a fraction."""
    assert format_duration(seconds) == expected


@pytest.mark.parametrize(("size", "expected"), [(65536, "64 KiB"), (1500, "1500 B"), (0, "0 B"), (20 << 20, "20 MiB")])
def test_sizes_are_printed_in_whole_units(size: int, expected: str) -> None:
    """The largest binary unit without a fraction."""
    assert format_size(size) == expected
