"""BokehJS and the extensions' bundles, served from memory at any `<prefix>/static/...`.

The files are listed once, when the gateway starts: an address is found in a dictionary or it is not ours, so that no
request can name a path of the disk.  A hit costs two or three dictionary look-ups and allocates nothing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import brotli

from bokeh_gateway.bokeh.assets import Assets
from bokeh_gateway.endpoint.catalogue import LARGEST, MIB, AssetFile, list_assets, stamp
from bokeh_gateway.endpoint.compression import CODINGS, Compressor
from bokeh_gateway.endpoint.representation import (
    IMMUTABLE,
    REVALIDATE,
    Answer,
    Get,
    Held,
    accepted_codings,
    compressible,
)

CHECK: Final = 1.0
"""Seconds for which a file without a version in its address is not looked at again."""
SMALLEST: Final = 512
"""Bytes; below it a coding saves no packet."""

_STATIC: Final = b"/static/"
_MEMO: Final = 256
"""Forms of Accept-Encoding remembered; browsers have some ten between them."""
# Pages of other sites embed these plots; the files are public packages and say nothing of the user.
_OPEN: Final = b"Access-Control-Allow-Origin: *\r\nCross-Origin-Resource-Policy: cross-origin\r\n"


class StaticFiles:
    """Look-up of the Bokeh assets of one or more Python environments."""

    def __init__(self, *assets: Assets, cache_dir: Path | None = None, memory: int = 64 * MIB) -> None:
        """`cache_dir` keeps compressed files between starts; `memory` bounds the bytes held, main bundles apart."""
        self._compressor = Compressor(cache_dir)
        self._limit = memory
        self._held = 0
        self._loaded: dict[AssetFile, None] = {}
        # The compressing thread adds variants while the loop adds and removes files.
        self._lock = threading.Lock()
        self._codings: dict[bytes | None, tuple[str, ...]] = {}
        self._files: dict[bytes, AssetFile] = {}
        for each in dict.fromkeys(assets):
            for address, file in list_assets(each):
                known = self._files.get(address)
                if known is None or known.path != file.path:
                    file.other = known
                    self._files[address] = file

    def __len__(self) -> int:
        return len(self._files)

    def lookup(self, method: bytes, path: bytes, query: bytes, get: Get) -> Answer | None:
        """The answer, or None: ask the workers (unknown file, another version, a method other than GET and HEAD).

        `path` and `query` as received, undecoded.
        """
        at = path.rfind(_STATIC)
        if at < 0 or (method != b"GET" and method != b"HEAD"):
            return None
        file = self._files.get(path[at + 8 :]) or self._search(path)
        if file is None:
            return None
        if query and query in file.queries and file.content is not None:
            versioned = True
        else:
            settled = self._settle(file, query)
            if settled is None:
                return None
            file, versioned = settled
        accept = get(b"accept-encoding")
        codings = self._codings.get(accept) or self._accept(accept)
        variants = file.variants
        if method == b"GET" and (wanted := get(b"range")) is not None:
            plain = variants.get("identity")
            part = plain and plain[versioned].answer_range(wanted, get)
            if part is not None:
                return part
        for coding in codings:
            pair = variants.get(coding)
            if pair is not None:
                return pair[versioned].answer(get)
        return None  # dropped from memory between two statements, by another thread

    async def warm(self) -> None:
        """Read and compress the bundles that every page loads; seconds at first, later from the cache folder."""
        main = [file for file in self._chain() if file.keep]
        await asyncio.to_thread(lambda: [self._load(file) for file in main])
        for file in main:
            self._order(file)
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def tell(_: Compressor) -> None:
            if done.set_running_or_notify_cancel():
                done.set_result(None)

        self._compressor.submit(tell, rank=len(CODINGS))
        await asyncio.wrap_future(done)

    def _search(self, path: bytes) -> AssetFile | None:
        """The file of an unusual path: with escapes, or with /static/ inside the file's own name."""
        if len(path) > 2048:
            return None
        plain = unquote_to_bytes(path)  # once: %252e stays %2e, which no file has in its name
        end = len(plain)
        for _ in range(4):
            at = plain.rfind(_STATIC, 0, end)
            if at < 0:
                return None
            found = self._files.get(plain[at + len(_STATIC) :])
            if found is not None:
                return found
            end = at + len(_STATIC) - 1  # the slash that ends one may begin the next
        return None

    def _settle(self, file: AssetFile, query: bytes) -> tuple[AssetFile, bool] | None:
        """(file, whether the query names its content), read into memory; None: ask the workers."""
        named = query and [item for item in query.split(b"&") if item == b"v" or item.startswith(b"v=")]
        if not named:
            # Which of two environments the page came from only its worker knows.
            if file.other is not None or not self._fresh(file):
                return None
            return file, False
        candidate: AssetFile | None = file
        while candidate is not None and len(named) == 1:
            if (candidate.content is not None or self._load(candidate)) and named[0] in candidate.queries:
                return candidate, True
            candidate = candidate.other
        return None

    def _fresh(self, file: AssetFile) -> bool:
        """Whether memory holds what the disk holds, read anew if need be: an upgrade may come under our feet."""
        now = time.monotonic()
        if file.content is not None and now - file.checked < CHECK:
            return True
        try:
            found = stamp(os.stat(file.path))
        except OSError:
            return False
        file.checked = now
        return (file.content is not None and found == file.stamp) or self._load(file)

    def _load(self, file: AssetFile) -> bool:
        """Read the file into memory.  On the loop: once for each file, 3 ms for BokehJS."""
        try:
            fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(fd, "rb") as stream:
                before = os.fstat(fd)
                if not stat.S_ISREG(before.st_mode) or before.st_size > LARGEST:
                    return False
                content = stream.read()
                if stamp(os.fstat(fd)) != stamp(before):
                    return False  # an upgrade is writing it
        except OSError:
            return False
        digest = hashlib.sha512(content).hexdigest()
        with self._lock:
            self._forget(file)
            file.content, file.digest, file.stamp = content, digest, stamp(before)
            if file.hashed:
                file.queries = frozenset((f"v={digest}".encode(),))
            elif file.stamp != file.listed:
                file.queries = frozenset()  # not the files whose version was read at the start
            self._add(file, "identity", content)
            self._loaded[file] = None
            self._evict(file)
        if not file.keep:
            self._order(file)
        return True

    def _add(self, file: AssetFile, coding: str, body: bytes) -> None:
        def held(caching: bytes) -> Held:
            return Held(
                body, etag=file.digest[:32] + suffix, modified=file.stamp[1] / 1e9, media_type=file.media_type,
                caching=caching, coding=coding, vary=compressible(file.media_type), further=_OPEN,
            )  # fmt: skip

        suffix = "" if coding == "identity" else f"-{coding}"
        file.variants[coding] = held(REVALIDATE), held(IMMUTABLE if file.steady else REVALIDATE)
        file.size += len(body)
        self._held += 0 if file.keep else len(body)

    def _forget(self, file: AssetFile) -> None:
        self._held -= 0 if file.keep else file.size
        file.size = 0
        file.content = None
        file.variants = {}
        self._loaded.pop(file, None)

    def _evict(self, newest: AssetFile) -> None:
        """Oldest first.  Reading one again is cheap, so no order of use is kept: that would cost every hit."""
        for file in [file for file in self._loaded if not file.keep and file is not newest]:
            if self._held <= self._limit:
                break
            self._forget(file)

    def _order(self, file: AssetFile) -> None:
        """Have the codings made in the background."""
        content = file.content
        if content is None or len(content) < SMALLEST or not compressible(file.media_type):
            return
        digest = file.digest
        for rank, coding in enumerate(CODINGS):

            def job(compressor: Compressor, coding: str = coding) -> None:
                # Read anew: a queue that holds contents would grow with every file asked for.
                content = file.content
                if content is None or file.digest != digest or coding in file.variants:
                    return
                made: bytes | None = None
                # Without it the file is served as it is.
                with contextlib.suppress(OSError, MemoryError, brotli.error):
                    made = compressor.compress(content, coding)
                with self._lock:
                    if made is not None and file.content is content:
                        self._add(file, coding, made)
                        self._evict(file)

            self._compressor.submit(job, rank)

    def _accept(self, header: bytes | None) -> tuple[str, ...]:
        found = accepted_codings(header)
        if len(self._codings) >= _MEMO:
            self._codings.clear()
        if header is None or len(header) <= 128:
            self._codings[header] = found
        return found

    def _chain(self) -> Iterator[AssetFile]:
        for first in self._files.values():
            file: AssetFile | None = first
            while file is not None:
                yield file
                file = file.other
