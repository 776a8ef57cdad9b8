"""`bokeh-gateway serve --watch` with Chromium: an open page shows what was just written, without a reload."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.bokeh_page import SHOWN, browser_page
from tests.support.gateway import READY
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

APP = """
from bokeh.io import curdoc
from bokeh.models import Div
curdoc().add_root(Div(name="words", text="written {time} times"))
"""
TEXT = "() => Bokeh.documents[0].get_model_by_name('words')?.text"


class Serve(Process):
    """`bokeh-gateway serve --watch`."""

    def __init__(self, folder: Path, app: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "bokeh_gateway.cli", "serve", str(app), "--watch"]
        super().__init__("serve", [*command, "--listen", f"127.0.0.1:{self.port}"], folder)

    def wait_ready(self) -> None:
        wait_until(lambda: READY.search(self.stderr), "the ready line", 90)


def test_an_open_page_shows_the_new_code(chromium: Browser, tmp_path: Path) -> None:
    app = tmp_path / "app" / "dash.py"
    app.parent.mkdir()
    app.write_text(APP.format(time=1))
    with Serve(tmp_path / "serve", app) as serve, browser_page(chromium) as page:
        page.goto(f"http://127.0.0.1:{serve.port}/dash")
        page.wait_for_function(SHOWN)
        assert page.evaluate(TEXT) == "written 1 times"
        page.evaluate("() => { window.same_page = true }")
        for time in (2, 3):
            app.write_text(APP.format(time=time))
            page.wait_for_function(f"() => ({TEXT})() === 'written {time} times'")
            page.get_by_text(f"written {time} times").wait_for()
        assert page.evaluate("() => window.same_page"), "it was not loaded again"
