"""Pages that wait for a WebSocket which may come to another process."""

from __future__ import annotations

import pytest

from bokeh_gateway.balance.board import PAGES
from bokeh_gateway.balance.pending import LIFETIME
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.balance.shared_pages import SharedPages
from bokeh_gateway.config.address import Address


@pytest.fixture
def shared() -> Shared:
    made = Shared(2, 2)
    made.board.use(2, 2)
    return made


@pytest.fixture
def both(shared: Shared) -> list[SharedPages]:
    return [shared.own_pages(row) for row in (0, 1)]


WORKERS = [Worker(f"w{n}", Address("127.0.0.1", 5100), index=n) for n in (0, 1)]


def test_a_page_counts_until_its_websocket_comes_to_any_process(shared: Shared, both: list[SharedPages]) -> None:
    """Once, and exactly."""
    assert both[0].served("s", WORKERS[1], 0.0)
    assert shared.board.loads() == [0, 1]
    assert shared.board.total(PAGES, 1) == 1
    assert both[1].waits("s", 1.0)
    assert both[1].connected("s", 1.0)
    assert not both[1].connected("s", 1.0), "a second tab of the session"
    assert not both[0].waits("s", 1.0)
    assert both[0].expire(LIFETIME) == [], "it is not given up: the WebSocket came"
    assert shared.board.loads() == [0, 0]


def test_a_page_that_nobody_connects_to_is_given_up_by_who_served_it(shared: Shared, both: list[SharedPages]) -> None:
    both[0].served("s", WORKERS[0], 0.0)
    assert both[1].expire(LIFETIME) == []
    assert both[0].expire(LIFETIME - 0.1) == []
    assert both[0].expire(LIFETIME) == [WORKERS[0]]
    assert shared.board.loads() == [0, 0]


def test_the_second_page_of_a_session_takes_the_place_of_the_first(shared: Shared, both: list[SharedPages]) -> None:
    """Whichever process serves it, and wherever it is served from."""
    both[0].served("s", WORKERS[0], 0.0)
    both[1].served("s", WORKERS[1], 5.0)
    assert shared.board.loads() == [0, 1]
    assert both[0].expire(LIFETIME) == []
    assert both[1].expire(LIFETIME + 5.0) == [WORKERS[1]]
    assert shared.board.loads() == [0, 0]


def test_pages_of_a_dead_process_count_no_longer(shared: Shared, both: list[SharedPages]) -> None:
    """Also where it died between the table and the count."""
    both[0].served("a", WORKERS[0], 0.0)
    both[1].served("b", WORKERS[1], 0.0)
    shared.board.common.add(PAGES, 0, 3)
    shared.clear_row(0, 1.0)
    assert shared.board.loads() == [0, 1]
    assert shared.board.total(PAGES, 0) == 0
    assert both[1].connected("b", 1.0)
    assert shared.board.loads() == [0, 0]


def test_one_process_looks_at_its_own_row_alone(shared: Shared, both: list[SharedPages]) -> None:
    """The short way, where nothing is shared."""
    both[0].served("s", WORKERS[0], 0.0)
    shared.board.use(2, 1)
    assert not shared.board.several
    assert shared.board.loads() == [0, 0]
