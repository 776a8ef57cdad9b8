"""Two upgraded connections joined: bytes pass as they come, frame headers are read for accounts and limits.

Back-pressure: a side that can't take more bytes stops the reading of the other.  The end of one is the other's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import random
from typing import TYPE_CHECKING, Final, Literal, cast

from bokeh_gateway.wire.frames import PING, BrokenFrame, FrameScanner, MessageTooBig, close_frame
from bokeh_gateway.wire.sweep import NEVER, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable

HIGH_WATER: Final = 64 * 1024
"""Bytes waiting for one side before we stop reading the other."""
LOW_WATER: Final = 16 * 1024
"""Bytes left when reading resumes; the 4x gap keeps pause and resume from flapping."""
CLOSE_GRACE: Final = 5.0
"""Seconds for what is still to be sent after one side ended; then the other is cut."""
REPLY_GRACE: Final = 1.0
"""Seconds for the answer to a close frame of ours, before whose messages broke a rule hears of it from us."""

BROWSER: Final = "browser"
WORKER: Final = "worker"
GATEWAY: Final = "gateway"
ClosedBy = Literal["browser", "worker", "gateway"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSettings:
    """What bounds one WebSocket."""

    max_message: int | None
    """Bytes of one message in either direction; `[limits] max_message`."""
    ping: float
    """Seconds without a frame from the browser, at most, before the gateway pings it; `[timeouts] websocket_ping`."""
    idle: float
    """Seconds without a frame from the browser, pongs included, until both are closed; `[timeouts] websocket_idle`."""
    send: float
    """Seconds in which a side that holds the other back must take something; `[timeouts] send`."""

    @property
    def look(self) -> float:
        """Seconds between two looks at a WebSocket; one without a frame since the last look is pinged.

        Two looks make one `ping`, and no clock is read for a frame.  The sweep may come two seconds late.
        """
        return max(self.ping / 2 - 2.0, self.ping / 4)


class Half(asyncio.Protocol):
    """One side's connection.  What it sends is scanned, then written to `peer`."""

    __slots__ = ("active", "bytes", "name", "open", "paused", "peer", "scanner", "transport", "tunnel", "written")

    peer: Half

    def __init__(self, tunnel: Tunnel, name: ClosedBy, transport: asyncio.Transport, scanner: FrameScanner) -> None:
        self.tunnel = tunnel
        self.name = name
        self.transport = transport
        self.scanner = scanner
        self.bytes = 0
        self.active = True
        self.paused = False
        self.open = True
        self.written = 0

    def data_received(self, data: bytes) -> None:
        scanner = self.scanner
        if len(data) < scanner.skip:
            scanner.skip -= len(data)
            scanner.boundary = -1
        else:
            try:
                scanner.scan(data)
            except MessageTooBig as big:
                self.tunnel.too_big(self, data, big)
                return
            except BrokenFrame as broken:
                self.tunnel.broken(self, data, broken)
                return
            if scanner.close_code is not None:
                self.tunnel.close_seen(self)
        self.bytes += len(data)
        self.active = True
        tunnel = self.tunnel
        if tunnel.ending is None:
            self.peer.transport.write(data)
        else:
            tunnel.write_ending(self, data)

    def eof_received(self) -> bool:
        # Closing answers a half-close: WebSocket has no half-open state to keep.
        self.tunnel.half_closed(self)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self.tunnel.lost(self)

    def pause_writing(self) -> None:
        self.paused = True
        self.peer.hold()

    def resume_writing(self) -> None:
        self.paused = False
        self.peer.release()

    def hold(self) -> None:
        if self.open and not self.transport.is_closing():
            self.transport.pause_reading()

    def release(self) -> None:
        if self.open and not self.tunnel.leaving and not self.transport.is_closing():
            self.transport.resume_reading()

    def sent(self, total: int) -> int:
        """Bytes of the peer's that the kernel has taken."""
        return total - self.transport.get_write_buffer_size()


