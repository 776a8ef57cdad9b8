"""`${NAME}` in the file."""

from __future__ import annotations

import pytest

from bokeh_gateway.config.expand import expand

ENVIRON = {"HOST": "dash", "PORT": "80", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("${HOST}:${PORT}", "dash:80", id="two"),
        pytest.param("${NOPE:-x}", "x", id="default"),
        pytest.param("${NOPE:-}", "", id="empty-default"),
        pytest.param("${EMPTY:-x}", "x", id="empty-takes-the-default-as-in-the-shell"),
        pytest.param("${EMPTY}", "", id="set-but-empty-is-set"),
        pytest.param("$${HOST}", "${HOST}", id="escaped"),
        pytest.param("pa$$word$", "pa$$word$", id="a-plain-dollar-is-itself"),
    ],
)
def test_variables_are_replaced(text: str, expected: str) -> None:
    """Once: a value is not looked at again."""
    assert expand({"a": [text]}, ENVIRON) == ({"a": [expected]}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("${NOPE}", "the environment variable NOPE to be set", id="unset"),
        pytest.param("${1}", r"\$\{NAME\} or", id="no-name"),
        pytest.param("${HOST", r"\$\{NAME\} or", id="not-closed"),
    ],
)
def test_cf08_what_cannot_be_replaced_is_named_with_its_key(text: str, message: str) -> None:
    """The text stays as it was."""
    data, [(path, error)] = expand({"pool": {"a": {"servers": [text]}}}, ENVIRON)
    assert data == {"pool": {"a": {"servers": [text]}}}
    assert path == ("pool", "a", "servers", 0)
    assert error.key == "pool.a.servers[0]"
    with pytest.raises(type(error), match=message):
        raise error


def test_a_value_is_not_expanded_again() -> None:
    """What the environment holds is data."""
    assert expand("${A}", {"A": "${B}"}) == ("${B}", [])


def test_other_values_stay() -> None:
    """Numbers and truth values have no variables."""
    assert expand({"a": 1, "b": True, "c": 1.5}, {}) == ({"a": 1, "b": True, "c": 1.5}, [])
