"""Open connections, in all and of each client, over all processes, as one of them counts.

A dict has what this process itself holds; the others learn of it through shared memory, of clients only while there is
a limit for them.
"""

from __future__ import annotations

from hashlib import blake2b

from bokeh_gateway.balance.board import Board
from bokeh_gateway.balance.client_table import KEY, ClientTable
from bokeh_gateway.balance.lock import Lock


class Tally:
    """Of process `row`.

    Args:
        table: open connections of clients.
        held: open connections by row.
        secret: what the table's keys are made with.
        board: knows how many rows are in use.
    """

    __slots__ = ("_board", "_held", "_own", "_row", "_secret", "_shares", "_table")

    def __init__(self, table: ClientTable, held: memoryview[int], row: int, secret: bytes, board: Board) -> None:
        self._board = board
        self._table = table
        self._held = held
        self._row = row
        self._secret = secret
        self._own: dict[str, int] = {}
        self._shares = False

    def enter(self, client: str, *, limited: bool) -> int:
        """A connection of `client` was opened; how many it has now, 0 where its own limit is not for it.

        `limited`: whether it is; only then the others are told.
        """
        self._held[self._row] += 1
        self._own[client] = count = self._own.get(client, 0) + 1
        if not limited:
            return 0
        if not self._shares:
            return count
        key = self._key(client)
        with self._table.lock:
            # Without a place it counts for this process alone.
            return self._table.total(key) if self._table.put(key, self._row, count) else count

    def leave(self, client: str) -> None:
        """One that had entered was closed."""
        self._held[self._row] -= 1
        left = self._own[client] - 1
        if left:
            self._own[client] = left
        else:
            del self._own[client]
        if self._shares:
            self._table.update(self._key(client), self._row, left)

    def of(self, client: str) -> int:
        """Open connections of a client."""
        own = self._own.get(client, 0)
        return max(own, self._table.total(self._key(client))) if self._shares else own

    def total(self) -> int:
        """Open connections of all clients."""
        return sum(self._held[: self._board.rows_in_use].tolist())

    def share(self, wanted: bool) -> None:
        """Whether there is a limit for each client: what is open is told to the others, or taken back."""
        if wanted == self._shares:
            return
        self._shares = wanted
        for client, count in self._own.items():
            with self._table.lock:
                if wanted:
                    self._table.put(self._key(client), self._row, count)
                else:
                    self._table.update(self._key(client), self._row, 0)

    def _key(self, client: str) -> bytes:
        return blake2b(client.encode(), key=self._secret, digest_size=KEY, person=b"client").digest()


def lone_tally() -> Tally:
    """Of a process that shares it with no other."""
    return Tally(ClientTable(Lock(), slots=1), memoryview(bytearray(8)).cast("q"), 0, b"", Board(1))
