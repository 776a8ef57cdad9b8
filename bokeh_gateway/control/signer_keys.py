"""The keys of [auth.jwt] jwks_url: fetched once, by the master, for all gateway processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from bokeh_gateway.control.channel import Payload
from bokeh_gateway.signer.fetch import Fetcher
from bokeh_gateway.signer.source import KeySource

if TYPE_CHECKING:
    from bokeh_gateway.config.schema import Config

log = logging.getLogger(__name__)

FETCH_TIMEOUT: Final = 5.0
"""Seconds for a signer's keys."""


class SignerKeys:
    """What is published there, and who is told of it.

    Args:
        tell: tells every process; called with what `told` gives.
        clock: seconds, never going back.
    """

    def __init__(self, tell: Callable[[Payload], None], clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._settings: tuple[str, float] | None = None
        self._source: KeySource | None = None
        self._fetcher: Fetcher | None = None
        self._kept: Mapping[str, object] = {}

    def follow(self, config: Config) -> None:
        """The configuration's URL from now on; what is known of the same one stays."""
        jwt = config.auth.jwt
        wanted = (jwt.jwks_url, jwt.jwks_refresh) if jwt is not None and jwt.jwks_url is not None else None
        if wanted == self._settings:
            return
        known = self.state()
        self.close()
        self._settings = wanted
        if wanted is not None:
            self._fetcher = Fetcher(FETCH_TIMEOUT)
            self._source = KeySource(wanted[0], self._fetcher, self._clock, wanted[1])
            try:
                self._source.restore(known.get(wanted[0]))
            except ValueError as error:
                log.warning("keys of %s, kept from before, are of no use: %s", wanted[0].partition("?")[0], error)
            self._source.on_end = self._told_all

    def look(self, _now: float = 0.0) -> None:
        """Fetches what is too old."""
        if self._source is not None:
            self._source.freshen()

    def asked(self, url: str) -> None:
        """A process met a key id that it does not know; all are told what came of it."""
        if self._source is None or self._settings is None or self._settings[0] != url:
            return  # of a configuration that is no longer in force
        if self._source.pause > 0.0:
            self._told_all()
        else:
            self._source.start()

    def told(self) -> Payload:
        """What a process is told: `url`, its `document` or None, and the `pause` in seconds before it may ask."""
        if self._source is None or self._settings is None:
            return {"url": None, "document": None, "pause": 0.0}
        return {"url": self._settings[0], "document": self._source.document, "pause": self._source.pause}

    def state(self) -> dict[str, Any]:
        """Documents by URL, in plain values."""
        if self._source is None or self._settings is None:
            return dict(self._kept)
        return {self._settings[0]: self._source.document}

    def restore(self, state: Mapping[str, object]) -> None:
        """What the program before an upgrade knew."""
        self._kept = state

    def close(self) -> None:
        """Fetches no more."""
        if self._source is not None:
            self._source.close()
        if self._fetcher is not None:
            self._fetcher.close()
        self._source = self._fetcher = None

    def _told_all(self) -> None:
        self._tell(self.told())
