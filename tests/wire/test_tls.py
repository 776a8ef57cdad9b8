"""Tests of wire/tls.py: real handshakes with a server on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from bokeh_gateway.config.schema import Tls
from bokeh_gateway.wire.tls import CertificateError, Certificates

AUTHORITY = trustme.CA()


class Echo(asyncio.Protocol):
    """Sends back what it gets, after a greeting that carries the session tickets of TLS 1.3 to the client."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(b"!")

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@dataclass
class Server:
    """A TLS server on a uvloop of its own thread; all that went wrong in its loop is kept."""

    context: ssl.SSLContext
    failures: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Server:
        self.loop = uvloop.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.failures.append(context))
        self.server = self.loop.run_until_complete(self.loop.create_server(Echo, "127.0.0.1", 0, ssl=self.context))
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.server.close()
        self.loop.close()


def write(folder: Path, name: str, *names: str, password: str | None = None, **options: Any) -> dict[str, Any]:
    """`certfile` and `keyfile` (and `password`) for the names, written to `folder`."""
    issued = AUTHORITY.issue_cert(*(names or (f"{name}.example",)), **options)
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    lock = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    return {"certfile": cert, "keyfile": key, **({"password": SecretStr(password)} if password else {})}


def client(**settings: Any) -> ssl.SSLContext:
    """A client that trusts the authority and does not insist on names: which one it gets is what is tested."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    context.check_hostname = False
    for name, value in settings.items():
        setattr(context, name, value)
    return context


@contextlib.contextmanager
def connect(
    server: Server, context: ssl.SSLContext | None = None, name: str | None = None, **more: Any
) -> Iterator[Any]:
    """A connection that said hello."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        (context or client()).wrap_socket(plain, server_hostname=name, **more) as sock,
    ):
        assert sock.recv(1) == b"!"
        yield sock


def names(sock: ssl.SSLSocket) -> list[str]:
    """The DNS names in the certificate that the server sent."""
    leaf = x509.load_der_x509_certificate(sock.getpeercert(True) or b"")
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def shown(server: Server, name: str | None = None) -> list[str]:
    """The names in the certificate for this server name."""
    with connect(server, name=name) as sock:
        return names(sock)


@pytest.fixture
def settings(tmp_path: Path) -> Tls:
    """A default certificate and two more."""
    return Tls(
        **write(tmp_path, "default"),
        certificate=[
            write(tmp_path, "wild", "*.wild.example", "exact.wild.example"),
            {**write(tmp_path, "given", "other.example"), "hosts": ["given.example", "x.wild.example"]},
        ],
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(None, "default.example", id="HS03-none"),
        pytest.param("nobody.example", "default.example", id="HS03-unknown"),
        pytest.param("default.example", "default.example", id="default-by-name"),
        pytest.param("a.wild.example", "*.wild.example", id="wildcard"),
        pytest.param("A.WILD.Example", "*.wild.example", id="HS03-upper-case"),
        pytest.param("a.wild.example.", "*.wild.example", id="HS03-trailing-dot"),
        pytest.param("exact.wild.example", "*.wild.example", id="exact-beside-wildcard"),
        pytest.param("a.b.wild.example", "default.example", id="wildcard-is-one-label"),
        pytest.param("wild.example", "default.example", id="wildcard-is-not-the-name-itself"),
        pytest.param("given.example", "other.example", id="configured-host"),
        pytest.param("x.wild.example", "other.example", id="exact-before-wildcard"),
        pytest.param("other.example", "default.example", id="configured-hosts-replace-names"),
    ],
)
def test_the_server_name_chooses_the_certificate(settings: Tls, name: str | None, expected: str) -> None:
    """In any case there is one, and the loop sees no failure."""
    with Server(Certificates(settings).context) as server:
        assert expected in shown(server, name)
        assert server.failures == []


