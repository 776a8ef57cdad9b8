"""What the master tells of a signer's keys: to whom asks, after each fetch, and to its successor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from bokeh_gateway.config.load import parse
from bokeh_gateway.config.schema import Config
from bokeh_gateway.control.channel import Payload
from bokeh_gateway.control.signer_keys import SignerKeys
from tests.support.signer import Signer
from tests.support.waiting import GENEROUS


def config(url: str | None) -> Config:
    auth = {"jwt": {"jwks_url": url, "algorithms": ["ES256"], "audience": ["dash"]}} if url else {}
    return parse({"pool": {"a": {"servers": ["127.0.0.1:1"]}}, "auth": auth}, Path("/"), {})


def with_signer(case: Callable[[Signer, SignerKeys, asyncio.Queue[Payload]], Awaitable[None]]) -> None:
    async def run() -> None:
        signer, told = Signer(), asyncio.Queue[Payload]()
        keys = SignerKeys(told.put_nowait, lambda: 1000.0)
        try:
            await case(signer, keys, told)
        finally:
            keys.close()
            await signer.close()

    asyncio.run(run())


def test_all_are_told_after_each_fetch_and_whoever_asks_too_early() -> None:
    async def case(signer: Signer, keys: SignerKeys, told: asyncio.Queue[Payload]) -> None:
        keys.follow(config(signer.url))
        assert keys.told()["document"] is None
        keys.look()
        first = await asyncio.wait_for(told.get(), GENEROUS)
        assert first == {"url": signer.url, "document": json.loads(signer.good), "pause": 10.0}
        keys.asked(signer.url)
        assert told.get_nowait() == first
        keys.asked("http://127.0.0.1:1/of-an-earlier-file")
        assert (told.qsize(), signer.asked) == (0, 1)

    with_signer(case)


def test_a_signer_that_is_down_is_told_too() -> None:
    async def case(signer: Signer, keys: SignerKeys, told: asyncio.Queue[Payload]) -> None:
        signer.status = 503
        keys.follow(config(signer.url))
        keys.asked(signer.url)
        found = await asyncio.wait_for(told.get(), GENEROUS)
        assert found == {"url": signer.url, "document": None, "pause": 10.0}

    with_signer(case)


def test_what_is_known_goes_to_the_next_program_and_not_to_another_signer() -> None:
    async def case(signer: Signer, keys: SignerKeys, told: asyncio.Queue[Payload]) -> None:
        known = json.loads(signer.good)
        keys.restore({signer.url: known})
        keys.follow(config(signer.url))
        assert keys.told()["document"] == known
        assert keys.state() == {signer.url: known}
        keys.follow(config(signer.url + "&other"))
        assert keys.told()["document"] is None
        keys.follow(config(None))
        assert keys.told()["url"] is None
        keys.look()
        assert signer.asked == 0

    with_signer(case)
