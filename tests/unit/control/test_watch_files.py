"""Which files are watched, and what counts as a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bokeh_gateway.control.watch_files import changed, folders, snapshot


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        *("dash.py", "notes.txt", "data.csv", "app/main.py", "app/theme.yaml", "app/templates/index.html"),
        *("app/static/a.css", "app/__pycache__/x.py", ".git/hook.py", "node_modules/m.js", "venv/pyvenv.cfg"),
        *("venv/lib/mod.py", "helpers/deep/er.py"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def names(tree: Path, *apps: str) -> set[str]:
    files, whole = snapshot(folders(apps, str(tree)))
    assert whole
    return {os.path.relpath(path, tree) for path in files}


APP = {"app/main.py", "app/theme.yaml", "app/templates/index.html", "app/static/a.css"}


@pytest.mark.parametrize(
    ("apps", "expected"),
    [
        pytest.param(("app",), APP, id="folder"),
        pytest.param(("dash.py",), APP | {"dash.py", "helpers/deep/er.py"}, id="file-and-what-lies-beside"),
        pytest.param(("dash.py", "app", "--log-level", "debug"), APP | {"dash.py", "helpers/deep/er.py"}, id="both"),
        pytest.param(("helpers", "app"), APP | {"helpers/deep/er.py"}, id="two-folders"),
        pytest.param(("gone",), APP | {"dash.py", "helpers/deep/er.py"}, id="not-there-yet"),
    ],
)
def test_what_apps_are_made_of(tree: Path, apps: tuple[str, ...], expected: set[str]) -> None:
    """Neither data, nor hidden folders, caches and environments."""
    assert names(tree, *apps) == expected


def test_one_folder_inside_another_is_read_once(tree: Path) -> None:
    assert folders(("dash.py", "app", "app/main.py"), str(tree)) == [str(tree)]


def test_new_gone_and_changed_files_are_changes(tree: Path) -> None:
    roots = folders(("app",), str(tree))
    before, _ = snapshot(roots)
    (tree / "app" / "theme.yaml").unlink()
    (tree / "app" / "fresh.py").write_text("x")
    (tree / "app" / "main.py").write_text("longer")
    (tree / "app" / "out.csv").write_text("x")
    after, _ = snapshot(roots)
    assert [os.path.basename(path) for path in changed(before, after)] == ["fresh.py", "main.py", "theme.yaml"]
    assert changed(after, after) == []


def test_there_is_an_end_to_what_is_read(tree: Path) -> None:
    files, whole = snapshot([str(tree)], most=2)
    assert (len(files), whole) == (2, False)


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert snapshot([str(tmp_path / "gone")]) == ({}, True)
