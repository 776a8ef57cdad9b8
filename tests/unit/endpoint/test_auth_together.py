"""What one process knows of credentials, all know."""

from __future__ import annotations

from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.endpoint.auth_together import REMEMBERED, Claims, Newest


def test_the_newest_credential_is_known_until_it_ends() -> None:
    """Whichever process saw it, and whatever older ones come after it."""
    shared = Shared(1, 2)
    first, second = (Newest(shared.sign_ins) for _ in range(2))
    assert second.of("ada", 1000.0) == 0.0
    first.seen("ada", 1500.5, 1000.0)
    second.seen("ada", 1200.0, 1000.0)
    assert (second.of("ada", 1000.0), second.of("grace", 1000.0)) == (1500.5, 0.0)
    second.seen("ada", 1600.0, 1100.0)
    assert first.of("ada", 1599.0) == 1600.0
    assert first.of("ada", 1601.0) == 0.0


def test_what_a_process_wrote_may_be_forgotten_by_it() -> None:
    newest = Newest(Shared(1).sign_ins)
    newest.seen("ada", 1500.0, 1000.0)
    for number in range(REMEMBERED + 1):
        newest.seen(str(number), 1400.0, 1000.0)
    newest.seen("ada", 1300.0, 1000.0)
    assert newest.of("ada", 1000.0) == 1500.0


def test_one_process_claims_until_it_gives_back_or_time_is_over() -> None:
    shared = Shared(1, 2)
    first, second = (Claims(shared.sign_ins) for _ in range(2))
    assert first.take("a", 1000.0, 10.0)
    assert not second.take("a", 1009.0, 10.0)
    assert not first.take("a", 1009.0, 10.0)
    assert second.take("b", 1000.0, 10.0)
    assert second.take("a", 1010.0, 10.0)
    second.give_back("a")
    assert first.take("a", 1011.0, 10.0)
