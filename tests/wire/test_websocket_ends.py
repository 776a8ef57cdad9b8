"""How WebSockets end: by a close frame, by a cut, by silence, by a side that does not read, by a message too long."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bokeh_gateway.wire.frames import close_frame
from bokeh_gateway.wire.tunnel import TunnelSettings
from tests.support.frames import BINARY, PING, PONG, TEXT, close, frame, handshake, read_frame
from tests.support.gateway import KIB, MIB, GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import Recorded, RecordingWorker, Side, switching
from tests.support.tunnels import (
    GO,
    Scripted,
    close_code,
    config,
    frames_at,
    opened,
    tunnel_at,
    wait_ended,
    wait_frames,
)
from tests.support.waiting import GENEROUS, wait_until

SOON = 5.0
"""Seconds for what happens within one here; the machine may be busy."""
TINY_WINDOW = 4096
FLOOD = 256 * MIB
PING_FRAME = b"\x89\x00"

script = Scripted()
hold = threading.Event()


async def floods(request: Recorded, side: Side) -> None:
    """Writes frames until the other side ends it, or all of them are sent."""
    side.reuse = False
    await side.send(switching(request))
    piece = frame(BINARY, bytes(64 * KIB), masked=False)
    with contextlib.suppress(ConnectionError):
        for _ in range(FLOOD // len(piece)):
            await side.send(piece)
        await side.wait_end()
    side.record.ended = True
    side.abort()


async def does_not_read(request: Recorded, side: Side) -> None:
    side.reuse = False
    await side.send(switching(request))
    side.writer.transport.pause_reading()  # type: ignore[attr-defined]
    while not hold.is_set() and not side.writer.transport.is_closing():
        await asyncio.sleep(0.05)
    side.abort()


async def echoes(request: Recorded, side: Side) -> None:
    side.reuse = False
    await side.send(switching(request))
    while data := await side.receive():
        opcode, payload = read_frame(_reader(data))
        await side.send(frame(opcode, payload, masked=False))


def _reader(data: bytes) -> Callable[[int], bytes]:
    rest = bytearray(data)

    def take(count: int) -> bytes:
        taken = bytes(rest[:count])
        del rest[:count]
        return taken

    return take


@pytest.fixture(scope="module")
def recording() -> Iterator[RecordingWorker]:
    scripts = {"/flood": floods, "/deaf": does_not_read, "/echo": echoes}
    with RecordingWorker(script, scripts=scripts, receive_buffer=64 * KIB, limit=64 * KIB) as running:
        yield running
        hold.set()


@pytest.fixture
def worker(recording: RecordingWorker) -> RecordingWorker:
    recording.forget()
    script.reset()
    return recording


@pytest.fixture(scope="module")
def gateway(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    text = config(recording, limit="1 MiB", ping="1 s", idle="4 s", send="3 s")
    with GatewayProcess(text, tmp_path_factory.mktemp("ends")) as running:
        yield running


@pytest.fixture(scope="module")
def patient(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Never pings, nor ends anything while a test runs."""
    with GatewayProcess(config(recording, limit="none"), tmp_path_factory.mktemp("patient")) as running:
        yield running


def said_at_close(gateway: GatewayProcess, words: str) -> None:
    wait_until(lambda: words in gateway.stdout + gateway.stderr, f"{words!r} in a log")


# Close frames.

CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4401, 4999]
NOT_TO_BE_SENT = [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535]
"""RFC 6455 section 7.4: to judge them is the receiver's business."""
REASONS = [b"", b"why", b"x" * 123, "ü".encode() * 61, b"\xff\xfe"]


@pytest.mark.parametrize("from_browser", [True, False], ids=["browser", "worker"])
def test_wp10_every_close_passes_byte_for_byte(
    from_browser: bool, patient: GatewayProcess, worker: RecordingWorker
) -> None:
    """Code and reason, also of those that no endpoint should send; and the answer to it."""
    said = [(code, b"x" * 123) for code in CODES + NOT_TO_BE_SENT] + [(1000, reason) for reason in REASONS]
    for first in [close(None, masked=from_browser), *(close(*both, masked=from_browser) for both in said)]:
        worker.forget()
        script.says = frame(TEXT, b"there", masked=False) if from_browser else first
        with opened(patient) as client:
            client.send(GO)
            if from_browser:
                client.read_exactly(len(script.says))
                client.send(first)
                wait_frames(worker, GO + first)
                reply = close(1000, masked=False)
                worker.push(reply, tunnel_at(worker).number)
                assert client.read_exactly(len(reply)) == reply
            else:
                assert client.read_exactly(len(first)) == first
                reply = close(1000)
                client.send(reply)
                wait_frames(worker, GO + reply)
        wait_ended(worker)


