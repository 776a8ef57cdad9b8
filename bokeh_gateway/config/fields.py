"""The kinds of values that a file may hold: text with its unit in, number out; paths made absolute.

A file's validation carries a `Context`.  Without one (a model built in Python) numbers are taken as bytes and seconds
and paths stay as they are.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, Strict, ValidationInfo

from bokeh_gateway.config.address import Address, parse_listen, valid_host
from bokeh_gateway.config.origin_pattern import parse_origin_pattern
from bokeh_gateway.config.server_name import ServerName, parse_place, parse_resolver
from bokeh_gateway.units import parse_duration, parse_size

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
UNIX_PEERS: Final = "unix:"
"""Among `trusted_proxies`: whoever comes by a unix socket."""


@dataclass(frozen=True, slots=True)
class Context:
    """What validating a file needs to know beside the file."""

    base: Path
    """The folder that relative paths are relative to."""


class Expanded(str):
    """A string that held a `${NAME}`: the only kind of string that may stand for a number or a truth value."""

    __slots__ = ()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a string")
    return value


def _measure(parse: Any, unit: str, none: bool, zero: bool, value: object, info: ValidationInfo) -> Any:
    """A size or duration: text from a file, a number or None from Python."""
    if info.context is None and not isinstance(value, (str, bool)) and (none or value is not None):
        return value
    if none and value == "none":
        return None
    try:
        number = parse(value if isinstance(value, str) else "")
    except ValueError as exc:
        raise ValueError(f'{exc}, or "none"' if none else str(exc)) from None
    if not number and not zero:
        raise ValueError(f"{unit} above 0" + (', or "none"' if none else ""))
    return number


def _integer(none: bool, value: object, info: ValidationInfo) -> object:
    """A whole number; `none` where that means no limit."""
    if none and (value == "none" or (value is None and info.context is None)):
        return None
    if isinstance(value, Expanded) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError('a whole number, or "none"' if none else "a whole number")
    if none and value < 1:
        raise ValueError('1 or more, or "none"')
    return value


def _boolean(value: object) -> bool:
    if isinstance(value, Expanded) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _hsts(value: object, info: ValidationInfo) -> float | None:
    """Seconds, or None for `false`."""
    if value is False or (isinstance(value, Expanded) and value.lower() == "false"):
        return None
    if value is None and info.context is None:
        return None
    try:
        seconds: float = _measure(parse_duration, "a duration", False, False, value, info)
    except ValueError as exc:
        raise ValueError(f"{exc}, or false") from None
    return seconds


def _absolute(path: str, info: ValidationInfo) -> str:
    """Absolute against the file's folder.  Links are kept: the `python` of a virtual environment is one."""
    if not isinstance(info.context, Context):
        return path
    return os.path.normpath(info.context.base / Path(path).expanduser())


OWN_HEADERS: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "date",
        "keep-alive",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "server",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of answers that say how their bytes are to be read, or that are the gateway's own."""
_COOKIE_PATTERN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


def _path(value: object, info: ValidationInfo) -> Path | None:
    if value is None and info.context is None:
        return None
    if isinstance(value, Path):
        return Path(_absolute(str(value), info))
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path")
    return Path(_absolute(value, info))


def _program(value: object, info: ValidationInfo) -> str | None:
    """A bare name is looked up on PATH when it is run; anything with a slash is a path."""
    if value is None and info.context is None:
        return None
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError("the name or the path of a program")
    return _absolute(text, info) if "/" in text else text


