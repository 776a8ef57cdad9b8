"""Keys that the master tells a process of."""

from __future__ import annotations

import asyncio

import pytest

from bokeh_gateway.signer import told
from bokeh_gateway.signer.told import ToldKeys
from tests.support.signer import jwks

URL = "https://sso.test/keys"


class Times:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_generation_is_another_jwks() -> None:
    keys = ToldKeys(URL, lambda _url: None, Times())
    first, second = jwks("a"), jwks("a")
    keys.told(None)
    assert (keys.keys, keys.generation) == ([], 0)
    keys.told(first)
    keys.told(first)
    assert ([key.kid for key in keys.keys], keys.generation) == (["a"], 1)
    keys.told(second)
    assert keys.generation == 2  # replaced under its old name
    keys.told(None)
    assert (len(keys.keys), keys.generation) == (1, 2)


def test_nobody_asks_within_the_pause() -> None:
    times = Times()
    keys = ToldKeys(URL, lambda _url: None, times)
    assert keys.may_look_again()
    keys.told(None, 10.0)
    assert not keys.may_look_again()
    times.now += 10.0
    assert keys.may_look_again()


async def _several_wait_for_one_answer() -> None:
    asked: list[str] = []
    keys = ToldKeys(URL, asked.append, Times())
    waiting = [asyncio.ensure_future(keys.look_again()) for _ in range(3)]
    await asyncio.sleep(0)
    assert asked == [URL]
    assert keys.may_look_again()
    keys.told(jwks("a"), 10.0)
    await asyncio.gather(*waiting)
    assert not keys.may_look_again()


def test_several_wait_for_one_answer() -> None:
    asyncio.run(_several_wait_for_one_answer())


async def _a_master_that_says_nothing() -> None:
    asked: list[str] = []
    times = Times()
    keys = ToldKeys(URL, asked.append, times)
    await keys.look_again()
    assert not keys.may_look_again()
    times.now += 10.0
    assert keys.may_look_again()
    await keys.look_again()
    assert asked == [URL, URL]


def test_a_master_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "PATIENCE", 0.01)
    asyncio.run(_a_master_that_says_nothing())
