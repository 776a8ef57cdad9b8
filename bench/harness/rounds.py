"""Interleaved rounds: every case on every proxy, again and again in another order, so that drift hits all alike."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import uvloop

from bench.harness.budget import Budget
from bench.harness.load import Load
from bench.harness.meter import CallMeter, CannotTraceError, Meter
from bench.harness.options import Options
from bench.harness.proxy import Proxy
from bench.harness.stats import percentile

CASE_SECONDS = 180.0
CALLS_UNITS = 100
CALLS_OF = ("gateway", "nginx_guide", "nginx_tuned", "haproxy")
"""The floor is read off these; tracing a runtime with threads says little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of work."""

    name: str
    unit: str
    run: Callable[[Proxy, Meter], Awaitable[Load]]
    """Connects, warms up, and runs `meter.budget()` of load inside `with meter:`."""
    skips: Callable[[Proxy], str | None] = lambda proxy: None
    """Why a proxy cannot take part, or None."""
    calls: bool = True
    """Whether counting system calls makes sense."""


@dataclass(slots=True)
class Samples:
    """What the rounds of one case on one proxy gave."""

    cpu_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    units: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    calls: dict[str, float] = field(default_factory=dict)
    extra: dict[str, list[float]] = field(default_factory=dict)
    skipped: str | None = None


Results = dict[str, dict[str, Samples]]


def interleave(cases: Sequence[Case], proxies: Sequence[Proxy], options: Options) -> Results:
    """Samples by case and proxy.  Bounded by `options.rounds` and `options.limit`; one round is always made."""
    cases = [case for case in cases if not options.only or case.name in options.only]
    results: Results = {case.name: {proxy.name: Samples() for proxy in proxies} for case in cases}
    deadline = time.monotonic() + options.limit
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for turn in range(options.rounds):
            for case in cases:
                if turn and time.monotonic() > deadline:
                    print(f"time is up: {case.name} has {turn} rounds", file=sys.stderr)
                    continue
                for proxy in _rotated(proxies, turn):
                    samples = results[case.name][proxy.name]
                    meter = Meter(proxy, options.seconds)
                    load = _attempt(runner, case, proxy, meter, samples)
                    if load is None or not load.units:
                        continue
                    samples.units += load.units
                    samples.per_second.append(load.per_second)
                    samples.p50_ms.append(percentile(load.latencies_ns, 0.50) / 1e6)
                    samples.p99_ms.append(percentile(load.latencies_ns, 0.99) / 1e6)
                    samples.others.append(meter.others_share)
                    if proxy.running:
                        samples.cpu_us.append(meter.cpu_ns / load.units / 1000)
                    for name, value in load.extra.items():
                        samples.extra.setdefault(name, []).append(value)
            print(f"round {turn + 1} of {options.rounds} done", file=sys.stderr)
        if options.calls and shutil.which("strace"):
            _count_calls(runner, cases, proxies, results)
    return results


def _count_calls(runner: asyncio.Runner, cases: Sequence[Case], proxies: Sequence[Proxy], results: Results) -> None:
    for case in cases:
        for proxy in proxies:
            samples = results[case.name][proxy.name]
            if proxy.name not in CALLS_OF or not case.calls or samples.skipped:
                continue
            meter = CallMeter(proxy, CALLS_UNITS)
            try:
                load = _attempt(runner, case, proxy, meter, samples)
            except CannotTraceError as error:
                print(f"system calls are not counted: {error}", file=sys.stderr)
                return
            if load is not None and load.units:
                samples.calls = {name: count / load.units for name, count in meter.calls.most_common()}


def count_calls(case: Case, proxy: Proxy, units: int = CALLS_UNITS) -> dict[str, float]:
    """System calls per unit by name, of one case alone, without those that few units make, as waking a thread.

    Raises:
        CannotTraceError: strace is missing or may not attach.
        RuntimeError: the load failed.
    """
    if not shutil.which("strace"):
        raise CannotTraceError("strace is not installed")
    samples, meter = Samples(), CallMeter(proxy, units)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = _attempt(runner, case, proxy, meter, samples)
    if load is None or load.errors or not load.units:
        raise RuntimeError(f"{case.name}: {samples.skipped or dict(samples.errors)}")
    steady = ((name, count) for name, count in meter.calls.most_common() if count >= load.units / 2)
    return {name: round(count / load.units, 2) for name, count in steady}


class _Counted(Meter):
    at_once = 1

    def __init__(self, proxy: Proxy, count: int) -> None:
        super().__init__(proxy, 60.0)
        self._count = count

    def budget(self) -> Budget:
        return Budget(seconds=60.0, count=self._count)


def run_units(case: Case, proxy: Proxy, units: int) -> None:
    """So many units, one in flight.

    Raises:
        RuntimeError: the load failed.
    """
    samples = Samples()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = _attempt(runner, case, proxy, _Counted(proxy, units), samples)
    if load is None or load.errors or load.units != units:
        raise RuntimeError(f"{case.name}: {samples.skipped or dict(samples.errors)}")


def _attempt(runner: asyncio.Runner, case: Case, proxy: Proxy, meter: Meter, samples: Samples) -> Load | None:
    """The load, or None where the proxy cannot or did not; the reason is in the samples."""
    samples.skipped = samples.skipped or case.skips(proxy)
    if samples.skipped:
        return None
    try:
        load = runner.run(asyncio.wait_for(_run(case, proxy, meter), CASE_SECONDS))
    except (OSError, TimeoutError, RuntimeError) as error:
        if isinstance(error, CannotTraceError):
            raise
        samples.errors[f"{type(error).__name__}: {error}"[:200]] += 1
        print(f"{case.name} on {proxy.name}: {error!r}", file=sys.stderr)
        if not proxy.alive():
            samples.skipped = "it ended during the run"
            print(f"{proxy.name} has ended; its last words:\n{proxy.last_words()}", file=sys.stderr)
        return None
    samples.errors += load.errors
    return load


async def _run(case: Case, proxy: Proxy, meter: Meter) -> Load:
    return await case.run(proxy, meter)


def _rotated(proxies: Sequence[Proxy], turn: int) -> list[Proxy]:
    start = turn % len(proxies) if proxies else 0
    return [*proxies[start:], *proxies[:start]]