def test_wp10_the_access_log_has_the_code_and_who_closed(patient: GatewayProcess, worker: RecordingWorker) -> None:
    for code, from_browser in ((4321, True), (4322, False)):
        script.says = close(code, masked=False) if not from_browser else frame(TEXT, b"", masked=False)
        with opened(patient, path=f"/ws?{code}") as client:
            client.send(GO)
            client.read_exactly(len(script.says))
            client.send(close(code))
            tunnel_at(worker, f"/ws?{code}")
        who = "browser" if from_browser else "worker"

        def told(code: int = code, who: str = who) -> bool:
            return any(str(code) in line and who in line for line in patient.access_log())

        wait_until(told, f"{code} by the {who} in the access log")


# Cuts.


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_wp11_a_browser_that_drops_ends_the_workers_side_at_once(
    reset: bool, patient: GatewayProcess, worker: RecordingWorker
) -> None:
    """Without a close frame, which is what the worker calls 1006."""
    client = opened(patient)
    client.send(GO)
    wait_frames(worker, GO)
    if reset:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    wait_ended(worker, SOON)
    assert frames_at(worker) == GO


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_wp11_a_worker_that_drops_ends_the_browsers_side_at_once(
    reset: bool, patient: GatewayProcess, worker: RecordingWorker
) -> None:
    """Without a close frame too, in a pool of kind "http": 1006."""
    with opened(patient) as client:
        worker.run(lambda side: side.abort() if reset else side.close(), tunnel_at(worker).number)
        assert client.ends(SOON)
        assert not client.received


def test_wp11_a_bokeh_worker_that_drops_is_one_that_ends(worker: RecordingWorker, tmp_path: Path) -> None:
    """Bokeh's workers drop their sockets when they stop: the browser gets a 1012, "service restart"."""
    text = config(worker).replace('kind = "http"', 'kind = "bokeh"')
    with GatewayProcess(text, tmp_path) as gateway, opened(gateway) as client:
        worker.run(lambda side: side.close(), tunnel_at(worker).number)
        assert close_code(client.read_to_end()) == 1012


def test_a_worker_that_dies_within_a_frame_is_told_as_a_cut(patient: GatewayProcess, worker: RecordingWorker) -> None:
    """No close frame can stand within another frame: the browser sees 1006."""
    half = frame(TEXT, b"x" * 1000, masked=False)[:500]
    script.says, script.then_close = half, True
    with opened(patient) as client:
        client.send(GO)
        assert client.read_to_end() == half


@pytest.mark.parametrize("reads", [True, False])
def test_wp12_a_browser_that_only_half_closes_ends_both_sides(
    reads: bool, patient: GatewayProcess, worker: RecordingWorker
) -> None:
    """While the worker still sends: WebSocket has no half-open state, and nothing leaks."""
    with opened(patient, path="/flood", receive_buffer=TINY_WINDOW) as client:
        client.socket.shutdown(socket.SHUT_WR)
        if reads:
            assert client.ends(2 * SOON)
        wait_until(lambda: tunnel_at(worker, "/flood").ended, "the worker's side is closed", 2 * SOON)
        wait_until(lambda: _connections(patient) == 0, "no connection is left", 2 * SOON)


def _connections(gateway: GatewayProcess) -> int:
    return sum(
        1
        for process in gateway.processes()
        for connection in process.net_connections("tcp")
        if connection.status == "ESTABLISHED" and connection.laddr.port == gateway.port
    )


# Silence.


