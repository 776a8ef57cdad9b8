"""A page that takes longer to make than its token lives is said in the log, with the setting."""

from __future__ import annotations

from pathlib import Path

import requests

from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until

APP = """
import time
from bokeh.io import curdoc
time.sleep(2.5)
curdoc().title = "slow"
"""


def test_tk10_a_page_that_outlives_its_token_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(APP)
    text = f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
serve = ["{tmp_path}/slow.py"]
[sessions]
token_expiration = "2 s"
reconnect = false
"""
    with GatewayProcess(text, tmp_path / "gateway") as gateway:
        assert requests.get(gateway.url("/slow"), timeout=60).status_code == 200
        said = wait_until(
            lambda: [line for line in gateway.stderr.splitlines() if "longer than its token lives" in line],
            "the log line",
        )
        assert "/slow" in said[0]
        assert "[sessions] token_expiration" in said[0]
