"""Appends one line to the file named by TEST_RUN_RECORD each time it runs; a slider changes the plot's data."""

from __future__ import annotations

import json
import os

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, Div, Slider
from bokeh.plotting import curdoc, figure

document = curdoc()
context = document.session_context
request = context.request

with open(os.environ["TEST_RUN_RECORD"], "a") as record:
    line = {
        "pid": os.getpid(),
        "session_id": context.id,
        "arguments": {name: [v.decode() for v in values] for name, values in request.arguments.items()},
        "headers": {str(name).lower(): str(value) for name, value in dict(request.headers or {}).items()},
        "remote": {name: str(getattr(request, name, "")) for name in ("protocol", "host", "uri", "remote_ip")},
    }
    record.write(json.dumps(line) + "\n")

x = [0, 1, 2, 3, 4]
source = ColumnDataSource(data={"x": x, "y": x}, name="data")
plot = figure(width=400, height=300, name="plot", output_backend="canvas")
plot.line("x", "y", source=source)
slider = Slider(start=0, end=10, value=1, step=1, title="Factor", name="factor")
said = Div(text="factor 1", name="said")


def moved(_attribute: str, _old: float, new: float) -> None:
    source.data = {"x": x, "y": [new * value for value in x]}
    said.text = f"factor {new:g} from {os.getpid()}"


slider.on_change("value", moved)
document.title = "Recorder"
document.add_root(column(slider, plot, said))
