"""Every route, in one table. `app` mounts them; a test compares the table with the app."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """A path and what it is for. `guarded` routes need the admin key."""

    methods: str
    path: str
    what: str
    guarded: bool = True


ROUTES = (
    Route("GET HEAD", "/audio/{track_id}", "the sound", guarded=False),
    Route("POST", "/api/tracks", "keep a sound"),
    Route("GET", "/api/tracks", "list tracks"),
    Route("GET", "/api/tracks/{track_id}", "read a track"),
    Route("PATCH", "/api/tracks/{track_id}", "change a track"),
    Route("DELETE", "/api/tracks/{track_id}", "delete a track"),
    Route("GET", "/api/tracks/{track_id}/receipt", "proof of a deletion"),
    Route("GET", "/api/tracks/{track_id}/copies", "where a track's copies are"),
    Route("GET OPTIONS", "/api/tracks/{track_id}/sources", "where a track plays", guarded=False),
    Route("POST", "/api/tracks/{track_id}/renditions", "make a track in another format"),
    Route("GET", "/api/tracks/{track_id}/renditions", "the formats that a track is there in"),
    Route("POST", "/api/tracks/{track_id}/sync", "push a track to a store, or withdraw it"),
    Route("POST", "/api/sync", "push many tracks, or withdraw them"),
    Route("GET", "/api/tracks/{track_id}/timing", "when the words of a track are heard"),
    Route("POST", "/api/speech", "say a text"),
    Route("GET HEAD", "/api/speech/{key}", "a speech by any of its keys"),
    Route("DELETE", "/api/speech/{key}", "revoke what was said"),
    Route("GET", "/api/speech/{key}/timing", "when its words are heard"),
    Route("GET", "/api/speech/refused", "takes that the judge refused"),
    Route("GET", "/api/speech/refused/{take_id}", "the sound of one"),
    Route("POST", "/api/speech/refused/{take_id}/accept", "make it the segment all the same"),
    Route("GET", "/api/speech/stats", "hits, money and times"),
    Route("GET", "/api/speech/voices", "who can speak"),
    Route("POST", "/api/speech/plans", "have texts spoken by and by"),
    Route("GET", "/api/speech/plans", "list plans"),
    Route("GET", "/api/speech/plans/{plan_id}", "how far a plan is"),
    Route("DELETE", "/api/speech/plans/{plan_id}", "cancel a plan"),
    Route("POST", "/api/speech/plans/{plan_id}/pause", "pause a plan"),
    Route("POST", "/api/speech/plans/{plan_id}/resume", "resume a plan"),
    Route("GET", "/api/copies", "the ledger"),
    Route("POST", "/api/copies/retry", "retry now"),
    Route("POST", "/api/hooks/{name}", "a signed errand of another program", guarded=False),
    Route("GET", "/api/stores", "stores and their health"),
    Route("GET", "/api/stores/{name}", "one store's health"),
    Route("PATCH", "/api/stores/{name}", "drain a store, or use it again"),
    Route("GET", "/api/status", "how things stand"),
    Route("GET", "/api/check", "whether every copy is where it should be"),
    Route("POST OPTIONS", "/api/agents/vocalize", "an alias: say a text", guarded=False),
    Route("GET HEAD OPTIONS", "/api/temp-audio/{id}", "an alias: public sound", guarded=False),
    Route("GET POST OPTIONS", "/api/voice", "an alias: say a text, or find it", guarded=False),
    Route("POST OPTIONS", "/functions/v1/sync-to-cdn", "an alias: push or withdraw", guarded=False),
    Route("GET POST OPTIONS", "/api/admin/retry-ipfs", "an alias: retry now", guarded=False),
    Route("POST", "/openai/v1/audio/speech", "speech, as OpenAI's clients ask for it"),
    Route("GET", "/openai/v1/models", "models, as OpenAI's clients list them"),
    Route("GET", "/openai/v1/models/{model_id}", "one model"),
    Route("POST", "/elevenlabs/v1/text-to-speech/{voice_id}", "speech, as ElevenLabs' clients do"),
    Route("POST", "/elevenlabs/v1/text-to-speech/{voice_id}/stream", "while it is spoken"),
    Route("POST", "/elevenlabs/v1/text-to-speech/{voice_id}/with-timestamps", "with its times"),
    Route(
        "POST", "/elevenlabs/v1/text-to-speech/{voice_id}/stream/with-timestamps", "line by line"
    ),
    Route("GET", "/elevenlabs/v2/voices", "voices, page by page"),
    Route("GET", "/elevenlabs/v1/voices", "all voices"),
    Route("GET", "/elevenlabs/v1/voices/{voice_id}", "one voice"),
    Route("GET", "/elevenlabs/v1/models", "models, as ElevenLabs' clients list them"),
    Route("GET", "/", "the page of public tracks", guarded=False),
    Route("GET", "/healthz", "whether the process lives", guarded=False),
    Route("GET", "/readyz", "whether it can serve", guarded=False),
    Route("GET", "/metrics", "figures for Prometheus"),
    Route("GET", "/openapi.json", "this API, described", guarded=False),
    Route("GET", "/docs", "this API, as a page", guarded=False),
)
