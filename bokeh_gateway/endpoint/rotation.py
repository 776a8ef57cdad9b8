"""After a change of the secret key: what was signed with an earlier one is signed again, as workers know only the new.

A session that lives where it was made keeps its name: its worker has been running since, with the key of that time.
Everything else is the parent application's doing, which may get the new key after the workers did.  Signing again gives
the same id for the same id, so that `pull_session`, the page and its WebSocket meet in one session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from bokeh_gateway.bokeh import session_id as ids
from bokeh_gateway.bokeh import token as tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bokeh_gateway.bokeh.request import SessionRefs
    from bokeh_gateway.http.head import RequestHead

_HEADER: Final = b"bokeh-session-id"
_PROTOCOL: Final = b"sec-websocket-protocol"


class Rotation:
    """`[sessions] previous_keys`."""

    def __init__(self, secret: bytes) -> None:
        """`secret`: the present key."""
        self._secret = secret

    def is_old(self, session_id: str) -> bool:
        """Whether an id that was found good is signed with an earlier key."""
        return not ids.verify(session_id, (self._secret,))

    def of_token(self, head: RequestHead, token: str) -> tuple[str, str]:
        """The WebSocket goes on with its token signed again; that token and its session id."""
        token = tokens.sign_again(token, self._secret)
        head.plain = with_line(head.plain, _PROTOCOL, (b"Sec-WebSocket-Protocol: bokeh, ", token.encode()))
        return token, tokens.read_claims(token).session_id

    def of_page(self, head: RequestHead, refs: SessionRefs, session_id: str) -> str:
        """The request for a page goes on with its session id signed again, which is returned."""
        new = ids.sign_again(session_id, self._secret)
        if refs.header:
            head.plain = with_line(head.plain, _HEADER, (b"Bokeh-Session-Id: ", new.encode()))
        else:
            token = tokens.sign_again(refs.token_argument[0], self._secret) if refs.token_argument else ""
            path, _, query = head.target.partition(b"?")
            pieces = [self._argument(piece, new, token) for piece in query.split(b"&")]
            head.query = b"&".join(pieces)
            head.target = path + b"?" + head.query
        return new

    @staticmethod
    def _argument(piece: bytes, session_id: str, token: str) -> bytes:
        name = unquote_to_bytes(piece.partition(b"=")[0].replace(b"+", b" "))
        if name == b"bokeh-session-id":
            return b"bokeh-session-id=" + session_id.encode()
        return b"bokeh-token=" + token.encode() if name == b"bokeh-token" else piece


def with_line(plain: Sequence[bytes], name: bytes, line: tuple[bytes, bytes]) -> list[bytes]:
    """The lines of a request head with one in place of all those called `name` (lower case)."""
    lines: list[bytes] = []
    for at in range(0, len(plain), 4):
        if plain[at].lower() != name:
            lines += plain[at : at + 4]
    return [*lines, *line, b"\r\n", b""]
