"""Rules that join several keys of [auth], and routes with it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from bokeh_gateway.config.auth import HMAC, Auth, Basic, Jwt, Oidc
from bokeh_gateway.config.mistake import KeyMistake, Path, key_text, mistake
from bokeh_gateway.config.schema import Route, Sessions
from bokeh_gateway.errors import ConfigError

SECRET_BYTES: Final = 32
"""RFC 7518 section 3.2: a key as long as the hash that it is used with; also what an encryption key is made from."""
HAVE_SCOPES: Final = frozenset({"jwt", "oidc"})


def auth_mistakes(auth: Auth) -> Iterator[ConfigError]:
    """What the tables of [auth] need of each other."""
    if auth.jwt:
        yield from _jwt(auth.jwt)
    if auth.oidc:
        yield from _oidc(auth.oidc, auth)
    if auth.basic:
        yield from _basic(auth.basic)
    if auth.xsrf and not auth.cookie_secret and auth.module:
        yield KeyMistake("auth.cookie_secret", "a secret, here or in BOKEH_COOKIE_SECRET, as xsrf is true")


def embeds(table: Mapping[str, Any]) -> bool:
    """Whether [embed] as it was written has an effect."""
    return bool(table.get("origins"))


def ticket_mistakes(auth: Auth, sessions: Sessions) -> Iterator[ConfigError]:
    """Several processes must read each other's tickets, which carry a sign-in from autoload.js to the WebSocket."""
    if auth.jwt and not (auth.cookie_secret or sessions.secret_key or auth.jwt.secret):
        yield KeyMistake(
            "auth.cookie_secret",
            "a secret, here or in BOKEH_COOKIE_SECRET: apps embedded with a token keep their sign-in by it, "
            "in all [gateway] processes",
        )


def route_mistakes(path: Path, route: Route, auth: Auth) -> Iterator[ConfigError]:
    """A route names what is configured, and limits only who is known."""
    have = auth.methods
    for name in route.auth or ():
        if name not in have:
            yield mistake((*path, "auth"), name, f"a method of [auth] ({', '.join(have) or 'there is none'})")
    methods = have if route.auth is None else route.auth
    for key in ("users", "groups", "scopes"):
        if getattr(route, key) and not methods:
            yield KeyMistake(key_text((*path, key)), "a sign-in to go with it: [auth] and the route's auth")
    if route.scopes and methods and not HAVE_SCOPES & set(methods):
        yield KeyMistake(key_text((*path, "scopes")), "jwt or oidc among the route's methods: no other has scopes")


def _jwt(jwt: Jwt) -> Iterator[ConfigError]:
    hmac = [name for name in jwt.algorithms if name in HMAC]
    other = [name for name in jwt.algorithms if name not in HMAC]
    if not (jwt.secret or jwt.keyfiles or jwt.jwks_url):
        yield KeyMistake("auth.jwt", "keyfiles, jwks_url or secret: something to verify signatures with")
        return
    if hmac and not jwt.secret:
        yield KeyMistake("auth.jwt.secret", f"the secret of {hmac[0]}, or algorithms without it")
    if jwt.secret and not hmac:
        yield KeyMistake("auth.jwt.algorithms", "HS256, HS384 or HS512 among them, or no secret")
    if other and not (jwt.keyfiles or jwt.jwks_url):
        yield KeyMistake("auth.jwt.algorithms", f"only HS256, HS384 or HS512, or keyfiles or jwks_url for {other[0]}")
    if (jwt.keyfiles or jwt.jwks_url) and not other:
        yield KeyMistake("auth.jwt.algorithms", "RS256, ES256 or another with public keys, or no keyfiles and jwks_url")
    if jwt.secret and len(jwt.secret.get_secret_value().encode()) < SECRET_BYTES:
        yield KeyMistake("auth.jwt.secret", f"{SECRET_BYTES} bytes or more: a shorter one can be guessed from a token")
    if not (jwt.header or jwt.cookie or jwt.argument):
        yield KeyMistake("auth.jwt", "header, cookie or argument: a place where tokens are looked for")


def _oidc(oidc: Oidc, auth: Auth) -> Iterator[ConfigError]:
    secret = auth.cookie_secret
    if secret is None or len(secret.get_secret_value().encode()) < SECRET_BYTES:
        yield KeyMistake(
            "auth.cookie_secret",
            f"{SECRET_BYTES} bytes or more, here or in BOKEH_COOKIE_SECRET: sessions are encrypted with it",
        )
    if any(name in HMAC for name in oidc.algorithms):
        yield KeyMistake("auth.oidc.algorithms", "algorithms with public keys; a client's secret is no signing key")
    if oidc.path == "/":
        yield KeyMistake("auth.oidc.path", 'a path of its own, such as "/oauth2"')
    if "openid" not in oidc.scopes:
        yield mistake(("auth", "oidc", "scopes"), list(oidc.scopes), '"openid" among them')


def _basic(basic: Basic) -> Iterator[ConfigError]:
    if not basic.users and basic.file is None:
        yield KeyMistake("auth.basic", "users or file; `bokeh-gateway hash-password` makes a line")
