"""Connections to one of several gateway processes: the kernel deals them out, so it takes several tries."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping

import psutil

from tests.support.gateway import GatewayProcess
from tests.support.waiting import GENEROUS, wait_until


def movers(gateway: GatewayProcess) -> list[psutil.Process]:
    """The processes that move bytes."""
    return [process for process in gateway.processes() if "bokeh_gateway.process" in " ".join(process.cmdline())]


def holder(gateway: GatewayProcess, local: tuple[str, int]) -> psutil.Process | None:
    """The process that has accepted the connection of the client at `local`."""
    for process in movers(gateway):
        for connection in process.net_connections(kind="tcp4"):
            if connection.raddr and tuple(connection.raddr) == local and connection.laddr.port == gateway.port:
                return process
    return None


def connection_to(gateway: GatewayProcess, process: psutil.Process) -> socket.socket:
    """An open connection to the gateway that `process` has accepted."""
    for _ in range(100):
        client = socket.create_connection(("127.0.0.1", gateway.port), timeout=GENEROUS)
        local = client.getsockname()
        found = wait_until(lambda at=local: holder(gateway, at), "the connection is accepted")  # type: ignore[misc]
        if found == process:
            return client
        client.close()
    raise AssertionError(f"none of 100 connections came to process {process.pid}")


def get_through(
    gateway: GatewayProcess, process: psutil.Process, path: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    """The answer that `process` gives, read."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    connection.sock = connection_to(gateway, process)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    return answer
