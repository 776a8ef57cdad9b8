"""The PROXY protocol before HTTP and before TLS: whom it is believed, and what then knows the address."""

from __future__ import annotations

import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.certificates import Certificate
from tests.support.gateway import GatewayProcess
from tests.support.haproxy import HAProxy
from tests.support.ports import free_port
from tests.support.raw import RawClient, raw_exchange
from tests.support.recording import RecordingWorker
from tests.support.waiting import wait_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n"
V2 = (
    SIGNATURE + b"\x21\x11\x00\x0c" + socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.1") + b"\1\2\1\xbb"
)
TLVS = b"\x04\x00\x05xxxxx" + b"\x03\x00\x04" + b"\0" * 4
V2_WITH_TLVS = V2[:14] + struct.pack(">H", 12 + len(TLVS)) + V2[16:] + TLVS
V2_SIX = SIGNATURE + b"\x21\x21\x00\x24" + socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + b"\1\2\1\xbb"

CONFIG = """
[gateway]
listen = ["127.0.0.1:{port}", "127.0.0.1:{plain}", "unix:{folder}/gw.sock"]
proxy_protocol = ["127.0.0.1:{port}", "unix:{folder}/gw.sock"]
trusted_proxies = ["127.0.0.1", "unix:"]

[tls]
listen = ["127.0.0.1:{tls}"]
proxy_protocol = ["127.0.0.1:{tls}"]
certfile = "{certificate.certfile}"
keyfile = "{certificate.keyfile}"
redirect_http = false

[pool.site]
kind = "http"
servers = ["{worker.address}"]

[limits]
connections_per_client = 3

[timeouts]
header = "2 s"
drain = "1 s"
"""


