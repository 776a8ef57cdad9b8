"""Certificates: which one a browser gets, and how they change without a connection noticing.

The listener keeps one `SSLContext` for ever.  Every handshake asks `_choose` for the context of its server name, and a
reload swaps the table that it looks in; session tickets belong to the listener's context, so that they outlive reloads.

Sources: RFC 6066 section 3 (server names), RFC 6125 section 6.4.3 (wildcards), RFC 8996 (no TLS below 1.2),
Mozilla's "intermediate" configuration 5.7.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from bokeh_gateway.errors import GatewayError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from bokeh_gateway.config.schema import Tls

CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""For TLS 1.2; those of TLS 1.3 are all good."""
ALPN: Final = ("http/1.1",)
_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class CertificateError(GatewayError):
    """A certificate or key cannot be used; says which file, and why."""


class _Connection(ssl.SSLObject):
    """One side of a handshake that tells its alert before it fails.

    uvloop and asyncio close as soon as a handshake raises, with the alert unsent: a browser that is too old would see a
    broken connection, not a version.  They do send what is waiting when told that more is to be read; so that is said
    first.  The peer closes on the alert; one that goes on gets the failure, and one that does neither, the timeout.
    """

    outgoing: ssl.MemoryBIO | None = None
    failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self.failure is not None:
            raise self.failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as exc:
            if self.outgoing is None or not self.outgoing.pending:
                raise
            self.failure = exc
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the alert is to be sent") from exc


class _ListenerContext(ssl.SSLContext):
    """The context that the server is given: its connections are `_Connection`s."""

    sslobject_class = _Connection

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **more: Any) -> ssl.SSLObject:
        connection = super().wrap_bio(incoming, outgoing, *args, **more)
        assert isinstance(connection, _Connection)
        connection.outgoing = outgoing
        return connection


@dataclass(frozen=True, slots=True)
class _Certificate:
    """One loaded chain."""

    context: ssl.SSLContext
    file: str
    leaf: x509.Certificate
    hosts: tuple[str, ...]
    """Names that the configuration gives it, `*.` ones too; none: those in it."""


@dataclass(frozen=True, slots=True)
class _Table:
    """All that is loaded; swapped as a whole."""

    certificates: tuple[_Certificate, ...]
    by_name: dict[str, ssl.SSLContext]

    def context(self, name: str | None) -> ssl.SSLContext:
        """That of the exact name, else of the wildcard over its first label, else the first certificate's."""
        if name:
            name = name.lower().removesuffix(".")
            found = self.by_name.get(name) or self.by_name.get("*." + name.partition(".")[2])
            if found is not None:
                return found
        return self.certificates[0].context


