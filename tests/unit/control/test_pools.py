"""What a supervised worker's name says."""

from __future__ import annotations

import pytest

from bokeh_gateway.control.pools import seat


@pytest.mark.parametrize(("name", "expected"), [("demo/1", (1, 1)), ("demo/3#2", (3, 2)), ("de-mo_1/12#34", (12, 34))])
def test_a_name_tells_number_and_generation(name: str, expected: tuple[int, int]) -> None:
    assert seat(name) == expected
