"""The first page: public tracks, each with the browser's own player. And the API as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from soundkeep import shown
from soundkeep.catalog.tracks import Query
from soundkeep.model import Visibility
from soundkeep.shown import TrackView
from soundkeep.web.context import Anyone
from soundkeep.web.routes import ROUTES

PAGE_TRACKS = 20
# No script, nothing from elsewhere; the style stands in the page itself.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

router = APIRouter(include_in_schema=False)
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@router.get("/")
async def index(context: Anyone, search: str = "", cursor: str | None = None) -> HTMLResponse:
    """Public tracks only, whoever asks."""
    query = Query(
        search=search, visibility=Visibility.PUBLIC, limit=PAGE_TRACKS, cursor=cursor or None
    )
    listed = await context.keep.list(query)
    onward = urlencode({"search": search, "cursor": listed.next_cursor or ""})
    return _page(
        "index.html",
        tracks=[_shown(view) for view in listed.views],
        search=search,
        first=cursor is None,
        onward=onward if listed.next_cursor else None,
        data=str(context.keep.settings.data_directory),
    )


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The table of routes; the whole description is /openapi.json."""
    return _page("docs.html", routes=ROUTES)


def _page(name: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(name).render(values), headers=SECURITY)


def _shown(view: TrackView) -> dict[str, Any]:
    blob = view.track.blob
    return {
        "title": view.track.title,
        "path": view.track.path,
        "url": shown.audio_url(view.track, ""),
        "length": _length(blob.sound.duration_seconds),
        "size": _size(blob.size_bytes),
        "kind": blob.sound.extension,
        "stores": sorted({copy.store for copy in view.copies if shown.is_kept(copy)}),
    }


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"
