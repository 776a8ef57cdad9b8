"""The README's claims that can be read: its configurations load, and the files that it names exist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from bench import table
from bokeh_gateway.config.load import parse

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
NAMED = sorted(set(re.findall(r"\b(?:tests|conf|bench|bokeh_gateway)/[\w./-]*\w", README)))
KEYS = sorted(set(re.findall(r"`\[([a-z.]+)\] ([a-z_]+)", README)))


@pytest.mark.parametrize("block", BLOCKS)
def test_each_configuration_loads(block: str, tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem", "myapp.py"):
        (tmp_path / name).touch()
    parse(tomllib.loads(block), tmp_path, {}, "README.md")


@pytest.mark.parametrize("name", NAMED)
def test_each_named_file_exists(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_each_key_of_the_text_stands_in_the_reference(table: str, key: str) -> None:
    full = (ROOT / "conf" / "full.toml").read_text()
    assert re.search(rf"^{key} = ", full, re.MULTILINE), f"[{table}] {key}"


def test_the_table_of_figures_is_that_of_the_kept_records() -> None:
    """`python -m bench.table` prints what the README has."""
    asked = ["git", "diff", "--quiet", "HEAD", "--", "bench/results"]
    if subprocess.run(asked, cwd=ROOT, check=False).returncode:
        pytest.skip("the records were made anew, or there is no git to ask: the README has those that are kept")
    found = table.records()
    assert table.machine(found) in README
    assert table.table(found) in README


def test_there_is_something_to_test() -> None:
    assert len(BLOCKS) >= 2
    assert len(NAMED) > 15
    assert len(KEYS) > 8
