"""`--watch`: files of an app change, and all its workers are replaced by new ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.faults.test_deploy import APP, Visitors, app, config, generations, version
from tests.faults.test_reload import Reloaded
from tests.support.bokeh_client import BokehSocket, view_page, websocket_url
from tests.support.waiting import wait_until

__all__ = ["app"]


def test_four_workers_are_replaced_when_the_app_changes(app: Path, tmp_path: Path) -> None:
    """WL-05: all four are up; edits are rolling restarts, also of a module beside it; a broken one changes nothing."""
    (app.parent / "wording.py").write_text("WORD = 'version'\n")
    text = config(app, count=4)
    with Reloaded(text, tmp_path / "gateway", arguments=["--watch"]) as gateway:
        file, url = gateway.config_path, gateway.url("/dash")
        first = gateway.workers()
        assert len(first) == 4
        with Visitors(url) as visitors, view_page(url) as view:
            app.write_text(APP.format(version=2))
            gateway.wait_for_output("watch: dash.py changed: pool apps is deployed")
            wait_until(lambda: set(generations(file)) == {2}, "four new workers, and the old ones have ended", 120)
            assert all(worker["up"] for worker in generations(file)[2])
            assert len(gateway.workers()) == 4
            assert first.keys().isdisjoint(gateway.workers())
            with pytest.raises(ConnectionClosed):
                version(view)
            assert view.socket.connection.protocol.close_code == 1012
            with BokehSocket(websocket_url(url), view.socket.token) as again:
                assert version(again) == "version 2"
            wait_until(lambda: visitors.seen[-1] == "version 2", "new pages have the new code")
            app.write_text("not = = Python")
            gateway.wait_for_output("nothing was changed")
            assert version_of_a_page(url) == "version 2"
            app.write_text(APP.format(version=3).replace("import curdoc", "import curdoc\nfrom wording import WORD"))
            wait_until(lambda: version_of_a_page(url) == "version 3", "the mended app", 120)
        # Pages between the two halves of whose view the workers changed may have met the 1012 of their old worker.
        assert not [why for why in visitors.failed if "1012" not in why]


def version_of_a_page(url: str) -> str:
    with view_page(url) as view:
        return version(view)
