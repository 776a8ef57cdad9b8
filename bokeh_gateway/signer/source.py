"""A signer's published keys: fetched in the background, kept while their URL is down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from bokeh_gateway.signer.fetch import COOL_DOWN, Answered, Fetcher, Unreachable
from bokeh_gateway.signer.keys import Key, read_jwks

log = logging.getLogger(__name__)

MAX_PAUSE: Final = 300.0
"""Seconds between two tries of a URL that stays down."""


class KeySource:
    """Fetches the keys of one signer.

    Attributes:
        document: the JWKS as it was fetched; None before the first one came.
        keys: what is usable of it.
        on_end: called after each fetch, whatever came of it.
    """

    def __init__(
        self, url: str | Callable[[], str | None], fetcher: Fetcher, clock: Callable[[], float], max_age: float
    ) -> None:
        """`url` may become known only later; `clock` in seconds, never going back; `max_age` in seconds."""
        self.document: object = None
        self.keys: list[Key] = []
        self.on_end: Callable[[], None] = lambda: None
        self._url = url
        self._fetcher = fetcher
        self._clock = clock
        self._max_age = max_age
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    def restore(self, document: object) -> None:
        """Takes over what was known before, until the first fetch comes back: the URL may be down.

        Raises:
            ValueError: it is no JWKS.
        """
        if document is not None:
            self.keys = read_jwks(document)
            self.document = document

    def freshen(self) -> None:
        """Fetches in the background what is too old; what is there stays in use."""
        now = self._clock()
        pause = min(COOL_DOWN * 2.0 ** max(self._failures - 1, 0), MAX_PAUSE)
        if now - self._fetched >= self._max_age and now - self._tried >= pause:
            self.start()

    @property
    def under_way(self) -> bool:
        """Whether a fetch is."""
        return self._task is not None

    @property
    def pause(self) -> float:
        """Seconds until a key id that is not known is reason for a fetch."""
        return 0.0 if self.under_way else max(self._tried + COOL_DOWN - self._clock(), 0.0)

    async def look_again(self) -> None:
        """Waits for a fetch: one that is under way, else a new one."""
        await asyncio.shield(self.start())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def start(self) -> asyncio.Task[None]:
        """A fetch: one that is under way, else a new one."""
        if self._task is None:
            self._tried = self._clock()
            self._task = asyncio.get_running_loop().create_task(self._fetch())
            self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if task.exception() is not None:
            log.error("fetching keys failed unexpectedly", exc_info=task.exception())
        self.on_end()

    async def _fetch(self) -> None:
        url = self._url if isinstance(self._url, str) else self._url()
        if url is None:
            return
        where = url.partition("?")[0]
        try:
            document = await self._fetcher.json(url)
            keys = read_jwks(document)
        except (Unreachable, Answered, ValueError) as error:
            self._failures += 1
            kept = f"the {len(self.keys)} known ones stay in use" if self.keys else "no token can be verified"
            log.warning("keys of %s could not be fetched, %s: %s", where, kept, error)
            return
        self._fetched = self._clock()
        if self._failures:
            self._failures = 0
            log.warning("keys of %s are fetched again", where)
        if document != self.document:
            log.info("%d keys of %s", len(keys), where)
        self.document, self.keys = document, keys
