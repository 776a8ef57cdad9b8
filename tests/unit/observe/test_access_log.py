"""Tests of observe/access_log.py."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from bokeh_gateway.observe.access_log import AccessLog

NOW = 1_795_576_200.0
NASTY = b'a\r\nb\x1b[31m"\\\x00\x7f\xc3\xa9\xff c'


class Lines(list[str]):
    """A writer that keeps lines."""

    write = list.append


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def exchange(log: AccessLog, **changed: Any) -> None:
    """One plain exchange with some values changed."""
    values: dict[str, Any] = {
        "now_wall": NOW,
        "peer": "192.0.2.7",
        "user": "",
        "method": b"GET",
        "target": b"/app",
        "minor": 1,
        "status": 200,
        "sent": 1234,
        "received": 0,
        "seconds": 0.0123,
        "referer": None,
        "user_agent": b"Mozilla/5.0 (X11)",
        "worker": "apps/1",
        "reason": "",
        "host": b"dash.example.com",
        "request_id": "",
    }
    log.exchange(**(values | changed))


def line(format: Any = "combined", **changed: Any) -> str:
    """The line of one exchange."""
    lines = Lines()
    exchange(AccessLog(lines, format), **changed)
    assert len(lines) == 1
    return lines[0]


def test_combined_is_nginx_combined_with_fields_after_it() -> None:
    """Log readers that know nginx read the first part."""
    assert line() == (
        '192.0.2.7 - - [25/Nov/2026:03:10:00 +0000] "GET /app HTTP/1.1" 200 1234 "-" "Mozilla/5.0 (X11)"'
        " worker=apps/1 time=0.012 reason=- host=dash.example.com received=0 request_id=-"
    )


def test_json_has_the_same_fields() -> None:
    """One object a line; absent values are empty."""
    assert json.loads(line("json", user="bob", reason="origin-not-listed", status=403)) == {
        "peer": "192.0.2.7",
        "user": "bob",
        "time_local": "2026-11-25T03:10:00+00:00",
        "method": "GET",
        "target": "/app",
        "protocol": "HTTP/1.1",
        "status": 403,
        "sent": 1234,
        "referer": "",
        "user_agent": "Mozilla/5.0 (X11)",
        "worker": "apps/1",
        "time": 0.012,
        "reason": "origin-not-listed",
        "host": "dash.example.com",
        "received": 0,
        "request_id": "",
    }


@pytest.mark.parametrize("field", ["target", "referer", "user_agent", "host", "method"])
@pytest.mark.parametrize("format", ["combined", "json"])
def test_gw13_one_record_is_one_printable_line(format: str, field: str) -> None:
    """CR, LF, ANSI escapes, quotes and bytes beyond ASCII cannot forge or colour a line; a second look is the same."""
    lines = Lines()
    log = AccessLog(lines, format)  # type: ignore[arg-type]
    for _ in range(2):
        exchange(log, **{field: NASTY})
    assert lines[0] == lines[1]
    assert lines[0].isascii()
    assert lines[0].isprintable()
    if format == "json":
        assert "\r\nb\x1b[31m" in json.loads(lines[0])[field]
    else:
        assert "a\\x0D\\x0Ab\\x1B[31m\\x22\\x5C\\x00\\x7F\\xC3\\xA9\\xFF" in lines[0]


def test_values_without_quotes_have_no_spaces() -> None:
    """Else a user's name could make up fields."""
    assert " - bob\\x20worker=x [" in line(user="bob worker=x")
    assert "host=a\\x20reason=b " in line(host=b"a reason=b")


def test_a_head_that_could_not_be_read_still_makes_a_line() -> None:
    """A 400 has no method and no target."""
    assert '"- - HTTP/1.1" 400' in line(method=b"", target=b"", host=b"", status=400)


@pytest.mark.parametrize("byte", [b"a", b"\xff", b'"', b"\x01"])
@pytest.mark.parametrize("format", ["combined", "json"])
def test_long_values_are_cut_and_a_line_fits_a_pipe(format: str, byte: bytes) -> None:
    """Also when every byte needs an escape; JSON stays JSON."""
    long = byte * 70_000
    shown = line(format, target=long, referer=long, user_agent=long, host=long, method=long)
    assert len(shown) < 4096
    assert shown.count("...") == 5
    if format == "json":
        json.loads(shown)


@pytest.mark.parametrize("format", ["combined", "json"])
def test_tk16_no_token_in_target_or_referer(format: str) -> None:
    """Also where the token is longer than what is kept."""
    token = b"eyJ" + b"a" * 5000
    shown = line(format, target=b"/app?bokeh-token=" + token, referer=b"https://h/?x=" + token)
    assert "eyJ" not in shown
    assert "/app?bokeh-token=***" in shown


def test_secrets_are_not_remembered() -> None:
    """The cache of values holds only what may be shown."""
    log = AccessLog(Lines())
    exchange(log, target=b"/?token=1", referer=b"https://h/?token=2")
    assert "token" not in str([log._targets, log._texts, log._words])


def test_what_is_remembered_is_bounded() -> None:
    """A browser that invents values all the time cannot fill the memory."""
    log = AccessLog(Lines())
    for n in range(3000):
        exchange(log, target=b"/%d" % n, user_agent=b"a%d" % n, host=b"h%d" % n)
    assert max(len(log._targets), len(log._texts), len(log._words)) <= 1024


def test_the_date_follows_the_clock_both_ways() -> None:
    """GW09: a clock that is set back is believed."""
    lines = Lines()
    log = AccessLog(lines)
    for moment in (NOW, NOW + 0.9, NOW + 1.0, NOW - 3600):
        exchange(log, now_wall=moment)
    dates = [found[1] for shown in lines if (found := re.search(r"\[.*?:(.*?) ", shown))]
    assert dates == ["03:10:00", "03:10:00", "03:10:01", "02:10:00"]


@pytest.mark.parametrize("format", ["combined", "json"])
def test_a_websocket_has_two_lines(format: str) -> None:
    """Who closed it, and why, is in the second."""
    lines = Lines()
    log = AccessLog(lines, format)  # type: ignore[arg-type]
    log.websocket_open(NOW, "::1", "", b"/app/ws", 1, None, None, "apps/1", b"h", "r1")
    log.websocket_close(
        NOW,
        "::1",
        "",
        b"/app/ws",
        1,
        None,
        None,
        "apps/1",
        b"h",
        12.5,
        100,
        2000,
        3,
        40,
        None,
        "worker",
        "bye\nx",
        "r1",
    )
    if format == "json":
        opened, closed = map(json.loads, lines)
        assert (opened["event"], opened["status"]) == ("open", 101)
        assert (closed["event"], closed["close_code"], closed["closed_by"]) == ("close", None, "worker")
        assert (closed["bytes_in"], closed["bytes_out"], closed["messages_in"], closed["messages_out"]) == (
            100,
            2000,
            3,
            40,
        )
    else:
        assert lines[0].endswith(' "GET /app/ws HTTP/1.1" 101 0 "-" "-" worker=apps/1 event=open host=h request_id=r1')
        assert lines[1].endswith(
            " worker=apps/1 event=close time=12.500 bytes_in=100 bytes_out=2000 messages_in=3 messages_out=40"
            " close_code=- closed_by=worker reason=bye\\x0Ax host=h request_id=r1"
        )
