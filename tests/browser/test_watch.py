"""`bokeh-gateway serve --watch` with Chromium: an open page shows what was just written, without a reload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.bokeh_page import SHOWN, browser_page
from tests.support.serve import ServeProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser

APP = """
from bokeh.io import curdoc
from bokeh.models import Div
curdoc().add_root(Div(name="words", text="written {time} times"))
"""
TEXT = "() => Bokeh.documents[0].get_model_by_name('words')?.text"


def test_an_open_page_shows_the_new_code(chromium: Browser, tmp_path: Path) -> None:
    app = tmp_path / "app" / "dash.py"
    app.parent.mkdir()
    app.write_text(APP.format(time=1))
    with ServeProcess(tmp_path / "serve", app, "--watch") as serve, browser_page(chromium) as page:
        page.goto(f"http://127.0.0.1:{serve.port}/dash")
        page.wait_for_function(SHOWN)
        assert page.evaluate(TEXT) == "written 1 times"
        page.evaluate("() => { window.same_page = true }")
        for time in (2, 3):
            app.write_text(APP.format(time=time))
            page.wait_for_function(f"() => ({TEXT})() === 'written {time} times'")
            page.get_by_text(f"written {time} times").wait_for()
        assert page.evaluate("() => window.same_page"), "it was not loaded again"
