"""A certificate for this machine that nobody has signed but itself."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def new_certificate(folder: Path) -> Path:
    """A file with a key and a certificate for localhost, as a name and as an address."""
    file = folder / "localhost.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", names]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = ["openssl", "req", *kind, *subject, "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


def speaking_for(certificate: Path) -> ssl.SSLContext:
    """For a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def trusting(certificate: Path) -> ssl.SSLContext:
    """For a client."""
    return ssl.create_default_context(cafile=str(certificate))
