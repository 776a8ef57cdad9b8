"""Seals, and cookies that do not fit one cookie."""

from __future__ import annotations

import pytest

from bokeh_gateway.endpoint.auth_cookie import MAX_PIECE, Seal, cookie_name, read_pieces, set_cookie, set_pieces

SECRET = "a cookie secret of more than 32 bytes"


def test_a_seal_opens_what_it_closed() -> None:
    seal = Seal(SECRET, "session")
    sealed = seal.close({"user": "ada"})
    assert b"ada" not in sealed
    assert seal.open(sealed) == {"user": "ada"}
    assert seal.close({"user": "ada"}) != sealed, "two of the same look different"


@pytest.mark.parametrize(("secret", "purpose"), [("another" + SECRET, "session"), (SECRET, "login")])
def test_another_secret_or_purpose_opens_nothing(secret: str, purpose: str) -> None:
    assert Seal(secret, purpose).open(Seal(SECRET, "session").close({"user": "ada"})) is None


def test_no_changed_byte_is_let_pass() -> None:
    seal = Seal(SECRET, "session")
    sealed = seal.close({"u": "a"})
    for at in range(len(sealed)):
        other = b"A" if sealed[at : at + 1] != b"A" else b"B"
        changed = sealed[:at] + other + sealed[at + 1 :]
        # The last character may hold bits that stand for nothing.
        assert seal.open(changed) in (None, {"u": "a"} if at == len(sealed) - 1 else None)


@pytest.mark.parametrize("sealed", [b"", b"x", b"****", b"A" * 15, b"A" * 100_000, "é".encode()])
def test_what_is_no_seal_opens_to_nothing(sealed: bytes) -> None:
    assert Seal(SECRET, "session").open(sealed) is None


def test_flags() -> None:
    assert set_cookie(b"a", b"1", secure=False) == b"Set-Cookie: a=1; Path=/; HttpOnly; SameSite=Lax\r\n"
    assert set_cookie(b"a", b"", secure=True, max_age=0).endswith(b"; Max-Age=0; HttpOnly; SameSite=Lax; Secure\r\n")
    assert (cookie_name("a", secure=True), cookie_name("a", secure=False)) == (b"__Host-a", b"a")


def test_pieces() -> None:
    value = b"v" * (2 * MAX_PIECE + 5)
    lines = set_pieces(b"a", value, secure=False, max_age=9, before=4).splitlines()
    names = [line.partition(b": ")[2].partition(b"=")[0] for line in lines]
    assert names == [b"a", b"a.1", b"a.2", b"a.3"]
    assert b"Max-Age=0" in lines[3]
    cookies = {
        name: line.partition(b"=")[2].partition(b";")[0] for name, line in zip(names[:3], lines[:3], strict=True)
    }
    assert read_pieces(cookies, b"a") == (value, 3)
    with pytest.raises(ValueError, match="do not fit"):
        set_pieces(b"a", b"v" * (5 * MAX_PIECE), secure=False, max_age=9)