def hello(server_name: bytes) -> bytes:
    """A ClientHello whose server name is any bytes, which Python's own client would not send."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    placeholder = "q" * len(server_name)
    connection = client().wrap_bio(incoming, outgoing, server_hostname=placeholder)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read().replace(placeholder.encode(), server_name)


@pytest.mark.parametrize(
    "name", [b"127.0.0.1", b"caf\xc3\xa9.example", b"\xff\xfe\xfd", b"a b", b"a\r\nb", b"..", b"*.wild.example"]
)
def test_hs03_odd_server_names_crash_nothing(
    settings: Tls, name: bytes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer or an alert; and the next browser is served."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with Server(Certificates(settings).context) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
            sock.sendall(hello(name))
            assert sock.recv(1) in (b"\x16", b"\x15")  # a handshake record or an alert
        assert "default.example" in shown(server)
        assert not [f for f in server.failures if not isinstance(f.get("exception"), (ssl.SSLError, ConnectionError))]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tl01_old_versions_are_refused(settings: Tls, version: ssl.TLSVersion) -> None:
    """With the alert that says why."""
    context = client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with (
        Server(Certificates(settings).context) as server,
        pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"),
        connect(server, context),
    ):
        pass


@pytest.mark.parametrize("minimum", ["TLSv1.2", "TLSv1.3"])
def test_the_minimum_version_holds_for_every_certificate(settings: Tls, minimum: str) -> None:
    """TLS 1.2 works unless it is excluded."""
    context = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    tls = settings.model_copy(update={"minimum_version": minimum})
    with Server(Certificates(tls).context) as server:
        for name in ("default.example", "a.wild.example"):
            if minimum == "TLSv1.2":
                with connect(server, context, name) as sock:
                    assert sock.version() == "TLSv1.2"
            else:
                with pytest.raises(ssl.SSLError), connect(server, context, name):
                    pass
            with connect(server, name=name) as sock:
                assert sock.version() == "TLSv1.3"


@pytest.mark.parametrize("name", ["default.example", "a.wild.example"])
@pytest.mark.parametrize(
    "ciphers",
    [
        pytest.param("AES128-GCM-SHA256:AES256-SHA", id="static-rsa"),
        pytest.param("ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA384", id="cbc"),
        pytest.param("eNULL:aNULL", id="null"),
        pytest.param("DHE-RSA-AES128-GCM-SHA256", id="dhe"),
    ],
)
def test_tl02_weak_suites_are_refused(settings: Tls, ciphers: str, name: str) -> None:
    """For every certificate."""
    context = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(ciphers + ":@SECLEVEL=0")
    with Server(Certificates(settings).context) as server, pytest.raises(ssl.SSLError), connect(server, context, name):
        pass


@pytest.mark.parametrize("name", [None, "a.wild.example"])
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param(["h2"], None, id="TL12-h2-alone"),
        pytest.param(["h2", "http/1.1"], "http/1.1", id="TL12-h2-first"),
        pytest.param(["http/1.1"], "http/1.1", id="http-1.1"),
        pytest.param([], None, id="none"),
    ],
)
def test_tl12_h2_is_never_chosen(settings: Tls, offered: list[str], chosen: str | None, name: str | None) -> None:
    """There is no HTTP/2 here to speak."""
    context = client()
    if offered:
        context.set_alpn_protocols(offered)
    with Server(Certificates(settings).context) as server, connect(server, context, name) as sock:
        assert sock.selected_alpn_protocol() == chosen


def test_tl04_plain_http_on_the_tls_port_is_closed(settings: Tls) -> None:
    """At once, well before the handshake's time is up; and the next browser is served."""
    with Server(Certificates(settings).context) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=2) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while sock.recv(4096):
                    pass
        assert "default.example" in shown(server)


def test_the_options_that_mozilla_wants(settings: Tls) -> None:
    """No compression, no renegotiation, the client's cipher first, tickets on."""
    options = Certificates(settings).context.options
    assert options & ssl.OP_NO_COMPRESSION
    assert options & ssl.OP_NO_RENEGOTIATION
    assert not options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert not options & ssl.OP_NO_TICKET


def test_tl10_a_reload_changes_new_handshakes_only(settings: Tls, tmp_path: Path) -> None:
    """The open connection goes on with the certificate that it has, on the same context object."""
    certificates = Certificates(settings)
    with Server(certificates.context) as server, connect(server) as old:
        write(tmp_path, "default", "renewed.example")
        write(tmp_path, "wild", "*.wild.example", "new.example")
        context = certificates.context
        certificates.reload()
        assert certificates.context is context
        assert shown(server) == ["renewed.example"]
        assert "new.example" in shown(server, "a.wild.example")
        assert "new.example" in shown(server, "new.example")
        old.sendall(b"still here")
        assert old.recv(100) == b"still here"
        assert names(old) == ["default.example"]


