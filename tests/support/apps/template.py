"""A Panel page with a template: dozens of assets from several packages."""

from __future__ import annotations

import panel as pn

pn.extension("tabulator")

slider = pn.widgets.IntSlider(name="Count", start=0, end=10, value=3)
pn.template.FastListTemplate(
    title="Template",
    sidebar=[slider],
    main=[pn.pane.Markdown("# Hello"), pn.bind(lambda count: "x" * count, slider)],
).servable()
