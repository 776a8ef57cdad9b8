"""gw.toml to Config: what is understood, and how every mistake is told."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bokeh_gateway.config.load import load, parse
from bokeh_gateway.config.schema import Address, Config
from bokeh_gateway.errors import ConfigErrors

BASE = Path("/srv/dash")
APPS: dict[str, Any] = {"apps": {"servers": ["127.0.0.1:5100"]}}


def read(text: str, tmp_path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file with this text."""
    file = tmp_path / "gw.toml"
    file.write_text(text)
    return load(file, environ or {})


def lines(data: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> list[str]:
    """What is said about this file, one line a mistake."""
    with pytest.raises(ConfigErrors) as caught:
        parse(data, BASE, environ or {})
    return str(caught.value).splitlines()


def with_pool(**tables: Any) -> dict[str, Any]:
    """A file with one pool, and these tables."""
    return {"pool": APPS, **tables}


def test_the_smallest_file() -> None:
    """One pool, and all goes to it."""
    config = parse({"pool": APPS}, BASE, {})
    assert config.pool["apps"].servers[0].address == Address("127.0.0.1", 5100)
    assert [(r.host, r.path, r.pool) for r in config.route] == [(None, "/", "apps")]
    assert config.gateway.listen == (Address("127.0.0.1", 8080),)
    assert config.tls is None


def test_units_become_numbers() -> None:
    """Bytes and seconds."""
    config = parse(
        with_pool(
            limits={"header_size": "1 KiB", "body_size": "20 MB", "max_message": "none"},
            timeouts={"header": "500 ms", "keep_alive": "2 min"},
        ),
        BASE,
        {},
    )
    assert (config.limits.header_size, config.limits.body_size, config.limits.max_message) == (1024, 20_000_000, None)
    assert (config.timeouts.header, config.timeouts.keep_alive) == (0.5, 120.0)


def test_paths_are_relative_to_the_file() -> None:
    """Wherever the command is given."""
    config = parse(
        {
            "pool": {"a": {"serve": ["app.py"], "cwd": "apps", "command": ["./env/bin/bokeh", "serve"]}},
            "tls": {"listen": [":443"], "certfile": "cert.pem", "keyfile": "/etc/key.pem"},
            "gateway": {"listen": ["unix:gw.sock"]},
            "log": {"access": "log/access.log"},
            "static": {"python": "env/bin/python", "cache_dir": "../cache"},
        },
        BASE,
        {},
    )
    assert config.tls is not None
    assert config.tls.certfile == BASE / "cert.pem"
    assert config.tls.keyfile == Path("/etc/key.pem")
    assert config.gateway.listen == (Address(unix="/srv/dash/gw.sock"),)
    assert config.log.access == "/srv/dash/log/access.log"
    assert (config.static.python, config.static.cache_dir) == ("/srv/dash/env/bin/python", Path("/srv/cache"))
    assert config.pool["a"].command == ("/srv/dash/env/bin/bokeh", "serve")
    assert config.pool["a"].cwd == BASE / "apps"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param({"workers": 3}, (3, 3, 3), id="always-as-many"),
        pytest.param({"min_workers": 2, "max_workers": 8}, (2, 8, 2), id="begins-with-the-fewest"),
        pytest.param({"min_workers": 2, "max_workers": 8, "workers": 4}, (2, 8, 4), id="begins-with-workers"),
        pytest.param({"max_workers": 8}, (1, 8, 1), id="from-one"),
        pytest.param({"workers": 4, "min_workers": 1}, (1, 4, 4), id="down-only"),
    ],
)
def test_how_many_workers_there_may_be(table: dict[str, int], expected: tuple[int, int, int]) -> None:
    """Fewest, most, and at the start."""
    factor = {} if len(table) == 1 and "workers" in table else {"load_factor": 5}
    pool = parse({"pool": {"a": {"serve": ["x"], **table, **factor}}}, BASE, {}).pool["a"]
    assert (pool.fewest, pool.most, pool.at_start) == expected


