"""What can go wrong, whose side it was, what status answers it, and whether another worker may be tried."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar


class Side(Enum):
    """Who caused it."""

    CLIENT = "client"
    WORKER = "worker"
    GATEWAY = "gateway"


class GatewayError(Exception):
    """The root of the gateway's own errors."""

    status: ClassVar[int] = 500
    side: ClassVar[Side] = Side.GATEWAY
    retry_elsewhere: ClassVar[bool] = False


class ConfigError(GatewayError):
    """One mistake in the configuration: the key, the value written there, and what was expected."""

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(key, value, expected)
        self.key = key
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.key} = {self.value!r}: expected {self.expected}"


class ConfigErrors(GatewayError):
    """Every mistake in one configuration file, so that one edit can mend them all."""

    def __init__(self, source: str, errors: Sequence[ConfigError]) -> None:
        super().__init__(source, errors)
        self.source = source
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(f"{self.source}: {error}" for error in self.errors)


class WorkerRefused(GatewayError):
    """The connection was refused, or did not come about in time; no byte was sent: another worker may be tried."""

    status, side, retry_elsewhere = 502, Side.WORKER, True


class WorkerClosed(GatewayError):
    """The worker closed its connection before it answered anything."""

    status, side = 502, Side.WORKER


class WorkerBroken(GatewayError):
    """The worker's answer breaks the protocol: nothing of it may be passed on."""

    status, side = 502, Side.WORKER


class WorkerTooSlow(GatewayError):
    """No answer within `[timeouts] response`."""

    status, side = 504, Side.WORKER


class NoWorker(GatewayError):
    """No worker of the pool can be used now."""

    status, side = 503, Side.WORKER


class Refused(GatewayError):
    """What an operator asked for cannot be done; the text is for him."""
