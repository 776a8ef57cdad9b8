"""A worker's output as lines of the gateway's log: named, bounded, printable, without secrets.  No I/O and no clock.

Bokeh's access log prints request targets with `bokeh-session-id=` and `bokeh-token=`, and its error lines quote session
ids.  Lines that are over the budget are counted, not kept; so a flood costs neither memory nor the gateway's loop.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bokeh_gateway.observe.redact import MASK, redact_message

_BY_SHAPE: Final = re.compile(
    r"(?<![A-Za-z0-9])[a-z2-7]{8}~[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)?"  # an id that the gateway minted
    r"|(?<![A-Za-z0-9_/-])[A-Za-z0-9]{44}(?![A-Za-z0-9_/-])(?:\.[A-Za-z0-9_-]{43})?"  # one that Bokeh minted
)
_QUOTED: Final = re.compile(r"((?:session(?: id)?|signature:|token) )(['\"])[^'\"]{8,}\2", re.IGNORECASE)

_ESCAPES: Final = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if code != 0x09
}
"""Control characters, line separators and changes of direction, which could forge a line of the log; tabs stay."""


def redact(line: str) -> str:
    """`line` with session ids and tokens replaced; a false alarm only costs a word of a log line."""
    line = _QUOTED.sub(rf"\g<1>\g<2>{MASK}\g<2>", redact_message(line))
    return _BY_SHAPE.sub(MASK, line)


def printable(line: str) -> str:
    """`line` with what a terminal or a reader of lines would act on shown as an escape."""
    return line.translate(_ESCAPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSettings:
    """How much of a worker's output is passed on."""

    max_line: int = 4096
    """Bytes of one line; the rest of it is counted."""
    lines_per_second: int = 500
    """An app that prints more than this is not read by anybody."""
    keep: int = 20
    """Last lines, told again when the worker ends badly."""


class WorkerOutput:
    """Cuts what one worker writes into lines and gives them to `sink` as `[demo/1] line`."""

    def __init__(self, name: str, sink: Callable[[str], None], settings: OutputSettings | None = None) -> None:
        self._name = name
        self._sink = sink
        self._settings = settings or OutputSettings()
        self._partial = bytearray()
        self._cut = 0
        self._kept: deque[tuple[bytes, int]] = deque(maxlen=self._settings.keep)
        self._second = 0
        self._lines = 0
        self._dropped = 0

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The latest lines, oldest first, without the name before them."""
        return tuple(self._text(line, cut) for line, cut in self._kept)

    @property
    def over_budget(self) -> bool:
        """Lines of this second are being dropped: reading on at once would only cost CPU."""
        return self._dropped > 0

    def feed(self, data: bytes, now: float) -> None:
        """Takes what the worker wrote; `now` in seconds of any clock that goes forward."""
        self._turn_second(now)
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(piece)
            self._end_line()
        self._add(rest)

    def close(self, now: float) -> None:
        """The worker is gone: passes on a last line that has no end, and the count of the dropped ones."""
        self._turn_second(now)
        if self._partial or self._cut:
            self._end_line()
        self._report_dropped()

    def _add(self, piece: bytes) -> None:
        room = self._settings.max_line - len(self._partial)
        self._partial += piece[:room]
        self._cut += max(0, len(piece) - room)

    def _end_line(self) -> None:
        line, cut = bytes(self._partial).rstrip(b"\r"), self._cut
        self._partial.clear()
        self._cut = 0
        self._kept.append((line, cut))
        if self._lines >= self._settings.lines_per_second:
            self._dropped += 1
            return
        self._lines += 1
        self._sink(f"[{self._name}] {self._text(line, cut)}")

    def _turn_second(self, now: float) -> None:
        if int(now) == self._second:
            return
        self._second = int(now)
        self._lines = 0
        self._report_dropped()

    def _report_dropped(self) -> None:
        if self._dropped:
            limit = self._settings.lines_per_second
            self._sink(f"[{self._name}] ({self._dropped} lines left out: more than {limit} a second)")
            self._dropped = 0

    @staticmethod
    def _text(line: bytes, cut: int) -> str:
        text = printable(redact(line.decode("utf-8", "replace")))
        return f"{text} ({cut} bytes left out)" if cut else text
