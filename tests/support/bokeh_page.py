"""A Bokeh page in Chromium: when it is shown, what its models say, its slider moved as a person moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support.waiting import GENEROUS, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

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


def press_slider(page: Page | Frame, times: int, handle: int = 0) -> None:
    """By the arrow key on one of the sliders' handles."""
    slider = page.locator(".noUi-handle").nth(handle)
    slider.focus()
    for _ in range(times):
        slider.press("ArrowRight")


def moves_the_plot(page: Page | Frame, steps: int = 4) -> None:
    """The recorder app: its slider's value goes to the worker, and new data comes back into the plot."""
    page.wait_for_function(SHOWN)
    page.locator(".bk-Figure canvas").first.wait_for(state="visible")
    aim = factor(page) + steps
    wait_until(lambda: _nudged(page) >= aim, f"the slider at {aim}", GENEROUS, every=0.05)
    page.wait_for_function(f"() => ({MODEL})('data').data.y[4] === 4 * ({MODEL})('factor').value")


def _nudged(page: Page | Frame) -> float:
    """The slider's value after one more step: a key is lost while views are made anew."""
    press_slider(page, 1)
    return factor(page)


def factor(page: Page | Frame) -> float:
    """The value of the recorder app's slider, as the page has it."""
    value: float = page.evaluate(f"() => ({MODEL})('factor').value")
    return value


_WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', event => {
    const from = event.blockedURI.replace(/^(data|blob):.*/s, '$1:').replace(/^(\\w+:\\/\\/[^/]+)\\/.*/, '$1');
    window.violations.push(event.effectiveDirective + ' ' + from);
});
"""


def watch_policy(page: Page) -> Callable[[], list[str]]:
    """What the page's Content-Security-Policy blocked, or would have: `directive source` each."""
    page.add_init_script(_WATCH)

    def violations() -> list[str]:
        found: list[str] = page.evaluate("window.violations")
        return found

    return violations


def google_fonts(page: Page) -> None:
    """The two hosts that Panel's templates have their fonts from, without leaving this machine."""
    face = '@font-face { font-family: "Open Sans"; src: url(https://fonts.gstatic.com/of-the-test.woff2) }'
    page.route("https://fonts.googleapis.com/**", lambda route: route.fulfill(content_type="text/css", body=face))
    page.route("https://fonts.gstatic.com/**", lambda route: route.abort())
