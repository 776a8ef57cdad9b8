"""JSON from the services that sign-in depends on: bounded in size and time, one request at a time for each purpose."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from tornado.httpclient import HTTPError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from bokeh_gateway.endpoint.auth_keys import Key, read_jwks

log = logging.getLogger(__name__)

MAX_BODY: Final = 1024 * 1024
"""Bytes of an answer."""
COOL_DOWN: Final = 10.0
"""Seconds between two fetches for the sake of unknown key ids: anybody can make up a key id."""


class Unreachable(Exception):
    """No usable answer; the text names the host and what was wrong, and nothing that was sent."""


class Answered(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body


class Fetcher:
    """An HTTP client for JSON.  Follows no redirects: what is asked is what is configured or discovered."""

    def __init__(self, timeout: float, ca_file: str | None = None) -> None:
        self._timeout = timeout
        self._ca_file = ca_file
        self._client = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=20, max_body_size=MAX_BODY, max_header_size=64 * 1024
        )

    async def json(self, url: str, *, body: str | None = None, headers: dict[str, str] | None = None) -> Any:
        """The JSON at `url`; with a `body`, a form is posted.

        Raises:
            Unreachable: there was no answer, or no JSON in it.
            Answered: the status was not 200.
        """
        wanted = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            wanted["Content-Type"] = "application/x-www-form-urlencoded"
        request = HTTPRequest(
            url,
            "GET" if body is None else "POST",
            wanted,
            body,
            connect_timeout=self._timeout,
            request_timeout=self._timeout,
            follow_redirects=False,
            ca_certs=self._ca_file,
            decompress_response=False,
        )
        where = url.partition("?")[0]
        try:
            answer = await self._client.fetch(request, raise_error=False)
            if answer.code == 599:
                raise Unreachable(f"{where}: {answer.error}")
            document = json.loads(answer.body or b"null")
        except (HTTPError, OSError) as error:
            raise Unreachable(f"{where}: {error}") from error
        except (ValueError, RecursionError) as error:
            if answer.code == 200:
                raise Unreachable(f"{where}: no JSON") from error
            document = None
        if answer.code != 200:
            raise Answered(answer.code, document)
        return document

    def close(self) -> None:
        self._client.close()


class KeySource:
    """A signer's published keys: fetched in the background, kept while the URL is down.

    Attributes:
        keys: what is known now; empty before the first fetch came back.
        generation: grows with each change of `keys`.
    """

    def __init__(
        self, url: str | Callable[[], str | None], fetcher: Fetcher, clock: Callable[[], float], max_age: float
    ) -> None:
        """`url` may become known only later; `clock` in seconds, never going back."""
        self.keys: list[Key] = []
        self.generation = 0
        self._url = url
        self._fetcher = fetcher
        self._clock = clock
        self._max_age = max_age
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def inherit(self, before: KeySource) -> None:
        """Takes over what a source of the same signer knew, until the first fetch comes back: its URL may be down."""
        self.keys = before.keys
        self.generation = before.generation

    def freshen(self) -> None:
        """Fetches in the background what is too old; what is there stays in use."""
        now = self._clock()
        if now - self._fetched >= self._max_age and now - self._tried >= COOL_DOWN:
            self._start()

    def may_look_again(self) -> bool:
        """Whether a key id that is not known is reason for a fetch now."""
        return self._task is not None or self._clock() - self._tried >= COOL_DOWN

    async def look_again(self) -> None:
        """Waits for a fetch: one that is under way, else a new one."""
        task = self._task or self._start()
        await asyncio.shield(task)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> asyncio.Task[None]:
        if self._task is None:
            self._tried = self._clock()
            self._task = asyncio.get_running_loop().create_task(self._fetch())
            self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("fetching keys failed unexpectedly", exc_info=task.exception())

    async def _fetch(self) -> None:
        url = self._url if isinstance(self._url, str) else self._url()
        if url is None:
            return
        try:
            keys = read_jwks(await self._fetcher.json(url))
        except (Unreachable, Answered, ValueError) as error:
            self._failing = True
            kept = f"the {len(self.keys)} known ones stay in use" if self.keys else "no token can be verified"
            log.warning("keys of %s could not be fetched, %s: %s", url.partition("?")[0], kept, error)
            return
        self._fetched = self._clock()
        if self._failing:
            self._failing = False
            log.warning("keys of %s are fetched again", url.partition("?")[0])
        if _names(keys) != _names(self.keys):
            log.info("%d keys of %s", len(keys), url.partition("?")[0])
        # Always: a key may be replaced under its old name.
        self.keys = keys
        self.generation += 1


def _names(keys: list[Key]) -> list[str]:
    return sorted(key.kid for key in keys)
