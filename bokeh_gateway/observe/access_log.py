"""One line for every exchange, and two for every WebSocket.

Combined is nginx's `combined` line, then ` name=value` fields; JSON has the same fields, one object a line.  Values
from outside are cut, redacted and escaped, so that one record is one line and a terminal may show it.

Both formats are one template over one tuple: nothing but the escaping differs.
Source: nginx ngx_http_log_module (`combined`, and its `\\xNN` escapes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from json import dumps
from typing import Final, Literal, Protocol

from bokeh_gateway.observe.redact import redact, redact_bytes, redact_message

TARGET_LENGTH: Final = 2048
"""Characters of the request target that are kept; with the other fields a line stays below PIPE_BUF (4096 bytes)."""
VALUE_LENGTH: Final = 384
"""Characters of any other value that are kept."""
_CUT: Final = "..."
_CACHED: Final = 1024
"""Values remembered with their escaped form: browsers say the same User-Agent and Referer again and again."""

# What may stand as it is in both formats, quoted or not quoted.
_PLAIN_WORD: Final = bytes(c for c in range(0x21, 0x7F) if c not in b'"\\')

_COMBINED: Final = '%s - %s [%s] "%s %s HTTP/1.%d" %d %d "%s" "%s"'
_JSON: Final = (
    '{"peer":"%s","user":"%s","time_local":"%s","method":"%s","target":"%s","protocol":"HTTP/1.%d","status":%d,"sent":%d'
    ',"referer":"%s","user_agent":"%s"'
)
_TEMPLATES: Final = {
    "combined": (
        f"{_COMBINED} worker=%s time=%.3f reason=%s host=%s received=%d request_id=%s",
        f"{_COMBINED} worker=%s event=open host=%s request_id=%s",
        f"{_COMBINED} worker=%s event=close time=%.3f bytes_in=%d bytes_out=%d messages_in=%d messages_out=%d"
        " close_code=%s closed_by=%s reason=%s host=%s request_id=%s",
    ),
    "json": (
        f'{_JSON},"worker":"%s","time":%.3f,"reason":"%s","host":"%s","received":%d,"request_id":"%s"}}',
        f'{_JSON},"worker":"%s","event":"open","host":"%s","request_id":"%s"}}',
        f'{_JSON},"worker":"%s","event":"close","time":%.3f,"bytes_in":%d,"bytes_out":%d,"messages_in":%d'
        ',"messages_out":%d,"close_code":%s,"closed_by":"%s","reason":"%s","host":"%s","request_id":"%s"}',
    ),
}

_Escape = Callable[[bytes], str]
_Cache = dict[bytes | str, str]
Format = Literal["combined", "json"]
ClosedBy = Literal["browser", "worker", "gateway"]


Record = tuple[
    float, str, str, bytes, bytes, int, int, int, int, float, bytes | None, bytes | None, str, str, bytes, str
]
"""An exchange that ended: when, peer, user, method, target, minor, status, sent, received, when it began, referer,
user agent, worker, reason, host, request id.  The two times are on one clock, in seconds."""


class LineWriter(Protocol):
    """Where lines go: a `LogWriter`, or a list in a test."""

    def write(self, line: str, /) -> None:
        """Takes one line, without its newline."""


class AccessLog:
    """Formats records and hands the lines to `writer`.

    `peer` is an address as `http.forwarded` gives it.  `now_wall` is the wall clock in seconds, `seconds` a duration.
    An empty string or None means that there is no such value: `-` in combined, `""` or null in JSON.
    """

    __slots__ = (
        "_date",
        "_escape",
        "_escape_word",
        "_json",
        "_none",
        "_second",
        "_targets",
        "_templates",
        "_texts",
        "_words",
        "_write",
    )

    def __init__(self, writer: LineWriter, format: Format = "combined") -> None:
        self._write = writer.write
        self._json = format == "json"
        self._none = "" if self._json else "-"
        self._escape: _Escape = _escape_json if self._json else _escape_combined
        self._escape_word: _Escape = _escape_json if self._json else _escape_word
        self._templates = _TEMPLATES[format]
        self._second = -1
        self._date = ""
        self._texts: _Cache = {}
        self._words: _Cache = {}
        self._targets: _Cache = {}

    def exchange(
        self,
        now_wall: float,
        peer: str,
        user: str,
        method: bytes,
        target: bytes,
        minor: int,
        status: int,
        sent: int,
        received: int,
        seconds: float,
        referer: bytes | None,
        user_agent: bytes | None,
        worker: str,
        reason: str,
        host: bytes,
        request_id: str = "",
    ) -> None:
        """One request and its answer; `sent` and `received` are bytes of body, `reason` a refusal's slug.

        A head that could not be read has an empty method and target.
        """
        rest = (minor, status, sent, received, 0.0, referer, user_agent, worker, reason, host, request_id)
        self.exchanges([(seconds, peer, user, method, target, *rest)], now_wall - seconds)

    def exchanges(self, records: Sequence[Record], wall: float) -> None:
        """Many at once: in a row they cost a half.  `wall`: of the wall clock, at 0 of the clock of the records."""
        words, none, texts, targets = self._words, self._none, self._texts, self._targets
        template, write = self._templates[0], self._write
        for (
            ended, peer, user, method, target, minor, status, sent, received, began, referer, user_agent, worker,
            reason, host, request_id,
        ) in records:  # fmt: skip
            now_wall = ended + wall
            if now_wall - self._second >= 1.0 or now_wall < self._second:
                self._tick(now_wall)
            # The look-ups stand here once more, rather than in _text and _word: eight calls are a third of the cost.
            write(
                template
                % (
                    peer,
                    self._word(user) if user else none,
                    self._date,
                    words.get(method) or self._word(method),
                    (targets.get(target) or self._target(target)) if target else none,
                    minor,
                    status,
                    sent,
                    (texts.get(referer) or self._text(referer)) if referer else none,
                    (texts.get(user_agent) or self._text(user_agent)) if user_agent else none,
                    (words.get(worker) or self._word(worker)) if worker else none,
                    ended - began,
                    self._word(reason) if reason else none,
                    words.get(host) or self._word(host),
                    received,
                    request_id or none,
                )
            )

    def websocket_open(
        self,
        now_wall: float,
        peer: str,
        user: str,
        target: bytes,
        minor: int,
        referer: bytes | None,
        user_agent: bytes | None,
        worker: str,
        host: bytes,
        request_id: str = "",
    ) -> None:
        """A WebSocket was opened: the worker answered 101."""
        head = self._head(now_wall, peer, user, target, minor, 0, referer, user_agent, worker)
        self._write(self._templates[1] % (*head, self._word(host), request_id or self._none))

    def websocket_close(
        self,
        now_wall: float,
        peer: str,
        user: str,
        target: bytes,
        minor: int,
        referer: bytes | None,
        user_agent: bytes | None,
        worker: str,
        host: bytes,
        seconds: float,
        bytes_in: int,
        bytes_out: int,
        messages_in: int,
        messages_out: int,
        close_code: int | None,
        closed_by: ClosedBy,
        reason: str,
        request_id: str = "",
    ) -> None:
        """A WebSocket ended.  `in` is from the browser; no `close_code`: the connection broke without a close frame."""
        head = self._head(now_wall, peer, user, target, minor, bytes_out, referer, user_agent, worker)
        code = close_code if close_code is not None else "null" if self._json else "-"
        counts = (seconds, bytes_in, bytes_out, messages_in, messages_out, code, closed_by)
        self._write(
            self._templates[2] % (*head, *counts, self._word(reason), self._word(host), request_id or self._none)
        )

    def _head(
        self,
        now_wall: float,
        peer: str,
        user: str,
        target: bytes,
        minor: int,
        sent: int,
        referer: bytes | None,
        user_agent: bytes | None,
        worker: str,
    ) -> tuple[object, ...]:
        if now_wall - self._second >= 1.0 or now_wall < self._second:
            self._tick(now_wall)
        who = (peer, self._word(user), self._date, "GET", self._target(target) or self._none, minor, 101, sent)
        return (*who, self._text(referer), self._text(user_agent), self._word(worker))

    def _tick(self, now_wall: float) -> None:
        """Makes the date anew, once a second."""
        self._second = int(now_wall)
        local = time.localtime(self._second)
        if self._json:
            text = time.strftime("%Y-%m-%dT%H:%M:%S%z", local)
            self._date = f"{text[:-2]}:{text[-2:]}"
        else:
            # Not %b: it follows the locale, and log readers do not.
            month = "JanFebMarAprMayJunJulAugSepOctNovDec"[local.tm_mon * 3 - 3 : local.tm_mon * 3]
            self._date = time.strftime(f"%d/{month}/%Y:%H:%M:%S %z", local)

    def _target(self, target: bytes) -> str:
        if len(target) > TARGET_LENGTH:
            # Redacting before the last cut: half a token is still half a secret.
            target = redact_bytes(target[: 4 * TARGET_LENGTH])
            return self._cut(target, TARGET_LENGTH, self._escape_word)
        clean = redact_bytes(target)
        if clean.translate(None, _PLAIN_WORD):
            shown = self._cut(clean, TARGET_LENGTH, self._escape_word)
        else:
            shown = clean.decode("latin-1")
        if clean is target:
            self._keep(self._targets, target, shown)
        return shown

    def _text(self, value: bytes | str | None) -> str:
        """A value that stands in quotes."""
        return (self._texts.get(value) or self._shown(value, self._texts, self._escape)) if value else self._none

    def _word(self, value: bytes | str | None) -> str:
        """A value that stands without quotes, so without spaces."""
        return (self._words.get(value) or self._shown(value, self._words, self._escape_word)) if value else self._none

    def _shown(self, value: bytes | str, cache: _Cache, escape: _Escape) -> str:
        """`value` redacted, escaped and cut; remembered in `cache` if it is short and holds no secret."""
        raw = value[: 8 * VALUE_LENGTH]
        text = raw if isinstance(raw, str) else raw.decode("latin-1")
        clean = redact_message(text) if isinstance(raw, str) else redact(text)
        encoded = clean.encode("utf-8", "backslashreplace") if isinstance(raw, str) else clean.encode("latin-1")
        shown = self._cut(encoded, VALUE_LENGTH, escape)
        if clean == text:
            self._keep(cache, value, shown)
        return shown

    @staticmethod
    def _keep(cache: _Cache, value: bytes | str, shown: str) -> None:
        if len(value) <= VALUE_LENGTH:
            if len(cache) >= _CACHED:
                cache.clear()
            cache[value] = shown

    @staticmethod
    def _cut(value: bytes, length: int, escape: _Escape) -> str:
        """`value` escaped, in `length` characters at most, and `...` where it was cut."""
        shown = escape(value[:length])
        if len(shown) > length:
            return escape(value[: length // 6]) + _CUT  # an escape takes six characters at most
        return shown + _CUT if len(value) > length else shown


def _escape_combined(value: bytes) -> str:
    return value.decode("latin-1").translate(_NGINX)


def _escape_word(value: bytes) -> str:
    return value.decode("latin-1").translate(_NGINX_WORD)


def _escape_json(value: bytes) -> str:
    return dumps(value.decode("utf-8", "backslashreplace"))[1:-1]


_NGINX: Final = {c: f"\\x{c:02X}" for c in (*range(0x20), *b'"\\', *range(0x7F, 0x100))}
_NGINX_WORD: Final = {**_NGINX, 0x20: "\\x20"}
