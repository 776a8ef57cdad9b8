"""Frame headers in a byte stream, cut anywhere; the `websockets` package judges them too, as the oracle."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig
from websockets.protocol import Protocol, State
from websockets.protocol import Side as Role

from bokeh_gateway.wire.frames import BrokenFrame, FrameScanner, MessageTooBig, close_frame, reserved_bits
from tests.support.frames import BINARY, CLOSE, PING, TEXT, close, frame
from tests.support.fuzzing import ONCE, keep_on

LIMIT = 66000
"""Bytes of a message: some that are made are over it."""

SIZES = st.one_of(st.integers(0, 20), st.integers(0, 20), st.sampled_from([125, 126, 127, 65535, 65536]))
USUAL = st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88])
FRAMES = st.lists(
    st.tuples(st.one_of(USUAL, USUAL, st.integers(0, 255)), SIZES, st.sampled_from([True] * 30 + [False])),
    max_size=10,
)
"""First byte, size of the payload, and whether its mask is as it should be: well-formed for the most part."""


def written(first: int, size: int, *, mask: bool) -> bytes:
    payload = b"x" * size
    if first & 0x0F == CLOSE and size:
        payload = b"\x03\xe8" + payload  # whether it holds a code that may be is the receiver's to say
    return frame(first & 0x7F, payload, masked=mask, final=bool(first & 0x80))


def peer(mask: bool) -> Protocol:
    return Protocol(Role.SERVER if mask else Role.CLIENT, state=State.OPEN, max_size=LIMIT)


def fed(scanner: FrameScanner, data: bytes, cuts: list[int]) -> tuple[int, Exception | None]:
    """Bytes that passed, and what ended it."""
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(marks):
        try:
            scanner.scan(data[begin:end])
        except (BrokenFrame, MessageTooBig) as error:
            return (begin + error.offset if error.offset >= 0 else begin - 1), error
    return len(data), None


def test_frames_pass_as_far_as_another_receiver_takes_them_wherever_they_are_cut() -> None:
    """The same frame is the first bad one, for the same reason, and as many messages came before it."""

    @ONCE
    @given(FRAMES, st.booleans(), st.lists(st.integers(0, 1 << 20), max_size=12))
    def compare(frames: list[tuple[int, int, bool]], mask: bool, cuts: list[int]) -> None:
        oracle, data, good, messages = peer(mask), b"", 0, 0
        partial = False
        for first, size, right in frames:
            if first & 0x0F == 8 and partial:
                break  # allowed between two parts of a message (RFC 6455, 5.4), but not by the oracle
            if first & 0x0F < 8:
                partial = first & 0x80 == 0
            one = written(first, size, mask=mask == right)
            data += one
            oracle.receive_data(one)
            if oracle.parser_exc is not None:
                break
            good += len(one)
            messages += first & 0x88 == 0x80
            if oracle.close_rcvd:
                break
        scanner = FrameScanner(LIMIT, masked=mask)
        passed, error = fed(scanner, data, cuts)
        assert scanner.messages == messages
        if oracle.parser_exc is None:
            assert error is None
            assert scanner.between_frames
            return
        # Of a frame that is both, the oracle names the size.
        assert isinstance(error, (BrokenFrame, MessageTooBig))
        assert isinstance(error, BrokenFrame) or isinstance(oracle.parser_exc, PayloadTooBig)
        assert passed == good or (error.offset < 0 and good < passed)

    keep_on(compare)


@pytest.mark.parametrize("mask", [True, False])
def test_every_single_byte_may_be_a_read(mask: bool) -> None:
    parts = [frame(TEXT, b"hello", masked=mask), frame(PING, b"p", masked=mask)]
    parts += [frame(BINARY, b"x" * 300, masked=mask, final=False), frame(0, b"", masked=mask)]
    data = b"".join(parts) + close(4001, b"why", masked=mask)
    for step in (1, 2, 3, 7):
        scanner = FrameScanner(None, masked=mask)
        for at in range(0, len(data), step):
            scanner.scan(data[at : at + step])
        assert (scanner.messages, scanner.close_code, scanner.between_frames) == (2, 4001, True)


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
