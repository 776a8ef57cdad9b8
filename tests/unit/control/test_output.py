"""A worker's output on its way to the log."""

from __future__ import annotations

import pytest

from bokeh_gateway.control.output import OutputSettings, WorkerOutput, redact

BOKEH_ID = "tQ3dZJqFzG0cAb1kE2mY9wXvUrSpOnLhIgTfCeDxBaM8"
TOKEN = "eyJzZXNzaW9uX2lkIjogImFiYyIsICJzZXNzaW9uX2V4cGlyeSI6IDF9"


def written(*chunks: bytes, **settings: int) -> list[str]:
    lines: list[str] = []
    output = WorkerOutput("demo/1", lines.append, OutputSettings(**settings))
    for chunk in chunks:
        output.feed(chunk, now=0.0)
    output.close(now=0.0)
    return lines


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([b"a\nb\n"], ["a", "b"], id="lines"),
        pytest.param([b"a", b"b\nc", b"\n"], ["ab", "c"], id="cut-anywhere"),
        pytest.param([b"no end"], ["no end"], id="last-line-without-end"),
        pytest.param([b"a\r\n"], ["a"], id="crlf"),
        pytest.param([b"\xc3", b"\xa9\n"], ["é"], id="character-over-two-reads"),
        pytest.param([b"\xff\n"], ["\ufffd"], id="not-utf-8"),
        pytest.param([b"\x1b[31mred\x07\n"], ["\\x1b[31mred\\x07"], id="terminal-sequences"),
        pytest.param(["a\u2028b\u202ec\n".encode()], ["a\\u2028b\\u202ec"], id="line-separators-and-direction"),
        pytest.param([b"a\rb\n"], ["a\\x0db"], id="overwriting-return"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_lines(chunks, expected):
    assert written(*chunks) == [f"[demo/1] {line}" for line in expected]


def test_a_long_line_is_cut_and_counted():
    assert written(b"x" * 6, b"y" * 6 + b"\nz\n", max_line=8) == ["[demo/1] xxxxxxyy (4 bytes left out)", "[demo/1] z"]


def test_a_line_without_end_does_not_grow():
    output = WorkerOutput("demo/1", lambda line: None)
    for _ in range(1000):
        output.feed(b"x" * 65536, now=0.0)
    assert len(output._partial) == OutputSettings().max_line


def test_a_flood_is_counted_not_kept():
    lines: list[str] = []
    output = WorkerOutput("demo/1", lines.append, OutputSettings(lines_per_second=2, keep=3))
    output.feed(b"".join(b"%d\n" % number for number in range(10)), now=0.0)
    assert output.over_budget
    output.feed(b"later\n", now=1.0)
    assert not output.over_budget
    assert lines == [
        "[demo/1] 0",
        "[demo/1] 1",
        "[demo/1] (8 lines left out: more than 2 a second)",
        "[demo/1] later",
    ]
    assert output.last_lines == ("8", "9", "later")


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        pytest.param("200 GET /app?bokeh-session-id=abc.def&x=1 (::1) 3ms", "abc.def", id="argument"),
        pytest.param(f"101 GET /app?bokeh-token={TOKEN}.sig-na_ture", TOKEN, id="token-argument"),
        pytest.param(f"Token for session '{BOKEH_ID}' had invalid signature", BOKEH_ID, id="bokehs-token-error"),
        pytest.param("Session id had invalid signature: 'someone-elses'", "someone-elses", id="bokehs-id-error"),
        pytest.param("Discarding session 'my-own-id-1' last in use", "my-own-id-1", id="own-id"),
        pytest.param(f"header was {TOKEN}", TOKEN, id="token-by-shape"),
        pytest.param("print abcdefg2~Ab-c_1.sig", "abcdefg2~Ab-c_1.sig", id="the-gateways-id-by-shape"),
        pytest.param(f"id={BOKEH_ID}", BOKEH_ID, id="bokehs-id-by-shape"),
    ],
)
def test_secrets_do_not_reach_the_log(line, secret):
    assert secret not in redact(line)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("ModuleNotFoundError: No module named 'sklearn'", id="error"),
        pytest.param('  File "/srv/myapp.py", line 3, in <module>', id="traceback"),
        pytest.param("Bokeh app running at: http://localhost:5006/myapp", id="address"),
    ],
)
def test_what_an_operator_needs_stays(line):
    assert redact(line) == line
