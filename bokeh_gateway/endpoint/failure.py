"""What a client reads when the gateway itself answers: one paragraph that says what to do; text or HTML.  Pure."""

from __future__ import annotations

from html import escape
from http.client import responses
from typing import Final

REFRESH: Final = 5
"""Seconds after which a page that found no worker asks again by itself; also its Retry-After."""

_ADVICE: Final = {
    404: "Nothing is served at this address.",
    408: "The request came too slowly.",
    429: "Too many new sessions from this address.",
    502: "The application server did not answer as it should. Trying again may help; its log tells more.",
    503: "The application is starting or busy. This page asks again by itself.",
    504: "The application server took too long to answer.",
}

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{status} {reason}</title>{refresh}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem;color:#333}}
h1{{font-size:1.3rem}}code{{background:#f2f2f2;padding:.15rem .3rem;word-break:break-all}}</style></head>
<body><h1>{status} {reason}</h1><p>{detail}</p>{setting}</body></html>
"""


def explain(status: int, detail: str = "", setting: str = "", accept: bytes = b"") -> tuple[bytes, bytes]:
    """Header lines and body of a refusal.

    `detail` says what was seen, "" where the status says enough; `setting` is the TOML that would change it.
    A client whose Accept names text/html gets a page, any other plain text.
    """
    reason = responses.get(status, "Error")
    detail = detail or _ADVICE.get(status, "")
    lines = b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
    if status == 503:
        lines += b"Retry-After: %d\r\n" % REFRESH
    if b"text/html" in accept:
        body = _PAGE.format(
            status=status,
            reason=escape(reason),
            detail=escape(detail),
            setting=f"<p>In the gateway's configuration: <code>{escape(setting)}</code></p>" if setting else "",
            refresh=f'<meta http-equiv="refresh" content="{REFRESH}">' if status == 503 else "",
        )
        return lines + b"Content-Type: text/html; charset=utf-8\r\n", body.encode()
    text = f"{status} {reason}\n{detail}\n"
    if setting:
        text += f"In the gateway's configuration: {setting}\n"
    return lines + b"Content-Type: text/plain; charset=utf-8\r\n", text.encode()
