"""Figures of a gateway's /metrics."""

from __future__ import annotations

import re

from tests.support.bokeh_client import get

_LINE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>[-0-9.e+]+)$", re.MULTILINE)


def figures(port: int) -> dict[tuple[str, str], float]:
    """Value by name and labels, as written, without the common prefix."""
    text = get(f"http://127.0.0.1:{port}/metrics").text
    return {
        (found["name"].removeprefix("bokeh_gateway_"), found["labels"] or ""): float(found["value"])
        for found in _LINE.finditer(text)
    }


def total(port: int, name: str) -> float:
    """The sum over all labels."""
    return sum(value for (found, _), value in figures(port).items() if found == name)
