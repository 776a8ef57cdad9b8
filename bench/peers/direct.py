"""No proxy: load goes to the first worker.  The floor of latency, and proof that the load is not the bottleneck."""

from __future__ import annotations

from bench.peers.peer import Peer

DIRECT = Peer(name="direct", title="no proxy", version=lambda: "", prepare=lambda site: [], balances=False)
