"""The proxies that are compared, each as its users configure it."""

from __future__ import annotations

from bench.peers import apache, caddy, chp, direct, gateway, haproxy, nginx
from bench.peers.peer import Peer

ALL: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        direct.DIRECT,
        gateway.GATEWAY,
        nginx.GUIDE,
        nginx.TUNED,
        haproxy.HAPROXY,
        apache.APACHE,
        caddy.CADDY,
        chp.CHP,
    )
}
