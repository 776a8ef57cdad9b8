"""What pages need of a Content-Security-Policy, as Chromium reports it.  Run: python -m tests.browser.csp_needs  (1 m)

Each page is opened with a policy that allows nothing and is only reported: what it would have blocked is printed by
directive and source, with how often.  `self` stands for the page's own origin, its WebSocket included.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from playwright.sync_api import sync_playwright

import bokeh_gateway
from tests.support.bokeh_page import SHOWN, browser_page, google_fonts, watch_policy
from tests.support.gateway import GatewayProcess
from tests.support.programs import requires_program
from tests.support.workers import APPS, bokeh_workers, servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DIRECTIVES: Final = ["script", "style", "img", "font", "connect", "worker", "media", "frame", "manifest", "object"]
NOTHING: Final = "; ".join(f"{name}-src 'none'" for name in DIRECTIVES) + "; form-action 'none'; base-uri 'none'"
TEMPLATES: Final = ("FastListTemplate", "MaterialTemplate", "BootstrapTemplate", "VanillaTemplate")
SETTLES: Final = 3000
"""Milliseconds after the document is there: fonts and images come late."""


def write_templates(folder: Path) -> list[Path]:
    """The tests' template page, once with each of Panel's templates."""
    folder.mkdir()
    text = (APPS / "template.py").read_text()
    files = [folder / f"{name}.py" for name in TEMPLATES]
    for file in files:
        file.write_text(text.replace("FastListTemplate", file.stem))
    return files


def needs(browser: Browser, url: str, own: str) -> Counter[str]:
    with browser_page(browser) as page:
        google_fonts(page)
        violations = watch_policy(page)
        page.goto(url)
        page.wait_for_function(SHOWN)
        page.wait_for_timeout(SETTLES)
        return Counter(found.replace(f"http://{own}", "self").replace(f"ws://{own}", "self") for found in violations())


def main(folder: Path) -> None:
    demo = Path(bokeh_gateway.__file__).parent / "demo_app"
    templates = write_templates(folder / "templates")
    env = {"TEST_RUN_RECORD": str(folder / "runs")}
    with (
        bokeh_workers(1, folder / "bokeh", APPS / "recorder.py", demo, env=env) as bokeh,
        bokeh_workers(1, folder / "panel", *templates, command=["panel", "serve"]) as panel,
        sync_playwright() as playwright,
    ):
        text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.bokeh]\nservers = {servers(bokeh)}\n'
        text += f'[pool.panel]\nservers = {servers(panel)}\n[[route]]\npath = "/"\npool = "bokeh"\n'
        text += "".join(f'[[route]]\npath = "/{file.stem}"\npool = "panel"\n' for file in templates)
        text += f'[headers]\nset = {{ Content-Security-Policy-Report-Only = "{NOTHING}" }}\n'
        browser = playwright.chromium.launch(executable_path=requires_program("chromium"), args=["--no-sandbox"])
        with GatewayProcess(text, folder) as gateway:
            for path in ("recorder", "demo_app", *(file.stem for file in templates)):
                found = needs(browser, gateway.url(f"/{path}"), f"127.0.0.1:{gateway.port}")
                print(path, *(f"    {count:4} {what}" for what, count in sorted(found.items())), sep="\n")
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
