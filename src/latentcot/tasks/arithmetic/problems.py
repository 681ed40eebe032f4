"""Arithmetic problems before they are put into words: what happens, with which numbers.

A problem is a running number: an opening, then moves that change it. Most moves are one step
("gets 5 more": 12+5=17); some have a side result first ("buys 3 boxes of 4": 3*4=12, 17+12=29), and
a total goes back to a number from before a comparison. So every result but the last is used.

All numbers are whole and from 2 to `max_number`: divisions are exact, nothing is multiplied or
divided by 1, and no move undoes the one before it. The answer equals no number of the question, so
copying one of them is never right. All randomness comes from the `random.Random` that is handed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal, NamedTuple

from latentcot.errors import DataError
from latentcot.tasks.generators import Range, check, refuse

Wording = Literal["story", "short"]
Shape = Literal["mixed", "chain"]
StepForm = Literal["joined", "spaced"]

OPERATIONS = "+-*/"
MOST_STEPS = 8
LEAST_NUMBER = 10
Steps = Annotated[int, Range(1, MOST_STEPS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticOptions:
    """How arithmetic data is made. The defaults stand in for GSM8k-Aug.

    Attributes:
        min_steps: Fewest steps of a problem, from 1.
        max_steps: Most steps, up to 8; each number in between is equally likely.
        max_number: The largest number that may occur in a question, a step or an answer.
        operations: Which of + - * / the steps use, written together: "+-".
        wording: `story` (word problems from many templates), or `short` (one sentence of few words
            for each step, a few dozen words in all) for small models trained from scratch.
        shape: `mixed`, or `chain`: each step has the result before it and one new number. A mixed
            problem has side results, too ("3 boxes of 4", "a third of them"), and totals of two
            persons, which need a number from further back.
        step_form: `joined` ("<<3*4=12>>", as in GSM8k-Aug), or `spaced` ("3 * 4 = 12") for the
            built-in tokenizer, to which whatever stands between blanks is one word.

    Raises:
        RecipeError: With all problems at once.
    """

    min_steps: Steps = 1
    max_steps: Steps = MOST_STEPS
    max_number: Annotated[int, Range(LEAST_NUMBER)] = 10_000
    operations: str = OPERATIONS
    wording: Wording = "story"
    shape: Shape = "mixed"
    step_form: StepForm = "joined"

    def __post_init__(self) -> None:
        chosen, problems = self.operations, []
        if not isinstance(chosen, str) or not 0 < len(chosen) == len({*chosen} & {*OPERATIONS}):
            problems.append(
                f"operations must be some of {OPERATIONS}, each once, without blanks, "
                f"got {chosen!r}."
            )
        check("arithmetic", self, problems)

        # What is wrong between fields that are each fine alone.
        steps, doubled = self.max_steps, 2**self.max_steps
        if self.min_steps > steps:
            problems.append(
                f"min_steps must not be above max_steps, got {self.min_steps} and {steps}."
            )
        # The largest number of the smallest problem, where every step is the same operation: none
        # is below 2, and the answer stands nowhere in the question (5 - 2, 6 / 2).
        smallest = {"+": 2 * steps + 2, "-": 2 * steps + 3, "*": 2 * doubled, "/": 3 * doubled}
        least = smallest.get(chosen, LEAST_NUMBER)
        if self.max_number < least:
            problems.append(
                f"max_number must be at least {least} for {steps} steps of {chosen} alone, "
                f"got {self.max_number}. Take fewer steps, or more operations."
            )
        refuse("arithmetic", problems)


# --- problems ---------------------------------------------------------------------------------

Form = Literal["plain", "groups", "pair", "change", "compare", "sale", "side", "part", "total"]

MAX_TRIES = 20_000
"""Problems drawn in a row that break a limit before `draw_problem` gives up."""

DIVISORS = (2, 3, 4, 5, 6, 8, 10)
_DIVISOR_WEIGHTS = (6, 4, 3, 2, 1, 1, 1)
MAX_FACTOR = 12
_USUAL_START = 60  # as in word problems; more only where divisions that follow need it
_USUAL_CHANGE = 30
_NUMBER_TRIES = 20


class Move(NamedTuple):
    """One thing that happens.

    Attributes:
        form: How the numbers play together.
            Openings: `plain` (a number, no step), `groups` (a·b), `pair` (a + b).
            One step: `change` and `compare` (an operation with one number: the same holder, or a
            new one), `sale` (times a price; from there on it is money), `total` (plus what the
            holder before the last comparison has).
            Two steps: `side` (plus or minus a·b), `part` (minus one of k equal parts).
        operation: The last of its operations; empty for `plain`.
        numbers: The numbers that the text must give, in its order.
    """

    form: Form
    operation: str
    numbers: tuple[int, ...] = ()


class Equation(NamedTuple):
    """One step: left operation right = result."""

    left: int
    operation: str
    right: int
    result: int


class _Bound(NamedTuple):
    """A multiple of `every`, from `least` to `most`."""

    every: int
    least: int
    most: int

    def contains(self, value: int) -> bool:
        return value % self.every == 0 and self.least <= value <= self.most

    def draw(self, rng: Random, least: int, most: int) -> int | None:
        """Return one such number, also from `least` to `most`; None if there is none."""
        first = -(-max(least, self.least) // self.every)  # rounded up
        last = min(most, self.most) // self.every
        return rng.randint(first, last) * self.every if first <= last else None


@dataclass(frozen=True, slots=True)
class Problem:
    """Moves, the first of which is an opening, and the steps that solve them."""

    moves: tuple[Move, ...]
    equations: tuple[Equation, ...]

    @property
    def answer(self) -> int:
        """The last result."""
        return self.equations[-1].result


def draw_problem(rng: Random, options: ArithmeticOptions, num_steps: int) -> Problem:
    """Draw a problem with this number of steps.

    Raises:
        DataError: None can be found under these options.
    """
    for _ in range(MAX_TRIES):
        plan = _draw_plan(rng, options, num_steps)
        problem = _fill_in(rng, plan, options.max_number)
        if problem is not None:
            return problem
    raise DataError(
        f"arithmetic data: none of {MAX_TRIES} draws of a problem with {num_steps} steps of "
        f"{options.operations} has no number above {options.max_number}. Raise max_number, take "
        "fewer steps, or more operations."
    )


# --- which moves ------------------------------------------------------------------------------


def _draw_plan(rng: Random, options: ArithmeticOptions, num_steps: int) -> list[Move]:
    """Return moves whose steps add up to `num_steps`; of their numbers only divisors are there."""
    allowed = options.operations
    openings: list[Move] = [Move("plain", "")]
    openings += [Move("groups", "*")] * ("*" in allowed) + [Move("pair", "+")] * ("+" in allowed)
    plan = [rng.choice(openings)]
    left = num_steps - num_steps_of(plan[0])
    while left:
        operation = rng.choice(allowed)
        earlier = [move.form for move in plan]
        forms: list[Form] = ["change", "change", "compare"]
        if operation == "*" and "sale" not in earlier:
            forms.append("sale")
        if options.shape == "mixed":
            if operation in "+-" and "*" in allowed and left > 1:
                forms.append("side")
            if operation == "-" and "/" in allowed and left > 1:
                forms.append("part")
            # Whose number the other one is must be plain: not once things were sold or pooled.
            since_sale = earlier[earlier.index("sale") :] if "sale" in earlier else earlier
            if operation == "+" and "compare" in since_sale and "total" not in earlier:
                forms += ["total", "total"]
        form = rng.choice(forms)
        divides = operation == "/" or form == "part"
        divisors = rng.choices(DIVISORS, _DIVISOR_WEIGHTS) if divides else ()
        plan.append(Move(form, operation, tuple(divisors)))
        left -= num_steps_of(plan[-1])
    return plan


def num_steps_of(move: Move) -> int:
    """Return how many steps a move takes."""
    return {"plain": 0, "side": 2, "part": 2}.get(move.form, 1)


# --- which numbers ----------------------------------------------------------------------------


def _fill_in(rng: Random, plan: Sequence[Move], top: int) -> Problem | None:
    """Draw the numbers of a plan; None where one of them would be too small, large or broken."""
    # For each move what the moves right after it ask of its result: 7 must not be reached before it
    # is halved, nor 2 before something is taken away, nor `top` before it is doubled. Draws would
    # mostly fail otherwise, and problems with - and / be rare.
    bounds = [_Bound(1, 2, top)]
    for move in reversed(plan[1:]):
        every, least, most = bounds[-1]
        most = most // 2 if move.operation == "*" else top
        if move.form in ("change", "compare") and move.operation == "/":
            every, least = every * move.numbers[0], least * move.numbers[0]
        elif move.form == "part":
            every, least = every * move.numbers[0], 2 * max(least, move.numbers[0])
        else:
            every, least = 1, least + 2 * num_steps_of(move) if move.operation == "-" else 2
        bounds.append(_Bound(every, least, most))
    bounds.reverse()
    if any(bound.least > bound.most for bound in bounds):
        return None

    value, before, two_ago = 0, 0, 0
    moves: list[Move] = []
    equations: list[Equation] = []
    for move, bound in zip(plan, bounds, strict=True):
        numbers = _draw_numbers(rng, move, value, bound)
        if numbers is None:
            return None
        moves.append(move._replace(numbers=numbers))
        steps = _equations(moves[-1], value, before)
        before = value if move.form == "compare" else before
        last, value = value, steps[-1].result if steps else numbers[0]
        fits = bound.contains(value) and all(2 <= step.result <= top for step in steps)
        if not fits or value == two_ago:
            return None
        two_ago = last
        for step in steps:  # with its operands in either order, where that makes no difference
            is_turned = step.operation in "+*" and rng.random() < 0.5
            turned = step._replace(left=step.right, right=step.left)
            equations.append(turned if is_turned else step)
    is_given = value in {number for move in moves for number in move.numbers}
    return None if is_given else Problem(tuple(moves), tuple(equations))


def _draw_numbers(rng: Random, move: Move, value: int, bound: _Bound) -> tuple[int, ...] | None:
    """Return the numbers of a move, if possible such that the result is within the bound."""
    if move.form == "total" or move.numbers:  # nothing to draw, or a divisor drawn already
        return move.numbers
    if move.form in ("groups", "pair", "side"):  # two numbers, by trying
        most = min(bound.most, _USUAL_CHANGE if move.form == "pair" else MAX_FACTOR)
        for _ in range(_NUMBER_TRIES if most >= 2 else 0):
            pair = rng.randint(2, most), rng.randint(2, most)
            if bound.contains(_equations(move._replace(numbers=pair), value, 0)[-1].result):
                return pair
        return None
    if move.form == "plain":
        start = bound.draw(rng, 2, max(_USUAL_START, 4 * bound.least))
        return None if start is None else (start,)
    if move.operation == "*":
        factors = range(2, MAX_FACTOR + 1)
        fitting = [factor for factor in factors if bound.contains(value * factor)]
        return (rng.choice(fitting),) if fitting else None
    if move.operation == "+":
        usual = max(_USUAL_CHANGE, value, 2 * bound.least)
        result = bound.draw(rng, value + 2, value + usual)
    else:
        result = bound.draw(rng, value - max(_USUAL_CHANGE // 2, value // 2), value - 2)
    return None if result is None else (abs(result - value),)


def _equations(move: Move, value: int, before: int) -> list[Equation]:
    """Return the steps of a move on `value`; `before` is the number before the last comparison."""

    def equation(left: int, operation: str, right: int) -> Equation:
        results = {
            "+": left + right,
            "-": left - right,
            "*": left * right,
            "/": left // right if left % right == 0 else 0,  # 0 is refused like all below 2
        }
        return Equation(left, operation, right, results[operation])

    numbers = move.numbers
    if move.form == "plain":
        return []
    if move.form in ("groups", "pair"):
        return [equation(numbers[0], move.operation, numbers[1])]
    if move.form == "total":
        return [equation(before, "+", value)]
    if move.form == "side":
        side = equation(numbers[0], "*", numbers[1])
    elif move.form == "part":
        side = equation(value, "/", numbers[0])
    else:
        return [equation(value, move.operation, numbers[0])]
    return [side, equation(value, move.operation, side.result)]