def test_workers_start_in_the_folder_of_the_file() -> None:
    """And a bare program name stays one, to be found on PATH."""
    pool = parse({"pool": {"a": {"serve": ["app.py"]}}}, BASE, {}).pool["a"]
    assert (pool.cwd, pool.command, pool.serve) == (BASE, ("bokeh", "serve"), ("app.py",))


def test_servers_as_text_and_as_table() -> None:
    """A weight needs a table."""
    pool = parse({"pool": {"a": {"servers": ["[::1]:1", {"address": "unix:w.sock", "weight": 2}]}}}, BASE, {}).pool["a"]
    assert [(str(s), s.weight) for s in pool.servers] == [("[::1]:1", 1), ("unix:/srv/dash/w.sock", 2)]


def test_the_environment_gives_text_numbers_and_truth() -> None:
    """In containers all of the file may come from it."""
    environ = {"N": "3", "PORT": "81", "ON": "true"}
    config = parse(
        {
            "gateway": {"listen": ["0.0.0.0:${PORT}"]},
            "pool": {"a": {"serve": ["${APP:-app.py}"], "workers": "${N}"}},
            "origins": {"required": "${ON}"},
        },
        BASE,
        environ,
    )
    assert (config.pool["a"].workers, config.pool["a"].serve, config.origins.required) == (3, ("app.py",), True)
    assert config.gateway.listen == (Address("0.0.0.0", 81),)


def test_a_number_in_quotes_is_no_number() -> None:
    """Only what came from the environment may be text."""
    assert lines({"pool": {"a": {"serve": ["x"], "workers": "3"}}}) == [
        "gw.toml: pool.a.workers = '3': expected a whole number"
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [pytest.param("unsigned", None, id="unsigned"), pytest.param("signed", "s3", id="signed")],
)
def test_bokehs_secret_key_is_the_default(mode: str, expected: str | None) -> None:
    """Where sessions are signed."""
    key = parse(with_pool(sessions={"mode": mode}), BASE, {"BOKEH_SECRET_KEY": "s3"}).sessions.secret_key
    assert (key.get_secret_value() if key else None) == expected


def test_bokehs_tls_variables_fill_in_a_present_table() -> None:
    """Without a [tls] table they say nothing: the file decides whether there is TLS."""
    environ = {"BOKEH_SSL_CERTFILE": "/c.pem", "BOKEH_SSL_KEYFILE": "/k.pem", "BOKEH_SSL_PASSWORD": "pw"}
    assert parse({"pool": APPS}, BASE, environ).tls is None
    tls = parse(with_pool(tls={"listen": [":443"], "keyfile": "own.pem"}), BASE, environ).tls
    assert tls is not None
    assert tls.password is not None
    assert (tls.certfile, tls.keyfile) == (Path("/c.pem"), BASE / "own.pem")
    assert tls.password.get_secret_value() == "pw"


def test_with_tls_there_is_no_plain_listener_by_default() -> None:
    """It must be asked for, if only to redirect."""
    config = parse(with_pool(tls={"listen": [":443"], "certfile": "c"}), BASE, {})
    assert config.gateway.listen == ()


def test_previous_keys_follow_the_present_one() -> None:
    """The order in which signatures are tried."""
    sessions = parse(
        with_pool(sessions={"mode": "signed", "secret_key": "new", "previous_keys": ["old"]}), BASE, {}
    ).sessions
    assert sessions.secrets == (b"new", b"old")


def test_values_are_normalised() -> None:
    """As others compare them: no trailing slash, lower case, networks."""
    config = parse(
        with_pool(
            gateway={"public_url": "https://d.example.com/x/", "trusted_proxies": ["10.0.0.0/8", "::1"]},
            route=[{"host": "*.Example.COM", "path": "/bk/", "pool": "apps", "strip_prefix": True}, {"pool": "apps"}],
        ),
        BASE,
        {},
    )
    assert config.gateway.public_url == "https://d.example.com/x"
    assert config.gateway.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert [(r.host, r.path, r.strip_prefix) for r in config.route] == [
        ("*.example.com", "/bk", True),
        (None, "/", False),
    ]


