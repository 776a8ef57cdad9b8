"""A site that embeds plots, as a program of its own: Flask or Django, over TLS, on another origin than the gateway.

`/document` embeds a new session, `/session` one whose title was changed first.  Where the parent makes the session ids
(BOKEH_SIGN_SESSIONS in the environment) both name one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bokeh.client import pull_session
from bokeh.embed import server_document, server_session
from bokeh.settings import settings
from bokeh.util.token import generate_session_id

from tests.support.certificates import Certificate
from tests.support.parent import PAGE, TITLE
from tests.support.ports import free_port
from tests.support.processes import Process, wait_port


def document(app_url: str) -> str:
    headers = {"Bokeh-Session-Id": generate_session_id()} if settings.sign_sessions() else {}
    return PAGE.format(script=server_document(app_url, arguments={"color": "teal"}, headers=headers))


def session(app_url: str, pull_url: str) -> str:
    with pull_session(session_id=generate_session_id(), url=pull_url) as pulled:
        pulled.document.title = TITLE
        pulled.force_roundtrip()
        return PAGE.format(script=server_session(session_id=pulled.id, url=app_url))


def flask_site(app_url: str, pull_url: str) -> Callable[..., Any]:
    from flask import Flask

    site = Flask("parent")
    site.add_url_rule("/document", "document", lambda: document(app_url))
    site.add_url_rule("/session", "session", lambda: session(app_url, pull_url))
    return site


def django_site(app_url: str, pull_url: str) -> Callable[..., Any]:
    from types import SimpleNamespace

    import django
    from django.conf import settings as django_settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    routes = [
        path("document", lambda _: HttpResponse(document(app_url))),
        path("session", lambda _: HttpResponse(session(app_url, pull_url))),
    ]
    sys.modules["parent_urls"] = SimpleNamespace(urlpatterns=routes)  # type: ignore[assignment]
    django_settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="parent_urls",
        SECRET_KEY="of the test's own site",
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
    )
    django.setup()
    application: Callable[..., Any] = get_wsgi_application()
    return application


SITES = {"flask": flask_site, "django": django_site}


class ParentSite(Process):
    """One of `SITES` on https://parent.test:`port`.

    Args:
        app_url: as browsers know it.
        pull_url: as this machine knows it.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        app_url: str,
        pull_url: str,
        port: int,
        certificate: Certificate,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        command = [sys.executable, "-m", "tests.support.parent_site", kind, app_url, pull_url, str(self.port)]
        command += [str(certificate.certfile), str(certificate.keyfile)]
        super().__init__(kind, command, folder, {"SSL_CERT_FILE": str(certificate.authority), **(env or {})})

    def wait_ready(self) -> None:
        wait_port(self.port, self)

    def url(self, path: str) -> str:
        return f"https://parent.test:{self.port}{path}"


def main(kind: str, app_url: str, pull_url: str, port: str, certfile: str, keyfile: str) -> None:
    from werkzeug.serving import make_server

    site = SITES[kind](app_url, pull_url)
    make_server("127.0.0.1", int(port), site, threaded=True, ssl_context=(certfile, keyfile)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