@pytest.fixture(scope="module")
def gateway(
    recording: RecordingWorker, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("proxied")
    port, plain, tls = free_port(), free_port(), free_port()
    text = CONFIG.format(port=port, plain=plain, tls=tls, folder=folder, worker=recording, certificate=certificate)
    with GatewayProcess(text, folder) as running:
        yield running


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers]).encode() + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "client", "port"),
    [
        pytest.param(V1, "203.0.113.7", "443", id="v1"),
        pytest.param(V2, "203.0.113.7", "443", id="v2"),
        pytest.param(V2_WITH_TLVS, "203.0.113.7", "443", id="v2-tlvs"),
        pytest.param(V2_SIX, "2001:db8::7", "443", id="v2-ipv6"),
        pytest.param(b"PROXY UNKNOWN\r\n", "127.0.0.1", None, id="unknown"),
        pytest.param(SIGNATURE + b"\x20\x00\x00\x00", "127.0.0.1", None, id="local"),
        pytest.param(SIGNATURE + b"\x21\x31\x00\xd8" + b"\0" * 216, None, None, id="unix"),
    ],
)
def test_the_address_reaches_worker_and_log(
    header: bytes, client: str | None, port: str | None, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """Header and request in one write; what the client itself claims is not believed."""
    logged = len(gateway.access_log())
    got = raw_exchange(gateway.port, header + head("/who", "X-Real-IP: 9.9.9.9"), quiet=0)
    assert got.status == 200
    (request,) = worker.to("/who")
    assert request.get("x-real-ip") == client
    assert request.get("x-forwarded-for") == client
    if port:
        assert request.get("x-forwarded-port") == port
    wait_until(lambda: len(gateway.access_log()) > logged, "the access log")
    assert gateway.access_log()[-1].startswith(f"{client or 'unix'} - ")


def test_headers_of_the_client_behind_are_not_a_proxys(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """The load balancer is trusted; who came through it is not."""
    raw_exchange(gateway.port, V1 + head("/claims", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https"), quiet=0)
    (request,) = worker.to("/claims")
    assert request.all("x-forwarded-for") == ["203.0.113.7"]
    assert request.get("x-forwarded-proto") == "http"


@pytest.mark.parametrize("header", [V1, V2_WITH_TLVS], ids=["v1", "v2"])
def test_a_header_byte_by_byte(header: bytes, gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        for at in range(len(header)):
            client.send(header[at : at + 1])
        client.send(head("/drip"))
        assert client.answer().status == 200
        client.send(head("/later"))
        assert client.answer().status == 200
    assert [request.get("x-real-ip") for request in worker.to("/drip")] == ["203.0.113.7"]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"", id="missing"),
        pytest.param(V1.replace(b"TCP4", b"TCP5"), id="v1-malformed"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * 200, id="v1-too-long"),
        pytest.param(V2.replace(b"\x21\x11", b"\x21\x12"), id="v2-datagram"),
        pytest.param(V2[:14] + b"\xff\xff" + V2[16:], id="v2-too-long"),
    ],
)
def test_no_header_that_can_be_believed_is_the_end(
    header: bytes, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """Closed without an answer, with one line in the log that names the setting."""
    said = len(gateway.stderr)
    with RawClient(gateway.port) as client:
        client.send(header + head("/bad"))
        assert client.ends(10)
        assert not client.received
    wait_until(lambda: "[gateway] proxy_protocol" in gateway.stderr[said:], "the log names the setting")
    assert len(gateway.stderr[said:].splitlines()) == 1
    assert worker.targets == []


@pytest.mark.parametrize("sent", [b"", V1[:20], V2[:20]], ids=["nothing", "v1", "v2"])
def test_a_header_that_is_late_is_the_end(sent: bytes, gateway: GatewayProcess) -> None:
    said = len(gateway.stderr)
    with RawClient(gateway.port) as client:
        client.send(sent)
        assert client.ends(10)
    wait_until(lambda: "[timeouts] header = 2 s" in gateway.stderr[said:], "the log names the setting")
    assert len(gateway.stderr[said:].splitlines()) == 1


def test_a_load_balancers_look_at_the_port_is_not_logged(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    said = len(gateway.stderr)
    with RawClient(gateway.port):
        pass
    assert raw_exchange(gateway.port, V1 + head("/after"), quiet=0).status == 200
    assert gateway.stderr[said:] == ""


def test_other_listeners_take_no_header(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    plain = int(gateway.config["gateway"]["listen"][1].rpartition(":")[2])
    assert raw_exchange(plain, head("/plain"), quiet=0).status == 200
    assert raw_exchange(plain, V1 + head("/never"), quiet=0).status == 400
    assert worker.targets == ["/plain"]


def test_a_unix_peer_that_is_trusted_speaks_for_its_clients(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(gateway.folder / "gw.sock"))
        client.sendall(V2 + head("/unix"))
        assert b" 200 " in client.recv(100)
    (request,) = worker.to("/unix")
    assert request.get("x-real-ip") == "203.0.113.7"


def test_a_peer_that_is_not_trusted_is_closed_at_once(worker: RecordingWorker, tmp_path: Path) -> None:
    port = free_port()
    text = f"""
[gateway]
listen = ["127.0.0.1:{port}"]
proxy_protocol = ["127.0.0.1:{port}"]
trusted_proxies = ["10.0.0.0/8"]
[pool.site]
kind = "http"
servers = ["{worker.address}"]
"""
    with GatewayProcess(text, tmp_path) as gateway, RawClient(port) as client:
        client.send(V1 + head("/forged"))
        assert client.ends(10)
        wait_until(lambda: "[gateway] trusted_proxies says who is" in gateway.stderr, "the log names the setting")
        assert worker.targets == []


def test_limits_are_those_of_the_client_not_of_the_proxy(gateway: GatewayProcess) -> None:
    """Three connections a client, however many the load balancer has; room comes back."""
    other = V1.replace(b"203.0.113.7", b"203.0.113.8")
    with ExitStack() as stack:
        for header in [V1] * 3 + [other] * 3:
            client = stack.enter_context(RawClient(gateway.port))
            assert client.send(header + head("/in")).answer().status == 200
        with RawClient(gateway.port) as one_more:
            assert one_more.send(V1 + head("/over")).answer().status == 503
    wait_until(lambda: raw_exchange(gateway.port, V1 + head("/again"), quiet=0).status == 200, "there is room again")


def test_the_header_comes_in_clear_before_the_handshake(
    gateway: GatewayProcess, worker: RecordingWorker, certificate: Certificate
) -> None:
    for header in (V1, V2_WITH_TLVS):
        with socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=30) as plain:
            plain.sendall(header)
            with certificate.client.wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(head("/tls"))
                assert b" 200 " in secure.recv(100)
    assert [request.get("x-forwarded-for") for request in worker.to("/tls")] == ["203.0.113.7"] * 2
    assert [request.get("x-forwarded-proto") for request in worker.to("/tls")] == ["https"] * 2


def test_header_and_client_hello_in_one_segment(
    gateway: GatewayProcess, worker: RecordingWorker, certificate: Certificate
) -> None:
    """What is read for the header never takes a byte of the handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificate.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=30) as plain:
        waiting = V2_WITH_TLVS
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(waiting + outgoing.read())
                waiting = b""
                incoming.write(plain.recv(65536))
            else:
                break
        tls.write(head("/one-segment"))
        plain.sendall(outgoing.read())
        worker.wait_for("/one-segment")


def test_a_handshake_without_the_header_is_the_end(gateway: GatewayProcess, certificate: Certificate) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)), RawClient(gateway.tls_port, tls=certificate.client):
        pass
    wait_until(lambda: "what came is no PROXY header; [tls] proxy_protocol" in gateway.stderr, "the log says why")


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl proxy-v2-options crc32c,unique-id"])
def test_haproxy_in_front(
    send: str, gateway: GatewayProcess, worker: RecordingWorker, certificate: Certificate, tmp_path: Path
) -> None:
    """The reference sender, before HTTP and before TLS."""
    with HAProxy(tmp_path / "plain", gateway.port, send) as front, RawClient(front.port) as client:
        client.send(head("/haproxy"))
        assert client.answer().status == 200
    with HAProxy(tmp_path / "tls", gateway.tls_port, send) as front:
        assert raw_exchange(front.port, head("/tls-haproxy"), quiet=0, tls=certificate.client).status == 200
    requests = worker.to("/haproxy") + worker.to("/tls-haproxy")
    assert [request.get("x-forwarded-for") for request in requests] == ["127.0.0.1"] * 2


def test_a_reload_turns_it_on_and_off(worker: RecordingWorker, tmp_path: Path) -> None:
    """On the same listener, which never stops accepting."""
    port = free_port()
    on = f'proxy_protocol = ["127.0.0.1:{port}"]'
    text = """
[gateway]
listen = ["127.0.0.1:{port}"]
trusted_proxies = ["127.0.0.1"]
{more}
[pool.site]
kind = "http"
servers = ["{worker}"]
"""
    texts = [text.format(port=port, more=more, worker=worker.address) for more in ("", on, "")]

    def status(data: bytes) -> int | None:
        return raw_exchange(port, data, quiet=0).status

    with GatewayProcess(texts[0], tmp_path) as gateway, RawClient(port) as kept:
        assert kept.send(head("/kept")).answer().status == 200
        for number, wanted in ((1, V1), (2, b"")):
            gateway.config_path.write_text(texts[number])
            gateway.signal(signal.SIGHUP)
            wait_until(lambda wanted=wanted: status(wanted + head("/now")) == 200, "the new way")
            assert status((b"" if wanted else V1) + head("/other")) in (None, 400)
        assert kept.send(head("/kept")).answer().status == 200
