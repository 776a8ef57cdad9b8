"""One Bokeh page of all kept records.  Run: python -m bench.page   writes bench/results/index.html"""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bokeh.embed import file_html
from bokeh.layouts import column, gridplot
from bokeh.models import ColumnDataSource, Div
from bokeh.palettes import Category10
from bokeh.plotting import figure
from bokeh.resources import INLINE
from bokeh.transform import factor_cmap

from bench import peers
from bench.harness.options import RESULTS

ORDER = ("sessions", "embed", "http", "websocket", "idle", "static", "tls", "start", "scale")
FIGURES = {
    "runs_per_view": "runs of the app per page view",
    "per_second": "units a second",
    "share": "share that shows the customised session",
    "cpu_us": "CPU us per unit",
    "kb_per_websocket": "KB per idle WebSocket",
    "bytes": "bytes",
    "ms_to_first_200": "ms to the first 200",
    "mb_at_rest": "MB at rest",
    "p99_added_ms": "ms added in the 99th percentile",
}
ONLY = {
    "sessions": ("runs_per_view", "per_second"), "embed": ("share",), "idle": ("kb_per_websocket",),
    "start": ("ms_to_first_200", "mb_at_rest"), "static": ("cpu_us", "bytes"), "http": ("cpu_us", "p99_added_ms"),
    "websocket": ("cpu_us", "p99_added_ms"), "tls": ("cpu_us",), "scale": ("cpu_us",),
}  # fmt: skip
_COLOURS = dict(zip(peers.ALL, Category10[10], strict=False))
Row = Mapping[str, Any]


def records(folder: Path) -> list[dict[str, Any]]:
    """Those that exist, in order."""
    paths = (folder / f"{name}.json" for name in ORDER)
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def section(record: Mapping[str, Any]) -> list[Any]:
    """Heading, targets, plots."""
    plots = [
        plot
        for name in ONLY[record["bench"]]
        for case in dict.fromkeys(row["case"] for row in record["rows"])
        if (plot := bars([row for row in record["rows"] if row["case"] == case], case, name))
    ]
    return [
        Div(text=heading(record), width=1100),
        gridplot(plots, ncols=3, width=370, height=230, toolbar_location=None),
    ]


def bars(rows: Iterable[Row], case: str, name: str) -> Any | None:
    """One figure of one case by proxy, or None where too few have it."""
    found = [(row["proxy"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    if len(found) < 2:
        return None
    names, values = zip(*found, strict=True)
    source = ColumnDataSource({"proxy": names, "value": values})
    plot = figure(y_range=list(reversed(names)), title=f"{case}: {FIGURES[name]}", tooltips="@proxy: @value")
    colour = factor_cmap("proxy", [_COLOURS[proxy] for proxy in names], list(names))
    plot.hbar(y="proxy", right="value", height=0.8, source=source, fill_color=colour, line_color=None)
    plot.x_range.start = 0
    return plot


def heading(record: Mapping[str, Any]) -> str:
    """What was asked, on which machine, and which promises are kept."""
    machine, versions = record["machine"], record["versions"]
    facts = f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}"
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    form = f"{'short form, ' if record['short'] else ''}{record['rounds']} rounds of {record['seconds']:g} s"
    parts = [
        f"<h2>{record['bench']}</h2><pre>{html.escape(record['claim'])}</pre>",
        f"<p>{html.escape('; '.join((machine['date'], form, facts, programs)))}</p>",
        "<ul>" + "".join(f"<li>{html.escape(promise(target))}</li>" for target in record["targets"]) + "</ul>",
    ]
    return "".join(parts)


def promise(target: Mapping[str, Any]) -> str:
    """One target in words."""
    of = f" of {target['against']}" if target["against"] else ""
    state = "met" if target["met"] else "MISSED"
    return (
        f"{state}: {target['case']} {target['figure']} {target['value']}{of}, "
        f"{'at least' if target['at_least'] else 'at most'} {target['limit']:g} wanted"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Write index.html beside the records in the folder given, or in bench/results."""
    folder = Path(argv[0]) if argv else RESULTS
    parts = [part for record in records(folder) for part in section(record)]
    (folder / "index.html").write_text(file_html(column(*parts), INLINE, "bokeh-gateway: benchmarks"))
    print("page: index.html")


if __name__ == "__main__":
    main(sys.argv[1:])
