"""A throw-away ECDSA P-256 certificate for localhost, the kind that public authorities issue by default today."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def create(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) as PEM files in `folder`, valid for two days."""
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(keyfile), "-out", str(certfile)],
        check=True, capture_output=True,
    )  # fmt: skip
    keyfile.chmod(0o644)  # some peers drop privileges before they read it; it is worth nothing
    return certfile, keyfile


def client_context(certfile: Path) -> ssl.SSLContext:
    """Trusts that certificate only."""
    return ssl.create_default_context(cafile=str(certfile))
