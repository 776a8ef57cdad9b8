"""Who signed out, known to all processes of the gateway: a cookie that was copied before opens nothing in any of them.

Only digests are kept, each until the session would have ended by itself.  Times are seconds of the epoch.
"""

from __future__ import annotations

from hashlib import blake2b

from bokeh_gateway.balance.session_table import SessionTable


class SignedOut:
    """As one process sees it.

    Args:
        table: in shared memory.
        count: one number in shared memory: how many have signed out so far.
    """

    def __init__(self, table: SessionTable, count: memoryview[int]) -> None:
        self._table = table
        self._count = count
        self._seen = count[0]

    def add(self, subject: str, now: float, ends: float) -> None:
        """He signed out, of a session that would last until `ends`."""
        key = _key(subject)
        with self._table.lock:
            self._table.put(key, 1, now, ends - now)
            self._count[0] += 1

    def holds(self, subject: str, now: float) -> bool:
        """Whether he signed out."""
        if not self._count[0]:
            return False
        with self._table.lock:
            return self._table.get(_key(subject), now) is not None

    def changed(self) -> bool:
        """Whether anybody signed out, in whichever process, since this was asked last."""
        count, self._seen = self._seen, self._count[0]
        return self._seen != count


def _key(subject: str) -> bytes:
    return blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16, person=b"signed out").digest()
