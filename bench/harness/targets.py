"""What the gateway promises, as data, and whether a record keeps it.  Pure.

A missed target stays in the record and in the table: it says where a peer is ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.harness.stats import rounded


@dataclass(frozen=True, slots=True)
class Target:
    """In `bench`, the gateway's `figure` in `case`, divided by that of `against` if there is one, is within `limit`."""

    bench: str
    case: str
    figure: str
    against: str | None
    limit: float
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what was measured."""

    target: Target
    value: float

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.target.limit if self.target.at_least else self.value <= self.target.limit

    def sentence(self) -> str:
        """For a person."""
        target = self.target
        of = f" of {target.against}" if target.against else ""
        word = "at least" if target.at_least else "at most"
        state = "met" if self.met else "MISSED"
        return f"{state}: {target.case} {target.figure} {self.value:.3g}{of}, {word} {target.limit:g} wanted"

    def as_dict(self) -> dict[str, object]:
        """For the record."""
        target = self.target
        return {
            "case": target.case, "figure": target.figure, "against": target.against, "limit": target.limit,
            "at_least": target.at_least, "value": rounded(self.value, 3), "met": self.met,
        }  # fmt: skip


TARGETS = (
    Target("http", "get_200b", "cpu_us", "nginx_guide", 0.6),
    Target("http", "get_200b", "cpu_us", "nginx_tuned", 1.1),
    Target("http", "get_10kb", "cpu_us", "nginx_guide", 0.6),
    Target("http", "get_10kb", "cpu_us", "nginx_tuned", 1.1),
    Target("http", "get_1mb", "cpu_us", "nginx_guide", 0.6),
    Target("http", "half_load", "p99_added_ms", "nginx_guide", 1.5),
    Target("websocket", "echo_100b", "cpu_us", "nginx_guide", 1.2),
    Target("websocket", "echo_4kb", "cpu_us", "nginx_guide", 1.1),
    Target("websocket", "echo_64kb", "cpu_us", "nginx_guide", 0.35),
    Target("websocket", "echo_1mb", "cpu_us", "nginx_guide", 0.35),
    Target("websocket", "tls_echo_100b", "cpu_us", "nginx_guide", 1.2),
    Target("websocket", "tls_echo_64kb", "cpu_us", "nginx_guide", 0.6),
    Target("websocket", "push_fast", "p99_added_ms", "nginx_guide", 1.5),
    Target("idle", "plain", "kb_per_websocket", None, 5.0),
    Target("idle", "tls", "kb_per_websocket", None, 34.0),
    Target("static", "small_file", "cpu_us", "nginx_guide", 1.0),
    Target("static", "first_view", "bytes", "nginx_guide", 0.25),
    Target("sessions", "four_workers", "runs_per_view", None, 1.0),
    Target("sessions", "four_workers", "per_second", "nginx_guide", 1.4, at_least=True),
    Target("embed", "customised", "share", None, 1.0, at_least=True),
)


def judge(bench: str, rows: Iterable[Mapping[str, object]]) -> list[Judged]:
    """Every target of `bench` for which the record has the figures."""
    figures = {(row["case"], row["proxy"]): row for row in rows}
    judged: list[Judged] = []
    for target in TARGETS:
        if target.bench != bench:
            continue
        ours = _number(figures.get((target.case, "gateway"), {}).get(target.figure))
        base = 1.0
        if target.against:
            base = _number(figures.get((target.case, target.against), {}).get(target.figure)) or 0.0
        if ours is not None and base > 0:
            judged.append(Judged(target, ours / base))
    return judged


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
