"""A signer that publishes one key, or what a test wants, from the test's own loop."""

from __future__ import annotations

import json

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.testing import bind_unused_port


def jwks(*kids: str) -> dict[str, object]:
    """A JWKS with a new key, under each of these names."""
    key = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
    return {"keys": [{**key, "kid": kid} for kid in kids]}


class Signer:
    """Listens from the start on; `asked` counts, `further` are header lines of its answers."""

    def __init__(self) -> None:
        self.good = json.dumps(jwks("a")).encode()
        self.status, self.body = 200, self.good
        self.further: dict[str, str] = {}
        self.asked = 0
        listening, port = bind_unused_port()
        self.server = HTTPServer(self._answer)
        self.server.add_socket(listening)
        self.url = f"http://127.0.0.1:{port}/keys?secret=1"

    async def close(self) -> None:
        self.server.stop()
        await self.server.close_all_connections()

    def _answer(self, request: HTTPServerRequest) -> None:
        self.asked += 1
        assert request.connection is not None
        head = ResponseStartLine("HTTP/1.1", self.status, "")
        request.connection.write_headers(
            head, HTTPHeaders({"Content-Length": str(len(self.body)), **self.further}), self.body
        )
        request.connection.finish()
