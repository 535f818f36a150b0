"""A track made private while its public copy is being read and its bucket cannot be reached."""

from __future__ import annotations

import http.client
import json
import uuid
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from servers.afar import DATABASE, DISK, in_bucket
from servers.fault_proxy import fault_proxy, refuse
from servers.seaweed import SeaweedFS
from servers.soundkeep import Json, Server, eventually, running
from soundkeep.stores.s3_signing import Address, Signer
from sounds import wav

SOUND = wav(3_000_000, seed=41)
HEARD_BEFORE = 64 * 1024


def lines_of(server: Server, store: str) -> list[Json]:
    document = server.ask("GET", "/api/tracks/show/receipt").json
    return [line for line in document["stores"] if line["store"] == store]


def withdrawal(server: Server) -> Json:
    fields = {"operation": "delete", "store": "cdn", "dry_run": True}
    body = json.dumps(fields).encode()
    [line] = server.ask("POST", "/api/tracks/show/sync", body).json["items"]
    return dict(line)


def test_it_is_never_said_to_be_gone_before_it_is_and_is_gone_once_the_bucket_is_back(
    seaweed: SeaweedFS, tmp_path: Path
) -> None:
    bucket, prefix = seaweed.bucket, f"withdrawn-{uuid.uuid4().hex}"
    keys = [f"{prefix}/blobs/%s", f"{prefix}/tracks/show.json"]
    with fault_proxy(seaweed.port) as proxy:
        cdn = in_bucket(
            bucket,
            tmp_path / "keys",
            endpoint=proxy.url,
            prefix=prefix,
            public=True,
            public_url="https://cdn.example.org",
        )
        stores = {"disk": DISK, "backup": DATABASE, "cdn": cdn}
        with running(tmp_path / "data", STORES=json.dumps(stores)) as server:
            track = server.upload("show.wav", SOUND, id="show", visibility="public")
            keys[0] %= track["digest"]
            eventually(lambda: server.check()["passed"])
            shown = server.ask("GET", "/api/tracks/show").json
            assert shown["cdn_url"] == f"https://cdn.example.org/blobs/{track['digest']}"

            address = Address.of(bucket.endpoint, bucket.name, "path")
            signer = Signer(address, bucket.credentials, bucket.region)
            url = signer.url(address.path(keys[0]), 600)
            listener = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
            with closing(listener):
                listener.request("GET", url.removeprefix(bucket.endpoint))
                answer = listener.getresponse()
                heard = answer.read(HEARD_BEFORE)

                proxy.suffers(refuse())
                proxy.drop()
                private = json.dumps({"visibility": "private"}).encode()
                assert server.ask("PATCH", "/api/tracks/show", private).status == 200
                assert heard + answer.read() == SOUND

            eventually(lambda: "cdn is out" in (withdrawal(server)["why"] or ""))
            assert withdrawal(server)["due"]
            assert server.ask("GET", "/api/tracks/show").json["cdn_url"] is None
            assert [line["outcome"] for line in lines_of(server, "cdn")] == ["pending"] * 2
            assert not server.ask("GET", "/api/tracks/show/receipt").json["complete"]
            assert [bucket.ask("HEAD", key).status for key in keys] == [200, 200]
            assert server.ask("GET", "/audio/show", key=None).status == 404

            proxy.heals()
            eventually(lambda: server.ask("GET", "/api/tracks/show/receipt").json["complete"])
            assert [bucket.ask("HEAD", key).status for key in keys] == [404, 404]
            for line in lines_of(server, "cdn"):
                assert line["outcome"] == "removed"
                assert line["cached_until"] > line["confirmed_at"]
            assert withdrawal(server)["state"] == "gone"
            assert server.sound("show") == SOUND
