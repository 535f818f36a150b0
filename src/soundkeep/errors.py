"""Everything that can go wrong, as one tree with stable codes.

A `code` never changes its meaning: clients branch on it. The sentence says what was wrong,
where, and what to do; it never holds a secret. `web/problems.py` maps the tree to HTTP status
codes and `docs/http.md` lists every code.

Three facts are kept apart (and never turned into one another): *absent* is an answer,
*unreachable* is a passing fault, *corrupt* is a fault of the bytes.
"""

from __future__ import annotations


class SoundkeepError(Exception):
    """The root. `str(error)` is one sentence for a person."""

    code = "internal"

    def __init__(self, message: str = "", /, **details: object) -> None:
        super().__init__(message or (type(self).__doc__ or self.code).split("\n")[0])
        self.details = details


# --- what a caller sent ---------------------------------------------------------------------


class BadInput(SoundkeepError):
    """Something in the request cannot be understood."""

    code = "bad_input"


class BadDigest(BadInput):
    """A digest is not well formed."""

    code = "bad_digest"


class BadPath(BadInput):
    """A path is not allowed."""

    code = "bad_path"


class BadId(BadInput):
    """A track id is not allowed."""

    code = "bad_id"


class BadMetadata(BadInput):
    """Metadata is not a JSON object we can keep."""

    code = "bad_metadata"


class BadCursor(BadInput):
    """A list cursor was not made by this server."""

    code = "bad_cursor"


class EmptyUpload(BadInput):
    """The upload has no bytes."""

    code = "empty_upload"


class IncompleteUpload(BadInput):
    """The upload ended before its announced length."""

    code = "incomplete_upload"


class DigestMismatch(BadInput):
    """The bytes received are not the bytes that were announced."""

    code = "digest_mismatch"


class UploadTooLarge(BadInput):
    """The upload is larger than the limit."""

    code = "upload_too_large"


class NotAudio(BadInput):
    """The bytes are not audio that can be played."""

    code = "not_audio"


class TooMuchSound(BadInput):
    """The sound is longer than the limit, once it is decoded."""

    code = "too_much_sound"


class TypeNotAllowed(BadInput):
    """The audio is of a type that this installation does not take."""

    code = "type_not_allowed"


class BadText(BadInput):
    """The text cannot be spoken."""

    code = "bad_text"


class BadSpeech(BadInput):
    """The request for speech cannot be understood."""

    code = "bad_speech"


class BadUrl(BadInput):
    """The address is none that may be asked."""

    code = "bad_url"


class RangeNotSatisfiable(BadInput):
    """The range lies beyond the end of the sound."""

    code = "range_not_satisfiable"


# --- what does not fit what is there --------------------------------------------------------


class Conflict(SoundkeepError):
    """The request contradicts what is already kept."""

    code = "conflict"


class IdTaken(Conflict):
    """The id was used before for other audio."""

    code = "id_taken"


class PathTaken(Conflict):
    """The path already holds other audio."""

    code = "path_taken"


class RevisionChanged(Conflict):
    """The track was changed by somebody else in the meantime."""

    code = "revision_changed"


class TrackIsPrivate(Conflict):
    """A private track is never placed in a public store."""

    code = "track_is_private"


class NotTaken(Conflict):
    """The store's own limits refuse the sound."""

    code = "not_taken"


class StoreDrains(Conflict):
    """The store is being drained, so that nothing is placed there."""

    code = "store_drains"


class StoreNeeded(Conflict):
    """The store cannot be drained or forgotten as things are."""

    code = "store_needed"


class ClaimNotTrue(Conflict):
    """A table says that a copy lies somewhere, and what lies there is another sound."""

    code = "claim_not_true"


class PlanIsOver(Conflict):
    """The plan was cancelled or is done."""

    code = "plan_is_over"


class OverBudget(SoundkeepError):
    """The budget of this month does not allow it; the engine was not asked."""

    code = "over_budget"


