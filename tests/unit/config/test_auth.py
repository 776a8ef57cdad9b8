"""[auth] and what routes say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bokeh_gateway.config.load import parse
from bokeh_gateway.config.schema import Config
from bokeh_gateway.errors import ConfigErrors

SECRET = "s" * 40


def load(auth: dict[str, Any], route: dict[str, Any] | None = None, environ: dict[str, str] | None = None) -> Config:
    data = {"pool": {"a": {"servers": ["127.0.0.1:5006"]}}, "auth": auth, "route": [{"pool": "a", **(route or {})}]}
    return parse(data, Path("/srv"), environ or {})


@pytest.mark.parametrize(
    ("auth", "route", "said"),
    [
        pytest.param({}, {"auth": "jwt"}, "route[0].auth = 'jwt': expected a method of [auth]", id="not-configured"),
        pytest.param({}, {"auth": "ldap"}, 'expected "none", or one or more of', id="unknown-method"),
        pytest.param({}, {"groups": ["a"]}, "route[0].groups: expected a sign-in", id="groups-for-nobody"),
        pytest.param({"jwt": {}}, {}, "auth.jwt: expected keyfiles, jwks_url or secret", id="no-key"),
        pytest.param({"jwt": {"secret": SECRET}}, {}, "auth.jwt.algorithms: expected HS256", id="secret-without-hs"),
        pytest.param({"jwt": {"algorithms": ["HS256"], "keyfiles": ["k"]}}, {}, "auth.jwt.secret", id="hs-by-file"),
        pytest.param({"jwt": {"algorithms": ["none"], "secret": SECRET}}, {}, "auth.jwt.algorithms[0]", id="none"),
        pytest.param({"jwt": {"algorithms": [], "secret": SECRET}}, {}, "auth.jwt.algorithms", id="no-algorithm"),
        pytest.param(
            {"jwt": {"algorithms": ["HS256"], "secret": "short"}}, {}, "auth.jwt.secret: expected 32 bytes", id="short"
        ),
        pytest.param(
            {"jwt": {"keyfiles": ["k"], "headers": {"Host": "x"}}}, {}, "auth.jwt.headers", id="header-of-its-own"
        ),
        pytest.param({"jwt": {"keyfiles": ["k"], "cooky": "x"}}, {}, "did you mean cookie?", id="misspelt"),
        pytest.param(
            {"oidc": {"issuer": "https://x", "client_id": "a"}}, {}, "auth.cookie_secret: expected 32", id="no-secret"
        ),
        pytest.param({"oidc": {"issuer": "x", "client_id": "a"}}, {}, "auth.oidc.issuer", id="issuer"),
        pytest.param({"basic": {}}, {}, "auth.basic: expected users or file", id="nobody"),
        pytest.param({"basic": {"users": {"a": "plain"}}}, {}, "hash-password", id="plain-password"),
        pytest.param({"forward": {"url": "unix:/x"}}, {}, "auth.forward.url", id="url"),
        pytest.param(
            {"basic": {"file": "u"}}, {"scopes": ["x"]}, "route[0].scopes: expected jwt or oidc", id="scopes-of-nobody"
        ),
    ],
)
def test_mistakes(auth: dict[str, Any], route: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigErrors) as errors:
        load(auth, route)
    assert said in str(errors.value)
    assert "plain" not in str(errors.value)


def test_what_is_configured_is_what_routes_want() -> None:
    config = load({"basic": {"file": "u"}, "jwt": {"keyfiles": "k.pem"}})
    assert config.auth.methods == ("jwt", "basic")
    assert config.route[0].auth is None
    assert config.auth.jwt is not None
    assert config.auth.jwt.keyfiles == (Path("/srv/k.pem"),)
    assert load({"basic": {"file": "u"}}, {"auth": "none"}).route[0].auth == ()


def test_bokehs_own_variables() -> None:
    environ = {"BOKEH_COOKIE_SECRET": SECRET, "BOKEH_XSRF_COOKIES": "yes"}
    auth = load({"module": "auth.py"}, environ=environ).auth
    assert auth.cookie_secret is not None
    assert (auth.cookie_secret.get_secret_value(), auth.xsrf) == (SECRET, True)
    assert load({"module": "auth.py", "xsrf": False}, environ=environ).auth.xsrf is False


def test_no_secret_is_shown() -> None:
    config = load({"jwt": {"secret": SECRET, "algorithms": "HS256"}, "cookie_secret": SECRET})
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        pytest.param({}, True, id="no-secret"),
        pytest.param({"sessions": {"secret_key": SECRET}}, False, id="the-sessions-secret"),
        pytest.param({"gateway": {"processes": 1}}, False, id="one-process"),
        pytest.param({"embed": {}}, False, id="nobody-embeds"),
    ],
)
def test_processes_need_one_secret_for_embedded_sign_ins(more: dict[str, Any], wrong: bool) -> None:
    data = {
        "gateway": {"processes": 2},
        "pool": {"a": {"servers": ["127.0.0.1:5006"]}},
        "embed": {"origins": ["https://www.acme.test"]},
        "auth": {"jwt": {"keyfiles": ["k"]}},
        **more,
    }
    if not wrong:
        parse(data, Path("/srv"), {})
        return
    with pytest.raises(ConfigErrors, match=r"auth\.cookie_secret: expected a secret"):
        parse(data, Path("/srv"), {})
