"""The table of targets and figures, from the kept records.  Run: python -m bench.table

The README has what this prints: every target, what was measured, and every peer that is ahead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.targets import TARGETS, Judged, Target, judge

RESULTS = Path(__file__).parent / "results"
_NAMES = {
    "nginx_guide": "nginx",
    "nginx_tuned": "tuned nginx",
    "haproxy": "HAProxy",
    "apache": "Apache",
    "caddy": "Caddy",
}
_FIGURES = {
    "cpu_us": "us of CPU",
    "p99_added_ms": "ms added, p99",
    "kb_per_websocket": "KB each",
    "bytes": "bytes",
    "runs_per_view": "app runs a page view",
    "per_second": "page views a second",
    "share": "share that shows its session",
}


def records(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Every record by the name of its script."""
    names = dict.fromkeys(target.bench for target in TARGETS)
    return {name: json.loads(path.read_text()) for name in names if (path := folder / f"{name}.json").exists()}


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a line a target."""
    lines = ["| work | gateway | target | peers that are ahead |", "|---|---|---|---|"]
    for name, record in found.items():
        lines += [_line(name, judged, record["rows"]) for judged in judge(name, record["rows"])]
    return "\n".join(lines) + "\n"


def _line(name: str, judged: Judged, rows: Sequence[Mapping[str, Any]]) -> str:
    target = judged.target
    of = f" of {_NAMES.get(target.against, target.against)}'s" if target.against else ""
    word = "at least" if target.at_least else "at most"
    mark = "" if judged.met else ", **missed**"
    work = f"{name} `{target.case}`, {_FIGURES[target.figure]}"
    ahead = ", ".join(_ahead(judged, rows)) or "none"
    ours = f"{_figures(target, rows)['gateway']:g}, {judged.value:.3g}{of}" if of else f"{judged.value:.3g}"
    return f"| {work} | {ours} | {word} {target.limit:g}{mark} | {ahead} |"


def _ahead(judged: Judged, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    figures = _figures(judged.target, rows)
    ours = figures["gateway"]
    sign = -1 if judged.target.at_least else 1
    return [f"{_NAMES[proxy]} {figure:g}" for proxy, figure in figures.items() if sign * figure < sign * ours]


def _figures(target: Target, rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    of_case = {row["proxy"]: row.get(target.figure) for row in rows if row["case"] == target.case}
    return {
        proxy: figure
        for proxy, figure in of_case.items()
        if (proxy in _NAMES or proxy == "gateway") and isinstance(figure, int | float)
    }


def machine(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence: on what, and with which versions."""
    record = next(iter(found.values()))
    at, versions = record["machine"], record["versions"]
    peers = ", ".join(f"{_NAMES[proxy]} {versions[proxy]}" for proxy in _NAMES if proxy in versions)
    packages = ", ".join(f"{name} {at['packages'][name]}" for name in ("bokeh", "tornado", "uvloop", "httptools"))
    return (
        f"{at['cores']} cores of an {at['cpu']}, Linux {at['kernel'].partition('-')[0]}, Python {at['python']} "
        f"({at['interpreter_us']:g} us for 1,000 small calls), {packages}; {peers}; {at['date']}."
    )


def main() -> None:
    """Prints it."""
    found = records()
    sys.stdout.write(machine(found) + "\n\n" + table(found))


if __name__ == "__main__":
    main()
