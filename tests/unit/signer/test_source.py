"""When a signer is asked, and what stays known: a real HTTP server, and a clock that the test moves."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable

import pytest

from bokeh_gateway.signer.fetch import Fetcher
from bokeh_gateway.signer.source import KeySource
from tests.support.signer import Signer


class Times:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def with_signer(case: Callable[[Signer, KeySource, Times], Awaitable[None]]) -> None:
    async def run() -> None:
        signer, times, fetcher = Signer(), Times(), Fetcher(5.0)
        source = KeySource(signer.url, fetcher, times, 3600.0)
        try:
            await case(signer, source, times)
        finally:
            source.close()
            fetcher.close()
            await signer.close()

    asyncio.run(run())


def test_keys_are_fetched_when_they_are_too_old() -> None:
    async def case(signer: Signer, source: KeySource, times: Times) -> None:
        ended: list[int] = []
        source.on_end = lambda: ended.append(len(source.keys))
        source.freshen()
        assert source.under_way
        await source.look_again()  # the one under way
        await asyncio.sleep(0)
        assert (signer.asked, ended, source.pause) == (1, [1], 10.0)
        for later, asked in ((10.0, 1), (3589.0, 1), (1.0, 2)):
            times.now += later
            source.freshen()
            if source.under_way:
                await source.look_again()
            assert signer.asked == asked

    with_signer(case)


def test_an_outage_takes_no_key_away_and_is_asked_ever_less(caplog: pytest.LogCaptureFixture) -> None:
    async def case(signer: Signer, source: KeySource, times: Times) -> None:
        await source.look_again()
        signer.status, signer.body = 503, b"{}"
        times.now += 3600.0
        tried: list[float] = []
        for _ in range(1000):
            before = signer.asked
            source.freshen()
            if source.under_way:
                await source.look_again()
            if signer.asked > before:
                tried.append(times.now)
            times.now += 1.0
        gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
        assert gaps == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
        assert [key.kid for key in source.keys] == ["a"]

    with caplog.at_level(logging.WARNING):
        with_signer(case)
    assert "the 1 known ones stay in use: status 503" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"keys": []}', b"[" * 100_000], ids=["list", "cut", "none", "deep"])
def test_what_is_no_jwks_changes_nothing(body: bytes) -> None:
    async def case(signer: Signer, source: KeySource, _times: Times) -> None:
        source.restore(json.loads(signer.good))
        known = source.document
        signer.body = body
        await source.look_again()
        assert source.document == known
        assert len(source.keys) == 1

    with_signer(case)


def test_a_head_without_an_end_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def case(signer: Signer, source: KeySource, _times: Times) -> None:
        source.restore(json.loads(signer.good))
        signer.further = {"X": "x" * 100_000}
        await source.look_again()
        assert len(source.keys) == 1

    with caplog.at_level(logging.WARNING):
        with_signer(case)
    assert "the 1 known ones stay in use" in caplog.text
