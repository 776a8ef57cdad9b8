"""A name server that answers as a test tells it."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class NameServer:
    """Over UDP.  `records[(name, "A")] = (ttl, ["10.0.0.1"])`; what is not there is NXDOMAIN."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.fail = ""
        """"silent": takes questions and answers none; "servfail", "unknown": answers every one so."""
        self.asked = 0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((address, 0))
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.sendto(b"", self._sock.getsockname())
        self._thread.join(10)
        self._sock.close()

    def _run(self) -> None:
        while True:
            data, client = self._sock.recvfrom(4096)
            if not data:
                return
            self.asked += 1
            if self.fail != "silent":
                self._sock.sendto(self._answer(dns.message.from_wire(data)).to_wire(), client)

    def _answer(self, question: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA
        if self.fail:
            answer.set_rcode(dns.rcode.SERVFAIL if self.fail == "servfail" else dns.rcode.NXDOMAIN)
            return answer
        asked = question.question[0]
        name = asked.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(asked.rdtype)
        found = self.records.get((name, kind))
        if found is not None:
            answer.answer.append(dns.rrset.from_text(asked.name, found[0], "IN", kind, *found[1]))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
