"""A signer's keys in a gateway process: the master fetches them, and tells all processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bokeh_gateway.signer.fetch import COOL_DOWN
from bokeh_gateway.signer.keys import Key, read_jwks

PATIENCE: Final = 8.0
"""Seconds for the master's answer; its own limit for a fetch is shorter."""


class ToldKeys:
    """What the master told of one signer.

    Attributes:
        url: whose keys these are.
        keys: what is known now; empty before the first fetch came back.
        generation: grows with each change of `keys`.
    """

    def __init__(self, url: str, ask: Callable[[str], None], clock: Callable[[], float]) -> None:
        """`ask`: asks the master for the keys of a URL; `clock` in seconds, never going back."""
        self.url = url
        self.keys: list[Key] = []
        self.generation = 0
        self._document: object = None
        self._ask = ask
        self._clock = clock
        self._not_before = float("-inf")
        self._waiting: asyncio.Future[None] | None = None

    def told(self, document: object, pause: float = 0.0) -> None:
        """The JWKS, None while there is none; it is not worth asking again for `pause` seconds."""
        if document is not None and document != self._document:
            self.keys = read_jwks(document)
            self._document = document
            self.generation += 1
        self._not_before = self._clock() + pause
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._waiting = None

    def may_look_again(self) -> bool:
        """Whether a key id that is not known is reason to ask now."""
        return self._waiting is not None or self._clock() >= self._not_before

    async def look_again(self) -> None:
        """Waits for the master's answer, for `PATIENCE` seconds."""
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = asyncio.get_running_loop().create_future()
            self._not_before = self._clock() + COOL_DOWN  # should no answer come
            self._ask(self.url)
        await asyncio.wait([waiting], timeout=PATIENCE)
        if self._waiting is waiting:
            self._waiting = None  # no answer came; whoever comes next need not wait for this one