@pytest.mark.parametrize(("hsts", "expected"), [(False, None), ("1 d", 86400.0)])
def test_hsts_is_a_duration_or_false(hsts: object, expected: float | None) -> None:
    """`true` would not say how long."""
    tls = parse(with_pool(tls={"listen": [":443"], "certfile": "c", "hsts": hsts}), BASE, {}).tls
    assert tls is not None
    assert tls.hsts == expected


MISTAKES = [
    pytest.param(
        with_pool(timeouts={"connect": "10 parsecs"}),
        "timeouts.connect = '10 parsecs': expected a duration with its unit (ms, s, min, h, d), such as \"10 s\"",
        id="unit",
    ),
    pytest.param(
        with_pool(timeouts={"drain": "0 s"}), "timeouts.drain = '0 s': expected a duration above 0", id="zero"
    ),
    pytest.param(
        with_pool(timeouts={"drain": 30}),
        'timeouts.drain = 30: expected a duration with its unit (ms, s, min, h, d), such as "10 s"',
        id="no-unit",
    ),
    pytest.param(
        with_pool(timeouts={"websocket_ping": "2 min"}),
        "timeouts.websocket_ping = '2 min': expected less than websocket_idle = 2 min, or quiet tabs would be closed",
        id="ping-slower-than-idle",
    ),
    pytest.param(
        with_pool(limits={"body_size": "-1 B"}),
        "limits.body_size = '-1 B': expected a size with its unit (B, KB, MB, GB, KiB, MiB, GiB),"
        ' such as "64 KiB", or "none"',
        id="negative-size",
    ),
    pytest.param(
        with_pool(limits={"connections": 0}), "limits.connections = 0: expected 1 or more", id="no-connections"
    ),
    pytest.param(
        with_pool(limits={"connections": True}),
        "limits.connections = True: expected a whole number",
        id="bool-is-no-int",
    ),
    pytest.param(
        with_pool(limits={"connections_per_client": 0}),
        'limits.connections_per_client = 0: expected 1 or more, or "none"',
        id="zero-is-not-none",
    ),
    pytest.param(
        {"pool": {"a": {"servers": ["127.0.0.1:1", "http://x"]}}},
        'pool.a.servers[1] = \'http://x\': expected "host:port", "[::1]:port" or "unix:/path", without scheme and path',
        id="server",
    ),
    pytest.param(
        {"pool": {"a": {"servers": [{"address": "127.0.0.1:1", "weight": 0}]}}},
        "pool.a.servers[0].weight = 0: expected 1 or more",
        id="weight",
    ),
    pytest.param(
        {"pool": {"a": {"servers": ["127.0.0.1:1", "127.0.0.1:1"]}}},
        "pool.a.servers[1] = '127.0.0.1:1': expected another server than servers[0];"
        " weight = 2 gives one more sessions",
        id="server-twice",
    ),
    pytest.param({"pool": {"a": {}}}, "pool.a: expected either servers or serve, what answers", id="empty-pool"),
    pytest.param(
        {"pool": {"a": {"servers": ["h:1"], "serve": ["x"]}}},
        "pool.a: expected either servers or serve, one of them, not both",
        id="both",
    ),
    pytest.param(
        {"pool": {"a": {"kind": "http", "serve": ["x"]}}},
        'pool.a.serve: expected servers in a pool of kind "http"; only Bokeh workers can be run',
        id="http-pool-that-serves",
    ),
    pytest.param(
        {"pool": {"a": {"servers": ["h:1"], "workers": 2}}},
        "pool.a.workers: expected to stand beside serve: it is for workers that the gateway runs",
        id="workers-without-serve",
    ),
    pytest.param(
        {"pool": {"a": {"serve": ["x"], "workers": 65}}}, "pool.a.workers = 65: expected 64 or less", id="many-workers"
    ),
    pytest.param(
        {"pool": {"a": {"servers": ["h:1"], "max_rss": "1 GB"}}},
        "pool.a.max_rss: expected to stand beside serve: it is for workers that the gateway runs",
        id="recycling-without-serve",
    ),
    pytest.param(
        {"pool": {"a": {"serve": ["x"], "workers": 2, "max_workers": 4}}},
        "pool.a.max_workers: expected to stand beside load_factor, which decides how many there are",
        id="nothing-decides-how-many",
    ),
    pytest.param(
        {"pool": {"a": {"serve": ["x"], "load_factor": 4}}},
        "pool.a.load_factor: expected min_workers and max_workers that differ",
        id="nothing-to-decide",
    ),
    pytest.param(
        {"pool": {"a": {"serve": ["x"], "load_factor": 4, "max_workers": 4, "workers": 5}}},
        "pool.a.max_workers: expected 5 or more, the fewest that there are to be",
        id="most-below-fewest",
    ),
    pytest.param(
        {"pool": {"a": {"serve": ["x"], "load_factor": 4, "min_workers": 2, "max_workers": 4, "workers": 5}}},
        "pool.a.workers = 5: expected from min_workers = 2 to max_workers = 4",
        id="start-outside",
    ),
    pytest.param(
        {"pool": {"a": {"serve": ["x"], "load_factor": 4, "max_workers": 65}}},
        "pool.a.max_workers = 65: expected 64 or less",
        id="many-at-most",
    ),
    pytest.param(
        {"pool": {"a b": {"servers": ["h:1"]}}},
        'pool."a b": expected a pool name of letters, digits, _ and -',
        id="pool-name",
    ),
    pytest.param(
        {"pool": {"servers": ["h:1"]}},
        "pool.servers: expected a pool with a name: [pool.apps] with servers in it",
        id="pool-without-name",
    ),
    pytest.param(
        {"pool": {"a": {"kind": "htp", "servers": ["h:1"]}}},
        'pool.a.kind = \'htp\': expected "bokeh" or "http"',
        id="literal",
    ),
    pytest.param(
        {},
        'pool: expected a table such as [pool.apps] with servers = ["127.0.0.1:5006"], or with serve = ["app.py"]',
        id="nothing",
    ),
    pytest.param(
        {"pool": {"a": {"servers": ["h:1"]}, "b": {"servers": ["h:1"]}}},
        "route: expected a [[route]] for each pool, as there are several: a, b",
        id="several-pools-no-route",
    ),
    pytest.param(
        with_pool(route=[{"pool": "app"}]),
        "route[0].pool = 'app': expected the name of a pool (apps); did you mean \"apps\"?",
        id="unknown-pool",
    ),
    pytest.param(
        with_pool(route=[{"path": "/x"}]),
        "route[0]: expected exactly one of pool, static and redirect",
        id="no-target",
    ),
    pytest.param(
        with_pool(route=[{"pool": "apps", "redirect": "/y"}]),
        "route[0]: expected exactly one of pool, static and redirect, not pool and redirect",
        id="two-targets",
    ),
    pytest.param(
        with_pool(route=[{"static": "x", "strip_prefix": True}]),
        "route[0].strip_prefix: expected to stand beside pool",
        id="strip-prefix-of-files",
    ),
    pytest.param(
        with_pool(route=[{"pool": "apps", "path": "/a"}, {"pool": "apps", "path": "/a/"}]),
        "route[1].path = '/a': expected another host or path than route[0] has",
        id="route-twice",
    ),
    pytest.param(
        with_pool(route={"pool": "apps"}),
        "route: expected a list of tables: [[route]] with two brackets",
        id="one-bracket",
    ),
    pytest.param(
        with_pool(gateway={"listen": [":5100"]}),
        "pool.apps.servers[0] = '127.0.0.1:5100': expected a worker's address: gateway.listen[0] is the gateway itself,"
        " requests would go in a circle",
        id="circle",
    ),
    pytest.param(
        with_pool(gateway={"listen": [":81"]}, metrics={"listen": [":81"]}),
        "metrics.listen[0] = ':81': expected another address than gateway.listen[0]",
        id="address-twice",
    ),
    pytest.param(
        with_pool(gateway={"listen": []}),
        'gateway.listen: expected an address to listen on, such as "127.0.0.1:8080"',
        id="no-listener",
    ),
    pytest.param(
        with_pool(gateway={"trusted_proxies": ["10.0.0.1/8"]}),
        "gateway.trusted_proxies[0] = '10.0.0.1/8': expected a network without host bits: \"10.0.0.0/8\","
        ' or the one address "10.0.0.1"',
        id="host-bits",
    ),
    pytest.param(
        with_pool(gateway={"processes": 0}),
        'gateway.processes = 0: expected a whole number from 1 to 256, or "auto"',
        id="processes",
    ),
    pytest.param(
        with_pool(gateway={"public_url": "dash.example.com"}),
        "gateway.public_url = 'dash.example.com': expected an http:// or https:// URL without user, query or fragment:"
        ' "https://dash.example.com"',
        id="public-url",
    ),
    pytest.param(
        with_pool(tls={"certfile": "c"}),
        'tls.listen: expected where TLS is accepted, such as ["0.0.0.0:443"]',
        id="tls-listen",
    ),
    pytest.param(
        with_pool(tls={"listen": [":443"]}), "tls.certfile: expected a value, it is needed here", id="tls-certfile"
    ),
    pytest.param(
        with_pool(tls={"listen": [":443"], "certfile": "c", "hsts": True}),
        'tls.hsts = True: expected a duration with its unit (ms, s, min, h, d), such as "10 s", or false',
        id="hsts-true",
    ),
    pytest.param(
        with_pool(sessions={"mode": "signed"}),
        'sessions.secret_key: expected the workers\' secret key, here or in BOKEH_SECRET_KEY, as mode is "signed"',
        id="no-secret",
    ),
    pytest.param(
        with_pool(sessions={"token_expiration": "1500 ms"}),
        "sessions.token_expiration = '1500 ms': expected whole seconds, as `bokeh serve --session-token-expiration`",
        id="token-seconds",
    ),
    pytest.param(with_pool(log=3), "log = 3: expected a table", id="no-table"),
    pytest.param(with_pool(origins={"allow": "acme.com"}), "origins.allow = 'acme.com': expected a list", id="no-list"),
    pytest.param(
        with_pool(limits={"header_sizes": "1 KiB"}),
        "limits.header_sizes: expected a key of [limits]; did you mean header_size?",
        id="unknown-key",
    ),
    pytest.param(
        with_pool(gateway={"drain": "1 s"}),
        "gateway.drain: expected a key of [gateway]; did you mean drain in [timeouts]?",
        id="key-of-another-table",
    ),
    pytest.param(
        with_pool(gatway={}), "gatway: expected a table of the file; did you mean gateway?", id="unknown-table"
    ),
    pytest.param(
        {"pool": {"a": {"server": ["h:1"], "servers": ["h:1"]}}},
        "pool.a.server: expected a key of [pool.a]; did you mean servers?",
        id="unknown-pool-key",
    ),
    pytest.param(
        with_pool(metrics={"zzz": 1}), "metrics.zzz = 1: expected a key of [metrics]: listen", id="nothing-near"
    ),
    pytest.param(
        with_pool(log={"access": "${LOG}"}),
        "log.access: expected the environment variable LOG to be set, or a default as in ${LOG:-default}",
        id="unset-variable",
    ),
    pytest.param(
        with_pool(timeouts={"drain": "${DRAIN}"}),
        "timeouts.drain: expected the environment variable DRAIN to be set, or a default as in ${DRAIN:-default}",
        id="unset-variable-is-one-mistake",
    ),
]


