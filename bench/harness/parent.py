"""A parent application's part in embedding.

Import it once BOKEH_SECRET_KEY and BOKEH_SIGN_SESSIONS are set: Bokeh reads them at import.
"""

from __future__ import annotations

from bokeh.client import pull_session
from bokeh.models import Slider
from bokeh.util.token import generate_session_id

from bench.harness import workload


def new_session_id() -> str:
    """A signed one, as the parent hands it to `server_session`."""
    return generate_session_id(secret_key=workload.SECRET.encode(), signed=True)


def customise(port: int, session_id: str, text: str) -> None:
    """Pull the session through `port` and give its slider a title.

    Raises:
        OSError: the WebSocket was refused.
        RuntimeError: there was no document in it.
    """
    with pull_session(url=f"http://127.0.0.1:{port}{workload.APP}", session_id=session_id) as session:
        slider = session.document.select_one({"type": Slider})
        if slider is None:
            raise RuntimeError("pull_session gave no document")
        slider.title = text
        session.force_roundtrip()
