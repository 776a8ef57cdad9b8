"""What every table of the file has in common."""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """One TOML table: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))