def _command(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    if not value:
        raise ValueError('a program and its arguments, such as ["bokeh", "serve"]')
    return (_program(value[0], info) or "", *value[1:])


def _address(parse: Any, value: object, info: ValidationInfo) -> Address | ServerName:
    if isinstance(value, (Address, ServerName)):
        return value
    place: Address | ServerName = parse(_text(value))
    if isinstance(place, Address) and place.unix:
        return Address(unix=_absolute(place.unix, info))
    return place


def _network(value: object) -> Network | str:
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return value
    text = _text(value)
    if text == UNIX_PEERS:
        return text
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError('an IP address or network, such as "10.0.0.0/8" or "::1", or "unix:"') from None
    raise ValueError(f'a network without host bits: "{meant}", or the one address "{text.split("/")[0]}"')


def _public_url(value: object, info: ValidationInfo) -> str | None:
    """An absolute URL without a trailing slash."""
    if value is None and info.context is None:
        return None
    text = _text(value)
    if not is_http_url(text) or "?" in text or "#" in text:
        raise ValueError('an http:// or https:// URL without user, query or fragment: "https://dash.example.com"')
    return text.rstrip("/")


def is_http_url(text: str) -> bool:
    """Whether `text` is an absolute http(s) URL with a valid host and no user."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return False
    plain = "@" not in parts.netloc and (valid_host(host) or ":" in host)
    return parts.scheme in ("http", "https") and plain


def _redirect(value: object) -> str | None:
    if value is None:
        return None
    text = _text(value)
    local = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isascii() and text.isprintable()
    if not is_http_url(text) and not (local and " " not in text):
        raise ValueError("an absolute http:// or https:// URL, or a path that begins with one /")
    return text


def _url_path(root: str, value: object) -> str:
    """A URL path as written, without its trailing slash; the root is `root`."""
    text = _text(value)
    if text in ("", "/") and text in (root, "/"):
        return root
    segments = text.removesuffix("/").split("/")
    if not text.startswith("/") or any(c in text for c in "?#\\%*") or not text.isascii() or not text.isprintable():
        raise ValueError('a path that begins with / and has no query, escape or wildcard, such as "/myapp"')
    if " " in text or any(segment in ("", ".", "..") for segment in segments[1:]):
        raise ValueError("a path without spaces, empty segments, . or ..")
    return text.removesuffix("/")


def _probe_path(value: object) -> str | None:
    return None if value is None else _url_path("/", value)


def _route_host(value: object) -> str | None:
    """Lower case; `*.` may stand before it."""
    if value is None:
        return None
    text = _text(value).lower()
    plain = text.removeprefix("*.")
    if text.startswith("[") and text.endswith("]"):
        try:
            return f"[{ipaddress.IPv6Address(text[1:-1])}]"
        except ValueError:
            pass
    if not valid_host(plain) or (text != plain and plain.replace(".", "").isdigit()):
        raise ValueError('a host name without port, such as "dash.example.com" or "*.example.com"')
    return text


def _origin(value: object) -> str:
    text = _text(value)
    parse_origin_pattern(text)
    return text


def _embed_origin(value: object) -> str:
    """An origin pattern that a Content-Security-Policy can say too: `*` only as the first label, and no `null`."""
    pattern = parse_origin_pattern(text := _text(value))
    if pattern.null or "*" in pattern.labels[1:]:
        raise ValueError('an origin pattern with * as its first label or none, such as "https://*.acme.com"')
    return text


def _header_name(value: object) -> str:
    text = _text(value)
    if not _TOKEN.match(text):
        raise ValueError('the name of a header, such as "X-Robots-Tag"')
    if text.lower() in OWN_HEADERS:
        raise ValueError(f"another header than {text}, which the gateway itself has to set")
    return text


def _cookie_pattern(value: object) -> str:
    text = _text(value)
    if not _COOKIE_PATTERN.fullmatch(text):
        raise ValueError('the name of a cookie, with * for any characters: "_ga*"')
    return text


def _header_value(value: object) -> str:
    text = _text(value)
    if text.strip() != text or not all((" " <= c <= "\xff" and c != "\x7f") or c == "\t" for c in text):
        raise ValueError("a header value of one line, without space at its ends")
    return text


def _secret(value: object, info: ValidationInfo) -> object:
    if isinstance(value, SecretStr) or (value is None and info.context is None):
        return value
    if not _text(value):
        raise ValueError("a string that is not empty")
    return SecretStr(str(value))


def _access(value: object, info: ValidationInfo) -> str:
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError('"-" for standard output, "off", or a path')
    return text if text in ("-", "off") else _absolute(text, info)


def _processes(value: object, info: ValidationInfo) -> object:
    if value == "auto":
        return "auto"
    try:
        number = _integer(False, value, info)
    except ValueError:
        number = 0
    if not isinstance(number, int) or not 1 <= number <= 256:
        raise ValueError('a whole number from 1 to 256, or "auto"')
    return number


command_line: Final = AfterValidator(_command)

Size = Annotated[int, PlainValidator(partial(_measure, parse_size, "a size", False, False))]
SizeOrNone = Annotated[int | None, PlainValidator(partial(_measure, parse_size, "a size", True, False))]
Duration = Annotated[float, PlainValidator(partial(_measure, parse_duration, "a duration", False, False))]
DurationOrZero = Annotated[float, PlainValidator(partial(_measure, parse_duration, "a duration", False, True))]
DurationOrNone = Annotated[float | None, PlainValidator(partial(_measure, parse_duration, "a duration", True, False))]
DurationOrFalse = Annotated[float | None, PlainValidator(_hsts)]
Count = Annotated[int, Strict(), BeforeValidator(partial(_integer, False)), Field(ge=1)]
CountOrNone = Annotated[int | None, PlainValidator(partial(_integer, True))]
Flag = Annotated[bool, PlainValidator(_boolean)]
FilePath = Annotated[Path, PlainValidator(_path)]
FilePathOrNone = Annotated[Path | None, PlainValidator(_path)]
Program = Annotated[str | None, PlainValidator(_program)]
ListenAddress = Annotated[Address, PlainValidator(partial(_address, parse_listen))]
WorkerPlace = Annotated[Address | ServerName, PlainValidator(partial(_address, parse_place))]
NameServer = Annotated[Address, PlainValidator(partial(_address, parse_resolver))]
TrustedNetwork = Annotated[Network | str, PlainValidator(_network)]
PublicUrl = Annotated[str | None, PlainValidator(_public_url)]
Redirect = Annotated[str | None, PlainValidator(_redirect)]
RoutePath = Annotated[str, PlainValidator(partial(_url_path, "/"))]
Prefix = Annotated[str, PlainValidator(partial(_url_path, ""))]
ProbePath = Annotated[str | None, PlainValidator(_probe_path)]
RouteHost = Annotated[str | None, PlainValidator(_route_host)]
OriginText = Annotated[str, PlainValidator(_origin)]
EmbedOrigin = Annotated[str, PlainValidator(_embed_origin)]
HeaderName = Annotated[str, PlainValidator(_header_name)]
CookiePattern = Annotated[str, PlainValidator(_cookie_pattern)]
HeaderValue = Annotated[str, PlainValidator(_header_value)]
Secret = Annotated[SecretStr, PlainValidator(_secret)]
SecretOrNone = Annotated[SecretStr | None, PlainValidator(_secret)]
AccessLog = Annotated[str, PlainValidator(_access)]
Processes = Annotated[int | Literal["auto"], PlainValidator(_processes)]
