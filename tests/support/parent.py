"""The application that people put around Bokeh: a Flask server which embeds plots, on an origin of its own."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from bokeh.client import pull_session
from bokeh.embed import server_document, server_session
from flask import Flask
from werkzeug.serving import BaseWSGIServer, make_server

from tests.support.bokeh_client import get

PAGE = "<!doctype html><html><head><title>parent</title></head><body><h1>Parent</h1>{script}</body></html>"
TITLE = "changed by the parent"
_HEADER = re.compile(r'setRequestHeader\("([^"]+)", "([^"]+)"\)')
_SOURCE = re.compile(r"""(?:src="|open\('GET', ["'])([^"']+autoload\.js[^"']*)""")


def parent_app(app_url: str) -> Flask:
    """`/document` embeds a new session, `/session` one whose title was changed first."""
    flask = Flask("parent")

    @flask.get("/")
    def home() -> str:
        return "the parent's own page"

    @flask.get("/document")
    def document() -> str:
        return PAGE.format(script=server_document(app_url, arguments={"color": "teal"}))

    @flask.get("/session")
    def session() -> str:
        with pull_session(url=app_url) as pulled:
            pulled.document.title = TITLE
            pulled.force_roundtrip()
            script: str = server_session(session_id=pulled.id, url=app_url)
        return PAGE.format(script=script)

    return flask


@contextmanager
def serve_parent(app_url: str, port: int = 0) -> Iterator[BaseWSGIServer]:
    """The parent, served in threads; `.server_port` is where."""
    server = make_server("127.0.0.1", port, parent_app(app_url), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()


def load_plot(page: str, origin: str) -> requests.Response:
    """What the script in a parent's page asks for, as a browser on `origin` does it."""
    found = _SOURCE.search(page)
    assert found, page
    headers = dict(_HEADER.findall(page))
    return get(found[1].replace("&amp;", "&"), headers=headers | {"Origin": origin})
