"""`strip_cookies`: a session token repeats a page's cookies, and is small without those that no app needs."""

from __future__ import annotations

import random
import string
from pathlib import Path

from tests.support.bokeh_client import get, page_token
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, RunRecord, servers

CHOICE = random.Random(1)
JUNK = {f"_ga_{number}": "".join(CHOICE.choices(string.ascii_letters, k=600)) for number in range(10)}
"""Cookies that do not compress."""


def test_a_page_with_six_kilobytes_of_cookies(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path
) -> None:
    """TK-02: below 2 KB with `strip_cookies`, and the app still has its own cookie; on another pool nothing is lost."""
    text = f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.small]
servers = {servers(three_workers[:1])}
strip_cookies = ["_ga*"]
[pool.whole]
servers = {servers(three_workers[1:])}
[[route]]
path = "/"
pool = "small"
[[route]]
host = "whole.test"
pool = "whole"
"""
    with GatewayProcess(text, tmp_path) as gateway:
        cookie = "; ".join(f"{name}={value}" for name, value in {**JUNK, "sid": "own"}.items())
        assert len(cookie) > 6000
        small = get(gateway.url("/recorder"), headers={"Cookie": cookie})
        whole = get(gateway.url("/recorder"), headers={"Cookie": cookie, "Host": "whole.test"})
        assert len(page_token(small.text)) < 2048 < len(page_token(whole.text))
        mine, other = run_record.runs()
        assert mine.headers.get("cookie", "") in ("", "sid=own")
        assert "_ga" not in str(mine.headers)
        assert other.session_id != mine.session_id
