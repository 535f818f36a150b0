"""What clients of other systems already call, answered by the same core. One file for each.

Off unless `[aliases] enabled` names them. An alias translates a request to ours and our answer
back, and knows nothing else; `docs/moving-over.md` lists them for those who move over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fastapi import APIRouter

from soundkeep.web.aliases import retry_ipfs, sync_to_cdn, temp_audio, vocalize, voice

ALIASES: Mapping[str, APIRouter] = {
    "vocalize": vocalize.router,
    "temp-audio": temp_audio.router,
    "voice": voice.router,
    "sync-to-cdn": sync_to_cdn.router,
    "retry-ipfs": retry_ipfs.router,
}


def routers(enabled: Collection[str]) -> list[APIRouter]:
    """Those that are switched on."""
    return [router for name, router in ALIASES.items() if name in enabled]
