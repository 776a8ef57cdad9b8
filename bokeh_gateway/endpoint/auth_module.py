"""[auth] module: the file that `bokeh serve --auth-module` takes, unchanged, asked on the gateway.

Its functions get what they get from Bokeh, a RequestHandler whose application has `auth_provider` and `prefix`; its
login and logout handlers run here, below each prefix at which its routes are mounted.
Sources: `bokeh.server.auth_provider`, `bokeh.server.views.auth_request_handler`, `tornado.web.authenticated`.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from bokeh.server.auth_provider import AuthModule
from bokeh.server.views.auth_request_handler import AuthRequestHandler
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.web import Application, Finish, HTTPError, RequestHandler

from bokeh_gateway.endpoint.auth_gate import Answer, Known
from bokeh_gateway.endpoint.public_host import public_host
from bokeh_gateway.errors import ConfigError
from bokeh_gateway.http.forwarded import may_pass
from bokeh_gateway.policy.identity import Identity, Requirement, valid_user
from bokeh_gateway.policy.login import is_cross_site
from bokeh_gateway.policy.return_to import is_local, safe_path
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.wire.exchange import LazyHeaders

if TYPE_CHECKING:
    from bokeh_gateway.http.head import Pairs
    from bokeh_gateway.wire.exchange import Exchange

log = logging.getLogger(__name__)

_USER_KEYS: Final = ("user", "username", "login", "preferred_username", "email", "name", "sub")
"""Where a user's name stands in what modules return, in the order of being looked for."""


def load_module(path: Path) -> AuthModule:
    """The module at `path`, found right by Bokeh itself.

    Raises:
        ConfigError: it cannot be run, or breaks Bokeh's rules.
    """
    try:
        provider = AuthModule(str(path))
    except Exception as exc:  # whatever the file does when it is run
        raise ConfigError(
            "auth.module", str(path), f"a module that Bokeh accepts: {type(exc).__name__}: {exc}"
        ) from exc
    if provider.get_user is None and provider.get_user_async is None:
        raise ConfigError("auth.module", str(path), "a module with get_user or get_user_async")
    return provider


class ModuleApplication(Application):
    """What the module takes for Bokeh's application, for one prefix."""

    def __init__(self, provider: AuthModule, prefix: str, cookie_secret: str | None, *, xsrf: bool) -> None:
        self.auth_provider = provider
        self.prefix = prefix
        handlers = [
            (_below(prefix, url), _rebased(handler, prefix))
            for url, handler in ((provider.login_url, provider.login_handler), *_logout(provider))
            if url and handler
        ]
        super().__init__(
            [*handlers],
            cookie_secret=cookie_secret,
            xsrf_cookies=xsrf,
            log_function=lambda handler: None,  # the access log has it
        )
        self.paths = [path for path, _ in handlers]

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """A request for a login or logout; one that another site made the browser send is refused."""
        exchange: Exchange = request_conn
        head = exchange.head
        hosts = (head.host, public_host(exchange))
        if head.method == b"POST" and is_cross_site(head.origins, head.get(b"sec-fetch-site"), hosts):
            exchange.reason = "login-cross-site"
            exchange.refusal = Deny(
                403,
                "login-cross-site",
                "a page of another site than the request's Host sent the login form",
                '[gateway] public_url = "https://..."',
            )
            return Answer(exchange, 403, b"")
        head.pairs = visible(exchange)
        return super().start_request(server_conn, exchange)


