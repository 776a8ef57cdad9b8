"""An app that keeps 25 MB of memory each time it runs."""

from __future__ import annotations

import sys
from typing import Any

from bokeh.models import Div
from bokeh.plotting import curdoc

kept: list[bytes] = sys.__dict__.setdefault("kept_by_leaking_app", [])
kept.append(b"x" * 25_000_000)
document: Any = curdoc()
document.title = "Leaking"
document.add_root(Div(text=f"{len(kept)} runs"))
