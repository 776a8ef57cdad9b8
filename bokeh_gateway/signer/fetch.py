"""JSON from the services that sign-in depends on: bounded in size and time, one request at a time for each purpose."""

from __future__ import annotations

import json
from typing import Any, Final

from tornado.httpclient import HTTPError, HTTPRequest
from tornado.iostream import UnsatisfiableReadError
from tornado.simple_httpclient import SimpleAsyncHTTPClient

MAX_BODY: Final = 1024 * 1024
"""Bytes of an answer."""
COOL_DOWN: Final = 10.0
"""Seconds between two questions that anybody can cause: by a made-up key id, or a session that cannot be renewed."""


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
        except (HTTPError, OSError, UnsatisfiableReadError) as error:  # the last: its head is too long
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