def test_a_reload_can_bring_other_settings(settings: Tls, tmp_path: Path) -> None:
    """A certificate more, one less."""
    certificates = Certificates(settings)
    with Server(certificates.context) as server:
        certificates.reload(Tls(**write(tmp_path, "third"), certificate=[write(tmp_path, "fourth")]))
        assert shown(server, "a.wild.example") == ["third.example"]
        assert shown(server, "fourth.example") == ["fourth.example"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", [None, "a.wild.example"])
def test_tl08_sessions_are_resumed_also_after_a_reload(
    settings: Tls, tmp_path: Path, version: ssl.TLSVersion, name: str | None
) -> None:
    """The ticket keys belong to the listener's context, which stays."""
    certificates = Certificates(settings)
    context = client(maximum_version=version)
    with Server(certificates.context) as server:
        with connect(server, context, name) as sock:
            session = sock.session
        with connect(server, context, name, session=session) as sock:
            assert sock.session_reused
            session = sock.session
        write(tmp_path, "default", "renewed.example")
        certificates.reload()
        with connect(server, context, name, session=session) as sock:
            assert sock.session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tl08_another_process_s_ticket_is_a_full_handshake(settings: Tls, version: ssl.TLSVersion) -> None:
    """Never a failure."""
    context = client(maximum_version=version)
    with Server(Certificates(settings).context) as one, Server(Certificates(settings).context) as other:
        with connect(one, context) as sock:
            session = sock.session
        with connect(other, context, session=session) as sock:
            assert not sock.session_reused


def break_mismatch(folder: Path) -> None:
    (folder / "default.key").write_bytes((folder / "wild.key").read_bytes())


def break_missing(folder: Path) -> None:
    (folder / "default.key").unlink()


def break_garbage(folder: Path) -> None:
    (folder / "default.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def break_empty(folder: Path) -> None:
    (folder / "default.pem").write_text("")


def break_encrypted(folder: Path) -> None:
    write(folder, "default", password="secret")


def break_expired(folder: Path) -> None:
    write(folder, "default", not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=datetime(2021, 1, 1, tzinfo=UTC))


def break_second(folder: Path) -> None:
    (folder / "wild.pem").write_text("nothing")


def break_folder(folder: Path) -> None:
    (folder / "default.key").unlink()
    (folder / "default.key").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(break_mismatch, r"default\.key: not the key of .*default\.pem", id="mismatch"),
        pytest.param(break_missing, r"default\.key: does not exist", id="missing"),
        pytest.param(break_garbage, r"default\.pem", id="garbage"),
        pytest.param(break_empty, r"default\.pem", id="empty"),
        pytest.param(break_encrypted, r"default\.key: the key is encrypted: set its password", id="encrypted"),
        pytest.param(break_expired, r"default\.pem: expired at 2021-01-01T00:00:00Z", id="expired"),
        pytest.param(break_second, r"wild\.pem", id="a-further-certificate"),
        pytest.param(break_folder, r"default\.key", id="folder"),
    ],
)
def test_tl09_a_reload_that_fails_changes_nothing(settings: Tls, tmp_path: Path, spoil: Any, said: str) -> None:
    """The error names the file; the old certificates are served on."""
    certificates = Certificates(settings)
    with Server(certificates.context) as server:
        spoil(tmp_path)
        with pytest.raises(CertificateError, match=said):
            certificates.reload()
        assert shown(server) == ["default.example"]
        assert "*.wild.example" in shown(server, "a.wild.example")


def test_encrypted_keys(tmp_path: Path) -> None:
    """With the password; a wrong one is said to be wrong, and nothing asks on the terminal."""
    table = write(tmp_path, "locked", password="right")
    with Server(Certificates(Tls(**table)).context) as server:
        assert shown(server) == ["locked.example"]
    with pytest.raises(CertificateError, match="password"):
        Certificates(Tls(**{**table, "password": SecretStr("wrong")}))


def test_key_and_certificate_in_one_file(tmp_path: Path) -> None:
    """As HAProxy keeps them."""
    table = write(tmp_path, "one")
    table["certfile"].write_bytes(table["certfile"].read_bytes() + table["keyfile"].read_bytes())
    with Server(Certificates(Tls(certfile=table["certfile"])).context) as server:
        assert shown(server) == ["one.example"]


def test_an_expired_certificate_is_served_at_a_start_and_told(tmp_path: Path) -> None:
    """A warning can be got past; `check` says it all the same."""
    past = datetime.now(UTC) - timedelta(days=1)
    table = write(tmp_path, "old", not_before=past - timedelta(days=9), not_after=past)
    assert "expired at" in Certificates(Tls(**table)).problems()[0]
    later = datetime.now(UTC) - timedelta(days=20)
    assert "not valid before" in Certificates(Tls(**table)).problems(later)[0]


def test_names_and_description(settings: Tls) -> None:
    """The names are those in the certificates: the gateway owns them."""
    certificates = Certificates(settings)
    assert certificates.names() == ["default.example", "*.wild.example", "exact.wild.example", "other.example"]
    line = certificates.describe()[0]
    assert "default.pem: " in line
    assert "; names default.example; valid until " in line
    assert "sha256 " in line


def test_bad_ciphers_are_an_error(settings: Tls) -> None:
    """Not a crash at the first handshake."""
    with pytest.raises(CertificateError, match="ciphers"):
        Certificates(settings.model_copy(update={"ciphers": "NOTHING"}))


def test_openssl_agrees(settings: Tls) -> None:
    """An independent client: TLS 1.3, and renegotiation is refused."""
    with Server(Certificates(settings).context) as server:
        address = f"127.0.0.1:{server.port}"
        with contextlib.suppress(FileNotFoundError):
            command = ["openssl", "s_client", "-connect", address, "-tls1_2", "-servername", "a.wild.example"]
            said = subprocess.run(command, input=b"R\n", capture_output=True, timeout=10, check=False)
            assert b"Compression: NONE" in said.stdout
            assert b"no renegotiation" in said.stderr or b"RENEGOTIATING" in said.stdout
        assert "default.example" in shown(server)