class TakeRefused(SoundkeepError):
    """What the engine spoke does not sound right; it was not kept."""

    code = "take_refused"

    def __init__(self, message: str = "", /, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # until then the engine is not asked again


class NoSuchTrack(SoundkeepError):
    """There is no such track."""

    code = "no_such_track"


class NoSuchSpeech(SoundkeepError):
    """There is no such speech."""

    code = "no_such_speech"


class NoTiming(SoundkeepError):
    """Nobody knows when the words of this sound are heard."""

    code = "no_timing"


class NoSuchPlan(SoundkeepError):
    """There is no such plan."""

    code = "no_such_plan"


class NoSuchTake(SoundkeepError):
    """No such take is kept aside here."""

    code = "no_such_take"


class NoSuchStore(SoundkeepError):
    """There is no store of this name."""

    code = "no_such_store"


class Unauthorized(SoundkeepError):
    """A key is needed."""

    code = "unauthorized"


class TooManyRequests(SoundkeepError):
    """Too many requests in a short time."""

    code = "too_many_requests"


# --- this installation ----------------------------------------------------------------------


class SettingsError(SoundkeepError):
    """The settings cannot be used."""

    code = "bad_settings"


class CatalogUnavailable(SoundkeepError):
    """The catalog did not answer in time."""

    code = "catalog_unavailable"


class WriteFailed(SoundkeepError):
    """This machine could not write the bytes down; nothing of them was kept."""

    code = "write_failed"


class DiskFull(WriteFailed):
    """There is no room left on this machine's disk."""

    code = "disk_full"


class JailFailed(SoundkeepError):
    """The process that decodes foreign bytes could not be used."""

    code = "decoder_unavailable"


class UrlUnavailable(SoundkeepError):
    """The address could not be read."""

    code = "url_unavailable"


class Unplayable(SoundkeepError):
    """No good copy of the sound can be reached now."""

    code = "unplayable"


class NotEnoughCopies(SoundkeepError):
    """The copy law refuses: too few other copies are proven to be whole."""

    code = "not_enough_copies"


class LeaseLost(SoundkeepError):
    """The lease on this work ran out and somebody else may hold it."""

    code = "lease_lost"


class ShuttingDown(SoundkeepError):
    """The server is stopping and takes no new work."""

    code = "shutting_down"


# --- stores ---------------------------------------------------------------------------------


class StoreError(SoundkeepError):
    """A store could not do what was asked."""

    code = "store_error"


class NotFound(StoreError):
    """The store answered, and the object is surely not there."""

    code = "store_not_found"


class PermissionDenied(StoreError):
    """The store refused our credentials."""

    code = "store_permission_denied"


class Misconfigured(StoreError):
    """This is not the store it should be: missing, or another one in its place."""

    code = "store_misconfigured"


class Corrupt(StoreError):
    """The bytes in the store are not the bytes that were put there."""

    code = "store_corrupt"


class TooLarge(StoreError):
    """The object is larger than the store takes."""

    code = "store_too_large"


class QuotaExceeded(StoreError):
    """The store has no room left."""

    code = "store_quota_exceeded"


class Unsupported(StoreError):
    """The store cannot do this at all."""

    code = "store_unsupported"


class Retryable(StoreError):
    """A passing fault: the same call may succeed later."""

    code = "store_retryable"


class Throttled(Retryable):
    """The store asks us to slow down."""

    code = "store_throttled"

    def __init__(self, message: str = "", /, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TimedOut(Retryable):
    """The store did not answer in time."""

    code = "store_timed_out"


class Unavailable(Retryable):
    """The store cannot be reached."""

    code = "store_unavailable"


class Truncated(Retryable):
    """The store ended the bytes before their announced length."""

    code = "store_truncated"


# --- engines --------------------------------------------------------------------------------


class EngineError(SoundkeepError):
    """An engine could not say what was asked."""

    code = "engine_error"

    def __init__(self, message: str = "", /, charged: bool | None = False) -> None:
        super().__init__(message)
        self.charged = charged  # None: nobody can know whether it was paid for


class EngineRefused(EngineError):
    """The engine does not accept the request as it is."""

    code = "engine_refused"


class UnknownVoice(EngineRefused):
    """The engine has no such voice."""

    code = "unknown_voice"


class UnknownModel(EngineRefused):
    """The engine has no such model."""

    code = "unknown_model"


class UnknownFormat(EngineRefused):
    """The engine does not deliver this format."""

    code = "unknown_format"


class TextTooLong(EngineRefused):
    """The text is longer than the model takes at once."""

    code = "text_too_long"


class EngineUnauthorised(EngineError):
    """The engine does not accept our key."""

    code = "engine_unauthorised"


class EngineOutOfCredit(EngineError):
    """The account at the engine has nothing left to spend."""

    code = "engine_out_of_credit"


class EngineThrottled(EngineError):
    """The engine asks us to slow down. `kind` is its own word for why."""

    code = "engine_throttled"

    def __init__(
        self,
        message: str = "",
        /,
        charged: bool | None = False,
        retry_after: float | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(message, charged)
        self.retry_after = retry_after
        self.kind = kind


class EngineUnavailable(EngineError):
    """The engine cannot be reached, cannot serve now or did not answer in time."""

    code = "engine_unavailable"
    retry_after: float | None = None  # seconds, if it said so


class EngineAnsweredBadly(EngineError):
    """What the engine sent is not the sound that was asked for."""

    code = "engine_answered_badly"
