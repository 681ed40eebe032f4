"""Valid files turned into broken ones: what `fuzz.py` and its tests feed to the readers.

`mutated` takes the bytes of a valid file and changes a few things in them: bytes (bits, cuts,
encodings), the text (an odd value in the place of a value, lines twice or gone), or the structure
(keys missing, renamed, twice, things of another type). Everything is drawn from the
`random.Random` that is handed in, so a seed gives the same file again.
"""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from random import Random
from typing import Any, Literal

from latentcot.utils.parsing import parse_yaml

Form = Literal["json", "jsonl", "yaml", "text", "binary"]
"""What a file is made of: which changes make sense."""

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

_SCALAR = {
    "json": re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null'),
    "yaml": re.compile(r"(?<=[:\-,\[{ ]) *[^\s,:\[\]{}#][^\n,\[\]{}#:]*"),
    "text": re.compile(r"\S+"),
}
_ODD = {"json": _JSON_ODD, "yaml": _YAML_ODD, "text": _TEXT_ODD}


def mutated(rng: Random, content: bytes, form: Form) -> bytes:
    """Return a changed copy of a file's content: mostly one change, sometimes a few."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = _changed(rng, content, form)
    return content


def _changed(rng: Random, content: bytes, form: Form) -> bytes:
    if form == "binary" or rng.random() < 0.15:
        return rng.choice(_BYTE_CHANGES)(rng, content)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return rng.choice(_BYTE_CHANGES)(rng, content)
    if form == "jsonl":
        lines = text.split("\n")
        place = rng.randrange(len(lines))
        lines[place] = _changed_text(rng, lines[place], "json")
        return _encoded("\n".join(lines) if rng.random() < 0.9 else _other_lines(rng, text))
    return _encoded(_changed_text(rng, text, form))


def _changed_text(rng: Random, text: str, form: str) -> str:
    chance = rng.random()
    if form in ("json", "yaml") and chance < 0.35:
        return _restructured(rng, text, form)
    if chance < 0.85:
        return _with_odd_value(rng, text, form)
    return _other_lines(rng, text)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# --- bytes ------------------------------------------------------------------------------------

_ODD_BYTES = (
    b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", b"\x80", b"\r",
    b"\r\n", b"\n\n", b"\x1a", b"\x7f", b"\xe2\x80\xa8", b"{", b"}", b"[", b'"', b"\\", b"0", b"9",
)  # fmt: skip


def _flip(rng: Random, content: bytes) -> bytes:
    changed = bytearray(content or b" ")
    for _ in range(rng.choice((1, 1, 2, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _remove(rng: Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.choice((1, 2, 8, 100)) :]


def _insert(rng: Random, content: bytes) -> bytes:
    place = rng.choice((0, len(content), rng.randrange(len(content) + 1)))
    return content[:place] + rng.choice(_ODD_BYTES) * rng.choice((1, 1, 7)) + content[place:]


def _repeat(rng: Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content + content[start : start + rng.choice((1, 10, 1_000, 10_000))]


def _overwrite(rng: Random, content: bytes) -> bytes:
    start, size = rng.randrange(len(content) + 1), rng.choice((1, 4, 8, 8))
    value = rng.choice((b"\x00", b"\xff", b"\x7f", b"9")) * size
    return content[:start] + value + content[start + size :]


def _recode(rng: Random, content: bytes) -> bytes:
    way = rng.choice(("utf-16", "utf-32", "crlf", "cr", "empty", "bom"))
    if way == "empty":
        return b""
    if way in ("crlf", "cr"):
        return content.replace(b"\n", b"\r\n" if way == "crlf" else b"\r")
    if way == "bom":
        return b"\xef\xbb\xbf" + content
    return content.decode("utf-8", "replace").encode(way)


_BYTE_CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip, _flip, _cut, _remove, _insert, _repeat, _overwrite, _recode,
)  # fmt: skip

# --- texts ------------------------------------------------------------------------------------


def _with_odd_value(rng: Random, text: str, form: str) -> str:
    """Put an odd value in the place of a value (or key)."""
    places = [found.span() for found in _SCALAR[form].finditer(text)]
    start, end = rng.choice(places) if places else (len(text), len(text))
    odd = rng.choice(_ODD[form])
    between = " " if form == "yaml" else ""
    return text[:start] + between + odd + text[end:]


def _other_lines(rng: Random, text: str) -> str:
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    way = rng.choice(("drop", "twice", "swap", "indent", "odd", "rest"))
    if way == "drop":
        del lines[place]
    elif way == "twice":
        lines.insert(rng.randrange(len(lines) + 1), lines[place])
    elif way == "swap":
        other = rng.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    elif way == "indent":
        lines[place] = (
            rng.choice(("  ", "\t", "- ", "---\n", "%YAML 9.9\n---\n", "? ", ": ")) + lines[place]
        )
    elif way == "odd":
        lines.insert(place, rng.choice((*_YAML_ODD, *_TEXT_ODD)))
    else:
        del lines[place:]
    return "\n".join(lines)


# --- structure --------------------------------------------------------------------------------


@lru_cache(256)
def _parsed(text: str, form: str) -> Any:
    """Return the value of a text; None where it has none (any more)."""
    try:
        return json.loads(text) if form == "json" else parse_yaml(text)
    except (ValueError, RecursionError):  # it has been mutated before
        return None


def _restructured(rng: Random, text: str, form: str) -> str:
    if len(text) > 100_000:
        return _with_odd_value(rng, text, form)
    root = [deepcopy(_parsed(text, form))]
    holder, key = rng.choice(_places(root))
    change = rng.choice(_STRUCTURE_CHANGES)
    change(rng, holder, key)
    is_ascii = rng.random() < 0.5
    return json.dumps(root[0] if root else None, ensure_ascii=is_ascii, default=str, skipkeys=True)


def _places(holder: Any) -> list[tuple[Any, Any]]:
    """Return (container, key or index) of every value below a container."""
    inner = holder.items() if isinstance(holder, dict) else enumerate(holder)
    found: list[tuple[Any, Any]] = []
    for key, value in inner:
        found.append((holder, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found


def _drop(rng: Random, holder: Any, key: Any) -> None:
    del holder[key]


def _retype(rng: Random, holder: Any, key: Any) -> None:
    value = holder[key]
    ways: tuple[Callable[[Any], Any], ...] = (
        str, lambda v: [v], lambda v: {"a": v}, lambda v: None, lambda v: bool(v),
        lambda v: len(str(v)), lambda v: -len(str(v)), lambda v: [v, v],
        lambda v: dict.fromkeys(map(str, v), 1) if isinstance(v, list | dict) else [],
        lambda v: {str(n): v for n in range(300)}, lambda v: [v] * 300,
    )  # fmt: skip
    holder[key] = rng.choice(ways)(value)


def _odd(rng: Random, holder: Any, key: Any) -> None:
    numbers = (0, 1, -1, 2**31, 2**63, 10**300, 0.0, 0.5, -1.5, float("nan"), float("inf"))
    holder[key] = rng.choice((*ODD_TEXTS, *numbers, None, True, [], {}))


def _rename(rng: Random, holder: Any, key: Any) -> None:
    name = rng.choice((*ODD_TEXTS, f"{key}s", f"{key}.x", str(key).upper()))
    if isinstance(holder, dict):
        holder[name] = holder.pop(key)
    else:
        holder[key] = {name: holder[key]}


def _add(rng: Random, holder: Any, key: Any) -> None:
    value = deepcopy(holder[key])
    if isinstance(holder, dict):
        holder[rng.choice((*ODD_TEXTS, "extra", "id", "steps", "extends"))] = value
    else:
        holder.insert(key, value)


def _swap(rng: Random, holder: Any, key: Any) -> None:
    other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


_STRUCTURE_CHANGES = (_drop, _retype, _retype, _odd, _odd, _rename, _add, _swap)
