"""Page views by several browsers, each with the time at which it began and what became of it."""

from __future__ import annotations

import itertools
import threading
import time

from tests.support.bokeh_client import view_page
from tests.support.waiting import GENEROUS


class PageLoad:
    """Page views in some threads: one after another, or `a_minute` of them on time, late answers or not.

    A view is the page, its WebSocket, and the acknowledgement of its session.
    """

    def __init__(self, url: str, threads: int = 3, a_minute: float | None = None) -> None:
        self.url = url
        self.done: list[tuple[float, str]] = []
        self._pause = 0.0 if a_minute is None else 60.0 / a_minute
        self._turns = itertools.count()
        self._began = 0.0
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> PageLoad:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(GENEROUS)

    def _run(self) -> None:
        while not self._ending.wait(self._began + next(self._turns) * self._pause - time.monotonic()):
            began = time.monotonic()
            try:
                view_page(self.url).close()
                self.done.append((began, ""))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                self.done.append((began, f"{type(error).__name__}: {error}"))

    def since(self, moment: float) -> list[str]:
        """Of the views that began after `moment`: what went wrong, "" where nothing did."""
        return [outcome for began, outcome in self.done if began > moment]

    @property
    def failed(self) -> list[str]:
        """What went wrong."""
        return [outcome for _, outcome in self.done if outcome]
