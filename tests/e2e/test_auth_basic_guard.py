"""Guesses of passwords are limited by client and by user; the users' file may change while the gateway runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bokeh_gateway.policy.password import scrypt_hash
from tests.support.bokeh_client import get
from tests.support.gateway import GatewayProcess
from tests.support.recording import RecordingWorker
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
trusted_proxies = ["127.0.0.1"]

[pool.site]
kind = "http"
servers = ["{worker.address}"]

[auth.basic]
file = "users"
cache = "{cache}"
failures_per_minute = 5
"""
NAMES = ("ada", "grace", "alan", *(f"user{n}" for n in range(20)))


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker() as running:
        yield running


def start(worker: RecordingWorker, folder: Path, cache: str = "300 s") -> GatewayProcess:
    folder.mkdir(parents=True, exist_ok=True)
    hashed = scrypt_hash("right", b"s" * 16, 10)
    (folder / "users").write_text("".join(f"{name}:{hashed}\n" for name in NAMES))
    return GatewayProcess(CONFIG.format(worker=worker, cache=cache), folder)


@pytest.fixture(scope="module")
def gateway(worker: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with start(worker, tmp_path_factory.mktemp("guard")) as running:
        yield running


def statuses(gateway: GatewayProcess, client: str, tries: list[tuple[str, str]], at_once: int = 1) -> list[int]:
    """What `client` gets for names and passwords."""

    def one(pair: tuple[str, str]) -> int:
        return get(gateway.url("/x"), auth=pair, headers={"X-Forwarded-For": client}).status_code

    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(one, tries))


def test_a_client_that_guesses_waits(gateway: GatewayProcess) -> None:
    """Whoever is guessed at, even with the right password; others are let in; the log says what changes it."""
    spray = [(name, "guess") for name in NAMES[3:9]]
    assert statuses(gateway, "203.0.113.1", spray) == [401] * 5 + [429]
    found = get(gateway.url("/x"), auth=("ada", "right"), headers={"X-Forwarded-For": "203.0.113.1"})
    assert found.status_code == 429
    assert 1 <= int(found.headers["retry-after"]) <= 60
    assert "www-authenticate" not in found.headers
    assert statuses(gateway, "203.0.113.2", [("ada", "right")]) == [200]
    wait_until(lambda: gateway.stderr.count("[auth.basic] failures_per_minute = 5") == 2, "one line a refusal")
    assert "guess" not in gateway.stderr


def test_guesses_at_one_user_from_everywhere_wait(gateway: GatewayProcess) -> None:
    """But not who was let in before, with the same password."""
    assert statuses(gateway, "203.0.113.11", [("grace", "right")]) == [200]
    for n in range(5):
        assert statuses(gateway, f"203.0.113.{20 + n}", [("grace", f"guess{n}")]) == [401]
    assert statuses(gateway, "203.0.113.30", [("grace", "guess")]) == [429]
    assert statuses(gateway, "203.0.113.11", [("grace", "right")]) == [200]


def test_who_was_let_in_before_is_verified_again_in_spite_of_guesses(worker: RecordingWorker, tmp_path: Path) -> None:
    """Also when it is so long ago that the password is hashed anew."""
    with start(worker, tmp_path, cache="100 ms") as gateway:
        assert statuses(gateway, "203.0.113.11", [("grace", "right")]) == [200]
        for n in range(5):
            statuses(gateway, f"203.0.113.{20 + n}", [("grace", f"guess{n}")])
        assert statuses(gateway, "203.0.113.30", [("grace", "guess")]) == [429]
        assert statuses(gateway, "203.0.113.11", [("grace", "right")]) == [200]


def test_many_guesses_at_once_are_no_more_tries(gateway: GatewayProcess) -> None:
    found = statuses(gateway, "2001:db8:1::1", [("alan", f"guess{n}") for n in range(30)], at_once=30)
    assert Counter(found) == {401: 5, 429: 25}


def test_the_addresses_of_one_ipv6_network_are_one_client(gateway: GatewayProcess) -> None:
    for n in range(5):
        assert statuses(gateway, f"2001:db8:2::{n}", [(NAMES[10 + n], "guess")]) == [401]
    assert statuses(gateway, "2001:db8:2::77", [(NAMES[15], "guess")]) == [429]
    assert statuses(gateway, "2001:db8:3::77", [(NAMES[15], "guess")]) == [401]


def test_an_office_that_comes_all_at_once_gets_in(gateway: GatewayProcess) -> None:
    """Twenty people behind one address, who are more than the tries that are left."""
    found = statuses(gateway, "203.0.113.99", [(name, "right") for name in NAMES[3:]], at_once=20)
    assert found == [200] * 20


def test_a_changed_file_counts_within_a_second_and_without_a_reload(worker: RecordingWorker, tmp_path: Path) -> None:
    """Who is no longer in it is out, remembered or not; a new password replaces the old one."""
    with start(worker, tmp_path) as gateway:
        assert statuses(gateway, "203.0.113.1", [("ada", "right"), ("grace", "right")]) == [200, 200]
        (gateway.folder / "users").write_text(f"ada:{scrypt_hash('new', b's' * 16, 10)}\n")
        wait_until(lambda: statuses(gateway, "203.0.113.1", [("grace", "right")]) == [401], "the file is read")
        assert statuses(gateway, "203.0.113.2", [("ada", "right"), ("ada", "new")]) == [401, 200]
        assert "was read again: 1 users" in gateway.stderr