def test_wp13_a_browser_that_is_silently_gone_ends_both_sides(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """No FIN, and no pong to the gateway's pings: what SIGSTOP or a pulled cable look like."""
    with opened(gateway, path="/ws?gone") as client:
        wait_ended(worker, 20)
        data = client.read_to_end()
        assert data.startswith(b"\x89\x00")
        assert close_code(data.lstrip(b"\x89\x00")) == 1001
    said_at_close(gateway, "browser-silent")


def test_ka01_an_idle_websocket_is_pinged_and_stays(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """Pongs are all that it sends, for longer than `websocket_idle`, and the worker says nothing."""
    with opened(gateway) as client:
        began, last, gaps = time.monotonic(), time.monotonic(), []
        while time.monotonic() - began < 6:
            assert read_frame(client.read_exactly) == (PING, b"")
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
            client.send(frame(PONG))
        assert not tunnel_at(worker).ended
    assert max(gaps) < 1 + 4, gaps  # ping = 1 s, and two looks of the sweep that come late


def test_ka01_two_looks_and_a_late_sweep_are_within_one_ping_interval() -> None:
    """The default of 30 s holds, so that a load balancer in front that cuts after 30 s sees traffic in time."""
    settings = TunnelSettings(max_message=None, ping=30, idle=120, send=60)
    assert 2 * (settings.look + 2.0) <= 30


def test_wp16_idle_websockets_cost_little_and_are_pinged_one_after_the_other(
    recording: RecordingWorker, tmp_path: Path
) -> None:
    """200 that open together: some KB each, no work but pings, and these come spread over `websocket_ping`.

    Thousands of them, and what each holds: `python -m bench.idle`.
    """
    with (
        GatewayProcess(config(recording, ping="12 s"), tmp_path) as gateway,
        contextlib.ExitStack() as clients,
    ):
        for _ in range(20):
            clients.enter_context(opened(gateway))
        before = gateway.memory()
        last = [clients.enter_context(opened(gateway)) for _ in range(200)]
        assert gateway.memory() - before < 200 * 16 * KIB
        used, began, pinged = cpu_seconds(gateway), time.monotonic(), []
        waiting = [client.socket for client in last]
        while waiting and time.monotonic() - began < GENEROUS:
            for ready in select.select(waiting, [], [], 1.0)[0]:
                assert ready.recv(2) == PING_FRAME
                pinged.append(time.monotonic() - began)
                waiting.remove(ready)
        assert len(pinged) == 200
        assert pinged[150] - pinged[50] > 1, pinged
        assert cpu_seconds(gateway) - used < 0.1 * pinged[-1]


def cpu_seconds(gateway: GatewayProcess) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in gateway.processes())


def test_a_worker_that_only_talks_does_not_keep_a_silent_browser(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """What counts is a sign of life from the browser."""
    with opened(gateway) as client:
        number = tunnel_at(worker).number
        ended = threading.Event()

        def talk() -> None:
            while not ended.wait(0.3) and not tunnel_at(worker).ended:
                worker.push(frame(TEXT, b"tick", masked=False), number)

        talker = threading.Thread(target=talk)
        talker.start()
        assert client.ends(20)
        ended.set()
        talker.join()


# Sides that do not read.


def held(gateway: GatewayProcess, before: int) -> int:
    return gateway.peak_memory() - before


def test_wp14_a_browser_that_does_not_read_holds_back_its_worker_and_is_cut(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """256 MB wait at the worker, and never in the gateway; then `[timeouts] send`."""
    with opened(gateway):
        gateway.forget_peak_memory()
        before = gateway.memory()
        with opened(gateway, path="/flood", receive_buffer=TINY_WINDOW) as client:
            wait_until(lambda: tunnel_at(worker, "/flood").ended, "it is cut")
            assert held(gateway, before) < 2 * MIB
            assert client.ends(SOON)
            assert len(client.received) < 32 * MIB
    said_at_close(gateway, "slow-reader")


def test_wp14_a_browser_that_reads_slowly_gets_all_of_it(patient: GatewayProcess, worker: RecordingWorker) -> None:
    with opened(patient, path="/flood") as client:
        patient.forget_peak_memory()
        before = patient.memory()
        got = 0
        while got < FLOOD // 4:
            client.receive(256 * KIB)
            got += len(client.received)
            client.received.clear()
        assert held(patient, before) < 2 * MIB


def test_wp15_a_flood_to_a_worker_that_does_not_read_waits_at_the_browser(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """256 MB the other way; others are served meanwhile, and it is cut in the end."""
    with opened(gateway, path="/echo") as other, opened(gateway, path="/deaf") as client:
        alone = sorted(echo_time(other) for _ in range(100))
        gateway.forget_peak_memory()
        before = gateway.memory()
        piece = frame(BINARY, bytes(64 * KIB))
        sent = [0]

        def flood() -> None:
            while not client.reset and sent[0] < FLOOD:
                client.send(piece)
                sent[0] += len(piece)

        flooding = threading.Thread(target=flood)
        flooding.start()
        meanwhile = sorted(echo_time(other) for _ in range(100))
        wait_until(lambda: client.reset or not flooding.is_alive(), "it is cut", GENEROUS)
        flooding.join()
        assert held(gateway, before) < 2 * MIB
        assert sent[0] < 32 * MIB
        assert meanwhile[50] < max(2 * alone[50], 0.05), (alone, meanwhile)
    said_at_close(gateway, "slow-reader")


def echo_time(client: RawClient) -> float:
    began = time.monotonic()
    client.send(frame(TEXT, b"ping"))
    assert read_frame(client.read_exactly) == (TEXT, b"ping")
    return time.monotonic() - began


# Messages over the limit.

BIG = 1 * MIB + 1


def header_of(size: int, *, masked: bool) -> bytes:
    """A frame's header alone, of a payload that never comes."""
    return struct.pack("!BBQ", 0x82, (0x80 if masked else 0) | 127, size) + (b"abcd" if masked else b"")


def pieces(masked: bool) -> bytes:
    return frame(BINARY, bytes(600 * KIB), masked=masked, final=False) + frame(0, bytes(600 * KIB), masked=masked)


@pytest.mark.parametrize("masked", [True, False], ids=["browser", "worker"])
@pytest.mark.parametrize("whole", [True, False], ids=["by-its-header", "in-pieces"])
def test_wp18_sz01_a_message_over_the_limit_is_1009_for_both_sides(
    masked: bool, whole: bool, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """By frame headers alone: no payload is waited for, and the log says whose limit it was."""
    good = frame(TEXT, b"good", masked=masked)
    bad = header_of(BIG, masked=masked) if whole else pieces(masked)
    passes = b"" if whole else bad[: len(bad) // 2]
    with opened(gateway, path=f"/ws?{masked}{whole}") as client:
        number = tunnel_at(worker).number
        if masked:
            client.send(good + bad)
            assert close_code(client.read_to_end()) == 1009
            wait_ended(worker)
            got = frames_at(worker)
        else:
            worker.push(good + bad, number)
            got = client.read_exactly(len(good + passes) + 19)
            client.send(close_frame(1009, "message too big", masked=True))
            wait_ended(worker)
            assert close_code(frames_at(worker)) == 1009
    assert got.startswith(good + passes[:1])
    assert close_code(got[len(good) + len(passes) :]) == 1009
    who = "browser" if masked else "worker"
    said_at_close(gateway, f"from the {who}, [limits] max_message = {MIB}")


def test_wp18_a_message_at_the_limit_passes(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    fits = frame(BINARY, bytes(MIB))
    with opened(gateway) as client:
        client.send(fits)
        wait_frames(worker, fits)


def test_wp18_without_a_limit_the_workers_1009_passes_and_nothing_is_kept(
    patient: GatewayProcess, worker: RecordingWorker
) -> None:
    """64 MB in one frame stream through; who judges it is the worker."""
    with opened(patient, path="/drain") as client:
        patient.forget_peak_memory()
        before = patient.memory()
        client.send(header_of(64 * MIB, masked=True))
        for _ in range(64):
            client.send(bytes(MIB))
        wait_until(lambda: len(tunnel_at(worker, "/drain").data) > 64 * MIB, "it arrives")
        assert held(patient, before) < 2 * MIB
        verdict = close(1009, b"message too big", masked=False)
        worker.push(verdict, tunnel_at(worker, "/drain").number)
        assert client.read_exactly(len(verdict)) == verdict


# Extensions.

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
AGREED = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"
SQUEEZED = frame(TEXT | 0x40, b"\xca\x48\xcd\xc9\xc9\x07\x00")


def test_wp20_permessage_deflate_is_agreed_end_to_end(patient: GatewayProcess, worker: RecordingWorker) -> None:
    """Offer, answer and compressed frames pass as they are."""
    script.head = lambda request: switching(request, AGREED)
    script.says = frame(TEXT | 0x40, b"\xca\x48\xcd\xc9\xc9\x07\x00", masked=False)
    with RawClient(patient.port) as client:
        client.send(handshake("/ws", OFFER))
        got = client.answer()
        assert got.headers("sec-websocket-extensions") == [AGREED.partition(": ")[2]]
        client.send(SQUEEZED)
        assert client.read_exactly(len(script.says)) == script.says
        wait_frames(worker, SQUEEZED)
    assert worker.to("/ws")[0].all("sec-websocket-extensions") == [OFFER.partition(": ")[2]]


@pytest.mark.parametrize("offered", [True, False])
def test_wp20_the_gateway_agrees_to_nothing_by_itself(
    offered: bool, patient: GatewayProcess, worker: RecordingWorker
) -> None:
    with RawClient(patient.port) as client:
        client.send(handshake("/ws", *([OFFER] if offered else [])))
        assert client.answer().headers("sec-websocket-extensions") == []
        client.send(SQUEEZED)
        assert close_code(client.read_to_end()) == 1002
    assert len(worker.to("/ws")[0].all("sec-websocket-extensions")) == offered
