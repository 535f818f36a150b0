"""Only a refusal for the very reason that the digest is wrong proves that a server looks at it."""

from __future__ import annotations

import pytest

from soundkeep.errors import Corrupt, PermissionDenied, StoreError, Unavailable, Unsupported
from soundkeep.stores.s3_checking import Checking
from soundkeep.testing.expecting import fails_with


class Liar:
    """Sends the lie, and is answered so each time."""

    def __init__(self, *answers: StoreError | None) -> None:
        self.answers = list(answers)
        self.told = 0

    async def __call__(self) -> None:
        self.told += 1
        if answer := self.answers.pop(0):
            raise answer


@pytest.mark.parametrize(
    ("answer", "proven"),
    [(Corrupt(), True), (None, False), (PermissionDenied(), False), (Unsupported(), False)],
)
async def test_it_is_tried_once_and_remembered(answer: StoreError | None, proven: bool) -> None:
    checking, liar = Checking(), Liar(answer)
    assert [await checking.is_true(liar) for _ in range(3)] == [proven] * 3
    assert liar.told == 1


async def test_an_outage_proves_nothing_and_it_is_tried_again() -> None:
    checking, liar = Checking(), Liar(Unavailable(), Corrupt())
    await fails_with(Unavailable, checking.is_true(liar))
    assert checking.proven is None
    assert await checking.is_true(liar)
