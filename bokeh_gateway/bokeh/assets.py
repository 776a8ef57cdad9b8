"""Where the browser's side of Bokeh lies: BokehJS and the bundles of the installed extensions.

Nothing is imported: an extension's Python code may be slow, or need what the gateway lacks.  The folders are computed
as `bokeh.embed.bundle._bundle_extensions` computes them (3.9.2), from `bokeh.ext.json` and `package.json` beside the
package.  The search path is that of the workers' interpreter; the files are then read from here.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ASK_TIMEOUT = 20.0
"""Seconds for another interpreter to start and say its search path; a cold network disk takes several."""

# `-c` puts the current folder first on the path; a worker's own first entry is its script's folder, so it is left out.
_ASK = "import json, sys; print(json.dumps([p for p in sys.path if p]))"
_MAPPING = re.compile(r"^MAPPING\b[^=\n]*=\s*(\{.*?\})\s*$", re.MULTILINE)


class AssetsError(Exception):
    """The interpreter that should say where its packages lie could not be asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A package that brings JavaScript of its own, such as Panel."""

    name: str
    """The package's import name, as in `/static/extensions/<name>/`."""
    folder: Path
    """What that address serves."""
    main: str
    """The bundle's name in `folder`."""
    version: str | None
    """From package.json; None: there is no such file, and Bokeh names the bundle without `?v=`."""
    steady: bool = True
    """False: installed editable, so that the files change while the version stays."""

    @property
    def versions(self) -> frozenset[str]:
        """The values of `?v=` that name the installed files: Bokeh hashes the version, Panel gives it as it is."""
        if self.version is None:
            return frozenset()
        # panel.io.resources.JS_VERSION leaves out a local part.
        return frozenset((hashlib.sha256(self.version.encode()).hexdigest(), self.version.split("+")[0]))


@dataclass(frozen=True, slots=True)
class Assets:
    """What one Python environment has for browsers."""

    bokeh: Path | None
    """BokehJS: the folder `bokeh/server/static`; None: Bokeh is not installed there."""
    extensions: tuple[Extension, ...] = ()


def find_assets(python: Path | None = None) -> Assets:
    """The assets of the interpreter `python`, or of this process.

    Raises:
        AssetsError: `python` does not run, or did not answer within `ASK_TIMEOUT`.
    """
    return scan(list(sys.path) if python is None else ask_path(python))


def ask_path(python: Path) -> list[str]:
    """The `sys.path` of another interpreter, with its .pth files and PYTHONPATH applied as for a worker."""
    try:
        # Not -I: a worker started from here gets PYTHONPATH and the user's packages too.
        done = subprocess.run(
            [os.fspath(python), "-c", _ASK],
            capture_output=True,
            timeout=ASK_TIMEOUT,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        # A package's .pth file may print: the answer is the last line.
        found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.decode(errors="replace").strip().splitlines()
        raise AssetsError(f"{python}: ended with {exc.returncode}: {said[-1] if said else 'no message'}") from exc
    except subprocess.TimeoutExpired as exc:
        raise AssetsError(f"{python}: no answer within {ASK_TIMEOUT:.0f} s") from exc
    except (OSError, ValueError, IndexError) as exc:
        raise AssetsError(f"{python}: is this a Python interpreter? {exc}") from exc
    return [entry for entry in found if isinstance(entry, str)]


def scan(path: Sequence[str]) -> Assets:
    """The assets of the packages on a search path; of two packages of one name the first counts, as in an import."""
    bokeh: Path | None = None
    extensions: dict[str, Extension] = {}
    for package, steady in _packages(path):
        if package.name == "bokeh":
            static = package / "server" / "static"
            if bokeh is None and static.is_dir():
                bokeh = static
        elif package.name not in extensions and (package / "bokeh.ext.json").is_file():
            extension = read_extension(package, steady)
            if extension is not None:
                extensions[package.name] = extension
    return Assets(bokeh, tuple(extensions.values()))


def read_extension(package: Path, steady: bool = True) -> Extension | None:
    """The extension in a package's folder; None: its bundle cannot be told, and Bokeh would not serve it either."""
    name = package.name
    manifest = _read_json(package / "package.json")
    if manifest is None:
        for bundle in (f"{name}.min.js", f"{name}.js"):
            if (package / "dist" / bundle).is_file():
                return Extension(name, package / "dist", bundle, None, steady)
        return None
    if not isinstance(manifest.get("name"), str):
        return None
    main = manifest.get("module", manifest.get("main"))
    artifact = package / os.path.normpath(main if isinstance(main, str) else f"dist/{name}.js")
    # The folder itself would publish the package's Python files.
    if artifact.parent == package or not artifact.is_relative_to(package) or ".." in artifact.parts:
        return None
    if not artifact.parent.is_dir():
        return None
    version = manifest.get("version", "latest")
    return Extension(name, artifact.parent, artifact.name, version if isinstance(version, str) else None, steady)


def _packages(path: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """(folder, steady) of every candidate on the path, in the order of import."""
    for entry in dict.fromkeys(path):
        try:
            with os.scandir(entry or ".") as items:
                names = sorted(item.name for item in items)
        except OSError:
            continue  # a zip, or a folder that is not there: both are ordinary on sys.path
        # Where packages are installed; any other folder on the path is somebody's checkout, named in a .pth file.
        steady = os.path.basename(entry.rstrip("/")) in ("site-packages", "dist-packages")
        folder = Path(entry or ".").absolute()
        for name in names:
            if name.startswith("__editable__") and name.endswith("_finder.py"):
                yield from ((target, False) for target in _editable(folder / name))
            elif name.isidentifier() and (folder / name / "__init__.py").is_file():
                yield folder / name, steady


def _editable(finder: Path) -> Iterator[Path]:
    """Packages that setuptools' import hook finds elsewhere: it keeps them in a literal, MAPPING = {name: folder}."""
    try:
        found = _MAPPING.search(finder.read_text("utf-8"))
        mapping = ast.literal_eval(found[1]) if found else {}
    except (OSError, ValueError, SyntaxError):
        return
    for name, target in mapping.items():
        if isinstance(name, str) and isinstance(target, str) and os.path.basename(target) == name:
            yield Path(target)


def _read_json(path: Path) -> dict[str, object] | None:
    """The object in a JSON file; None: no file, or not JSON, as Bokeh takes it."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
