"""A Bokeh page in Chromium: when it is shown, what its models say, its slider moved as a person moves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DEADLINE = 60_000
"""Milliseconds."""
SHOWN = "() => window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].roots().length > 0"
MODEL = "name => Bokeh.documents[0].get_model_by_name(name)"


@contextmanager
def browser_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page of a context of its own; certificates of private authorities are good."""
    context = browser.new_context(ignore_https_errors=True, **options)
    context.set_default_timeout(DEADLINE)
    try:
        yield context.new_page()
    finally:
        context.close()


def press_slider(page: Page, times: int, handle: int = 0) -> None:
    """By the arrow key on one of the sliders' handles."""
    slider = page.locator(".noUi-handle").nth(handle)
    slider.focus()
    for _ in range(times):
        slider.press("ArrowRight")


def moves_the_plot(page: Page, steps: int = 4) -> None:
    """The recorder app: its slider's value goes to the worker, and new data comes back into the plot."""
    page.wait_for_function(SHOWN)
    page.locator(".bk-Figure canvas").first.wait_for(state="visible")
    before = page.evaluate(f"() => ({MODEL})('factor').value")
    press_slider(page, steps)
    page.wait_for_function(f"() => ({MODEL})('data').data.y[4] === {4 * (before + steps)}")


def factor(page: Page) -> float:
    """The value of the recorder app's slider, as the page has it."""
    value: float = page.evaluate(f"() => ({MODEL})('factor').value")
    return value
