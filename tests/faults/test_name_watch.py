"""Names that are followed in the DNS, with a name server that changes its mind, fails and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bokeh_gateway.balance.dns_set import Found
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.server_name import ServerName
from bokeh_gateway.control.name_watch import NameWatch, look_up, make_resolver
from tests.support.name_server import NameServer
from tests.support.waiting import GENEROUS


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GENEROUS):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("name", "records", "expected"),
    [
        pytest.param(
            ServerName("a", "workers.test", 5006),
            {("workers.test", "A"): (7, ["10.0.0.1", "10.0.0.2"])},
            ([Found("10.0.0.1", 5006), Found("10.0.0.2", 5006)], 7.0),
            id="a",
        ),
        pytest.param(
            ServerName("a", "six.test", 5006),
            {("six.test", "AAAA"): (7, ["2001:db8::1"])},
            ([Found("2001:db8::1", 5006)], 7.0),
            id="aaaa",
        ),
        pytest.param(
            ServerName("srv", "_bokeh._tcp.workers.test"),
            {
                ("_bokeh._tcp.workers.test", "SRV"): (30, ["10 3 5100 one.test.", "20 1 5101 two.test."]),
                ("one.test", "A"): (9, ["10.0.0.1"]),
                ("two.test", "A"): (60, ["10.0.0.2"]),
            },
            ([Found("10.0.0.1", 5100, 3), Found("10.0.0.2", 5101, 1, backup=True)], 9.0),
            id="srv",
        ),
    ],
)
def test_a_name_stands_for_servers(
    name: ServerName, records: dict[tuple[str, str], tuple[int, list[str]]], expected: tuple[list[Found], float]
) -> None:
    with NameServer() as server:
        server.records = records
        found, ttl = asyncio.run(look_up(name, make_resolver([Address("127.0.0.1", server.port)])))
    assert (sorted(found), ttl) == expected


def test_a_name_is_followed_and_a_name_server_that_fails_changes_nothing() -> None:
    async def main(server: NameServer) -> None:
        answers: list[list[str]] = []
        watch = NameWatch(
            ServerName("a", "workers.test", 5006),
            make_resolver([Address("127.0.0.1", server.port)]),
            lambda found: answers.append(sorted(one.host for one in found)),
        )
        watch.start()
        await until(lambda: len(answers) == 1)
        server.records = {}
        asked = server.asked
        await until(lambda: server.asked >= asked + 2)
        assert answers == [["10.0.0.1"]] * len(answers)
        server.records = {("workers.test", "A"): (0, ["10.0.0.1", "10.0.0.2"])}
        await until(lambda: answers[-1] == ["10.0.0.1", "10.0.0.2"])
        watch.close()

    with NameServer() as server:
        server.records = {("workers.test", "A"): (0, ["10.0.0.1"])}
        asyncio.run(main(server))
