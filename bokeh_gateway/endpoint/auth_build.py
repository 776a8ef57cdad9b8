"""[auth] made into a gate: the methods with their keys, users and pages, and what each route wants."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tornado.httputil import HTTPServerConnectionDelegate

from bokeh_gateway.endpoint.auth_basic import BasicMethod
from bokeh_gateway.endpoint.auth_cookie import Seal, cookie_name
from bokeh_gateway.endpoint.auth_forward import ForwardMethod
from bokeh_gateway.endpoint.auth_gate import Gate, Method
from bokeh_gateway.endpoint.auth_jwt import JwtMethod
from bokeh_gateway.endpoint.auth_oidc import OidcMethod
from bokeh_gateway.endpoint.auth_oidc_pages import OidcPages
from bokeh_gateway.endpoint.auth_provider import Provider
from bokeh_gateway.endpoint.auth_refreshes import Refreshes
from bokeh_gateway.endpoint.auth_signed_out import SignedOut
from bokeh_gateway.endpoint.auth_ticket import HEADER as TICKET
from bokeh_gateway.endpoint.auth_ticket import Tickets
from bokeh_gateway.endpoint.auth_together import Claims, Newest
from bokeh_gateway.endpoint.auth_users import Users
from bokeh_gateway.endpoint.router import Mount
from bokeh_gateway.policy.expiries import Expiries
from bokeh_gateway.policy.identity import GROUPS, USER, Requirement
from bokeh_gateway.policy.limits import Counts
from bokeh_gateway.signer.fetch import Fetcher
from bokeh_gateway.signer.keys import read_pem, secret_key
from bokeh_gateway.signer.told import ToldKeys

if TYPE_CHECKING:
    from bokeh_gateway.config.auth import Auth, Jwt, Oidc
    from bokeh_gateway.config.schema import Config, Route
    from bokeh_gateway.wire.sweep import Sweep
    from bokeh_gateway.wire.tunnel import Tunnel

_OF_THIS_PROCESS = secrets.token_urlsafe(32)


def requirement(route: Route, config: Config) -> Requirement | None:
    """What a route wants; None: nothing."""
    methods = config.auth.methods if route.auth is None else route.auth
    if not methods or (route.auth is None and route.redirect is not None):
        return None
    pool = config.pool.get(route.pool or "")
    base = (route.path.rstrip("/") if route.strip_prefix else "") + (pool.prefix if pool is not None else "")
    return Requirement(methods, frozenset(route.users), frozenset(route.groups), frozenset(route.scopes), base)


@dataclass(frozen=True, slots=True)
class Together:
    """What sign-in has in common with the other processes."""

    signed_out: SignedOut
    newest: Newest
    claims: Claims
    wrong_passwords: Counts
    ask_keys: Callable[[str], None]
    """Asks the master for the keys of a signer's URL."""
    tell_session: Callable[[str, bytes | None], None]
    """Tells all processes, this one too, of a session that was refreshed; None: that it could not be."""


