"""From samples to a record: rows of medians with ratios, a table to read and a JSON file to keep."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from bench.harness import machine, targets
from bench.harness.options import Options
from bench.harness.rounds import Case, Results, Samples
from bench.harness.stand import Stand
from bench.harness.stats import median, ratio, rounded, spread

BASES = ("nginx_guide", "nginx_tuned")
Row = dict[str, object]


def rows(cases: Iterable[Case], results: Results) -> list[Row]:
    """One row for each case and proxy: medians of the rounds, and the ratio of its cost to both nginx's."""
    made: list[Row] = []
    for case in cases:
        if case.name not in results:
            continue
        by_proxy = results[case.name]
        costs = {name: median(samples.cpu_us) for name, samples in by_proxy.items()}
        for name, samples in by_proxy.items():
            row = _row(case, name, samples)
            for base in BASES:
                if name not in (base, "direct") and base in costs:
                    row[f"of_{base}"] = rounded(ratio(costs[name], costs[base]), 3)
            made.append(row)
    return made


def _row(case: Case, name: str, samples: Samples) -> Row:
    row: Row = {"case": case.name, "proxy": name, "unit": case.unit}
    if samples.skipped:
        return {**row, "skipped": samples.skipped}
    row |= {
        "cpu_us": rounded(median(samples.cpu_us)),
        "cpu_us_rounds": [rounded(value) for value in samples.cpu_us],
        "spread": rounded(spread(samples.cpu_us), 2),
        "per_second": rounded(median(samples.per_second)),
        "p50_ms": rounded(median(samples.p50_ms), 3),
        "p99_ms": rounded(median(samples.p99_ms), 3),
        "units": samples.units,
        "errors": dict(samples.errors),
        "others_on_core": rounded(median(samples.others), 2),
    }
    row |= {key: rounded(median(values)) for key, values in samples.extra.items()}
    if samples.calls:
        row["calls"] = rounded(sum(samples.calls.values()), 3)
        row["calls_by_name"] = {call: rounded(count, 3) for call, count in samples.calls.items() if count >= 0.01}
    return row


def added_latency(made: list[Row], cases: Container[str]) -> list[Row]:
    """Rows of `cases`, which run at a fixed rate, with the latency above that of no proxy, if that was measured too.

    In a closed loop latency is the length of the queue, and the difference means nothing.
    """
    base = {row["case"]: row for row in made if row["proxy"] == "direct" and row["case"] in cases}
    for row in made:
        for figure in ("p50_ms", "p99_ms"):
            ours, floor = row.get(figure), base.get(row["case"], {}).get(figure)
            if row["proxy"] != "direct" and isinstance(ours, float) and isinstance(floor, float):
                row[figure.replace("_ms", "_added_ms")] = rounded(ours - floor, 3)
    return made


def finish(name: str, doc: str, options: Options, stand: Stand | None, made: list[Row], **more: object) -> None:
    """Print the table and the targets, and keep the record."""
    met = targets.judge(name, made)
    print(table(made))
    for target in met:
        print(target.sentence())
    if options.out is None:
        return
    record: Mapping[str, object] = {
        "bench": name,
        "claim": doc.strip(),
        "short": options.short,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "machine": machine.facts(),
        "load_average": machine.load(),
        "versions": stand.versions() if stand else {},
        "left_out": stand.left_out if stand else {},
        **more,
        "rows": made,
        "targets": [target.as_dict() for target in met],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    _write(options.out / f"{name}.json", record)


def _write(path: Path, record: Mapping[str, object]) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"record: {path.name}")


def table(made: list[Row]) -> str:
    """Aligned columns; only those that some row fills."""
    hidden = {"cpu_us_rounds", "calls_by_name", "unit", "units"}
    columns = [key for key in dict.fromkeys(key for row in made for key in row) if key not in hidden]
    columns = [key for key in columns if any(row.get(key) not in (None, {}, "") for row in made)]
    lines = [columns, *([_cell(row.get(key)) for key in columns] for row in made)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _cell(value: object) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, float):
        return f"{value:,.10g}"
    if isinstance(value, dict):
        return " ".join("; ".join(f"{key} x{count}" for key, count in value.items()).split())[:80]
    return str(value)
