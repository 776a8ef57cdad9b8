"""Opens connections that send one header line now and then, as slowhttptest does.

    python -m tests.support.slow_headers PORT CONNECTIONS SECONDS

A connection that the gateway ends is opened anew.  One line at the end says what became of them.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

EVERY = 5.0
"""Seconds between two lines of one connection."""

outcomes: Counter[str] = Counter()


async def attack(port: int, at: int) -> None:
    """One connection after another."""
    await asyncio.sleep(at / 1000)
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        except OSError:
            outcomes["refused"] += 1
            await asyncio.sleep(1)
            continue
        outcomes["opened"] += 1
        ended = asyncio.ensure_future(reader.read(100))
        try:
            writer.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n")
            while not (await asyncio.wait({ended}, timeout=EVERY))[0]:
                writer.write(b"X-Slow: 1\r\n")
            outcomes[ended.result()[9:12].decode("latin-1") or "closed"] += 1
        except OSError:
            outcomes["reset"] += 1
        finally:
            ended.cancel()
            writer.close()


async def main(port: int, connections: int, seconds: float) -> None:
    attackers = [asyncio.create_task(attack(port, at)) for at in range(connections)]
    await asyncio.sleep(connections / 1000 + 1)
    print(f"attacking: {outcomes['opened']} opened", flush=True)
    await asyncio.sleep(seconds)
    print(f"ended: {dict(outcomes)}", flush=True)
    for attacker in attackers:
        attacker.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
