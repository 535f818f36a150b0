"""What lies in a bucket, as others read it: with plain HTTP and with the AWS command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from servers.afar import DISK, in_bucket, keeping
from servers.s3_plain import Answer, Bucket, sent
from servers.seaweed import SeaweedFS
from servers.soundkeep import Json, Server, eventually, running
from sounds import wav

SIZE = 700_000
SECONDS = 60


@dataclass(frozen=True)
class Scene:
    """A server whose sounds lie under a prefix of a bucket, and others who read that bucket."""

    server: Server
    bucket: Bucket
    prefix: str

    def upload(self, name: str, sound: bytes) -> Json:
        """A track that is in the bucket; its id is its name."""
        track = self.server.upload(f"{name}.wav", sound, id=name)
        eventually(lambda: self.server.check()["passed"])
        return track

    def key(self, track: Json) -> str:
        return f"{self.prefix}/blobs/{track['digest']}"

    def sync(self, track_id: str, operation: str) -> Json:
        fields = {"operation": operation, "store": "cdn", "wait_seconds": 25}
        answer = self.server.ask(
            "POST", f"/api/tracks/{track_id}/sync", json.dumps(fields).encode()
        )
        [line] = answer.json["items"]
        return dict(line)

    def document(self, key: str) -> Json:
        """A JSON object, as the AWS command line reads it."""
        return dict(json.loads(self.aws("s3", "cp", self.uri(key), "-")))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket.name}/{key}"

    def curl(self, key: str) -> Answer:
        """A plain GET of a URL that Amazon's own tool signed, as any browser does it.

        By the program of that name where the machine has it. (It is not brought as nginx is: its
        package is nothing without a dozen libraries.) Else the standard library asks.
        """
        url = self.aws("s3", "presign", self.uri(key)).decode().strip()
        curl = shutil.which("curl")
        return _curled(curl, url) if curl else sent(urllib.request.Request(url))

    def aws(self, *words: str, fails: bool = False) -> bytes:
        """What the AWS command line says, with the bucket's credentials and nobody's settings."""
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": self.bucket.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.bucket.credentials.secret_key,
            "AWS_DEFAULT_REGION": self.bucket.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        aws = Path(sys.executable).parent / "aws"
        command = [sys.executable, str(aws), "--endpoint-url", self.bucket.endpoint, *words]
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=SECONDS, check=False
        )
        assert (done.returncode != 0) is fails, done.stderr.decode()
        return done.stdout

    def aws_json(self, *words: str) -> Any:
        return json.loads(self.aws(*words, "--output", "json"))


def _curled(curl: str, url: str) -> Answer:
    """Its settings file is left out; `--include` puts the head before the body."""
    argv = [curl, "--disable", "--silent", "--show-error", "--include", "--max-time", "60", url]
    told = subprocess.run(argv, capture_output=True, check=True)
    head, _, body = told.stdout.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").splitlines()
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Answer(int(first.split()[1]), headers, body)


@pytest.fixture(scope="module")
def scene(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("cdn")
    bucket, prefix = seaweed.bucket, f"cdn-{uuid.uuid4().hex}"
    kept = in_bucket(bucket, folder / "keys", prefix=prefix)
    cdn = in_bucket(
        bucket,
        folder / "keys",
        prefix=f"{prefix}-cdn",
        public=True,
        public_url=f"{bucket.endpoint}/{bucket.name}/{prefix}-cdn",
        key="audio/{track_id}.{ext}",
        sidecar_key="metadata/{track_id}.json",
    )
    settings = keeping(bucket=kept, disk=DISK)
    settings["STORES"] = json.dumps({"bucket": kept, "disk": DISK, "cdn": cdn})
    with running(folder / "data", **settings) as server:
        yield Scene(server, bucket, prefix)


def test_an_upload_is_read_from_the_bucket_with_plain_http(scene: Scene) -> None:
    sound = wav(SIZE, seed=31)
    track = scene.upload("plain", sound)
    answer = scene.curl(scene.key(track))
    assert (answer.status, answer.body) == (200, sound)
    assert answer.headers["content-type"] == track["media_type"]


def test_an_upload_is_read_from_the_bucket_with_the_aws_command_line(
    scene: Scene, tmp_path: Path
) -> None:
    sound = wav(SIZE, seed=32)
    track = scene.upload("aws", sound)
    key = scene.key(track)
    fetched = tmp_path / "fetched.wav"
    scene.aws("s3", "cp", "--only-show-errors", scene.uri(key), str(fetched))
    assert fetched.read_bytes() == sound

    head = scene.aws_json("s3api", "head-object", "--bucket", scene.bucket.name, "--key", key)
    assert (head["ContentLength"], head["ContentType"]) == (len(sound), track["media_type"])
    listed = scene.aws("s3", "ls", "--recursive", scene.uri(f"{scene.prefix}/"))
    assert track["digest"].encode() in listed


def test_a_deleted_track_is_gone_from_the_bucket_for_everybody(scene: Scene) -> None:
    sound = wav(SIZE, seed=33)
    track = scene.upload("gone", sound)
    key = scene.key(track)
    assert scene.curl(key).body == sound
    assert scene.server.ask("DELETE", "/api/tracks/gone").status in (200, 202)
    eventually(lambda: scene.server.ask("GET", "/api/tracks/gone/receipt").json["complete"])
    assert scene.curl(key).status == 404
    scene.aws("s3api", "head-object", "--bucket", scene.bucket.name, "--key", key, fails=True)
    lines = scene.server.ask("GET", "/api/tracks/gone/receipt").json["stores"]
    outcomes = {line["key"]: line["outcome"] for line in lines if line["store"] == "bucket"}
    assert outcomes == {
        f"blobs/{track['digest']}": "removed",
        "tracks/gone.json": "removed",
    }


def test_a_track_on_the_cdn_with_its_sidecar_which_follows_it_until_both_are_withdrawn(
    scene: Scene,
) -> None:
    sound = wav(SIZE, seed=34)
    mine = {"zebra": [1, 2.5, None], "artist": "Zoë", "nested": {"b": "x", "a": True}}
    metadata = json.dumps(mine)
    track = scene.server.upload(
        "show.wav", sound, id="show", visibility="public", title="First", metadata=quote(metadata)
    )
    pushed = scene.sync("show", "upload")
    audio, sidecar = f"{scene.prefix}-cdn/audio/show.wav", f"{scene.prefix}-cdn/metadata/show.json"
    root = f"{scene.bucket.endpoint}/{scene.bucket.name}"
    assert (pushed["state"], pushed["due"]) == ("present", [])
    assert pushed["cdn_url"] == f"{root}/{audio}"
    assert pushed["sidecar_cdn_url"] == f"{root}/{sidecar}"
    assert pushed["timestamp"] >= track["created_at"]

    answer = scene.curl(audio)
    assert (answer.status, answer.body) == (200, sound)
    assert answer.headers["content-type"] == track["media_type"]
    assert answer.headers["cache-control"] == "public, max-age=86400"
    before = scene.document(sidecar)
    assert before.pop("soundkeep")["title"] == "First"
    assert json.dumps(before) == metadata  # also in the same order

    changed = scene.server.ask(
        "PATCH", "/api/tracks/show", json.dumps({"title": "Second"}).encode()
    )
    assert changed.status == 200
    eventually(lambda: scene.document(sidecar)["soundkeep"]["title"] == "Second")
    after = scene.document(sidecar)
    ours = after.pop("soundkeep")
    assert json.dumps(after) == metadata
    assert (ours["digest"], ours["path"]) == (track["digest"], "show.wav")
    assert "owner" not in ours

    withdrawn = scene.sync("show", "delete")
    assert (withdrawn["state"], withdrawn["due"], withdrawn["cdn_url"]) == ("gone", [], None)
    for key in (audio, sidecar):
        assert scene.curl(key).status == 404
        scene.aws("s3api", "head-object", "--bucket", scene.bucket.name, "--key", key, fails=True)
    receipt = scene.server.ask("GET", "/api/tracks/show/receipt").json
    assert receipt["complete"]
    outcomes = {line["key"]: line["outcome"] for line in receipt["stores"]}
    assert outcomes == {"audio/show.wav": "removed", "metadata/show.json": "removed"}
    assert scene.server.sound("show") == sound