@pytest.mark.parametrize(("data", "expected"), MISTAKES)
def test_cf01_cf02_one_mistake_is_one_line(data: dict[str, Any], expected: str) -> None:
    """The key as in the file, the value, and what would be right."""
    assert lines(data) == [f"gw.toml: {expected}"]


def test_all_mistakes_are_told_at_once() -> None:
    """Those of values, of unknown keys and of rules that join tables; one does not hide the others."""
    found = lines(
        {
            "gateway": {"listen": ["nonsense"]},
            "pool": {"a": {"servers": ["x"]}, "b": {"serve": ["y"], "workers": "${N}"}},
            "route": [{"path": "no-slash", "pool": "c"}, {"static": "s", "redirect": "/"}],
            "timeouts": {"drain": "1"},
            "sessions": {"mode": "signed"},
            "oops": 1,
        }
    )
    keys = [line.split(": ")[1].split(" = ")[0] for line in found]
    assert sorted(keys) == [
        "gateway.listen[0]",
        "oops",
        "pool.a.servers[0]",
        "pool.b.workers",
        "route[0].path",
        "route[0].pool",
        "route[1]",
        "sessions.secret_key",
        "timeouts.drain",
    ]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_pool(sessions={"secret_key": ["hunter2"]}), id="secret-of-a-wrong-type"),
        pytest.param(with_pool(sessions={"secret_keys": "hunter2"}), id="misspelt"),
        pytest.param(with_pool(sessions={"previous_keys": "hunter2"}), id="no-list"),
        pytest.param(with_pool(tls={"passwort": "hunter2"}), id="misspelt-password"),
        pytest.param(with_pool(tls={"password": "hunter2"}), id="table-that-lacks-something"),
        pytest.param(with_pool(tls={"certificate": [{"password": "hunter2"}]}), id="nested"),
        pytest.param(with_pool(tls={"certificate": {"password": "hunter2"}}), id="table-for-a-list"),
        pytest.param(with_pool(sessions="hunter2", log=[{"secret_key": "hunter2"}]), id="table-is-a-list"),
        pytest.param({"secret_key": "hunter2"}, id="at-the-top"),
        pytest.param({"pool": {"a": {"serve": ["x"], "env": {"PW": ["hunter2"]}}}}, id="environment-of-workers"),
    ],
)
def test_no_message_shows_a_secret(data: dict[str, Any]) -> None:
    """Messages go to logs and to tickets."""
    found = [line for line in lines(data) if not line.startswith("gw.toml: sessions = ")]
    assert found
    assert "hunter2" not in "\n".join(found)


