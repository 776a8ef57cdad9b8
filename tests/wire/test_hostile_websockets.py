"""Handshakes and frames of attackers, on either side: raw sockets, and a worker that says what it is told to."""

from __future__ import annotations

import base64
import os
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ProtocolError
from websockets.protocol import Protocol, State
from websockets.protocol import Side as Role

from bokeh_gateway.wire.frames import close_frame
from tests.support.frames import BINARY, CLOSE, PING, PONG, TEXT, close, frame, handshake
from tests.support.gateway import GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import Recorded, RecordingWorker, answer, switching
from tests.support.tunnels import (
    GO,
    Scripted,
    close_code,
    config,
    frames_at,
    opened,
    wait_ended,
    wait_frames,
)
from tests.support.waiting import wait_until

script = Scripted()


@pytest.fixture(scope="module")
def recording() -> Iterator[RecordingWorker]:
    with RecordingWorker(script) as running:
        yield running


@pytest.fixture
def worker(recording: RecordingWorker) -> RecordingWorker:
    recording.forget()
    script.reset()
    return recording


@pytest.fixture(scope="module")
def gateway(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(config(recording), tmp_path_factory.mktemp("websockets")) as running:
        yield running


# The handshake.


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(answer(b"later", "426 Upgrade Required", "Upgrade: websocket"), id="426"),
        pytest.param(answer(b"page"), id="200"),
        pytest.param(answer(b"no", "403 Forbidden"), id="403"),
        pytest.param(answer(b"busy", "503 Service Unavailable"), id="503"),
    ],
)
def test_wu01_tk07_an_upgrade_that_was_not_answered_with_101_stays_http(
    refusal: bytes, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """The worker's status passes, and what follows is parsed and routed, never tunnelled."""
    script.head = lambda request: refusal
    with RawClient(gateway.port) as client:
        client.send(handshake("/ws"))
        got = client.answer()
        status = int(refusal.split(b" ", 2)[1])
        assert (got.status, got.body) == (status, refusal.rpartition(b"\r\n\r\n")[2])
        client.send(b"GET /behind HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.answer().body == b"plain /behind"
        client.send(frame(TEXT, b"smuggled") + b"\r\n\r\n")
        assert client.answer().status == 400
        assert client.ends(10)
    assert worker.targets == ["/ws", "/behind"]
    assert b"smuggled" not in worker.received()


def test_wu03_frames_sent_with_the_handshake_wait_for_the_101(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """All of them, in order; the worker sees none before it agreed."""
    script.go_before_101 = threading.Event()
    early = b"".join(frame(BINARY, bytes([n]) * n) for n in range(200))
    with RawClient(gateway.port) as client:
        client.send(handshake("/ws") + early)
        worker.wait_for("/ws")
        client.send(GO)
        script.go_before_101.set()
        assert client.answer().status == 101
        wait_frames(worker, early + GO)
    assert script.before_101.endswith(b"\r\n\r\n")
    assert early[:8] not in script.before_101


def test_early_frames_of_a_refused_handshake_are_not_frames(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    script.head = lambda request: answer(b"no", "403 Forbidden")
    with RawClient(gateway.port) as client:
        client.send(handshake("/ws") + frame(TEXT, b"too early") + b"\r\n\r\n")
        assert [client.answer().status, client.answer().status] == [403, 400]
        assert client.ends(10)
    assert b"too early" not in worker.received()


def lines(request: Recorded, *changes: tuple[bytes, bytes]) -> bytes:
    head = switching(request)
    for old, new in changes:
        assert old in head
        head = head.replace(old, new)
    return head


def accept_line(request: Recorded) -> bytes:
    return (
        next(line for line in switching(request).split(b"\r\n") if line.startswith(b"Sec-WebSocket-Accept")) + b"\r\n"
    )


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(lambda r: lines(r, (accept_line(r), b"")), id="accept-missing"),
        pytest.param(
            lambda r: lines(
                r, (accept_line(r), b"Sec-WebSocket-Accept: " + base64.b64encode(os.urandom(20)) + b"\r\n")
            ),
            id="accept-wrong",
        ),
        pytest.param(lambda r: lines(r, (accept_line(r), accept_line(r).upper())), id="accept-upper-case"),
        pytest.param(
            lambda r: lines(r, (accept_line(r), accept_line(r) + b"Sec-WebSocket-Accept: x\r\n")), id="accept-twice"
        ),
        pytest.param(lambda r: lines(r, (b"Upgrade: websocket", b"Upgrade: h2c")), id="h2c"),
        pytest.param(lambda r: lines(r, (b"Upgrade: websocket\r\n", b"")), id="upgrade-missing"),
        pytest.param(lambda r: lines(r, (b"Upgrade: websocket", b"Upgrade: websocket, h2c")), id="two-protocols"),
        pytest.param(lambda r: lines(r, (b"Connection: Upgrade\r\n", b"")), id="connection-missing"),
        pytest.param(lambda r: lines(r, (b"HTTP/1.1", b"HTTP/1.0")), id="http-1.0"),
        pytest.param(lambda r: switching(r, "Content-Length: 5"), id="a-length"),
        pytest.param(lambda r: switching(r, "Transfer-Encoding: chunked"), id="chunks"),
        pytest.param(lambda r: switching(r, "Content-Length: 5", "Transfer-Encoding: chunked"), id="both"),
    ],
)
def test_wu04_a_101_that_does_not_answer_the_key_is_a_502(
    head: Callable[[Recorded], bytes], gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    script.head, script.early = head, frame(TEXT, b"forged", masked=False)
    with RawClient(gateway.port) as client:
        client.send(handshake("/ws"))
        got = client.answer()
        assert got.status == 502, got.head
        assert b"forged" not in got.body
    wait_ended(worker)


def test_wu06_a_frame_in_the_packet_of_the_101_arrives(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    script.early = frame(TEXT, b"first", masked=False) + frame(PING, b"p", masked=False)
    with opened(gateway) as client:
        assert client.read_exactly(len(script.early)) == script.early


def without(data: bytes, name: bytes) -> bytes:
    return b"\r\n".join(line for line in data.split(b"\r\n") if not line.startswith(name))


def with_key(*keys: str) -> bytes:
    bare = without(handshake("/ws"), b"Sec-WebSocket-Key")
    more = "".join(f"Sec-WebSocket-Key: {key}\r\n" for key in keys).encode()
    return bare.replace(b"\r\n", b"\r\n" + more, 1)


def versions(*values: str) -> bytes:
    bare = without(handshake("/ws"), b"Sec-WebSocket-Version")
    return bare.replace(b"\r\n", b"\r\n" + "".join(f"Sec-WebSocket-Version: {v}\r\n" for v in values).encode(), 1)


KEY = base64.b64encode(bytes(16)).decode()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(versions(), 426, id="version-missing"),
        pytest.param(versions("8"), 426, id="version-8"),
        pytest.param(versions("13, 8"), 426, id="version-list"),
        pytest.param(versions("13", "13"), 426, id="version-twice"),
        pytest.param(versions("013"), 426, id="version-013"),
        pytest.param(versions(""), 426, id="version-empty"),
        pytest.param(with_key(), 400, id="key-missing"),
        pytest.param(with_key(""), 400, id="key-empty"),
        pytest.param(with_key(base64.b64encode(bytes(15)).decode()), 400, id="key-short"),
        pytest.param(with_key(base64.b64encode(bytes(17)).decode()), 400, id="key-long"),
        pytest.param(with_key("?" * 22 + "=="), 400, id="key-not-base64"),
        pytest.param(with_key(KEY[:-1] + "A"), 400, id="key-not-padded"),
        pytest.param(with_key(KEY, KEY), 400, id="key-twice"),
        pytest.param(with_key(f"{KEY}, {KEY}"), 400, id="key-list"),
        pytest.param(handshake("/ws", method="POST"), 405, id="POST"),
        pytest.param(handshake("/ws", method="HEAD"), 405, id="HEAD"),
        pytest.param(handshake("/ws", method="OPTIONS"), 405, id="OPTIONS"),
        pytest.param(handshake("/ws", "Content-Length: 5") + b"hello", 400, id="body"),
        pytest.param(handshake("/ws", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, id="chunks"),
    ],
)
def test_a_handshake_that_is_none_reaches_no_worker(
    data: bytes, status: int, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    with RawClient(gateway.port) as client:
        client.send(data)
        got = client.answer(method=data.split(b" ", 1)[0].decode())
        assert got.status == status
        if status == 426:
            assert got.header("sec-websocket-version") == "13"
        if status == 405:
            assert got.header("allow") == "GET"
    assert worker.received() == b""


@pytest.mark.parametrize(
    "change",
    [
        pytest.param((b"Upgrade: websocket", b"Upgrade: WebSocket"), id="case"),
        pytest.param((b"Connection: Upgrade", b"Connection: keep-alive, upgrade"), id="list"),
        pytest.param((b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: Upgrade"), id="two-lines"),
        pytest.param(
            (b"Connection: Upgrade", b"Connection: Upgrade, Sec-WebSocket-Key, sec-websocket-version"), id="own"
        ),
    ],
)
def test_every_right_spelling_of_the_handshake_is_one(
    change: tuple[bytes, bytes], gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    with RawClient(gateway.port) as client:
        client.send(handshake("/ws").replace(*change))
        assert client.answer().status == 101


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(without(handshake("/ws"), b"Connection"), id="no-connection"),
        pytest.param(without(handshake("/ws"), b"Upgrade"), id="no-upgrade"),
        pytest.param(handshake("/ws").replace(b"Upgrade: websocket", b"Upgrade: h2c"), id="h2c"),
        pytest.param(handshake("/ws").replace(b"Upgrade: websocket", b"Upgrade: h2c, websocket"), id="two"),
        pytest.param(handshake("/ws").replace(b"HTTP/1.1", b"HTTP/1.0"), id="http-1.0"),
    ],
)
def test_what_asks_for_no_websocket_is_never_a_tunnel(
    data: bytes, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """It is refused, or asked for as an ordinary request without a word of an upgrade."""
    with RawClient(gateway.port) as client:
        client.send(data + frame(TEXT, b"smuggled") + b"\r\n\r\n")
        assert client.answer().status in {200, 400}
        assert client.ends(10)
    assert b"smuggled" not in worker.received()
    assert not [request for request in worker.requests if request.is_upgrade]


# Frames that a relay must not pass on.


def length_in(wide: int, length: int, masked: bool, first: int = 0x82) -> bytes:
    """A frame whose length is told in 2 or 8 bytes, whatever it is."""
    mask = 0x80 if masked else 0
    told = struct.pack("!H", length) if wide == 2 else struct.pack("!Q", length)
    return (
        bytes((first, mask | (126 if wide == 2 else 127))) + told + bytes(4 if masked else 0) + b"x" * min(length, 300)
    )


def bad_frames(masked: bool) -> dict[str, bytes]:
    """Each breaks RFC 6455 sections 5.2 to 5.5 as far as it can be seen without unmasking."""

    def one(opcode: int, payload: bytes = b"x", final: bool = True) -> bytes:
        return frame(opcode, payload, masked=masked, final=final)

    return {
        **{f"opcode-{opcode}": one(opcode) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
        **{f"rsv-{bits >> 4}": one(TEXT | bits) for bits in (0x10, 0x20, 0x40, 0x30, 0x50, 0x60, 0x70)},
        **{f"rsv-on-{name}": one(code | 0x40) for name, code in (("ping", PING), ("close", CLOSE), ("pong", PONG))},
        "ping-in-pieces": one(PING, final=False),
        "pong-in-pieces": one(PONG, final=False),
        "close-in-pieces": one(CLOSE, b"\x03\xe8", final=False),
        "ping-of-126": one(PING, b"x" * 126),
        "pong-of-65536": one(PONG, b"x" * 65536),
        "close-of-126": one(CLOSE, b"\x03\xe8" + b"x" * 124),
        "continues-nothing": one(0),
        "continues-nothing-in-pieces": one(0, final=False),
        "mask-wrong": frame(TEXT, b"x", masked=not masked),
        "mask-wrong-on-ping": frame(PING, b"x", masked=not masked),
        "length-high-bit": length_in(8, 1 << 63, masked),
        "length-all-bits": length_in(8, (1 << 64) - 1, masked),
        "length-5-in-2-bytes": length_in(2, 5, masked),
        "length-125-in-2-bytes": length_in(2, 125, masked),
        "length-300-in-8-bytes": length_in(8, 300, masked),
        "length-65535-in-8-bytes": length_in(8, 65535, masked),
        "length-0-in-8-bytes": length_in(8, 0, masked),
    }


def within_a_message(masked: bool) -> dict[str, bytes]:
    return {
        "text-within": frame(TEXT, b"x", masked=masked),
        "binary-within": frame(BINARY, b"x", masked=masked, final=False),
    }


def cases() -> list[object]:
    return [
        pytest.param(masked, good, bad, id=f"{'browser' if masked else 'worker'}-{name}")
        for masked in (True, False)
        for good, frames in (
            (frame(TEXT, b"good", masked=masked), bad_frames(masked)),
            (frame(TEXT, b"begin", masked=masked, final=False), within_a_message(masked)),
        )
        for name, bad in frames.items()
    ]


OURS = close(1002, b"protocol error", masked=False)


@pytest.mark.parametrize(("masked", "good", "bad"), cases())
def test_a_frame_that_breaks_the_protocol_ends_both_sides_with_1002(
    masked: bool, good: bytes, bad: bytes, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """What came before it passes as it is; of the frame itself, and of what follows, no byte does.

    The side that did no wrong hears of it first, and its answer is the last that the other one hears.
    """
    never = frame(TEXT, b"never", masked=masked)
    if masked:
        with opened(gateway) as client:
            client.send(good + bad + never)
            assert close_code(client.read_to_end()) == 1002
        wait_ended(worker)
        got = frames_at(worker)
        assert got.startswith(good)
        assert close_code(got[len(good) :]) == 1002
    else:
        script.says = good + bad + never
        with opened(gateway) as client:
            client.send(GO)
            assert client.read_exactly(len(good)) == good
            told = client.read_exactly(len(OURS))
            assert close_code(told) == 1002
            client.send(close_frame(1002, "protocol error", masked=True))
            assert client.read_to_end() == b""
        wait_ended(worker)
        assert close_code(frames_at(worker)[len(GO) :]) == 1002
    wait_until(lambda: "broken-frame" in "".join(gateway.access_log()[-3:]), "the access log says why")


TAKEN_BY_OTHERS = ("length-",)
"""`websockets` reads lengths told in more bytes than needed (RFC 6455 forbids them), and waits for 2**63 bytes."""


@pytest.mark.parametrize("name", [name for name in bad_frames(True) if not name.startswith(TAKEN_BY_OTHERS)])
@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_what_ends_a_websocket_here_ends_it_at_another_receiver(name: str, role: Role) -> None:
    """`websockets` as the oracle: nothing is refused here that it takes."""
    masked = role is Role.SERVER
    peer = Protocol(role, state=State.OPEN, max_size=None)
    peer.receive_data(frame(TEXT, b"good", masked=masked) + bad_frames(masked)[name])
    assert isinstance(peer.parser_exc, ProtocolError)


@pytest.mark.parametrize("answers", [True, False])
def test_what_the_worker_was_about_to_say_still_arrives_after_a_broken_frame(
    answers: bool, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """Its answers to good messages, and its own close frame where it sends one."""
    last = frame(TEXT, b"echo", masked=False) + (close(1002, b"bye", masked=False) if answers else b"")
    script.says, script.then_close = last, answers
    with opened(gateway) as client:
        client.send(frame(TEXT, b"good") + frame(TEXT | 0x10, b"bad"))
        data = client.read_to_end()
    assert data.startswith(last)
    assert (data == last) if answers else close_code(data[len(last) :]) == 1002
