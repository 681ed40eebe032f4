"""Valid files turned into broken ones, as hypothesis strategies, for `fuzz.py` and its test.

`mutated` takes the bytes of a valid file and changes a few things in them: bytes (cuts, odd bytes,
encodings), the text (an odd value in the place of a value, lines twice or gone), or the structure
(keys missing, renamed, twice, values of another type). What fails, hypothesis makes smaller.
"""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from typing import Any, Literal

from hypothesis import strategies as st

from latentcot.utils.parsing import parse_yaml

Form = Literal["json", "jsonl", "yaml", "text", "binary"]
"""What a file is made of: which changes make sense."""
Draw = Callable[[st.SearchStrategy[Any]], Any]

DEEP = 5_000
"""Brackets in each other: beyond every limit of recursion."""

ODD_TEXTS = (
    "", " ", "\n", "\t", "\x00", "\ufeff", "\u2028", "\u202e", "\x1b[31mred", "\x07", "a\r\nb",
    "..", "../../x", "/etc/passwd", "~", ".", "a/b", "a\\b", "con", "x" * 300, "x" * 5_000,
    "é" * 300, "😀", "٣", "²", "½", "</script><script>alert(1)</script>", "=1+1", "@x", "{method}",
    "{", "%s", "$HOME", "null", "true", "nan", "1e999", "-0", "9" * 400, "9" * 5_000, "1" * 30,
    "a.b.c", "||", "####", "a||b #### c", "<<1/0=2>>", "<<" + "(" * 2_000, "<<" + "-" * 2_000,
    "<bot>", "<eos>", "hub:a:b", "hub:a:../../b", "!!python/object", "(" * 50, "(a+)+$", "[Q] 1 1",
)  # fmt: skip
"""Texts at which readers have broken before, here or elsewhere."""

_JSON_ODD = (
    "null", "true", "false", "0", "-1", "1", "3", "0.5", "1.5", "1e999", "-1e999", "NaN",
    "Infinity", "-Infinity", "9223372036854775807", "9223372036854775808", "1" + "0" * 400,
    "9" * 5_000, "1e400", "-0.0", '"\\ud800"', '"\\udc00x"', '"\\u0000"', "[]", "{}", "[[]]",
    '{"a": 1, "a": 2}', '[1, "a", null]', '{"": ""}', "[" * 50 + "]" * 50, "[" * DEEP,
    '{"a":' * DEEP, "[0, 0]", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", "'x'", "\\", '"', "// x", "01",
    *(json.dumps(text) for text in ODD_TEXTS),
)  # fmt: skip
_SMALL_BOMB = "{" + ", ".join(
    f"{name}: &{name} [{', '.join([f'*{before}' if before else 'x'] * 9)}]"
    for before, name in zip(("", *"abcdefgh"), "abcdefghi", strict=True)
) + "}"  # fmt: skip
_YAML_ODD = (
    *_JSON_ODD[:36], "~", "yes", "no", "on", "1_000", "0x" + "f" * 5_000, "0b1", "0o17", "017",
    "1:30", "190:20:30", "1e-4", ".inf", "-.inf", ".nan", "2001-01-01", "2001-99-99",
    "2001-12-14t21:59:43.10-05:00", "2001-01-01 25:61:61", "!!python/object/apply:os.system [ls]",
    "!!python/name:os.system", "!!int ''", "!!int x", "!!float x", "!!float ''", "!!bool x",
    "!!timestamp x", "!!binary '~'", "!!binary aGk=", "!!null x", "!!set {a, b}", "!!omap [a: 1]",
    "!!pairs [a: 1]", "!!str 5", "!!seq {}", "!!map []", "!x y", "! y", "&a [*a]", "&a {a: *a}",
    "*nowhere", "&a", "{<<: 3}", "{<<: [1]}", "{<<: {a: 1}}", "&a {<<: *a}", "{[a]: b}",
    "{{a: b}: c}", "{? a}", "=", "<<", "- a", "a: b: c", "|", ">", "|9", "'", "@", "`", "%", "\t",
    "[a, b", "{a: b", "{a: 1, a: 2}", "{1: 2, true: 3, null: 4, 2001-01-01: 5}", _SMALL_BOMB,
    *(json.dumps(text) for text in ODD_TEXTS),
)  # fmt: skip
_TEXT_ODD = (*ODD_TEXTS, "[", "{", '{"test_example": 1}', "[]", "{}", "||x####y", "[" * DEEP)
_ODD = {"json": _JSON_ODD, "yaml": _YAML_ODD, "text": _TEXT_ODD}
_SCALAR = {
    "json": re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null'),
    "yaml": re.compile(r"(?<=[:\-,\[{ ]) *[^\s,:\[\]{}#][^\n,\[\]{}#:]*"),
    "text": re.compile(r"\S+"),
}
_ODD_BYTES = (
    b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", b"\x80", b"\r",
    b"\r\n", b"\n\n", b"\x1a", b"\x7f", b"\xe2\x80\xa8", b"{", b"}", b"[", b'"', b"\\", b"0", b"9",
    b"\x00" * 8, b"\xff" * 8, b"\x7f" * 8, b"9" * 8,
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**300)
    | st.sampled_from(ODD_TEXTS) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(ODD_TEXTS) | st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@st.composite
