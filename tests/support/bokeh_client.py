"""A browser's part of the Bokeh protocol, over requests and websockets: the page, its token, the WebSocket."""

from __future__ import annotations

import base64
import itertools
import json
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import requests
from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import GENEROUS

_TOKEN = re.compile(r'"token":\s*"([^"]+)"')


def page_token(text: str) -> str:
    """The session token in a page or an autoload.js."""
    found = _TOKEN.search(text)
    assert found, f"no token in {text[:300]!r}"
    return found[1]


def session_of(token: str) -> str:
    """The session id in a token."""
    payload = token.partition(".")[0]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(decoded["session_id"])


def websocket_url(page: str) -> str:
    """The URL that BokehJS opens for a page: its path, /ws, no query."""
    parts = urlsplit(page)
    scheme = {"http": "ws", "https": "wss"}[parts.scheme]
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/autoload.js") + "/ws", "", ""))


def http_session() -> requests.Session:
    """A client that heeds no proxy variables."""
    session = requests.Session()
    session.trust_env = False
    return session


def get(url: str, **options: Any) -> requests.Response:
    with http_session() as session:
        return session.get(url, timeout=GENEROUS, **options)


@dataclass
class Message:
    """One message of the Bokeh protocol."""

    type: str
    content: dict[str, Any]
    header: dict[str, Any]


class BokehSocket:
    """An open session: acknowledged by the worker when the constructor returns."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        origin: str | None = None,
        tls: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        """`sock`: a connection that is open already."""
        options: dict[str, Any] = {"ssl": tls} if url.startswith("wss:") else {}
        if sock is not None:
            options["sock"] = sock
        self.token = token
        self.connection: ClientConnection = connect(
            url,
            subprotocols=["bokeh", token],  # type: ignore[list-item]
            origin=origin,  # type: ignore[arg-type]
            additional_headers=headers,
            compression=None,
            proxy=None,
            open_timeout=GENEROUS,
            ping_interval=None,
            max_size=None,
            close_timeout=5,
            **options,
        )
        self._ids = itertools.count(1)
        try:
            acknowledged = self.receive()
            assert acknowledged.type == "ACK", acknowledged
        except BaseException:
            self.connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def session_id(self) -> str:
        return session_of(self.token)

    def close(self) -> None:
        self.connection.close()

    def receive(self, within: float = GENEROUS) -> Message:
        header = json.loads(self.connection.recv(within))
        self.connection.recv(within)  # metadata, always empty
        content = json.loads(self.connection.recv(within))
        for _ in range(2 * header.get("num_buffers", 0)):
            self.connection.recv(within)
        return Message(header["msgtype"], content, header)

    def send(self, kind: str, content: dict[str, Any]) -> str:
        """Sends a message; returns its id."""
        number = f"test{next(self._ids)}"
        for part in ({"msgid": number, "msgtype": kind}, {}, content):
            self.connection.send(json.dumps(part))
        return number

    def request(self, kind: str, content: dict[str, Any], reply: str) -> Message:
        """The reply to a message, passing over what the worker sends by itself meanwhile."""
        number = self.send(kind, content)
        while True:
            message = self.receive()
            if message.header.get("reqid") == number:
                assert message.type == reply, message
                return message

    def pull_document(self) -> dict[str, Any]:
        document: dict[str, Any] = self.request("PULL-DOC-REQ", {}, "PULL-DOC-REPLY").content["doc"]
        return document

    def find(self, type_name: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """The first model of a type in the document, as Bokeh serialises it."""
        document = document or self.pull_document()
        return next(model for model in _models(document) if model.get("name") == type_name)

    def set_property(self, model_id: str, name: str, value: object) -> None:
        """What the browser sends when a user moves a widget; returns once the worker said OK."""
        event = {"kind": "ModelChanged", "model": {"id": model_id}, "attr": name, "new": value}
        self.request("PATCH-DOC", {"events": [event]}, "OK")


def _models(part: Any) -> Iterable[dict[str, Any]]:
    if isinstance(part, dict):
        if part.get("type") == "object" and "id" in part:
            yield part
        for value in part.values():
            yield from _models(value)
    elif isinstance(part, list):
        for value in part:
            yield from _models(value)


@dataclass
class PageView:
    """A page and its open WebSocket, as one browser tab has them."""

    response: requests.Response
    socket: BokehSocket

    @property
    def session_id(self) -> str:
        return self.socket.session_id

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def view_page(url: str, *, verify: str | bool = True, tls: ssl.SSLContext | None = None, **options: Any) -> PageView:
    """GET of the page (or autoload.js), then its WebSocket with the page's own origin, as a browser does it."""
    response = get(url, verify=verify, **options)
    assert response.status_code == 200, f"{response.status_code} {response.text[:500]}"
    parts = urlsplit(url)
    socket = BokehSocket(
        websocket_url(url), page_token(response.text), origin=f"{parts.scheme}://{parts.netloc}", tls=tls
    )
    return PageView(response, socket)
