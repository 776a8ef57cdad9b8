"""The presets of [headers] security on a page in Chromium: it works, and the console reports no violation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.parametrize("security", ["strict", "embed"])
def test_an_app_works_under_the_policy(
    security: str, three_workers: list[BokehWorker], chromium: Browser, tmp_path: Path
) -> None:
    """Its plot is drawn, its slider reaches the worker, and nothing was blocked."""
    text = f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
servers = {servers(three_workers)}
[headers]
security = "{security}"
"""
    said: list[str] = []
    with GatewayProcess(text, tmp_path) as gateway:
        page = chromium.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.goto(gateway.url("/recorder"))
        page.wait_for_function("window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")
        page.evaluate("Bokeh.documents[0].get_model_by_name('factor').value = 7")
        page.wait_for_function("Bokeh.documents[0].get_model_by_name('said').text.startsWith('factor 7')")
        # The console's words come after what they are about: a blocked request of our own shows that they do come.
        page.evaluate("fetch('https://blocked.invalid/').catch(() => null)")
        wait_until(lambda: page.evaluate("1") and any("blocked.invalid" in line for line in said), "the console")
        page.close()
    violations = [line for line in said if "Content Security Policy" in line and "blocked.invalid" not in line]
    assert violations == []