class Doors:
    """The gate with what belongs to it.

    Attributes:
        gate: what `Dispatch` asks.
        pages: logins and logouts, each with its mount.
    """

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        sweep: Sweep,
        together: Together,
        before: Doors | None = None,
    ) -> None:
        """`together`: what all processes have in common; `before`: those in whose place these stand, their WebSockets
        live on, and what they fetched is good.

        Raises:
            ConfigError: a key, a module or a list of users cannot be used.
        """
        auth = config.auth
        self._loop = loop
        self._sweep = sweep
        self._together = together
        self._closing: list[Any] = []
        self._published: ToldKeys | None = None
        self.pages: list[tuple[Mount, HTTPServerConnectionDelegate]] = []
        self.expiries: Expiries[Tunnel] = before.expiries if before is not None else Expiries()
        methods: dict[str, Method] = {}
        if auth.jwt is not None:
            methods["jwt"] = self._jwt(auth.jwt, _ticket_secret(config))
        if auth.basic is not None:
            methods["basic"] = self._kept(BasicMethod(auth.basic, Users(auth.basic), together.wrong_passwords))
        if auth.forward is not None:
            methods["forward"] = self._kept(ForwardMethod(auth.forward, loop, sweep))
        if auth.module is not None:
            methods["module"] = self._module(auth, config)
        oidc = self.oidc = None if auth.oidc is None else self._oidc(auth.oidc, auth)
        if oidc is not None:
            methods["oidc"] = oidc
        self.gate = Gate(
            methods,
            self.expiries,
            together.signed_out,
            together.newest,
            drop=frozenset(_own_headers(auth)),
            own_cookies=_own_cookies(auth),
            forward_credentials=auth.forward_credentials,
        )
        if oidc is not None:
            self._oidc_pages(oidc, config)
        if oidc is not None and before is not None and before.oidc is not None:
            oidc.inherit(before.oidc)

    def told_keys(self, url: str | None, document: object, pause: float) -> None:
        """The master told what a signer publishes at `url`, and that it is not worth asking for `pause` seconds."""
        if self._published is not None and self._published.url == url:
            self._published.told(document, pause)

    def close(self) -> None:
        """No longer in use: another gate stands in its place, or the gateway ends."""
        for part in self._closing:
            part.close()

    def _kept(self, part: Any) -> Any:
        self._closing.append(part)
        return part

    def _jwt(self, settings: Jwt, ticket_secret: str) -> JwtMethod:
        keys = [read_pem(path, f"auth.jwt.keyfiles[{at}]") for at, path in enumerate(settings.keyfiles)]
        if settings.secret is not None:
            keys.append(secret_key(settings.secret.get_secret_value()))
        source = None
        if settings.jwks_url is not None:
            source = self._published = ToldKeys(settings.jwks_url, self._together.ask_keys, self._loop.time)
        tickets = Tickets(Seal(ticket_secret, "embedded jwt"), "jwt", settings.leeway)
        return JwtMethod(settings, keys, source, tickets)

    def _oidc(self, settings: Oidc, auth: Auth) -> OidcMethod:
        assert auth.cookie_secret is not None
        fetcher = self._kept(Fetcher(settings.timeout))
        provider = self._kept(Provider(settings, fetcher, self._loop.time))
        together = self._together
        refreshes = Refreshes(together.claims, together.tell_session)
        return OidcMethod(provider, auth.cookie_secret.get_secret_value(), together.signed_out, refreshes)

    def _oidc_pages(self, method: OidcMethod, config: Config) -> None:
        assert config.auth.cookie_secret is not None
        secret = config.auth.cookie_secret.get_secret_value()
        pages = OidcPages(method, secret, config.gateway.public_url, self.gate.signed_out)
        self._mount("", [method.provider.settings.path], pages)

    def _module(self, auth: Auth, config: Config) -> Method:
        # Bokeh's server is imported only where it is wanted: it takes half a second.
        from bokeh_gateway.endpoint.auth_module import ModuleApplication, ModuleMethod, load_module

        assert auth.module is not None
        provider = load_module(auth.module)
        secret = auth.cookie_secret.get_secret_value() if auth.cookie_secret is not None else None
        wanted = [(route, need) for route in config.route if (need := requirement(route, config)) is not None]
        applications: dict[str, ModuleApplication] = {}
        for route, need in wanted:
            if "module" not in need.methods:
                continue
            if need.base not in applications:
                applications[need.base] = ModuleApplication(provider, need.base, secret, xsrf=auth.xsrf)
            self._mount(route.host or "", applications[need.base].paths, applications[need.base])
        return ModuleMethod(provider, applications)

    def _mount(self, host: str, paths: Iterable[str], application: HTTPServerConnectionDelegate) -> None:
        for path in paths:
            mount = Mount(host, path.encode(), label=f"{host}{path}")
            if all(mount.label != other.label for other, _ in self.pages):
                self.pages.append((mount, application))


def _ticket_secret(config: Config) -> str:
    """What seals the sign-in of embedded apps; where the file has no secret, it holds for this process alone."""
    jwt = config.auth.jwt
    for secret in (config.auth.cookie_secret, config.sessions.secret_key, jwt.secret if jwt is not None else None):
        if secret is not None:
            return secret.get_secret_value()
    return _OF_THIS_PROCESS


def _own_cookies(auth: Auth) -> tuple[bytes, ...]:
    if auth.oidc is None:
        return ()
    return (cookie_name(auth.oidc.cookie, secure=True), cookie_name(auth.oidc.cookie, secure=False))


def _own_headers(auth: Auth) -> list[bytes]:
    """Lower-case names of the headers that only the gateway may send a worker."""
    names = [USER, GROUPS, TICKET]
    for method in (auth.jwt, auth.oidc):
        names += list(method.headers) if method is not None else []
    if auth.forward is not None:
        names += auth.forward.headers
    return [name.lower().encode() for name in names]
