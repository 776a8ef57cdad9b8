"""Certificates, made here, as they would be served."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from bokeh_gateway.config.check_tls import certificate_warnings, check_tls
from bokeh_gateway.config.schema import Tls

AUTHORITY = trustme.CA()


def write(folder: Path, name: str, password: bytes | None = None, **options: Any) -> tuple[Path, Path]:
    """A certificate and its key in PEM files."""
    issued = AUTHORITY.issue_cert(f"{name}.example.com", **options)
    cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    return cert, key


def mistakes(tls: Tls) -> str:
    """All that is said, one line a mistake."""
    return "\n".join(str(error) for error in check_tls(tls))


def table(cert: Path, key: Path | None, **more: Any) -> Tls:
    """A [tls] table."""
    return Tls.model_validate({"certfile": cert, "keyfile": key, **more})


def test_a_pair_that_fits(tmp_path: Path) -> None:
    """Nothing to say."""
    tls = table(*write(tmp_path, "a"))
    assert mistakes(tls) == ""
    assert list(certificate_warnings(tls)) == []


def test_key_and_certificate_in_one_file(tmp_path: Path) -> None:
    """As some tools write them, in either order."""
    cert, key = write(tmp_path, "a")
    for order in ((cert, key), (key, cert)):
        both = tmp_path / "both.pem"
        both.write_bytes(b"".join(path.read_bytes() for path in order))
        assert mistakes(table(both, None)) == ""


def test_the_key_of_another_certificate(tmp_path: Path) -> None:
    """The usual slip after a renewal."""
    cert, _ = write(tmp_path, "a")
    _, other = write(tmp_path, "b")
    assert mistakes(table(cert, other)) == f"tls.keyfile = '{other}': expected the key of the certificate in {cert}"


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        pytest.param("right", "", id="right"),
        pytest.param("wrong-one", "tls.password = '***': expected the password of the key in", id="wrong"),
        pytest.param(None, "tls.password: expected the password of the encrypted key in", id="none"),
    ],
)
def test_an_encrypted_key(tmp_path: Path, password: str | None, expected: str) -> None:
    """It never asks on the terminal, and never shows what it tried."""
    said = mistakes(table(*write(tmp_path, "a", b"right"), password=password))
    assert said.startswith(expected)
    assert bool(said) == bool(expected)
    assert "wrong-one" not in said


def test_a_password_that_is_not_needed(tmp_path: Path) -> None:
    """OpenSSL takes no notice either."""
    assert mistakes(table(*write(tmp_path, "a"), password="x")) == ""


@pytest.mark.parametrize(
    ("start", "end", "expected", "warned"),
    [
        pytest.param(-9, -1, "a certificate that has not expired, as on", [], id="expired"),
        pytest.param(1, 60, "a certificate that is valid by now, not from", [], id="not-yet"),
        pytest.param(-1, 3, "", ["expires in 2 days"], id="soon"),
    ],
)
def test_dates(tmp_path: Path, start: int, end: int, expected: str, warned: list[str]) -> None:
    """An expired certificate is a mistake, one that soon will be is worth a word."""
    now = datetime.now(UTC)
    options = {"not_before": now + timedelta(days=start), "not_after": now + timedelta(days=end)}
    tls = table(*write(tmp_path, "a", **options))
    assert expected in mistakes(tls)
    assert bool(mistakes(tls)) == bool(expected)
    assert [line.partition("a.pem ")[2] for line in certificate_warnings(tls)] == warned


@pytest.mark.parametrize(
    ("cert", "key", "expected"),
    [
        pytest.param(
            "none.pem", "a-key.pem", "tls.certfile = '{}/none.pem': expected a file that can be read", id="none"
        ),
        pytest.param("junk.pem", "a-key.pem", "tls.certfile = '{}/junk.pem': expected a certificate in PEM", id="junk"),
        pytest.param("a-key.pem", "a-key.pem", "tls.certfile = '{}/a-key.pem': expected a certificate", id="key-only"),
        pytest.param("a.pem", "none.pem", "tls.keyfile = '{}/none.pem': expected a file that can be read", id="no-key"),
        pytest.param("a.pem", "junk.pem", "tls.keyfile = '{}/junk.pem': expected a private key in PEM", id="junk-key"),
        pytest.param("a.pem", "a.pem", "tls.certfile = '{}/a.pem': expected a private key in PEM", id="no-key-inside"),
    ],
)
def test_files_that_are_no_pair(tmp_path: Path, cert: str, key: str, expected: str) -> None:
    """The key to change, and what is wrong with it."""
    write(tmp_path, "a")
    (tmp_path / "junk.pem").write_text("junk")
    assert mistakes(table(tmp_path / cert, tmp_path / key)).startswith(expected.format(tmp_path))


def test_further_certificates_have_their_own_key(tmp_path: Path) -> None:
    """`tls.certificate[1]` is the second one."""
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    more = [{"certfile": b[0], "keyfile": b[1]}, {"certfile": b[0], "keyfile": a[1]}]
    assert mistakes(table(*a, certificate=more)).startswith(f"tls.certificate[1].keyfile = '{a[1]}': expected the key")


def test_ciphers(tmp_path: Path) -> None:
    """OpenSSL knows which there are."""
    pair = write(tmp_path, "a")
    assert mistakes(table(*pair, ciphers="ECDHE+AESGCM")) == ""
    assert mistakes(table(*pair, ciphers="ROT13")).startswith("tls.ciphers = 'ROT13': expected a cipher list")
