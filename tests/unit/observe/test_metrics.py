"""Tests of observe/metrics.py."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bokeh_gateway.observe.metrics import Metrics


def scraped(metrics: Metrics) -> dict[str, float]:
    """Sample name with labels -> value, as Prometheus reads it."""
    families = text_string_to_metric_families(metrics.render()[1].decode())
    return {
        sample.name.removeprefix("bokeh_gateway_")
        + "".join(f",{v}" for _, v in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def filled() -> Metrics:
    """One of everything."""
    metrics = Metrics()
    metrics.exchange(200, 10, 1000)
    metrics.exchange(204, 0, 0)
    metrics.exchange(403, 5, 100)
    metrics.refusals.add("origin-not-listed", "apps")
    for _ in range(3):
        metrics.page_served("apps/1")
    metrics.page_connected("apps/1")
    metrics.page_expired("apps/1")
    metrics.tunnel_opened("apps/1")
    metrics.tunnel_opened("apps/2")
    metrics.tunnel_closed("apps/2")
    metrics.token_bytes.observe(1024)
    metrics.token_bytes.observe(1025)
    metrics.token_bytes.observe(100_000)
    metrics.worker_up.set("apps/1", to=1)
    return metrics


def test_ob_04_what_prometheus_sees() -> None:
    """Names and numbers."""
    seen = scraped(filled())
    expected = {
        "requests_total,2xx": 2,
        "requests_total,4xx": 1,
        "bytes_total,in": 15,
        "bytes_total,out": 1100,
        "refusals_total,apps,origin-not-listed": 1,
        "pages_total,apps/1": 3,
        "pages_waiting,apps/1": 1,
        "pages_without_websocket_total,apps/1": 1,
        "tunnels_open,apps/1": 1,
        "tunnels_open,apps/2": 0,
        "tunnels_total,apps/2": 1,
        "token_bytes_bucket,1024": 1,
        "token_bytes_bucket,2048": 2,
        "token_bytes_bucket,65536": 2,
        "token_bytes_bucket,+Inf": 3,
        "token_bytes_count": 3,
        "token_bytes_sum": 102_049,
        "log_lines_dropped_total": 0,
        "config_last_reload_ok": 1,
        "worker_up,apps/1": 1,
    }
    assert {name: seen.get(name) for name in expected} == expected


def test_two_applications_share_nothing() -> None:
    """No global registry."""
    filled()
    assert "requests_total,2xx" not in scraped(Metrics())


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param("", "text/plain", id="none"),
        pytest.param("*/*", "text/plain", id="curl"),
        pytest.param("application/openmetrics-text;version=1.0.0", "application/openmetrics-text", id="openmetrics"),
        pytest.param("application/openmetrics-text;version=x.y", "text/plain", id="nonsense"),
    ],
)
def test_the_scraper_chooses_the_format(accept: str, content_type: str) -> None:
    """Whatever it says, there is an answer."""
    got, body = filled().render(accept)
    assert got.startswith(content_type)
    assert b"bokeh_gateway_requests_total" in body


def test_counts_of_processes_add_up() -> None:
    """Through JSON; a flag is 1 only if it is everywhere."""
    total, other = Metrics(), filled()
    other.config_last_reload_ok.set(to=0)
    total.absorb(json.loads(json.dumps(filled().snapshot())))
    total.absorb(json.loads(json.dumps(other.snapshot())))
    seen = scraped(total)
    assert seen["requests_total,2xx"] == 4
    assert seen["bytes_total,out"] == 2200
    assert seen["tunnels_open,apps/1"] == 2
    assert seen["token_bytes_bucket,2048"] == 4
    assert seen["worker_up,apps/1"] == 1
    assert seen["config_last_reload_ok"] == 0


def test_counts_kept_elsewhere_are_copied_before_a_scrape() -> None:
    """Such as the log writer's."""
    metrics = Metrics()
    metrics.before_scrape.append(lambda m: m.log_lines_dropped.set(to=7))
    assert scraped(metrics)["log_lines_dropped_total"] == 7
