"""The presets of [headers] security on pages in Chromium: they work, and the browser reports no violation.

`python -m tests.browser.csp_needs` prints what each kind of page needs of a Content-Security-Policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bokeh_gateway
from tests.support.bokeh_page import SHOWN, browser_page, google_fonts, moves_the_plot, press_slider, watch_policy
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.workers import APPS, bokeh_workers, servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PRESETS = ("strict", "embed", "off")
DEMO = Path(bokeh_gateway.__file__).parent / "demo_app"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Each preset under a host name of its own."""
    folder = tmp_path_factory.mktemp("presets")
    env = {"TEST_RUN_RECORD": str(folder / "runs")}
    with (
        bokeh_workers(1, folder / "bokeh", APPS / "recorder.py", DEMO, env=env) as bokeh,
        bokeh_workers(1, folder / "panel", APPS / "template.py", command=["panel", "serve"]) as panel,
    ):
        text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.bokeh]\nservers = {servers(bokeh)}\n'
        text += f"[pool.panel]\nservers = {servers(panel)}\n"
        for preset in PRESETS:
            for path, pool in (("/", "bokeh"), ("/template", "panel")):
                text += f'[[route]]\nhost = "{preset}.test"\npath = "{path}"\npool = "{pool}"\n'
                text += f'headers = {{ security = "{preset}" }}\n'
        with GatewayProcess(text, folder) as gateway:
            yield gateway


def of_the_demo(page: Page) -> None:
    page.locator(".bk-Figure canvas").first.wait_for(state="visible")
    press_slider(page, 1)


def of_the_template(page: Page) -> None:
    """The slider's value comes back as text that the worker made."""
    press_slider(page, 2)
    page.get_by_text("xxxxx", exact=True).wait_for()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("path", "works"),
    [
        pytest.param("/recorder", moves_the_plot, id="app"),
        pytest.param(f"/{DEMO.name}", of_the_demo, id="demo"),
        pytest.param("/template", of_the_template, id="panel-template"),
    ],
)
def test_a_page_works_under_the_preset(
    gateway: GatewayProcess, chromium: Browser, preset: str, path: str, works: object
) -> None:
    """It is drawn, its slider reaches the worker, and nothing was blocked."""
    assert callable(works)
    with browser_page(chromium) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        google_fonts(page)
        violations = watch_policy(page)
        answer = page.goto(gateway.url(path, f"{preset}.test"))
        assert answer is not None
        policy = answer.headers.get("content-security-policy")
        page.wait_for_function(SHOWN)
        works(page)
        if policy is not None:
            # Reports come after what they are about: a request of our own that is blocked shows that they do come.
            page.evaluate("fetch('https://blocked.invalid/').catch(() => null)")
            wait_until(lambda: any("blocked.invalid" in found for found in violations()), "the report", every=0.1)
        assert (policy is None) == (preset == "off")
        assert [found for found in violations() if "blocked.invalid" not in found] == []
        assert [line for line in said if "Content Security" in line and "blocked.invalid" not in line] == []