class Certificates:
    """The certificates of `[tls]`.  Hand `context` to the server once; `reload` whenever the files changed.

    Raises:
        CertificateError: a file is missing or unreadable, key and certificate do not match, or the password is wrong.
    """

    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        self._table = _load(settings)
        # Never sends its own certificate: `_choose` is asked in every handshake, also in those that name no server.
        self.context: ssl.SSLContext = _context(settings, _ListenerContext)
        _load_chain(self.context, *_sources(settings)[0][:3])
        self.context.sni_callback = self._choose

    def reload(self, settings: Tls | None = None, now: datetime | None = None) -> None:
        """Reads all files again; new handshakes get what they hold.  Open connections and tickets stay.

        Raises:
            CertificateError: something is wrong or expired; everything stays as it was.
        """
        table = _load(settings or self._settings)
        expired = _problems(table, now or datetime.now(UTC))
        if expired:
            raise CertificateError("; ".join(expired))
        self._settings = settings or self._settings
        self._table = table

    def names(self) -> list[str]:
        """DNS names in the certificates, lower case, `*.` ones too, each once."""
        return list(dict.fromkeys(name for one in self._table.certificates for name in _dns_names(one.leaf)))

    def describe(self) -> list[str]:
        """One line a certificate for the log: file, subject, names, end, fingerprint."""
        return [_describe(one) for one in self._table.certificates]

    def problems(self, now: datetime | None = None) -> list[str]:
        """What `check` has to say: certificates that are expired or not valid yet.

        They are served all the same at a start: a browser's warning can be got past, a gateway that is down cannot.
        """
        return _problems(self._table, now or datetime.now(UTC))

    def _choose(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._table.context(name)


def _context(settings: Tls, kind: type[ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.minimum_version = _VERSIONS[settings.minimum_version]
        context.set_ciphers(settings.ciphers or CIPHERS)
    except (KeyError, ssl.SSLError) as exc:
        raise CertificateError(f"tls: minimum_version or ciphers cannot be used: {exc}") from exc
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Every cipher in the list is good, and a phone knows best which one it has hardware for.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(ALPN)
    return context


_Source = tuple[str, str, str | None, tuple[str, ...]]


def _sources(settings: Tls) -> list[_Source]:
    """(certfile, keyfile, password, hosts) of each certificate, the default one first."""
    default = _source(settings.certfile, settings.keyfile, settings.password, None)
    return [default, *(_source(one.certfile, one.keyfile, one.password, one.hosts) for one in settings.certificate)]


def _source(
    certfile: Path, keyfile: Path | None, password: SecretStr | None, hosts: Sequence[str | None] | None
) -> _Source:
    secret = password.get_secret_value() if password is not None else None
    return str(certfile), str(keyfile or certfile), secret, tuple(host for host in hosts or () if host)


def _load(settings: Tls) -> _Table:
    certificates = tuple(_certificate(settings, source) for source in _sources(settings))
    by_name: dict[str, ssl.SSLContext] = {}
    # What the configuration says goes before what stands in a certificate; then the first one wins.
    for one in certificates:
        for name in one.hosts:
            by_name.setdefault(name, one.context)
    for one in certificates:
        for name in () if one.hosts else _dns_names(one.leaf):
            by_name.setdefault(name, one.context)
    return _Table(certificates, by_name)


def _certificate(settings: Tls, source: _Source) -> _Certificate:
    certfile, keyfile, password, hosts = source
    context = _context(settings)
    _load_chain(context, certfile, keyfile, password)
    try:
        with open(certfile, "rb") as file:
            leaf = x509.load_pem_x509_certificates(file.read())[0]
        _dns_names(leaf)  # extensions are read late, and may be broken
    except (OSError, ValueError) as exc:
        raise CertificateError(f"{certfile}: not a PEM certificate: {exc}") from exc
    return _Certificate(context, certfile, leaf, tuple(host.lower().removesuffix(".") for host in hosts))


def _load_chain(context: ssl.SSLContext, certfile: str, keyfile: str, password: str | None) -> None:
    def ask() -> str:
        # Without this OpenSSL would ask on the terminal, and wait.
        if password is None:
            raise CertificateError(f"{keyfile}: the key is encrypted: set its password in [tls]")
        return password

    for file in (certfile, keyfile):
        if not os.access(file, os.R_OK):
            raise CertificateError(f"{file}: {'cannot be read' if os.path.exists(file) else 'does not exist'}")
    try:
        context.load_cert_chain(certfile, keyfile, password=ask)
    except ssl.SSLError as exc:
        raise CertificateError(_why(exc, certfile, keyfile, password)) from exc
    except (OSError, ValueError) as exc:
        raise CertificateError(f"{certfile}, {keyfile}: {exc}") from exc


def _why(exc: ssl.SSLError, certfile: str, keyfile: str, password: str | None) -> str:
    if exc.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return f"{keyfile}: not the key of {certfile}"
    if exc.reason and ("DECRYPT" in exc.reason or "PASSWORD" in exc.reason):
        return f"{keyfile}: the password is wrong"
    detail = exc.reason or exc.strerror or "not understood"
    wrong = " (or the password is wrong)" if password else ""
    return f"{certfile}, {keyfile}: no PEM certificate and key: {detail}{wrong}"


def _dns_names(leaf: x509.Certificate) -> list[str]:
    try:
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = (name.lower().removesuffix(".") for name in alternatives.get_values_for_type(x509.DNSName))
    return [name for name in names if not _is_ip(name)]


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _describe(one: _Certificate) -> str:
    names = ", ".join(_dns_names(one.leaf)) or "no DNS name"
    fingerprint = one.leaf.fingerprint(SHA256()).hex()
    subject = one.leaf.subject.rfc4514_string() or "no subject"
    until = one.leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{one.file}: {subject}; names {names}; valid until {until}; sha256 {fingerprint}"


def _problems(table: _Table, now: datetime) -> list[str]:
    found: list[str] = []
    for one in table.certificates:
        if one.leaf.not_valid_after_utc < now:
            found.append(f"{one.file}: expired at {one.leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
        if one.leaf.not_valid_before_utc > now:
            found.append(f"{one.file}: not valid before {one.leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}")
    return found
