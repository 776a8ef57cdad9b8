"""[auth]: who may come in.  Each method is a table of its own; a route names those that open it."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, ValidationInfo

from bokeh_gateway.config.fields import (
    CountOrNone,
    Duration,
    DurationOrZero,
    FilePath,
    FilePathOrNone,
    Flag,
    Redirect,
    RoutePath,
    SecretOrNone,
    is_http_url,
)
from bokeh_gateway.config.table import Table

METHODS: Final = ("module", "jwt", "oidc", "basic", "forward")
"""In the order in which a request's credentials are looked at, and in which a login is offered."""
HMAC: Final = ("HS256", "HS384", "HS512")

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]+")
_RESERVED: Final = frozenset(
    {
        "accept-encoding",
        "bokeh-session-id",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "origin",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-real-ip",
        "x-scheme",
    }
)
"""Headers that frame a request or that the gateway writes for another purpose."""


def _list(value: object) -> object:
    """One string stands for a list of one."""
    return (value,) if isinstance(value, str) else value


def _words(value: tuple[str, ...]) -> tuple[str, ...]:
    if any(not item or not item.isprintable() for item in value):
        raise ValueError("strings that are not empty")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("a string that is not empty")
    return value


def _optional(check: Any, value: object) -> Any:
    return None if value is None else check(value)


def _name(value: object) -> str:
    """A cookie's or an argument's name: RFC 9110's token."""
    text = _word(value)
    if not _TOKEN.fullmatch(text):
        raise ValueError("a name of letters, digits and -_.")
    return text


def _header(value: object) -> str:
    text = _word(value)
    if not _HEADER.fullmatch(text):
        raise ValueError("a header name of letters, digits and -")
    if text.lower() in _RESERVED or text.lower().startswith("sec-"):
        raise ValueError("another header: this one has a meaning of its own")
    return text


def _headers(value: dict[str, str]) -> dict[str, str]:
    return {_header(name): _word(claim) for name, claim in value.items()}


def _url(value: object) -> str:
    text = _word(value)
    if not is_http_url(text) or "#" in text:
        raise ValueError("an http:// or https:// URL without user and fragment")
    return text


def _users(value: object, info: ValidationInfo) -> dict[str, SecretStr]:
    if not isinstance(value, dict):
        raise ValueError("a table of names and hashes")
    users: dict[str, SecretStr] = {}
    for name, text in value.items():
        hashed = text.get_secret_value() if isinstance(text, SecretStr) else text
        if not _word(name) or ":" in name:
            raise ValueError("user names without a colon")
        if not isinstance(hashed, str) or not hashed.startswith(("$scrypt$", "$argon2")):
            raise ValueError("a hash made by `bokeh-gateway hash-password` for each name")
        users[name] = SecretStr(hashed)
    return users


def _auth_names(value: object) -> tuple[str, ...] | None:
    """Names of methods; "none" is no sign-in, None whatever is configured."""
    if value is None or isinstance(value, tuple):
        return value
    names = [value] if isinstance(value, str) else value
    if names == ["none"]:
        return ()
    if not isinstance(names, list) or not names or any(name not in METHODS for name in names):
        raise ValueError(f'"none", or one or more of {", ".join(METHODS)}')
    return tuple(dict.fromkeys(names))


Words = Annotated[tuple[str, ...], BeforeValidator(_list), AfterValidator(_words)]
Word = Annotated[str, PlainValidator(_word)]
Name = Annotated[str, PlainValidator(_name)]
NameOrNone = Annotated[str | None, PlainValidator(partial(_optional, _name))]
HeaderName = Annotated[str, PlainValidator(_header)]
HeaderNameOrNone = Annotated[str | None, PlainValidator(partial(_optional, _header))]
HeaderNames = Annotated[tuple[HeaderName, ...], BeforeValidator(_list)]
ClaimHeaders = Annotated[dict[str, str], AfterValidator(_headers)]
Url = Annotated[str, PlainValidator(_url)]
UrlOrNone = Annotated[str | None, PlainValidator(partial(_optional, _url))]
Users = Annotated[dict[str, SecretStr], PlainValidator(_users)]
AuthNames = Annotated[tuple[str, ...] | None, PlainValidator(_auth_names)]
Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]
Algorithms = Annotated[tuple[Algorithm, ...], BeforeValidator(_list), Field(min_length=1)]
FilePaths = Annotated[tuple[FilePath, ...], BeforeValidator(_list)]


