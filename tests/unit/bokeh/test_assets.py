"""The folders of BokehJS and of the extensions are found without importing a thing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bokeh_gateway.bokeh.assets import Assets, AssetsError, Extension, ask_path, find_assets, scan


def package(site: Path, name: str, manifest: object = None, files: tuple[str, ...] = ()) -> Path:
    """An extension whose import would fail."""
    folder = site / name
    for file in ("__init__.py", "bokeh.ext.json", *files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("raise ImportError" if file.endswith(".py") else "{}")
    if manifest is not None:
        (folder / "package.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "site-packages"


@pytest.mark.parametrize(
    ("manifest", "files", "folder", "main", "version"),
    [
        pytest.param({"name": "x", "main": "dist/a.js", "version": "1"}, ["dist/a.js"], "dist", "a.js", "1", id="main"),
        pytest.param({"name": "x", "module": "./lib/m.js", "main": "dist/a.js", "version": "1"}, ["lib/m.js"],
                     "lib", "m.js", "1", id="module-before-main"),
        pytest.param({"name": "x", "version": "1"}, ["dist/e.js"], "dist", "e.js", "1", id="neither"),
        pytest.param({"name": "x", "main": "dist/a.js"}, ["dist/a.js"], "dist", "a.js", "latest", id="no-version"),
        pytest.param(None, ["dist/e.js", "dist/e.min.js"], "dist", "e.min.js", None, id="no-manifest-minified"),
        pytest.param(None, ["dist/e.js"], "dist", "e.js", None, id="no-manifest"),
        pytest.param("{", ["dist/e.js"], "dist", "e.js", None, id="manifest-is-not-json"),
    ],
)  # fmt: skip
def test_folder_is_the_one_that_bokeh_computes(
    site: Path, manifest: object, files: list[str], folder: str, main: str, version: str | None
) -> None:
    root = package(site, "e", manifest, tuple(files))
    assert scan([str(site)]).extensions == (Extension("e", root / folder, main, version),)


@pytest.mark.parametrize(
    ("manifest", "files"),
    [
        pytest.param({"main": "dist/a.js"}, ["dist/a.js"], id="no-name-in-manifest"),
        pytest.param({"name": "x", "main": "../secret/a.js"}, ["../secret/a.js"], id="outside-of-the-package"),
        pytest.param({"name": "x", "main": "index.js"}, ["index.js"], id="beside-the-python-files"),
        pytest.param({"name": "x", "main": "dist/a.js"}, [], id="not-built"),
        pytest.param(None, [], id="nothing-there"),
    ],
)
def test_package_without_a_bundle_is_left_out(site: Path, manifest: object, files: list[str]) -> None:
    package(site, "e", manifest, tuple(files))
    assert scan([str(site)]).extensions == ()


def test_first_on_the_path_counts(tmp_path: Path) -> None:
    first = package(tmp_path / "a", "e", None, ("dist/e.js",))
    package(tmp_path / "b", "e", None, ("dist/e.js",))
    found = scan([str(tmp_path / "gone"), str(tmp_path / "a"), str(tmp_path / "b")])
    assert [extension.folder for extension in found.extensions] == [first / "dist"]


def test_editable_installs_are_found_and_not_steady(tmp_path: Path, site: Path) -> None:
    """By a .pth file the checkout is on sys.path itself; else setuptools' finder names it."""
    package(tmp_path / "checkout", "e", None, ("dist/e.js",))
    target = package(tmp_path / "other", "f", None, ("dist/f.js",))
    site.mkdir(parents=True)
    (site / "__editable___f_1_0_finder.py").write_text(
        f"import sys\nMAPPING: dict[str, str] = {{'f': {str(target)!r}}}\n"
    )
    (site / "__editable___g_1_0_finder.py").write_text("MAPPING = {broken}\n")
    found = scan([str(site), str(tmp_path / "checkout")])
    assert [(extension.name, extension.steady) for extension in found.extensions] == [("f", False), ("e", False)]


def test_versions_are_bokehs_hash_and_panels_number() -> None:
    extension = Extension("e", Path("/e"), "e.js", "1.9.4+local")
    assert extension.versions == {hashlib.sha256(b"1.9.4+local").hexdigest(), "1.9.4"}


def test_installed_packages_agree_with_bokeh() -> None:
    """Bokeh's own computation, in a process that imports Panel, as the oracle."""
    code = """
import json, panel
from bokeh.embed.bundle import _bundle_extensions, extension_dirs
from bokeh.resources import Resources
from bokeh.settings import settings
urls = [str(embed.server_url) for embed in _bundle_extensions(None, Resources(mode="server"))]
print(json.dumps([str(settings.bokehjs_path()), {k: str(v) for k, v in extension_dirs.items()}, urls]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    bokeh, folders, urls = json.loads(done.stdout.splitlines()[-1])
    found = find_assets()
    assert str(found.bokeh) == bokeh
    assert {e.name: str(e.folder) for e in found.extensions if e.name in folders} == folders
    panel = next(e for e in found.extensions if e.name == "panel")
    [url] = [url for url in urls if "/panel/" in url]
    assert url.partition("/static/")[2] in {f"extensions/panel/{panel.main}?v={v}" for v in panel.versions}


def test_another_interpreter_is_asked_with_its_environment(
    tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = package(site, "e", None, ("dist/e.js",))
    monkeypatch.setenv("PYTHONPATH", str(site))
    found = find_assets(Path(sys.executable))
    assert Extension("e", root / "dist", "e.js", None) in found.extensions
    assert "" not in ask_path(Path(sys.executable))


def test_environment_without_bokeh(tmp_path: Path) -> None:
    assert scan([str(tmp_path)]) == Assets(None)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("#!/bin/sh\necho no such luck >&2\nexit 3\n", "ended with 3: no such luck", id="fails"),
        pytest.param("#!/bin/sh\necho hello\n", "is this a Python interpreter", id="not-python"),
        pytest.param("#!/bin/sh\n", "is this a Python interpreter", id="silent"),
    ],
)
def test_interpreter_that_does_not_answer_is_an_error_that_says_why(tmp_path: Path, script: str, said: str) -> None:
    python = tmp_path / "python"
    python.write_text(script)
    os.chmod(python, 0o755)
    with pytest.raises(AssetsError, match=said):
        find_assets(python)


def test_missing_interpreter(tmp_path: Path) -> None:
    with pytest.raises(AssetsError, match="No such file"):
        find_assets(tmp_path / "python")
