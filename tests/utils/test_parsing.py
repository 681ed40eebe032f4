"""Texts of others: values that can be written again, or one short line that says what is wrong."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcot.utils.parsing import (
    has_control,
    is_plain_name,
    named,
    one_line,
    parse_json,
    parse_yaml,
    shown,
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")))
VALUES = st.recursive(
    SCALARS | WORDS, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=20
)


@given(VALUES)
def test_json_comes_back(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@settings(max_examples=25)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), VALUES))
def test_yaml_is_what_pyyaml_says(value: Any) -> None:
    text = yaml.safe_dump(value)
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('[{"b": {"a": 1, "a": 1}}]', "the key 'a' stands twice"),
        ("[" * 5_000, "nested too deeply"),
        ('{"a":' * 5_000, "nested too deeply"),
        ("9" * 5_000, "a number has too many digits"),
        ('"\\ud800"', "surrogates not allowed"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_json(text)
    assert type(caught.value) is ValueError and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' stands twice.*\n.*line 3"),
        ("2001-99-99", "a value is not what its form or tag says: month"),
        ("!!int x", "not what its form or tag says"),
        ("!!int ''", "not what its form or tag says"),
        ("!!timestamp x", "not what its form or tag says"),
        ("!!bool x", "not what its form or tag says"),
        ("a: " + "9" * 5_000, "a number has too many digits"),
        ("a: 0x" + "f" * 5_000, "a number has too many digits"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("&a [*a]", "an alias stands inside itself"),
        ("*a", "undefined alias"),
        ("{[a]: b}", "unhashable key"),
        ("a\x00", "special characters are not allowed"),
        ("[" * 1_000, "nested too deeply"),
    ],
)
def test_yaml_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_yaml(text)
    assert type(caught.value) is ValueError and len(str(caught.value)) < 700


def test_yaml_keeps_merges_and_aliases() -> None:
    text = "base: &b {a: 1, c: 2}\nmore: {<<: *b, a: 3}\nsame: [*b, *b]"
    one = {"a": 1, "c": 2}
    assert parse_yaml(text) == {"base": one, "more": {"a": 3, "c": 2}, "same": [one, one]}
    assert parse_yaml("") is None


@given(st.recursive(SCALARS | st.text(), st.lists, max_leaves=50))
def test_what_is_shown_is_one_short_line(value: Any) -> None:
    assert len(shown(value)) <= 300 and not has_control(shown(value))


def test_long_values_are_shown_at_once() -> None:
    value: Any = "x"
    for _ in range(60):
        value = [value] * 10  # as an alias repeats them: 10^60 values
    assert len(shown(value)) <= 300
    assert shown(2**20_000) == "a whole number of 20,001 bits"
    assert [shown(one) for one in ("a", 1.5, [1, 2], None)] == ["'a'", "1.5", "[1, 2]", "None"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.b", "a.b"), ("", "''"), ("a\nb", r"'a\nb'"), (3, "3"), (None, "None"), ("é", "é")],
)
def test_names(name: Any, text: str) -> None:
    assert named(name) == text
    assert len(named("x" * 5_000)) <= 100


@pytest.mark.parametrize("name", ["a", "cot", "two-thoughts", "v1.2+x", "é_1", "x" * 100])
def test_plain_names(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "x" * 101, "a\\"])
def test_names_that_are_not_plain(name: str) -> None:
    assert not is_plain_name(name)


def test_one_line() -> None:
    assert one_line("a\n b\x1b[31m\tc\u2028d") == "a b [31m c d"
    assert len(one_line("x" * 5_000)) == 300
