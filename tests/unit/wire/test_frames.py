"""Frame headers in a byte stream, cut anywhere; the `websockets` package writes the frames, as the oracle."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from bokeh_gateway.wire.frames import BrokenFrame, FrameScanner, MessageTooBig, close_frame, reserved_bits
from tests.support.frames import BINARY, CLOSE, PING, TEXT, close, frame
from tests.support.fuzzing import ONCE, keep_on

FRAMES = st.lists(
    st.tuples(
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG]),
        st.one_of(st.binary(max_size=20), st.sampled_from([b"x" * 125, b"x" * 126, b"x" * 65535, b"x" * 65536])),
        st.booleans(),
    ),
    max_size=8,
)


def written(frames: list[tuple[Opcode, bytes, bool]], *, mask: bool) -> tuple[bytes, int]:
    """The bytes of the frames, and how many data messages end in them."""
    data, messages = b"", 0
    for opcode, payload, final in frames:
        control = opcode >= 8
        data += Frame(opcode, payload[:125] if control else payload, fin=final or control).serialize(mask=mask)
        messages += not control and final
    return data, messages


def fed(scanner: FrameScanner, data: bytes, cuts: list[int]) -> None:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(marks):
        scanner.scan(data[begin:end])


def test_messages_are_counted_wherever_the_bytes_are_cut() -> None:
    @ONCE
    @given(FRAMES, st.booleans(), st.lists(st.integers(0, 1 << 20), max_size=12))
    def count(frames: list[tuple[Opcode, bytes, bool]], mask: bool, cuts: list[int]) -> None:
        data, messages = written(frames, mask=mask)
        scanner = FrameScanner(None, masked=mask)
        fed(scanner, data, cuts)
        assert scanner.messages == messages
        assert scanner.between_frames

    keep_on(count)


@pytest.mark.parametrize("mask", [True, False])
def test_every_single_byte_may_be_a_read(mask: bool) -> None:
    data, messages = written(
        [(Opcode.TEXT, b"hello", True), (Opcode.PING, b"p", True), (Opcode.BINARY, b"x" * 300, False)], mask=mask
    )
    data += close(4001, b"why", masked=mask)
    for step in (1, 2, 3, 7):
        scanner = FrameScanner(None, masked=mask)
        for at in range(0, len(data), step):
            scanner.scan(data[at : at + step])
        assert (scanner.messages, scanner.close_code, scanner.between_frames) == (messages, 4001, True)


def test_any_bytes_are_frames_or_broken() -> None:
    """Never another exception, and never fewer bytes than were given."""

    @ONCE
    @given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
    def scan(pieces: list[bytes], mask: bool) -> None:
        scanner = FrameScanner(1000, masked=mask)
        for piece in pieces:
            try:
                scanner.scan(piece)
            except (BrokenFrame, MessageTooBig) as error:
                offset = error.offset
            else:
                offset = None
            if offset is not None:
                assert -1 <= offset < max(len(piece), 1)
                return
            assert -1 <= scanner.boundary <= len(piece)

    keep_on(scan)


@pytest.mark.parametrize(
    ("data", "masked"),
    [
        pytest.param(frame(PING, b"x" * 126), True, id="long-ping"),
        pytest.param(frame(CLOSE, b"x" * 65536), True, id="long-close"),
        pytest.param(frame(PING, b"x", final=False), True, id="ping-in-pieces"),
        pytest.param(frame(3, b"x"), True, id="reserved-data-opcode"),
        pytest.param(frame(11, b"x"), True, id="reserved-control-opcode"),
        pytest.param(frame(TEXT | 0x10, b"x"), True, id="rsv3"),
        pytest.param(frame(TEXT | 0x20, b"x"), True, id="rsv2"),
        pytest.param(frame(TEXT | 0x40, b"x"), True, id="rsv1-without-an-extension"),
        pytest.param(frame(TEXT, b"x", masked=False), True, id="browser-without-mask"),
        pytest.param(frame(TEXT, b"x"), False, id="worker-with-mask"),
    ],
)
def test_what_no_receiver_may_accept_is_broken(data: bytes, masked: bool) -> None:
    good = frame(BINARY, b"good", masked=masked)
    scanner = FrameScanner(None, masked=masked)
    with pytest.raises(BrokenFrame) as caught:
        scanner.scan(good + data)
    assert caught.value.offset == len(good)
    assert scanner.messages == 1


@pytest.mark.parametrize(
    ("extensions", "bits"),
    [
        (b"", 0),
        (b"permessage-deflate", 0x40),
        (b" Permessage-Deflate; client_no_context_takeover", 0x40),
        (b"x-mux", 0x70),
        (b"permessage-deflate, x-mux", 0x70),
    ],
)
def test_rsv_bits_belong_to_the_extension_that_was_agreed(extensions: bytes, bits: int) -> None:
    assert reserved_bits(extensions) == bits
    scanner = FrameScanner(None, masked=True, reserved=bits)
    if bits:
        scanner.scan(frame(TEXT | 0x40, b"x"))
        assert scanner.messages == 1


def test_a_message_over_the_limit_is_named_before_its_frame_passes() -> None:
    """The limit holds the sum of a message's frames; control frames between them do not count."""
    scanner = FrameScanner(10, masked=True)
    begin = frame(TEXT, b"12345678", final=False) + frame(PING, b"x" * 100)
    with pytest.raises(MessageTooBig) as caught:
        scanner.scan(begin + frame(0, b"901"))
    assert (caught.value.offset, caught.value.size) == (len(begin), 11)


@pytest.mark.parametrize("masked", [True, False])
def test_our_own_close_frames_can_be_read(masked: bool) -> None:
    scanner = FrameScanner(None, masked=masked)
    scanner.scan(close_frame(1012, "bye", masked=masked))
    assert (scanner.close_code, scanner.between_frames) == (1012, True)
