"""Certificates of a private authority, written to files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Certificate:
    """Files for gw.toml's [tls], and what a client needs to trust them."""

    certfile: Path
    keyfile: Path
    authority: Path
    client: ssl.SSLContext
    """Trusts the authority and checks names."""


def make_certificate(folder: Path, *names: str, password: str | None = None) -> Certificate:
    """A certificate for the names (localhost and 127.0.0.1 by default); the key is encrypted with `password`."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    files = Certificate(folder / "cert.pem", folder / "key.pem", folder / "authority.pem", ssl.create_default_context())
    files.certfile.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key = issued.private_key_pem.bytes()
    if password:
        loaded = load_pem_private_key(key, None)
        key = loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    files.keyfile.write_bytes(key)
    files.keyfile.chmod(0o600)
    authority.cert_pem.write_to_path(str(files.authority))
    authority.configure_trust(files.client)
    return files
