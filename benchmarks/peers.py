"""The programs we compare ourselves with: nginx, rclone, SHA-256, and the S3 that both talk to.

nginx is the private copy that `scripts/bring-nginx` unpacked, or one found on PATH; rclone comes
with the development packages. Each runs with settings of its own, from nothing it might find on
this machine. What is missing raises PeerMissing, with the command that brings it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import PeerMissing, Reading, command, free_port, serving

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))

from servers.s3_plain import Bucket  # noqa: E402 - it lies there
from servers.seaweed import SeaweedFS, running_seaweed  # noqa: E402 - it lies there

# One worker, for one server process of ours, and buffers as somebody who cares would set them:
# with the default of 16k an upload of 5 MB costs nginx two to three times the CPU.
# `client_body_in_file_only` writes a body down only where a handler asks for it, so uploads are
# passed, bodiless, to a server that says 204.
NGINX_CONF = """
daemon off;
{user}
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush off;
    default_type audio/mpeg;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size 256k;
    client_body_temp_path {home}/bodies;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {files};
        location /uploads/ {{
            client_body_in_file_only on;
            proxy_pass http://unix:{home}/said.sock:;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
    }}
    server {{
        listen unix:{home}/said.sock;
        return 204;
    }}
}}
"""


# It passes on what it is asked for, signature and all, over connections that it keeps, and reads
# ahead of a slow listener in memory only.
RELAY_CONF = """
daemon off;
{user}
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    tcp_nopush off;
    keepalive_requests 1000000000;
    client_body_temp_path {home}/bodies;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    upstream origin {{ server {origin}; keepalive 32; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host {origin};
            proxy_buffers 16 64k;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx: files of its root at `/`, uploads by POST under `/uploads/`."""

    pid: int
    port: int
    bodies: Path  # where each upload becomes a file

    def uploads(self) -> list[Path]:
        return sorted(self.bodies.iterdir())


@contextmanager
def nginx(files: Path) -> Iterator[Nginx]:
    """nginx on loopback serving a folder, with one worker and no access log."""
    with _nginx(NGINX_CONF, files=files) as running:
        yield running


@contextmanager
def nginx_before(origin: str) -> Iterator[Nginx]:
    """nginx on loopback passing on what another server (HOST:PORT) answers."""
    with _nginx(RELAY_CONF, origin=origin) as running:
        yield running


@contextmanager
def _nginx(conf: str, **words: object) -> Iterator[Nginx]:
    program = nginx_program()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        home = Path(folder)
        file = home / "nginx.conf"
        file.write_text(conf.format(home=home, port=port, user=_user(), **words))
        argv = [program, "-p", folder, "-e", f"{home}/error.log", "-c", str(file)]
        with serving(argv, port) as process:
            yield Nginx(process.pid, port, home / "bodies")


def nginx_program() -> str:
    brought = ROOT / ".cache/nginx/usr/sbin/nginx"
    search = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    found = str(brought) if brought.exists() else shutil.which("nginx", path=search)
    if found is None:
        raise PeerMissing("nginx is not on this machine; scripts/bring-nginx brings it")
    return found


def seaweed() -> AbstractContextManager[SeaweedFS]:
    """A real S3 on loopback, the one that the tests use."""
    return running_seaweed()


def rclone(*arguments: str) -> list[str]:
    """The command line of an rclone that knows no remotes but this machine's own files."""
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    if program is None:
        raise PeerMissing("rclone is not in the environment; make test brings it")
    return [program, "--config", "", *arguments]


def remote(bucket: Bucket, folder: str) -> str:
    """A folder of a bucket as rclone names it."""
    return (
        f":s3,provider=SeaweedFS,endpoint='{bucket.endpoint}',region={bucket.region},"
        f"access_key_id={bucket.credentials.access_key},"
        f"secret_access_key={bucket.credentials.secret_key}:{bucket.name}/{folder}"
    )


def sha256sum(files: Sequence[Path]) -> Reading:
    """What it costs to hash files by the usual program, in its one portable way."""
    return command(["sha256sum", "--", *map(str, files)], units=len(files))


def fast_sha256(files: Sequence[Path]) -> Reading:
    """What it costs with the processor's own instructions: a sixth, so the harder peer."""
    lines = (
        "import hashlib, sys\n"
        "for path in sys.argv[1:]: hashlib.file_digest(open(path, 'rb'), 'sha256')"
    )
    return command([sys.executable, "-Ic", lines, *map(str, files)], units=len(files))


def _user() -> str:
    """Started by root, nginx's worker would be nobody and could not read a private folder."""
    return f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