class Jwt(Table):
    """[auth.jwt]: tokens that somebody else signed."""

    algorithms: Algorithms = ("RS256", "ES256", "EdDSA")
    """The only ones that are accepted; what a token says of itself is compared with these, and decides nothing."""
    secret: SecretOrNone = None
    """For HS256, HS384 and HS512: 32 bytes or more, as RFC 7518 wants.  Whoever can verify can also sign."""
    keyfiles: FilePaths = ()
    """PEM files with public keys or certificates."""
    jwks_url: UrlOrNone = None
    """Where the signer publishes its keys; fetched in the background, and again when a token names an unknown one."""
    jwks_refresh: Duration = 3600.0
    """Age of fetched keys at which they are fetched again, so that a revoked one does not live on."""
    issuer: Words = ()
    """Accepted `iss`; none: any, as the key says who signed."""
    audience: Words = ()
    """Accepted `aud`; none: only tokens without one, for a token made for another service must not open this one."""
    leeway: DurationOrZero = 30.0
    """How far the signer's clock may be off."""
    require: Words = ()
    """Claims that must be there, besides `exp`: a token that never ends is never accepted."""
    header: Flag = True
    """Look at `Authorization: Bearer`."""
    cookie: NameOrNone = None
    """Look at this cookie."""
    argument: NameOrNone = None
    """Look at this query argument.  With `cookie` set, a page moves it there and out of the address bar."""
    user_claim: Word = "sub"
    """Names the user."""
    groups_claim: Word = "groups"
    """A list of groups, or one string."""
    scope_claim: Word = "scope"
    """Scopes, separated by spaces, or a list."""
    headers: ClaimHeaders = {}
    """Header for the worker = claim; clients' own headers of these names are removed."""


class Oidc(Table):
    """[auth.oidc]: a login at an OpenID provider."""

    issuer: Url
    """The provider, as its tokens name it; `/.well-known/openid-configuration` below it tells the rest."""
    client_id: Word
    """As it is registered at the provider."""
    client_secret: SecretOrNone = None
    """None: a public client, whom PKCE alone proves."""
    scopes: Words = ("openid", "profile", "email")
    """What is asked for; offline_access gives a refresh token at most providers."""
    path: RoutePath = "/oauth2"
    """`login`, `callback` and `logout` are below it; the provider must know `<origin><path>/callback`."""
    algorithms: Algorithms = ("RS256", "ES256", "PS256", "EdDSA")
    """Of id tokens."""
    user_claim: Word = "sub"
    """Names the user; `sub` is the only one that a provider must never give to somebody else."""
    groups_claim: Word = "groups"
    """A list of groups in the id token."""
    headers: ClaimHeaders = {}
    """Header for the worker = claim of the id token."""
    session: Duration = 8 * 3600.0
    """After which the user signs in again; open WebSockets end then too."""
    refresh: Duration = 300.0
    """Age at which the provider is asked again, where it gave a refresh token: so a blocked user is out after this."""
    leeway: DurationOrZero = 30.0
    """How far the provider's clock may be off."""
    timeout: Duration = 10.0
    """For each answer of the provider."""
    cookie: Name = "bokeh-gateway"
    """Name of the session's cookie; under https `__Host-` is put before it."""
    after_logout: Redirect = "/"
    """Where a logout ends: a path, or a URL that the provider knows."""


class Basic(Table):
    """[auth.basic]: names and passwords, by the browser's own dialog."""

    users: Users = {}
    """Name = hash, as `bokeh-gateway hash-password` prints it."""
    file: FilePathOrNone = None
    """Further users, `name:hash` a line; read again when it changes."""
    groups: dict[str, Words] = {}
    """Group = names."""
    realm: Word = "Bokeh"
    """What the browser's dialog shows."""
    cache: Duration = 300.0
    """How long a verified password is not hashed again; a hash costs some 50 ms."""
    failures_per_minute: CountOrNone = 10
    """Wrong passwords of one client address, and for one user, in all gateway processes; then 429 until the minute is
    over.  Browsers whose password was right before are not kept out by guesses of others."""


class Forward(Table):
    """[auth.forward]: another service decides, as with nginx's auth_request."""

    url: Url
    """Asked with the request's headers and without its body: 2xx lets it in, 401 and 403 are passed back."""
    timeout: Duration = 5.0
    """For the answer; without one the request is a 503, never let in."""
    user: HeaderNameOrNone = "X-Forwarded-User"
    """Header of the answer that names the user."""
    groups: HeaderNameOrNone = "X-Forwarded-Groups"
    """Header of the answer that lists groups, separated by commas."""
    headers: HeaderNames = ()
    """Further headers of the answer that the worker gets; clients' own of these names are removed."""
    login_url: Redirect = None
    """Where a page is sent on 401, with `next`; None: the 401 is passed back."""


class Auth(Table):
    """[auth]: sign-in.  Without a method in it everybody may come."""

    module: FilePathOrNone = None
    """The file that `bokeh serve --auth-module` takes, unchanged."""
    cookie_secret: SecretOrNone = None
    """Signs and encrypts cookies.  Also BOKEH_COOKIE_SECRET."""
    xsrf: Flag = False
    """Tornado's XSRF cookies for the module's handlers, as `bokeh serve --enable-xsrf-cookies`."""
    forward_credentials: Flag = False
    """Hand the header, cookie or argument that let a request in to the worker.  Off: a page carries the headers and
    cookies of its request in its session token, for everybody to read who gets the page."""
    jwt: Jwt | None = None
    oidc: Oidc | None = None
    basic: Basic | None = None
    forward: Forward | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of what is configured."""
        return tuple(name for name in METHODS if getattr(self, name) is not None)