def test_a_configuration_does_not_print_its_secrets() -> None:
    """`repr` ends up in logs too."""
    config = parse(with_pool(sessions={"mode": "signed", "secret_key": "hunter2"}), BASE, {})
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"[gateway\n", "line 1, column 9: expected TOML: ", id="syntax"),
        pytest.param(b'a = 1\nsecret_key = "hunter2\n', "line 2, column 22: expected TOML: ", id="line"),
        pytest.param(b'a = "', "end of file: expected TOML: ", id="end"),
        pytest.param(b"a = 1\na = 2\n", "expected TOML: Cannot overwrite", id="twice"),
        pytest.param(b"a = 1\nb = '\xff'\n", "line 2: expected UTF-8", id="encoding"),
        pytest.param(b"a = " + b"[" * 5000, "file: expected fewer brackets", id="deep"),
        pytest.param(b"a = " + b"[" * 300 + b"]" * 300, "a: expected a table of the file", id="rather-deep"),
    ],
)
def test_what_is_no_toml(content: bytes, expected: str, tmp_path: Path) -> None:
    """The place is named, the line is not shown: it may hold a secret."""
    file = tmp_path / "gw.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigErrors) as caught:
        load(file, {})
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("name", "expected"), [("none.toml", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(name: str, expected: str, tmp_path: Path) -> None:
    """A mistake like any other."""
    with pytest.raises(ConfigErrors, match=expected):
        load(tmp_path / name, {})


def test_a_file_is_read_in_its_folder(tmp_path: Path) -> None:
    """The path need not be absolute."""
    config = read('[pool.a]\nserve = ["app.py"]\n', tmp_path)
    assert config.pool["a"].cwd == tmp_path