class Tunnel:
    """One browser/worker WebSocket pair.

    Attributes:
        closed_by: "browser", "worker" or "gateway": who ended it first.
        close_code: of the first close frame; 1006 where a side vanished without one.
        reason: why the gateway ended it, "" where it did not.
        leaving: one side has ended; what is still to be sent has `CLOSE_GRACE`, and nothing more is read.
    """

    __slots__ = (
        "_answering",
        "_on_end",
        "_pinged_at",
        "_restarts",
        "_settings",
        "_stall_mark",
        "_stalled_since",
        "_sweep",
        "browser",
        "close_code",
        "closed_by",
        "due",
        "ending",
        "leaving",
        "reason",
        "worker",
    )

    def __init__(
        self,
        browser: asyncio.Transport,
        worker: asyncio.Transport,
        settings: TunnelSettings,
        sweep: Sweep,
        on_end: Callable[[Tunnel], None],
        reserved: int = 0,
        restarts: bool = True,
    ) -> None:
        """`reserved`: the RSV bits that the two sides' extension uses.

        `restarts`: a worker that drops the connection is one that ends, which the browser is told by a 1012; otherwise
        it sees the connection dropped.
        """
        self._settings = settings
        self._sweep = sweep
        self._on_end: Callable[[Tunnel], None] | None = on_end
        self._pinged_at = NEVER
        self._stalled_since = NEVER
        self._stall_mark = (0, 0)
        self.closed_by: ClosedBy | Literal[""] = ""
        self.close_code: int | None = None
        self.reason = ""
        self.ending: tuple[int, str] | None = None
        self.leaving = False
        self._restarts = restarts
        self._answering: Half | None = None
        """Who still speaks after the other side broke a rule: it was told to close, and its answer is the last word."""
        limit = settings.max_message
        self.browser = Half(self, BROWSER, browser, FrameScanner(limit, masked=True, reserved=reserved))
        self.worker = Half(self, WORKER, worker, FrameScanner(limit, masked=False, reserved=reserved))
        self.browser.peer, self.worker.peer = self.worker, self.browser
        # Those that were opened at once are not looked at, and pinged, at once for ever after.
        self.due = sweep.now + settings.look * random()

    def start(self, from_browser: bytes, from_worker: bytes) -> None:
        """Joins the two; the arguments are bytes that came behind the two heads of the handshake."""
        for half, early in ((self.browser, from_browser), (self.worker, from_worker)):
            half.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
            half.transport.set_protocol(half)
            if early:
                half.data_received(early)
        self._sweep.watch(self)

    @property
    def acknowledged(self) -> bool:
        """Whether the worker has sent a message, as a Bokeh worker does as soon as it has the session."""
        return self.worker.scanner.messages > 0

    @property
    def worker_vanished(self) -> bool:
        """Whether the worker's connection was cut first, without a close frame."""
        return self.closed_by == WORKER and self.close_code in (1006, 1012)

    # What the halves report.

    def close_seen(self, half: Half) -> None:
        if not self.closed_by:
            self.closed_by = half.name
            self.close_code = half.scanner.close_code

    def half_closed(self, half: Half) -> None:
        """It sends no more, and gets what was on its way; a peer that goes on sending must not draw that out."""
        half.peer.hold()
        self._leave()

    def _leave(self) -> None:
        if not self.leaving:
            self.leaving = True
            self.due = self._sweep.now + CLOSE_GRACE

    def lost(self, half: Half) -> None:
        peer = half.peer
        if not self.closed_by:
            self.closed_by = half.name
            self.close_code = 1006
            if half is self.worker and peer.open and self._restarts:
                # A worker that ends drops its sockets with no close frame; BokehJS reconnects on 1012.
                self.end(1012, "the worker ended", closed_by=WORKER)
        if peer.open:
            if self._answering is half:
                self._say_last(peer)
            elif not peer.transport.is_closing():
                peer.transport.close()
            self._leave()
        else:
            self._finish()

    def too_big(self, half: Half, data: bytes, big: MessageTooBig) -> None:
        """The frames before the offending one pass; then both sides hear 1009."""
        if self.ending is not None:
            return
        self._pass_before(half, data, big.offset)
        limit = self._settings.max_message
        self.reason = f"message-too-big: {big.size} bytes from the {half.name}, [limits] max_message = {limit}"
        self._refuse(half, 1009, "message too big")

    def broken(self, half: Half, data: bytes, broken: BrokenFrame) -> None:
        """As `too_big`, with 1002: a frame that breaks RFC 6455 reaches nobody."""
        if self.ending is not None:
            return
        self._pass_before(half, data, broken.offset)
        self.reason = f"broken-frame: {broken.detail} from the {half.name}"
        self._refuse(half, 1002, "protocol error")

    @staticmethod
    def _pass_before(half: Half, data: bytes, offset: int) -> None:
        """Passes on what stands before the frame at `offset`, which the peer does not get."""
        if offset > 0:
            half.peer.transport.write(data[:offset])
        elif offset < 0:
            half.peer.transport.close()  # it has the first bytes of the frame already: nothing can be said to it
        half.scanner.skip = 0

    def _refuse(self, half: Half, code: int, text: str) -> None:
        """Nothing more is heard from `half`.  Its peer is told to close, and what it says until then still arrives."""
        peer = half.peer
        if not (peer.open and half.scanner.between_frames) or peer.transport.is_closing():
            self.end(code, text)
            return
        half.hold()
        self.ending = (code, text)
        if not self.closed_by:
            self.closed_by, self.close_code = GATEWAY, code
        peer.transport.write(close_frame(code, text, masked=peer is self.worker))
        self._answering = peer
        self.due = self._sweep.now + REPLY_GRACE

    def _say_last(self, half: Half) -> None:
        """Closes the side that broke a rule: with our close frame, where the other side's did not come to stand."""
        self._answering = None
        said = half.peer.scanner
        if said.close_code is None and said.between_frames:
            self._say_close(half)
        elif not half.transport.is_closing():
            half.transport.close()

    # How the gateway ends it.

    def end(self, code: int, text: str, closed_by: ClosedBy = GATEWAY) -> None:
        """Sends both sides a close frame, between frames, and closes; one in mid-frame gets it when the frame ends."""
        if self.ending is not None:
            return
        self.ending = (code, text)
        if not self.closed_by:
            self.closed_by = closed_by
            self.close_code = code
        for half in (self.browser, self.worker):
            if half.open and half.peer.scanner.between_frames:
                self._say_close(half)
        self.due = self._sweep.now + CLOSE_GRACE

    def write_ending(self, half: Half, data: bytes) -> None:
        """Bytes that come while the tunnel ends: only the rest of a frame that was already under way goes on."""
        peer = half.peer
        if peer.transport.is_closing() or peer is self._answering:
            return
        if half is self._answering:
            peer.transport.write(data)
            if half.scanner.close_code is not None and half.scanner.between_frames:
                self._say_last(peer)
                half.transport.close()
            return
        boundary = half.scanner.boundary
        if boundary < 0:
            peer.transport.write(data)
        else:
            peer.transport.write(data[:boundary])
            self._say_close(peer)

    def _say_close(self, half: Half) -> None:
        assert self.ending is not None
        if half.transport.is_closing():
            return
        code, text = self.ending
        half.transport.write(close_frame(code, text, masked=half is self.worker))
        half.transport.close()

    def _cut(self) -> None:
        for half in (self.browser, self.worker):
            if half.open:
                half.transport.abort()

    def _finish(self) -> None:
        self._sweep.forget(self)
        self.due = NEVER
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(self)

    # Deadlines.

    def expire(self, now: float) -> None:
        settings = self._settings
        answering = self._answering
        if answering is not None:
            self._say_last(answering.peer)
            answering.transport.close()
            self.due = now + CLOSE_GRACE
            return
        if self.ending is not None or self.leaving:
            self._cut()
            self.due = now + CLOSE_GRACE
            return
        if self._stalled(now):
            self.reason = "slow-reader: took nothing within [timeouts] send"
            self.closed_by, self.close_code = GATEWAY, 1006
            self._cut()
            return
        browser = self.browser
        if browser.active:
            browser.active = False
            self._pinged_at = NEVER
            self.due = now + settings.look
            return
        if self._pinged_at == NEVER:
            self._pinged_at = now
        # It was silent for one look at least when the first ping went.
        left = self._pinged_at - settings.look + settings.idle - now
        if left <= 0:
            self.reason = "browser-silent: no frame within [timeouts] websocket_idle"
            self.end(1001, "no sign of life")
            return
        said = self.worker.scanner
        if said.between_frames and said.close_code is None and not browser.paused:
            browser.transport.write(PING)
        self.due = now + min(2 * settings.look, max(left, 1.0))

    def _stalled(self, now: float) -> bool:
        """Whether a side that holds the other back has taken nothing for `send` seconds."""
        if not (self.browser.paused or self.worker.paused):
            self._stalled_since = NEVER
            return False
        mark = (self.browser.sent(self.worker.bytes), self.worker.sent(self.browser.bytes))
        if self._stalled_since == NEVER or mark != self._stall_mark:
            self._stalled_since, self._stall_mark = now, mark
        return now - self._stalled_since >= self._settings.send


def plain_transport(transport: asyncio.BaseTransport | None) -> asyncio.Transport:
    """uvloop's transports are not subclasses of asyncio's, but have their methods."""
    return cast("asyncio.Transport", transport)