class ModuleMethod:
    """Asks the module who sent a request."""

    name = "module"
    challenge = b""

    def __init__(self, provider: AuthModule, applications: dict[str, ModuleApplication]) -> None:
        """`applications` by prefix, `Requirement.base`."""
        self._provider = provider
        self._applications = applications
        self._identities: dict[str, Identity] = {}

    def look(self, exchange: Exchange, wanted: Requirement, now: float) -> Known | Coroutine[None, None, Known]:
        handler = self._handler(exchange, wanted)
        if self._provider.get_user_async is not None:
            return self._prepare(exchange, handler)
        try:
            return self._known(exchange, handler, handler.current_user)
        except Finish as error:
            return self._finish(exchange, handler, error)
        except Exception as error:  # noqa: BLE001  the module is anybody's code; failing, it lets nobody in
            return _failed(error)
        finally:
            exchange.set_close_callback(None)

    def login(self, exchange: Exchange, wanted: Requirement, host: bytes) -> str | None:
        handler = self._handler(exchange, wanted)
        try:
            url = str(handler.get_login_url())
        except Exception:
            log.exception("[auth] module: get_login_url failed")
            return None
        finally:
            exchange.set_close_callback(None)
        if "?" in url:
            return url
        back = exchange.head.target.decode("latin-1")
        if urlsplit(url).scheme:
            back = f"{'https' if exchange.secure else 'http'}://{host.decode('latin-1')}{back}"
        return f"{url}?{urlencode({'next': back})}"

    def settle(self, exchange: Exchange, identity: Identity) -> HTTPMessageDelegate | None:
        return None

    def strip(self, exchange: Exchange) -> None:
        """Nothing: apps read the module's cookies, as they do behind Bokeh."""

    async def _prepare(self, exchange: Exchange, handler: AuthRequestHandler) -> Known:
        try:
            await handler.prepare()
            return self._known(exchange, handler, handler.current_user)
        except Finish as error:
            return self._finish(exchange, handler, error)
        except Exception as error:  # noqa: BLE001  as above
            return _failed(error)
        finally:
            exchange.set_close_callback(None)

    def _handler(self, exchange: Exchange, wanted: Requirement) -> AuthRequestHandler:
        request = HTTPServerRequest(
            headers=LazyHeaders(visible(exchange)), connection=exchange, start_line=exchange.start_line()
        )
        return _Asked(self._applications[wanted.base], request)

    @staticmethod
    def _answered(exchange: Exchange) -> Deny | None:
        """As a module may, by redirect() or finish(): then nobody else has anything to say to the request."""
        if not exchange.opened:
            return None
        return Deny(500, "auth-module-answered", "the module answered the request itself", "[auth] module = ...")

    def _finish(self, exchange: Exchange, handler: RequestHandler, error: Finish) -> Known:
        if not exchange.opened:
            handler.finish(*error.args)
        return self._answered(exchange)

    def _known(self, exchange: Exchange, handler: RequestHandler, value: object) -> Known:
        answered = self._answered(exchange)
        if answered is not None:
            return answered
        for morsel in getattr(handler, "_new_cookie", {}).values():
            exchange.more_lines += f"Set-Cookie: {morsel.OutputString(None)}\r\n".encode("latin-1", "replace")
        if not value:
            return None
        name = user_name(value)
        identity = self._identities.get(name)
        if identity is None:
            if len(self._identities) >= 1024:
                self._identities.clear()
            identity = self._identities[name] = Identity(name, self.name)
        return identity


def user_name(value: object) -> str:
    """The name in whatever a module's get_user returned; "" where none can be read."""
    if isinstance(value, (bytes, bytearray)):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and value[:1] in ('"', "{"):
        # As Bokeh's own example writes its cookie: by tornado.escape.json_encode.
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, dict):
        value = next((value[key] for key in _USER_KEYS if isinstance(value.get(key), str)), "")
    return valid_user(value) or ""


def visible(exchange: Exchange) -> Pairs:
    """The request's header lines without those that only a trusted proxy may send."""
    trusted = exchange.connection.trusted
    return [pair for pair in exchange.head.pairs if may_pass(pair[0].lower(), trusted=trusted)]


class _Asked(AuthRequestHandler):
    """Stands for Bokeh's page handler when the module asks about a request."""

    def __init__(self, application: Application, request: HTTPServerRequest) -> None:
        super().__init__(application, request)
        self._transforms: list[Any] = []  # as Tornado sets it before it calls a handler: without, it cannot answer

    def set_cookie(self, name: str, value: str | bytes, *args: Any, **kwargs: Any) -> None:
        super().set_cookie(name, value, *args, **_cookie_flags(self, kwargs))


def _rebased(handler: type[RequestHandler], prefix: str) -> type[RequestHandler]:
    """The module's handler, mounted below `prefix`: its redirects stay there, and `next` leads to this host only."""

    class Rebased(handler):  # type: ignore[misc, valid-type]
        def prepare(self) -> Any:
            request = self.request
            for arguments in (request.arguments, request.query_arguments, request.body_arguments):
                if "next" in arguments:
                    arguments["next"] = [
                        safe_path(value.decode("utf-8", "replace"), f"{prefix}/").encode()
                        for value in arguments["next"][-1:]
                    ]
            return super().prepare()

        def redirect(self, url: str, permanent: bool = False, status: int | None = None) -> None:
            super().redirect(_below_if_local(prefix, url), permanent, status)

        def set_cookie(self, name: str, value: str | bytes, *args: Any, **kwargs: Any) -> None:
            super().set_cookie(name, value, *args, **_cookie_flags(self, kwargs))

    Rebased.__name__ = Rebased.__qualname__ = handler.__name__
    Rebased.__module__ = handler.__module__
    return Rebased


def _below_if_local(prefix: str, url: str) -> str:
    """A path of the module's, which knows no prefix, is below it; what is already below stays."""
    if not prefix or not is_local(url) or url == prefix or url.startswith(f"{prefix}/"):
        return url
    return prefix + url


def _cookie_flags(handler: RequestHandler, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What the module does not say itself."""
    return {"httponly": True, "samesite": "Lax", "secure": handler.request.protocol == "https", **kwargs}


def _below(prefix: str, url: str) -> str:
    return urljoin(f"{prefix}/", urlsplit(url).path.lstrip("/"))


def _logout(provider: AuthModule) -> list[tuple[str | None, type[RequestHandler] | None]]:
    return [(provider.logout_url, provider.logout_handler)]


def _failed(error: Exception) -> Deny:
    if isinstance(error, HTTPError) and error.status_code in (401, 403):
        return Deny(error.status_code, "auth-module", "the module refused the request")
    log.error("[auth] module: get_user failed", exc_info=error)
    return Deny(500, "auth-module-failed", f"the module raised {type(error).__name__}", "[auth] module = ...")
