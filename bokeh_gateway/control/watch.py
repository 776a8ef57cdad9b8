"""`--watch`, for development: files of an app change, and its pool is deployed.

The files are polled: an app has few, and what tells of changes differs with systems, containers and network folders.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bokeh_gateway.config.schema import Config
from bokeh_gateway.config.schema import Pool as PoolSettings
from bokeh_gateway.control.watch_files import MOST_FILES, Snapshot, changed, folders, snapshot
from bokeh_gateway.errors import Refused

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5
"""Seconds between two looks."""
QUIET: Final = 0.3
"""Seconds without a further change that end one: editors and checkouts write many files, and files in parts."""
DRAIN: Final = 0.0
"""Seconds that open sessions have: none, so that an open page connects again at once and shows the new code."""
TOKENS: Final = 86400.0
"""Seconds for which a page's token is good: one that was opened this morning shows the new code too."""
NAMED: Final = 3
"""Files that the log names."""


def for_development(config: Config) -> Config:
    """`config` as `--watch` runs it."""
    lifetime = max(TOKENS, config.sessions.token_expiration)
    return config.model_copy(update={"sessions": config.sessions.model_copy(update={"token_expiration": lifetime})})


class Watch:
    """Of all pools whose workers the gateway runs.

    Args:
        pools: gives their settings, as they are in force.
        deploy: deploys a pool, see `deploy.Deploys`.
    """

    def __init__(
        self,
        pools: Callable[[], Mapping[str, PoolSettings]],
        deploy: Callable[[str, float, str], Awaitable[str]],
    ) -> None:
        self._pools = pools
        self._deploy = deploy
        self._seen: dict[str, tuple[list[str], Snapshot]] = {}
        self._deploying: dict[str, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Changes count from now on; to be called before the workers start."""
        for name, settings in self._served().items():
            await self._begin(name, settings)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="watch")

    def close(self) -> None:
        for task in (*self._deploying.values(), *([self._task] if self._task is not None else [])):
            task.cancel()

    def _served(self) -> dict[str, PoolSettings]:
        return {name: settings for name, settings in self._pools().items() if settings.serve}

    async def _begin(self, name: str, settings: PoolSettings) -> None:
        roots = folders((*settings.serve, *settings.args), str(settings.cwd))
        files, whole = await asyncio.to_thread(snapshot, roots)
        self._seen[name] = roots, files
        told = f"watch: pool {name}: {len(files)} files in {', '.join(roots)}"
        if whole:
            log.info("%s", told)
        else:
            log.warning("%s; there are more than %d, the rest is not watched", told, MOST_FILES)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            served = self._served()
            for name, settings in served.items():
                roots = folders((*settings.serve, *settings.args), str(settings.cwd))
                if name not in self._seen or self._seen[name][0] != roots:
                    await self._begin(name, settings)
                elif name not in self._deploying:
                    await self._look(name)
            for name in self._seen.keys() - served.keys():
                del self._seen[name]

    async def _look(self, name: str) -> None:
        roots, before = self._seen[name]
        after, _ = await asyncio.to_thread(snapshot, roots)
        if after == before:
            return
        after = await self._when_quiet(roots, after)
        files = changed(before, after)
        self._seen[name] = roots, after
        if not files:
            return
        log.warning("watch: %s changed: pool %s is deployed", _names(files, roots), name)
        # Other pools are looked at meanwhile; what changes here meanwhile is seen afterwards.
        task = self._deploying[name] = asyncio.get_running_loop().create_task(self._deployed(name))
        task.add_done_callback(lambda _: self._deploying.pop(name, None))

    @staticmethod
    async def _when_quiet(roots: list[str], latest: Snapshot) -> Snapshot:
        while True:
            await asyncio.sleep(QUIET)
            files, _ = await asyncio.to_thread(snapshot, roots)
            if files == latest:
                return files
            latest = files

    async def _deployed(self, name: str) -> None:
        try:
            await self._deploy(name, DRAIN, "--watch")
        except Refused as why:
            log.error("watch: %s", why)


def _names(files: list[str], roots: list[str]) -> str:
    names = ", ".join(os.path.relpath(path, roots[0]) for path in files[:NAMED])
    return names if len(files) <= NAMED else f"{names} and {len(files) - NAMED} more"
