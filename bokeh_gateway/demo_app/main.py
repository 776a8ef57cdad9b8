"""The app of `bokeh-gateway demo`: a wave that follows its sliders.  It keeps nothing and needs no data."""

import numpy as np
from bokeh.io import curdoc
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, Range1d, Select, Slider
from bokeh.plotting import figure

COLORS = {"Teal": "#11999e", "Indigo": "#4b5fd6", "Coral": "#f2545b", "Amber": "#e8a317"}
x = np.linspace(0, 4 * np.pi, 400)
source = ColumnDataSource({"x": x, "y": np.sin(x)})

plot = figure(
    height=380,
    sizing_mode="stretch_width",
    y_range=Range1d(-3.2, 3.2),
    x_range=Range1d(0, 4 * np.pi),
    tools="xpan,xwheel_zoom,reset,save",
    toolbar_location="above",
    outline_line_color=None,
    background_fill_color="#fbfcfd",
)
plot.toolbar.logo = None
plot.grid.grid_line_color = "#e6eaee"
plot.axis.axis_line_color = "#b8c2cc"
plot.axis.major_tick_line_color = None
plot.axis.minor_tick_line_color = None
area = plot.varea(x="x", y1=0, y2="y", source=source, fill_color=COLORS["Teal"], fill_alpha=0.12)
line = plot.line(x="x", y="y", source=source, line_color=COLORS["Teal"], line_width=3)

frequency = Slider(title="Frequency", value=1.0, start=0.1, end=5.0, step=0.1)
amplitude = Slider(title="Amplitude", value=1.0, start=0.0, end=3.0, step=0.1)
color = Select(title="Color", value="Teal", options=list(COLORS))


def update_wave(attr: str, old: float, new: float) -> None:
    source.data = {"x": x, "y": amplitude.value * np.sin(frequency.value * x)}


def update_color(attr: str, old: str, new: str) -> None:
    line.glyph.line_color = COLORS[new]
    area.glyph.fill_color = COLORS[new]


frequency.on_change("value", update_wave)
amplitude.on_change("value", update_wave)
color.on_change("value", update_color)

controls = row(frequency, amplitude, color, spacing=24)
curdoc().add_root(column(controls, plot, sizing_mode="stretch_width", margin=24, spacing=16))
curdoc().title = "bokeh-gateway demo"
