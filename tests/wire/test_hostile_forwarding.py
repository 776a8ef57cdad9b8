"""Who the worker is told that it serves: forwarding headers, hosts, session ids from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.raw import Exchange, raw_exchange
from tests.support.recording import Recorded, RecordingWorker

LIES = {
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.test",
    "X-Forwarded-Port": "444",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-IP": "1.2.3.4",
    "X-Scheme": "https",
    "Forwarded": "for=1.2.3.4;proto=https;host=evil.test",
}

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
{trusted}

[pool.site]
kind = "http"
servers = ["{worker}"]

[pool.apps]
servers = ["{worker}"]

[[route]]
path = "/plain"
pool = "site"

[[route]]
path = "/bokeh"
pool = "apps"

[[route]]
path = "/mount"
pool = "site"
strip_prefix = true
"""

BY_HOST = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[[route]]
host = "dash.example.com"
pool = "site"

[[route]]
host = "*.wild.example.com"
pool = "site"
"""


@pytest.fixture(scope="module")
def gateway(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    text = CONFIG.format(worker=recording.address, trusted="")
    with GatewayProcess(text, tmp_path_factory.mktemp("untrusting")) as running:
        yield running


@pytest.fixture(scope="module")
def trusting(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    trusted = 'trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8"]'
    text = CONFIG.format(worker=recording.address, trusted=trusted)
    with GatewayProcess(text, tmp_path_factory.mktemp("trusting")) as running:
        yield running


@pytest.fixture(scope="module")
def by_host(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(BY_HOST.format(worker=recording.address), tmp_path_factory.mktemp("hosts")) as running:
        yield running


def ask(gateway: GatewayProcess, path: str, headers: dict[str, str] | None = None, host: str = "localhost") -> Exchange:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return raw_exchange(gateway.port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", quiet=0)


def told(worker: RecordingWorker, path: str) -> Recorded:
    (request,) = worker.wait_for(path)
    return request


def test_xf01_lies_of_an_untrusted_peer_are_replaced(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    assert ask(gateway, "/plain/xf01", LIES, host=f"localhost:{gateway.port}").status == 200
    request = told(worker, "/plain/xf01")
    assert request.all("x-forwarded-for") == ["127.0.0.1"]
    assert request.all("x-real-ip") == ["127.0.0.1"]
    assert request.all("x-forwarded-proto") == ["http"]
    assert request.all("x-scheme") == ["http"]
    assert request.all("x-forwarded-host") == [f"localhost:{gateway.port}"]
    assert request.all("x-forwarded-port") == [str(gateway.port)]
    assert request.all("x-forwarded-prefix") == []
    assert request.all("host") == [f"localhost:{gateway.port}"]
    assert not [value for value in request.all("forwarded") if "1.2.3.4" in value or "evil" in value]


def test_xf01_also_in_several_lines_and_other_case(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    data = (
        b"GET /plain/xf01b HTTP/1.1\r\nHost: localhost\r\nx-forwarded-FOR: 1.1.1.1\r\nX-FORWARDED-FOR: 2.2.2.2\r\n\r\n"
    )
    assert raw_exchange(gateway.port, data, quiet=0).status == 200
    assert told(worker, "/plain/xf01b").all("x-forwarded-for") == ["127.0.0.1"]


def test_xf02_a_trusted_peer_is_believed_and_the_chain_appended(
    trusting: GatewayProcess, worker: RecordingWorker
) -> None:
    headers = {
        "X-Forwarded-For": "6.6.6.6, 9.9.9.9, 10.1.1.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "dash.example.com",
    }
    assert ask(trusting, "/plain/xf02", headers).status == 200
    request = told(worker, "/plain/xf02")
    assert request.all("x-forwarded-for") == ["6.6.6.6, 9.9.9.9, 10.1.1.1, 127.0.0.1"]
    assert request.all("x-real-ip") == ["9.9.9.9"]
    assert request.all("x-forwarded-proto") == ["https"]
    assert request.all("x-scheme") == ["https"]
    assert request.all("x-forwarded-host") == ["dash.example.com"]


@pytest.mark.parametrize("lie", ["not an address", "1.2.3.4.5", "", "[::1", "1.2.3.4, ,", "a" * 5000])
def test_xf02_nonsense_from_a_trusted_peer_breaks_nothing(
    lie: str, trusting: GatewayProcess, worker: RecordingWorker
) -> None:
    assert ask(trusting, "/plain/xf02b", {"X-Forwarded-For": lie}).status in {200, 400}
    for request in worker.to("/plain/xf02b"):
        assert request.all("x-real-ip") == ["127.0.0.1"] or "1.2.3.4" in lie


def test_xf02_the_scheme_of_a_trusted_peer_is_http_or_https(trusting: GatewayProcess, worker: RecordingWorker) -> None:
    assert ask(trusting, "/plain/xf02c", {"X-Forwarded-Proto": "javascript"}).status in {200, 400}
    assert all(request.all("x-forwarded-proto") in (["http"], ["https"]) for request in worker.to("/plain/xf02c"))


def test_xf03_underscores_do_not_pass_for_dashes(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    status = ask(gateway, "/plain/xf03", {"X_Forwarded_For": "1.2.3.4"}).status
    assert status in {200, 400}
    if status == 200:
        assert told(worker, "/plain/xf03").all("x_forwarded_for") == []


def test_xf04_a_session_id_from_outside_is_the_only_one_sent_on(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    assert ask(gateway, "/bokeh/xf04", {"Bokeh-Session-Id": "fromoutside"}).status == 200
    assert told(worker, "/bokeh/xf04").all("bokeh-session-id") == ["fromoutside"]


def test_xf04_a_page_request_that_names_no_session_gets_one(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    assert ask(gateway, "/bokeh/xf04c").status == 200
    (minted,) = told(worker, "/bokeh/xf04c").all("bokeh-session-id")
    assert "~" in minted


def test_xf04_an_argument_is_not_doubled_by_a_header(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    assert ask(gateway, "/bokeh/xf04d?bokeh-session-id=mine").status == 200
    request = told(worker, "/bokeh/xf04d")
    assert request.all("bokeh-session-id") == []
    assert request.target == "/bokeh/xf04d?bokeh-session-id=mine"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        pytest.param("/bokeh/xf04b", 2, id="header-twice"),
        pytest.param("/bokeh/xf04b?bokeh-session-id=other", 1, id="header-and-argument"),
        pytest.param("/bokeh/xf04b?bokeh-session-id=a&bokeh-session-id=b", 0, id="argument-twice"),
    ],
)
def test_xf04_a_session_named_twice_is_refused(
    path: str, names: int, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    data = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n" + "Bokeh-Session-Id: mine\r\n" * names + "\r\n"
    exchange = raw_exchange(gateway.port, data.encode(), quiet=0)
    assert exchange.status == 403
    assert b"session" in exchange.answers[0].body.lower()
    assert not worker.to("/bokeh/xf04b")


def test_xf05_the_prefix_that_was_stripped_is_told(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    assert ask(gateway, "/mount/xf05?a=/mount", {"X-Forwarded-Prefix": "/evil"}).status == 200
    request = told(worker, "/xf05")
    assert request.target == "/xf05?a=/mount"
    assert request.all("x-forwarded-prefix") == ["/mount"]


@pytest.mark.parametrize("host", ["other.example.com", "example.com", "dash.example.com.evil.test", "127.0.0.1", ""])
def test_hs01_an_unknown_host_reaches_no_worker(host: str, by_host: GatewayProcess, worker: RecordingWorker) -> None:
    exchange = ask(by_host, "/hs01", host=host)
    assert exchange.status in {400, 404, 421}
    assert worker.received() == b""


@pytest.mark.parametrize("host", ["dash.example.com:0", "dash.example.com:99999", "dash.example.com:x"])
def test_hs01_an_impossible_port_is_refused(host: str, by_host: GatewayProcess, worker: RecordingWorker) -> None:
    assert ask(by_host, "/hs01", host=host).status in {400, 404, 421}
    assert worker.received() == b""


@pytest.mark.parametrize(
    "host",
    [
        "dash.example.com",
        "DASH.example.COM",
        "dash.example.com.",
        "dash.example.com:80",
        "{port}",
        "a.wild.example.com",
    ],
)
def test_hs04_spellings_of_one_host_are_one_route(host: str, by_host: GatewayProcess, worker: RecordingWorker) -> None:
    host = host.replace("{port}", f"dash.example.com:{by_host.port}")
    assert ask(by_host, "/hs04", host=host).status == 200


@pytest.mark.parametrize("host", ["wild.example.com", "a.b.wild.example.com", "evilwild.example.com"])
def test_hs05_a_wildcard_is_one_label(host: str, by_host: GatewayProcess, worker: RecordingWorker) -> None:
    assert ask(by_host, "/hs05", host=host).status in {404, 421}
    assert worker.received() == b""
