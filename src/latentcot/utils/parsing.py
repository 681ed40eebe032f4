"""Texts that others may have written → plain values, or a ValueError of one short line.

    parse_json    JSON that could be written again as it is
    parse_yaml    YAML without objects, circles and bombs
    shown, named  a value or a name for a message: short, and without control characters

The libraries below raise a dozen kinds of errors on odd input, and PyYAML expands a few lines of
aliases to gigabytes. Whoever reads a file goes through here, adds where it stands, and raises an
error of ours.
"""

import json
import re
import reprlib
import unicodedata
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_NODES = 100_000
"""Values that a YAML file may hold, with those counted anew that an alias repeats."""
MAX_BITS = 1_000
"""Of a whole number in YAML or in a message; Python itself refuses to write very long ones."""
MAX_NAME = 100
"""Characters of a name."""

_NAME = re.compile(rf"\w[\w.+-]{{0,{MAX_NAME - 1}}}")


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is none, a key stands twice, or it is nested too deeply, or holds half a
            surrogate pair or a number that Python could not write again.
    """
    try:
        value = _DECODER.decode(text)
        # Half a surrogate pair is JSON, but could not be written again.
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(_without_advice(error)) from None
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} stands twice")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_each_once)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text; None if it is empty.

    Raises:
        ValueError: It is no YAML, a key stands twice, a value is not what its tag or form says, or
            it is nested too deeply or, with its aliases, too large.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(_line(str(error), 600)) from None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        # PyYAML's constructors, for a date that does not exist, `!!int x`, and the like.
        reason = _without_advice(error)
        raise ValueError(f"a value is not what its form or tag says: {reason}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which counts what aliases repeat, and knows a key that stands twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._num_nodes = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node or what an alias stands for."""
        is_alias, before = self.check_event(yaml.AliasEvent), self._num_nodes
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if is_alias and node not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias stands inside itself", mark)
        self._num_nodes += self._sizes[node] if is_alias else 1
        if not is_alias:
            self._sizes[node] = self._num_nodes - before
        if self._num_nodes > MAX_NODES:
            problem = f"with its aliases it holds more than {MAX_NODES:,} values"
            raise yaml.composer.ComposerError(None, None, problem, mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping whose keys all differ."""
        node = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name = (key.tag, key.value)
            if name in seen:
                problem = f"the key {shown(key.value)} stands twice"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add(name)
        return node


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if value.bit_length() > MAX_BITS:  # 0xff… has no limit of digits, but could not be written
        raise ValueError("a number has too many digits")
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def _without_advice(error: Exception) -> str:
    """Return what an error says, but for Python's advice to lift its limit of digits."""
    if "int_max_str_digits" in str(error):
        return "a number has too many digits"
    return _line(str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}")


# --- for messages -----------------------------------------------------------------------------


class _Repr(reprlib.Repr):
    """Shows values up to a few lines, however large they are."""

    def repr_int(self, x: int, level: int) -> str:
        """Show a whole number that Python can write."""
        bits = x.bit_length()
        return repr(x) if bits <= MAX_BITS else f"a whole number of {bits:,} bits"


_REPR = _Repr()
_REPR.maxlevel, _REPR.maxdict, _REPR.maxother, _REPR.maxstring = 4, 8, 200, 160
_REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = 12


def shown(value: object, limit: int = 300) -> str:
    """Return a value as Python writes it, its middle left out where that is long."""
    return _cut(_REPR.repr(value), limit)


def named(name: object) -> str:
    """Return a name as it is, or as `shown` where it is long, empty or cannot be printed."""
    text = str(name) if isinstance(name, str | float | bool) or name is None else shown(name)
    is_odd = not text or len(text) > MAX_NAME or has_control(text)
    return shown(text, MAX_NAME) if is_odd else text


def has_control(text: str) -> bool:
    """Return whether a text holds something that moves the cursor or ends the line."""
    return any(unicodedata.category(letter) in _CONTROL for letter in text)


_CONTROL = {"Cc", "Cs", "Zl", "Zp"}


def is_plain_name(text: str) -> bool:
    """Return whether a text can name a folder and stand in every table: letters, digits, - _ . +"""
    return _NAME.fullmatch(text) is not None


def could_be_on_hub(name: Path | str) -> bool:
    """Return whether a name that is no folder here may be asked for at the hub: NAME, OWNER/NAME.

    A path that is misspelt, or a file, is told at once and not after the hub's retries.
    """
    is_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", str(name)) is not None
    endings = "safetensors|jsonl?|ya?ml|pt|bin|csv|tsv|txt|gguf|parquet"
    ends_as_file = re.search(rf"\.({endings})$", str(name))
    return is_id and not ends_as_file and not Path(name).exists()


def one_line(text: str, limit: int = 300) -> str:
    """Return a text of others as one line without control characters."""
    return _cut(" ".join("".join(" " if has_control(c) else c for c in text).split()), limit)


def printable(text: str) -> str:
    """Return a text of others as it is, but for what would move the cursor or change colours."""
    return "".join(
        c if c in "\n\t" or not has_control(c) else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _line(text: str, limit: int = 300) -> str:
    """Return the message of a library: its lines stay, other control characters do not."""
    return _cut("".join(c if c == "\n" or not has_control(c) else " " for c in text), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 2]} …"