def mutated(draw: Draw, content: bytes, form: Form) -> bytes:
    """Draw changed copies of a file's content: mostly one change, sometimes a few."""
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        content = _changed(draw, content, form)
    return content


def _changed(draw: Draw, content: bytes, form: Form) -> bytes:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return _with_odd_bytes(draw, content)
    if form == "binary" or draw(st.integers(0, 6)) == 6:
        return _with_odd_bytes(draw, content)
    way = draw(st.sampled_from((_restructured, _with_odd_value, _with_odd_value, _with_odd_lines)))
    if form == "jsonl" and way is not _with_odd_lines:
        lines = text.split("\n")
        place = draw(st.integers(0, len(lines) - 1))
        lines[place] = way(draw, lines[place], "json")
        text = "\n".join(lines)
    else:
        text = way(draw, text, form)
    return text.encode("utf-8", "surrogatepass")


def _with_odd_bytes(draw: Draw, content: bytes) -> bytes:
    """Put other bytes, or none, in the place of some; or change the encoding of all."""
    way = draw(st.sampled_from(("put", "put", "put", "cut", "repeat", "recode")))
    start = draw(st.integers(0, len(content)))
    stop = start + draw(st.sampled_from((0, 1, 2, 8, 100)))
    if way == "put":
        put = draw(st.binary(max_size=8) | st.sampled_from(_ODD_BYTES))
        return content[:start] + put + content[stop:]
    if way == "cut":
        return content[:start]
    if way == "repeat":
        return content + content[start : start + draw(st.sampled_from((1, 10, 1_000, 10_000)))]
    text, ways = content.decode("utf-8", "replace"), ("utf-16", "utf-32", "utf-8-sig", "\r\n", "\r")
    how = draw(st.sampled_from(ways))
    return content.replace(b"\n", how.encode()) if how.startswith("\r") else text.encode(how)


def _with_odd_value(draw: Draw, text: str, form: str) -> str:
    """Put an odd value in the place of a value (or key)."""
    places = [found.span() for found in _SCALAR[form].finditer(text)] or [(len(text), len(text))]
    start, end = places[draw(st.integers(0, len(places) - 1))]
    odd = draw(st.sampled_from(_ODD[form]))
    return f"{text[:start]}{' ' if form == 'yaml' else ''}{odd}{text[end:]}"


def _with_odd_lines(draw: Draw, text: str, form: str) -> str:
    lines = text.split("\n")
    place, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    way = draw(st.sampled_from(("drop", "rest", "twice", "swap", "before", "odd")))
    if way == "drop":
        del lines[place]
    elif way == "rest":
        del lines[place:]
    elif way == "twice":
        lines.insert(other, lines[place])
    elif way == "swap":
        lines[place], lines[other] = lines[other], lines[place]
    elif way == "before":
        before = ("  ", "\t", "- ", "---\n", "%YAML 9.9\n---\n", "? ", ": ")
        lines[place] = draw(st.sampled_from(before)) + lines[place]
    else:
        lines.insert(place, draw(st.sampled_from((*_YAML_ODD, *_TEXT_ODD))))
    return "\n".join(lines)


@lru_cache(256)
def _parsed(text: str, form: str) -> Any:
    """Return the value of a text; None where it has none (any more)."""
    try:
        return json.loads(text) if form == "json" else parse_yaml(text)
    except (ValueError, RecursionError):  # it has been mutated before
        return None


def _restructured(draw: Draw, text: str, form: str) -> str:
    """Change a key or a value somewhere in the tree that the text stands for."""
    if form == "text" or len(text) > 100_000:
        return _with_odd_value(draw, text, form)
    root = [deepcopy(_parsed(text, form))]
    places = _places(root)
    holder, key = places[draw(st.integers(0, len(places) - 1))]
    way = draw(st.sampled_from(("drop", "put", "put", "wrap", "wrap", "rename", "add", "swap")))
    value = holder[key]
    name = draw(st.sampled_from((*ODD_TEXTS, f"{key}s", f"{key}.x", str(key).upper(), "extends")))
    if way == "drop":
        del holder[key]
    elif way == "put":
        holder[key] = draw(_VALUES)
    elif way == "wrap":
        wraps = (
            str(value),
            [value],
            {"a": value},
            [value] * 300,
            {str(n): value for n in range(300)},
        )
        holder[key] = wraps[draw(st.integers(0, len(wraps) - 1))]
    elif way == "rename":
        holder[key if isinstance(holder, list) else name] = (
            {name: value} if isinstance(holder, list) else holder.pop(key)
        )
    elif way == "add":
        copied = deepcopy(value)
        holder.insert(key, copied) if isinstance(holder, list) else holder.update({name: copied})
    else:
        others = list(holder) if isinstance(holder, dict) else range(len(holder))
        other = others[draw(st.integers(0, len(others) - 1))]
        holder[key], holder[other] = holder[other], holder[key]
    is_ascii = draw(st.booleans())
    return json.dumps(root[0] if root else None, ensure_ascii=is_ascii, default=str, skipkeys=True)


def _places(holder: Any) -> list[tuple[Any, Any]]:
    """Return (container, key or index) of every value below a container."""
    found: list[tuple[Any, Any]] = []
    for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
        found.append((holder, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found
