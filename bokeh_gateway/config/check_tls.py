"""Whether the certificates of a configuration can be served.  Reads files; nothing of a key or a password is shown."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from pydantic import SecretStr

from bokeh_gateway.config.mistake import KeyMistake
from bokeh_gateway.config.schema import Certificate, Tls
from bokeh_gateway.errors import ConfigError

EXPIRES_SOON: Final = timedelta(days=14)
"""Automatic renewal happens 30 days before the end, so that at 14 days it does not work."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, and where the file names them."""

    key: str
    """`tls` or `tls.certificate[i]`."""
    certfile: Path
    keyfile: Path
    password: SecretStr | None

    @property
    def keyfile_key(self) -> str:
        """The key to change when the private key is wrong."""
        return f"{self.key}.certfile" if self.keyfile == self.certfile else f"{self.key}.keyfile"


def pairs(tls: Tls) -> list[Pair]:
    """Every certificate of the table, the default one first."""
    tables: list[tuple[str, Tls | Certificate]] = [("tls", tls)]
    tables += [(f"tls.certificate[{index}]", table) for index, table in enumerate(tls.certificate)]
    return [Pair(key, t.certfile, t.keyfile or t.certfile, t.password) for key, t in tables]


def check_tls(tls: Tls) -> Iterator[ConfigError]:
    """Files that exist and load, keys that match, dates that include today, ciphers that OpenSSL knows."""
    for pair in pairs(tls):
        yield from _check_pair(pair)
    if tls.ciphers is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(tls.ciphers)
        except ssl.SSLError:
            yield ConfigError("tls.ciphers", tls.ciphers, "a cipher list as OpenSSL writes it, with a cipher it knows")


def certificate_warnings(tls: Tls) -> Iterator[str]:
    """What will be a mistake soon."""
    for pair in pairs(tls):
        try:
            left = _chain(pair)[0].not_valid_after_utc - datetime.now(UTC)
        except ConfigError:
            continue
        if timedelta(0) < left < EXPIRES_SOON:
            yield f"{pair.key}.certfile: {pair.certfile} expires in {left.days} days"


def _check_pair(pair: Pair) -> Iterator[ConfigError]:
    try:
        leaf = _chain(pair)[0]
        yield from _dates(pair, leaf)
        private = _private_key(pair)
        if _public_bytes(private.public_key()) != _public_bytes(leaf.public_key()):
            yield ConfigError(pair.keyfile_key, str(pair.keyfile), f"the key of the certificate in {pair.certfile}")
            return
        _load(pair)
    except ConfigError as exc:
        yield exc


def _chain(pair: Pair) -> list[x509.Certificate]:
    """The certificates of the file; ConfigError when there is none."""
    key, path = f"{pair.key}.certfile", pair.certfile
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
        chain[0].public_key()
    except OSError as exc:
        raise ConfigError(key, str(path), f"a file that can be read: {exc.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(key, str(path), "a certificate in PEM form: -----BEGIN CERTIFICATE-----") from None
    return chain


def _dates(pair: Pair, leaf: x509.Certificate) -> Iterator[ConfigError]:
    now, key = datetime.now(UTC), f"{pair.key}.certfile"
    if now > leaf.not_valid_after_utc:
        yield ConfigError(
            key, str(pair.certfile), f"a certificate that has not expired, as on {leaf.not_valid_after_utc}"
        )
    if now < leaf.not_valid_before_utc:
        yield ConfigError(
            key, str(pair.certfile), f"a certificate that is valid by now, not from {leaf.not_valid_before_utc}"
        )


def _private_key(pair: Pair) -> PrivateKeyTypes:
    """The private key; ConfigError when it cannot be read or decrypted."""
    try:
        data = pair.keyfile.read_bytes()
    except OSError as exc:
        raise ConfigError(pair.keyfile_key, str(pair.keyfile), f"a file that can be read: {exc.strerror}") from None
    password = pair.password.get_secret_value().encode() if pair.password else None
    encrypted = b"ENCRYPTED" in data
    if encrypted and password is None:
        raise KeyMistake(f"{pair.key}.password", f"the password of the encrypted key in {pair.keyfile}")
    try:
        # OpenSSL ignores a password that is not needed; cryptography would refuse it.
        return serialization.load_pem_private_key(data, password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    if encrypted:
        raise ConfigError(f"{pair.key}.password", "***", f"the password of the key in {pair.keyfile}")
    raise ConfigError(pair.keyfile_key, str(pair.keyfile), "a private key in PEM form: -----BEGIN PRIVATE KEY-----")


def _load(pair: Pair) -> None:
    """OpenSSL has the last word; with a password at hand it never asks on the terminal."""
    password = pair.password.get_secret_value() if pair.password else ""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certfile, pair.keyfile, password=lambda: password)
    except (ssl.SSLError, OSError) as exc:
        reason = getattr(exc, "reason", None) or exc.strerror or "unknown"
        raise ConfigError(f"{pair.key}.certfile", str(pair.certfile), f"what OpenSSL can load: {reason}") from None


def _public_bytes(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
