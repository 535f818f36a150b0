"""Azurite on loopback: Microsoft's own emulator of Azure's blob storage."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from servers.node import node_command
from servers.processes import Process, free_ports
from servers.s3_plain import sent

ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = (  # of every emulator, as Microsoft's documentation has it
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True)
class Azurite:
    endpoint: str

    def new_container(self) -> str:
        """The name of an empty one."""
        name = f"c{uuid.uuid4().hex[:12]}"
        named = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
        canonical = "".join(f"{header}:{text}\n" for header, text in sorted(named.items()))
        resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        text = "PUT\n" + "\n" * 11 + canonical + resource
        key = base64.b64decode(ACCOUNT_KEY)
        signature = base64.b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()
        headers = {
            **named,
            "Authorization": f"SharedKey {ACCOUNT}:{signature}",
            "Content-Length": "0",
        }
        url = f"{self.endpoint}/{name}?restype=container"
        made = sent(urllib.request.Request(url, method="PUT", headers=headers))
        assert made.status == 201, made
        return name


@contextlib.contextmanager
def running_azurite() -> Iterator[Azurite]:
    with tempfile.TemporaryDirectory(prefix="azurite-") as directory:
        port, log = free_ports(1)[0], Path(directory) / "log"
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", directory]
        command = node_command("azurite", "azurite-blob")
        process = Process([*command, *options, "--skipApiVersionCheck", "--silent"], log)
        try:
            process.start(lambda: "successfully listens" in log.read_text())
            yield Azurite(f"http://127.0.0.1:{port}/{ACCOUNT}")
        finally:
            process.stop()
