"""Whether a page whose token has expired may come back to its session.  Pure: `now` is passed in.

BokehJS opens its WebSocket again with the token that the page came with.  A worker refuses an expired one, so the
gateway makes a new one for the same session: same content, later expiry.  A worker asks a token for nothing but the
session's name once the session exists; but for a name that it does not know it runs the app and makes an empty session
(`create_session_if_needed` in bokeh/server/contexts.py), which the user would take for his own.  So a token is only
made again while the session is known to live on its worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from bokeh_gateway.bokeh import token as tokens
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.units import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """`[sessions] reconnect`.  Times in seconds."""

    window: float
    """After the page was made: until then its token is made again."""
    lifetime: float
    """Of a token.  Expiry minus lifetime is when the page was made."""
    leeway: float
    """Within this of its expiry a token is made again too: the worker's clock decides, and the way there takes time."""
    secrets: tuple[bytes, ...]
    """Of the modes that sign; the one that the token was signed with signs the new one.  A session's worker has been
    running since the page was made, so that is the worker's key, also while keys are being changed."""

    def near(self, expiry: int, now: float) -> bool:
        """Whether the token should be made again where it can be: it has expired, or may have at the worker."""
        return now >= expiry - min(self.leeway, self.lifetime)

    def too_late(self, expiry: int, now: float) -> Deny | None:
        """The refusal of a page that was made too long ago."""
        age = now - (expiry - self.lifetime)
        if age < self.window:
            return None
        return Deny(
            401,
            "reconnect-too-late",
            f"The page was made {format_duration(float(int(age)))} ago and its session token has expired: "
            "reload the page to get a new session.",
            f'[sessions] reconnect = "{format_duration(self.window)}"',
        )

    def renew(self, token: str, now: float) -> str:
        """The same token with a new expiry.  The caller has checked its signatures.

        Raises:
            TokenError: it cannot be read.
        """
        secret = next((key for key in self.secrets if tokens.verify_outer(token, (key,))), None)
        return tokens.renew(token, int(now + self.lifetime + min(self.leeway, self.lifetime)), secret)


def gone(pool: str, expired_ago: float, keeps: float) -> Deny:
    """The refusal of a page whose session is not known to live; `keeps` is how long a worker keeps an unused one."""
    return Deny(
        401,
        "session-gone",
        f"The session token expired {max(expired_ago, 0.0):.0f} s ago, and its session is no longer on a worker: "
        "reload the page to get a new session.",
        f'[pool.{pool}] unused_session_lifetime = "{format_duration(keeps)}"',
    )
