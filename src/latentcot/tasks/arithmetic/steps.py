"""Steps as GSM8k-Aug writes them: read, work out exactly, check; and the numbers of a text.

Independent of how our problems are made, so that it can check ours and the official ones alike.
"""

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.utils.parsing import named, shown

NUMERALS = {
    2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine",
    10: "ten", 11: "eleven", 12: "twelve",
}  # fmt: skip
FRACTIONS = {
    2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "a sixth", 7: "a seventh",
    8: "an eighth", 9: "a ninth", 10: "a tenth", 11: "an eleventh", 12: "a twelfth",
}  # fmt: skip
NUMBER_WORDS = {
    **{word: number for number, word in NUMERALS.items()},
    **{words.split()[-1]: number for number, words in FRACTIONS.items()},
    "twice": 2,
}
"""Words that count as numbers. "One" does not: it is seldom one that is reckoned with."""

MAX_DIGITS = 300
"""A longer number is none: it fits no float, and Python refuses to write very long ones."""

_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+")
_WORD_OR_NUMBER = re.compile(rf"{_NUMBER.pattern}|[a-z]+")
_OPERATORS: dict[type, Callable[..., Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip


def numbers_in(text: str) -> list[Fraction]:
    """Return the numbers of a text in their order, in digits and in words ("twice", "a third")."""
    found = []
    for part in _WORD_OR_NUMBER.findall(text.lower()):
        if part in NUMBER_WORDS:
            found.append(Fraction(NUMBER_WORDS[part]))
        elif not part.isalpha() and len(part) <= MAX_DIGITS:
            found.append(_value(part))
    return found


def check_steps(example: Example) -> None:
    """Work out every step, and compare the last result with the answer, all without rounding.

    Raises:
        DataError: A step is no equation or a wrong one, or the answer is another number.
    """
    if not example.steps:
        raise DataError(f"example {example.id}: has no steps to check.")
    for number, step in enumerate(example.steps, start=1):
        where = f"example {example.id}: step {number}"
        expression, result = split_step(step, where)
        value = evaluate(expression, where)
        if value != result:
            raise DataError(
                f"{where}: {named(expression)} is {_shown(value)}, got {_shown(result)}."
            )
    answer = example.answer.strip()
    if not _is_number(answer) or _value(answer) != result:
        raise DataError(
            f"example {example.id}: the answer must be the last result, {_shown(result)}, "
            f"got {shown(example.answer)}."
        )


def split_step(step: str, where: str = "step") -> tuple[str, Fraction]:
    """Return the left side and the result of "<<3*4=12>>" or "3 * 4 = 12".

    Raises:
        DataError: It has another form.
    """
    bare = "".join(step.split()).removeprefix("<<").removesuffix(">>")
    expression, _, result = bare.partition("=")
    if not expression or not _is_number(result):
        raise DataError(f"{where}: must look like <<3*4=12>>, got {shown(step)}.")
    return expression, _value(result)


def evaluate(expression: str, where: str = "step") -> Fraction:
    """Return the exact value of an expression of numbers, + - * / and parentheses.

    Raises:
        DataError: It is no such expression, or divides by 0.
    """
    text, numbers = "".join(expression.split()), list[Fraction]()

    def placeholder(match: re.Match[str]) -> str:  # so that 1,200 is one number, and .1 exact
        numbers.append(_value(match[0]))
        return f" n{len(numbers) - 1} "

    def value_of(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](value_of(node.left), value_of(node.right))
        if isinstance(node, ast.UnaryOp):
            return _OPERATORS[type(node.op)](value_of(node.operand))
        if isinstance(node, ast.Name):
            return numbers[int(node.id[1:])]
        raise ValueError

    try:
        if set(_NUMBER.sub("", text)) - {*"+-*/()"}:
            raise ValueError
        return value_of(ast.parse(_NUMBER.sub(placeholder, text).strip(), mode="eval").body)
    except (ValueError, SyntaxError, KeyError, RecursionError, MemoryError):
        raise DataError(
            f"{where}: must be made of numbers, + - * / and parentheses, got {shown(expression)}."
        ) from None
    except ZeroDivisionError:
        raise DataError(f"{where}: {shown(expression)} divides by 0.") from None


def _is_number(text: str) -> bool:
    is_short = len(text) <= MAX_DIGITS
    return is_short and re.fullmatch(f"-?(?:{_NUMBER.pattern})", text) is not None


def _value(digits: str) -> Fraction:
    if len(digits) > MAX_DIGITS:
        raise ValueError
    return Fraction(digits.replace(",", ""))


def _shown(value: Fraction) -> str:
    if value.denominator < 1000:
        return shown(value.numerator) + (f"/{value.denominator}" if value.denominator > 1 else "")
    return f"{float(value):.6g}" if abs(value) < 1e300 else "a very large number"
