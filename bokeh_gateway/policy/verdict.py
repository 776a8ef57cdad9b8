"""What a policy answers: allow, or deny with everything that the client, the log and the operator need.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Deny:
    """A refusal.  Shown to the client and written to the log; holds no token, session id or cookie."""

    status: int
    reason: str
    """Short fixed slug, such as "origin-not-listed": the label in log and metrics."""
    detail: str
    """One sentence: what was seen, and why that is not let in."""
    setting: str = ""
    """The TOML that would change the decision, such as `[origins] allow = ["acme.com"]`."""


ALLOW: Final = None

Verdict = Deny | None
