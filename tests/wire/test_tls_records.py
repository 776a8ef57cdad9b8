"""TLS records that no browser makes, and handshakes that come in crowds."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.certificates import Certificate
from tests.support.gateway import GatewayProcess
from tests.support.raw import RawClient, raw_exchange
from tests.support.recording import RecordingWorker

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
[tls]
listen = ["127.0.0.1:0"]
certfile = "{certificate.certfile}"
keyfile = "{certificate.keyfile}"
redirect_http = false
[pool.site]
kind = "http"
servers = ["{worker.address}"]
[timeouts]
tls_handshake = "3 s"
drain = "1 s"
"""


@pytest.fixture(scope="module")
def gateway(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with (
        RecordingWorker() as worker,
        GatewayProcess(
            CONFIG.format(certificate=certificate, worker=worker), tmp_path_factory.mktemp("records")
        ) as running,
    ):
        yield running


class Memory:
    """A TLS client whose bytes the test sends as it likes."""

    def __init__(self, context: ssl.SSLContext, client: RawClient) -> None:
        self.client = client
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def send(self, piece: int) -> None:
        data = self.outgoing.read()
        for at in range(0, len(data), piece):
            self.client.send(data[at : at + piece])

    def handshake(self, piece: int) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send(piece)
                self.incoming.write(self.client.receive())
                assert not self.client.closed
                continue
            self.send(piece)
            return

    def read(self) -> bytes:
        while True:
            try:
                return self.tls.read()
            except ssl.SSLWantReadError:
                self.incoming.write(self.client.receive())
                assert not self.client.closed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tl11_a_handshake_byte_by_byte_and_records_of_one_byte(
    version: ssl.TLSVersion, gateway: GatewayProcess, certificate: Certificate
) -> None:
    context = ssl.create_default_context(cafile=str(certificate.authority))
    context.minimum_version = context.maximum_version = version
    with RawClient(gateway.tls_port) as client:
        memory = Memory(context, client)
        memory.handshake(1)
        for at in range(len(GET)):
            memory.tls.write(GET[at : at + 1])
            memory.send(7)
        assert b" 200 " in memory.read()


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"\x17\x03\x03\x48\x01" + b"x" * 0x4801, id="record-over-16-KiB"),
        pytest.param(b"\x17\x03\x03\x00\x00" * 2000, id="empty-records"),
        pytest.param(b"\x15\x03\x03\x00\x02\x01\x00" * 2000, id="alerts-in-clear"),
        pytest.param(b"\x99\x03\x03\x00\x01x", id="unknown-type"),
        pytest.param(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00", id="renegotiation-in-clear"),
    ],
)
@pytest.mark.parametrize("early", [True, False], ids=["before-the-hello", "after-the-handshake"])
def test_tl11_records_that_break_the_protocol_are_the_end(
    early: bool, record: bytes, gateway: GatewayProcess, certificate: Certificate
) -> None:
    """An alert, then a close, at the handshake's deadline at the latest; no traceback, and nobody else notices."""
    with RawClient(gateway.tls_port) as client:
        if not early:
            Memory(certificate.client, client).handshake(65536)
        client.send(record)
        assert client.ends(20)
    assert raw_exchange(gateway.tls_port, GET, quiet=0, tls=certificate.client).status == 200
    gateway.assert_no_traceback()


def test_tl13_a_crowd_of_handshakes_leaves_others_their_turn(gateway: GatewayProcess, certificate: Certificate) -> None:
    """400 handshakes as quick as four clients can; a client that is inside waits for none of them long."""
    stop = threading.Event()
    done: list[int] = []

    def handshakes() -> None:
        for _ in range(100):
            if stop.is_set():
                return
            done.append(raw_exchange(gateway.tls_port, GET, quiet=0, tls=certificate.client).status or 0)

    threads = [threading.Thread(target=handshakes) for _ in range(4)]
    took: list[float] = []
    with RawClient(gateway.tls_port, tls=certificate.client) as inside:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            began = time.monotonic()
            assert inside.send(GET).answer().status == 200
            took.append(time.monotonic() - began)
        for thread in threads:
            thread.join()
    assert done == [200] * 400
    assert sorted(took)[int(len(took) * 0.99)] < 0.5, "no handshake keeps the loop"
