"""Arithmetic problems: exact, solvable from their text alone, and in the form of GSM8k-Aug.

The short wording is solved by `solve_short`, which reads only the question and shares nothing with
the package. For stories the numbers are followed: each one of the text is used, and each operand is
one of the text or an earlier result.
"""

import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcot.data.examples import Example, read_examples
from latentcot.errors import DataError, RecipeError
from latentcot.tasks import generators
from latentcot.tasks.arithmetic import generator as arithmetic
from latentcot.tasks.arithmetic import problems as arithmetic_problems
from latentcot.tasks.arithmetic.generator import icot_line, make_splits, write_icot
from latentcot.tasks.arithmetic.problems import ArithmeticOptions
from latentcot.tasks.arithmetic.stats import arithmetic_stats
from latentcot.tasks.arithmetic.steps import check_steps, evaluate, numbers_in, split_step
from latentcot.tasks.arithmetic.stories import templates

WORDS = templates()
MEN_AND_WOMEN = {*WORDS["men"], *WORDS["women"]}
THEMES = WORDS["themes"]
OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_aug_valid.txt"
needs_official = pytest.mark.skipif(not OFFICIAL.exists(), reason=f"{OFFICIAL} is not here")

SEEDS = st.integers(0, 2**32)
OPTIONS = st.sampled_from(
    [
        ArithmeticOptions(),
        ArithmeticOptions(max_number=60, step_form="spaced"),
        ArithmeticOptions(shape="chain", min_steps=3, max_steps=5),
        ArithmeticOptions(operations="/", max_steps=5),
        ArithmeticOptions(operations="*", max_steps=6),
        ArithmeticOptions(operations="+", min_steps=8),
        ArithmeticOptions(wording="short"),
        ArithmeticOptions(wording="short", max_number=20, max_steps=4, operations="+-"),
        ArithmeticOptions(wording="short", max_number=50, shape="chain", step_form="spaced"),
        ArithmeticOptions(wording="short", operations="-/", max_steps=4),
    ]
)


def parts(step: str) -> tuple[int, str, int, int]:
    """Read a step of ours."""
    match = re.fullmatch(r"(?:<<)?(\d+) ?([-+*/]) ?(\d+) ?= ?(\d+)(?:>>)?", step)
    assert match, step
    return int(match[1]), match[2], int(match[3]), int(match[4])


def texts(options: ArithmeticOptions, num: int, seed: int = 0) -> list[str]:
    return [one.question for one in make_splits(options, {"test": num}, seed)["test"]]


# --- what every example must be -------------------------------------------------------------------


@settings(max_examples=200)
@given(options=OPTIONS, seed=SEEDS)
def test_every_example_is_sound(options: ArithmeticOptions, seed: int) -> None:
    [example] = make_splits(options, {"test": 1}, seed)["test"]
    check_steps(example)
    assert options.min_steps <= len(example.steps) <= options.max_steps
    steps = [parts(step) for step in example.steps]
    assert {operation for _, operation, _, _ in steps} <= set(options.operations)
    assert all(step.startswith("<<") == (options.step_form == "joined") for step in example.steps)
    assert str(steps[-1][3]) == example.answer
    given_numbers = [int(number) for number in numbers_in(example.question)]
    everything = [*given_numbers, *(n for a, _, b, c in steps for n in (a, b, c))]
    assert min(everything) >= 2 and max(everything) <= options.max_number
    assert int(example.answer) not in given_numbers
    assert_all_is_used(steps, given_numbers)


def assert_all_is_used(steps: list[tuple[int, str, int, int]], given_numbers: list[int]) -> None:
    """Every operand is told or was worked out; nothing is left over but the answer."""
    known = Counter(given_numbers)
    results: Counter[int] = Counter()
    operands: Counter[int] = Counter()
    for left, _, right, result in steps:
        for operand in (left, right):
            assert known[operand] + results[operand] > 0
        operands.update((left, right))
        results[result] += 1
    results[steps[-1][3]] -= 1
    for number, times in (known + results).items():
        assert operands[number] >= times, number


@settings(max_examples=100)
@given(seed=SEEDS)
def test_a_chain_continues_from_each_result_and_undoes_no_move(seed: int) -> None:
    options = ArithmeticOptions(shape="chain", min_steps=2)
    [example] = make_splits(options, {"test": 1}, seed)["test"]
    steps = [parts(step) for step in example.steps]
    assert all(before[3] in (after[0], after[2]) for before, after in pairwise(steps))
    assert len(numbers_in(example.question)) == len(steps) + 1
    results = [step[3] for step in steps]
    assert all(one != other for one, other in zip(results, results[2:], strict=False))


def test_operands_stand_in_either_order() -> None:
    examples = make_splits(ArithmeticOptions(shape="chain"), {"test": 500}, seed=0)["test"]
    orders = Counter(
        "result first" if after[0] == before[3] else "number first"
        for one in examples
        for before, after in pairwise(map(parts, one.steps))
        if after[1] in "+*" and after[0] != after[2]
    )
    assert min(orders.values()) > 0.45 * orders.total()


# --- solvable from the text -----------------------------------------------------------------------


@settings(max_examples=200)
@given(
    seed=SEEDS,
    options=st.sampled_from(
        [
            ArithmeticOptions(wording="short"),
            ArithmeticOptions(wording="short", max_number=30, shape="chain"),
        ]
    ),
)
def test_short_problems_can_be_solved_by_reading(options: ArithmeticOptions, seed: int) -> None:
    [example] = make_splits(options, {"test": 1}, seed)["test"]
    assert solve_short(example.question) == Fraction(example.answer)


def solve_short(question: str) -> Fraction:
    """Work a question of the short wording out, person by person."""
    has: dict[str, Fraction] = {}
    *sentences, asked = re.split(r"(?<=[.]) ", question)
    for sentence in sentences:
        read_sentence(sentence, has)
    asked_names = re.fullmatch(r"How many \w+ (?:do|does) (\w+)(?: and (\w+))? have\?", asked)
    assert asked_names, asked
    return sum((has[name.lower()] for name in asked_names.groups() if name), Fraction(0))


def read_sentence(sentence: str, has: dict[str, Fraction]) -> None:
    words = sentence.rstrip(".").lower().split()
    who = words[0]
    numbers = [Fraction(word) for word in words if word.isdigit()]
    amount = numbers[0] * numbers[-1] if "boxes" in words else numbers[0] if numbers else Fraction()
    if "old" in words:
        has[who] = sum(numbers, Fraction(0))
    elif "parts" in words:
        share = has[who] / amount
        has[who] = share if words[1] in ("keeps", "keep") else has[who] - share
    elif "more" in words or "fewer" in words:
        difference = amount if "more" in words else -amount
        compare(has, who, words, lambda n: n + difference, lambda n: n - difference)
    elif "as" in words:
        compare(has, who, words, lambda n: n * amount, lambda n: n / amount)
    elif "together" in words:
        has["they"] = has[who] + has[words[2]]
    elif "that" in words or words[1] in ("sells", "sell"):
        has[who] *= amount
    elif words[1] in ("gets", "get"):
        has[who] += amount
    elif words[1] in ("loses", "lose"):
        has[who] -= amount
    else:
        assert words[1] == "has" and who not in has, sentence
        has[who] = amount


def compare(has, who, words, forwards, backwards) -> None:  # type: ignore[no-untyped-def]
    """Give a number to the one of the two who has none yet."""
    whom = "they" if words[-2:] == ["they", "do"] else words[-1]
    if who in has:
        assert whom not in has
        has[whom] = backwards(has[who])
    else:
        has[who] = forwards(has[whom])


def test_templates_say_each_number_of_their_move_and_no_other() -> None:
    for table in ("story", "money", "short"):
        for key, sentences in WORDS[table].items():
            for sentence in sentences:
                fields = Counter(re.findall(r"{(n|a|b|times|part)}", sentence))
                two = key.rstrip("+-*/") in ("groups", "pair", "side")
                one = sum(fields[name] for name in ("n", "times", "part"))
                none = "?" in key or key.startswith("total")
                assert (fields["a"], fields["b"], one) == (two, two, not two and not none), sentence
                assert numbers_in(re.sub(r"{\w+}", "", sentence)) == []
                # A second sentence would need a capital that nothing gives it.
                assert not re.search(r"[.?] [a-z{]", sentence.replace(". Each ", ""))
    words = [*WORDS["connectors"], *MEN_AND_WOMEN, *(w for pair in WORDS["treats"] for w in pair)]
    for theme in THEMES:
        words += [theme["things"], theme["box"], theme["boxes"], *theme["gains"], *theme["losses"]]
    assert numbers_in(" ".join(words)) == []


def test_stories_vary_and_leave_nothing_to_fill_in() -> None:
    questions = texts(ArithmeticOptions(), 1_500)
    assert not any(re.search(r"[{}]|  | [.,?]|\.\.", question) for question in questions)
    assert all(question[0].isupper() and question.endswith("?") for question in questions)
    sentences = {
        re.sub(r"\d+", "N", one) for text in questions for one in re.split(r"(?<=\.) ", text)
    }
    assert len(sentences) > 3_000
    assert sum(" he " in text or " she " in text for text in questions) > 200
    assert 60 < sum(re.search(r"(^|\. )If ", text) is not None for text in questions) < 400


def test_the_short_wording_has_few_words() -> None:
    questions = texts(ArithmeticOptions(wording="short", max_number=30), 1_000)
    words = {word for text in questions for word in re.findall(r"\w+", text) if word.isalpha()}
    themes = {theme["things"] for theme in THEMES} | {"coins"}
    assert len(words - themes - MEN_AND_WOMEN) < 50


# --- splits ---------------------------------------------------------------------------------------


def test_numbers_of_steps_are_equally_frequent() -> None:
    made = make_splits(ArithmeticOptions(wording="short"), {"train": 4_000}, 0)["train"]
    counts = Counter(len(one.steps) for one in made)
    assert set(counts) == {*range(1, 9)}
    assert all(abs(count - 500) < 90 for count in counts.values())  # 4 sd
    assert max(len(one.question.split()) for one in made) < 80


def test_no_question_stands_twice() -> None:
    options = ArithmeticOptions(wording="short", max_steps=2, max_number=12)
    splits = make_splits(options, {"train": 1_500, "valid": 100, "test": 100}, seed=0)
    questions = {one.question for examples in splits.values() for one in examples}
    assert len(questions) == 1_700


def test_a_seed_means_the_same_text_on_every_machine() -> None:
    [example] = make_splits(ArithmeticOptions(min_steps=3, max_steps=3), {"test": 1}, 0)["test"]
    assert icot_line(example) == (
        "On Monday, Jane has 59 candles. 5 friends give Jane 3 candles each. If Jane makes "
        "another 7 candles, how many candles does Jane have in the end?"
        "||<<3*5=15>> <<15+59=74>> <<7+74=81>> #### 81"
    )


def test_too_few_questions_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "MAX_CLASHES", 20)
    monkeypatch.setattr(arithmetic, "tell", lambda _, problem, __: str(problem.answer))
    options = ArithmeticOptions(max_steps=1, max_number=10)
    with pytest.raises(DataError, match="20 draws in a row .* but 50 are asked for"):
        make_splits(options, {"test": 50}, seed=0)


def test_problems_that_do_not_fit_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic_problems, "MAX_TRIES", 20)
    options = ArithmeticOptions(operations="*/", min_steps=8, max_number=10)
    with pytest.raises(DataError, match="20 draws .* 8 steps of \\*/ has no number above 10"):
        make_splits(options, {"test": 1}, seed=0)


# --- the form of GSM8k-Aug ------------------------------------------------------------------------


@pytest.mark.parametrize("step_form", ["joined", "spaced"])
def test_icot_text_comes_back_as_it_was(tmp_path: Path, step_form: str) -> None:
    options = ArithmeticOptions(step_form=step_form)  # type: ignore[arg-type]
    examples = make_splits(options, {"valid": 40}, seed=0)["valid"]
    write_icot(tmp_path / "valid.txt", examples)
    lines = (tmp_path / "valid.txt").read_text().splitlines()
    assert len(lines) == 40
    for line, example in zip(lines, examples, strict=True):
        question, rest = line.split("||")
        chain, answer = rest.split("####")
        assert (question, answer.strip()) == (example.question, example.answer)
        assert [parts(step) for step in chain.split()] == [parts(step) for step in example.steps]
        assert all(step.startswith("<<") and step.endswith(">>") for step in chain.split())
    again = read_examples(tmp_path / "valid.txt")
    assert [one.question for one in again] == [one.question for one in examples]


@needs_official
def test_official_lines_come_back_as_they_were() -> None:
    lines = OFFICIAL.read_text(encoding="utf-8").splitlines()
    ours = [icot_line(example) for example in read_examples(OFFICIAL)]
    assert ["".join(line.split()) for line in ours] == ["".join(line.split()) for line in lines]


@pytest.mark.parametrize(
    ("changes", "mark"),
    [({"question": "a||b"}, "||"), ({"question": "a\nb"}, "\\n"), ({"answer": "#### 3"}, "####")],
)
def test_what_icot_text_cannot_hold_is_an_error(
    tmp_path: Path, changes: dict[str, str], mark: str
) -> None:
    good = Example("train-7", "How many?", ("<<1+2=3>>",), "3")
    with pytest.raises(DataError, match=re.escape(f"must not hold '{mark}'")):
        write_icot(tmp_path / "x.txt", [good, replace(good, **changes)])
    assert list(tmp_path.iterdir()) == []


# --- checking steps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3*4", Fraction(12)),
        ("12-2-3", Fraction(7)),
        ("2+3*4", Fraction(14)),
        ("100/8/2", Fraction(25, 4)),
        ("(180/3)*2", Fraction(120)),
        ("2/.5", Fraction(4)),
        ("1,200*.1", Fraction(120)),
        ("-3+5", Fraction(2)),
        ("+7", Fraction(7)),
        ("2*-3", Fraction(-6)),
        ("1/3*3", Fraction(1)),
    ],
)
def test_expressions_have_exact_values(expression: str, value: Fraction) -> None:
    assert evaluate(expression) == value
    assert split_step(f"<<{expression}=.5>>") == (expression, Fraction(1, 2))


@pytest.mark.parametrize(
    ("steps", "answer", "message"),
    [
        ((), "3", "example x: has no steps"),
        (("<<1+2=3>>", "<<3*4=13>>"), "13", r"step 2: 3\*4 is 12, got 13"),
        (("<<1/3=.33>>",), ".33", "step 1: 1/3 is 1/3, got 33/100"),
        (("<<1+2=3>>",), "4", "answer must be the last result, 3, got '4'"),
        (("<<1+2=3>>",), "three", "answer must be the last result"),
        (("1+2",), "3", "must look like <<3"),
        (("<<1+2=x>>",), "3", "must look like <<3"),
        (("<<1+=3>>",), "3", "must be made of numbers"),
        (("<<(1+2=3>>",), "3", "must be made of numbers"),
        (("<<(1+2*=3>>",), "3", "must be made of numbers"),
        (("<<1+2)=3>>",), "3", "must be made of numbers"),
        (("<<two+1=3>>",), "3", "must be made of numbers"),
        (("<<1 2=3>>", "<<3/0=3>>"), "3", "step 1: 12 is 12, got 3"),
        (("<<3/0=3>>",), "3", "divides by 0"),
    ],
)
def test_wrong_steps_are_named(steps: tuple[str, ...], answer: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_steps(Example("x", "Why?", steps, answer))


def test_numbers_are_found_in_digits_and_words() -> None:
    text = "Twice 1,250 pens, a third of them at $2.50, and half an hour with .5 or seven."
    expected = [2, 1250, 3, Fraction(5, 2), 2, Fraction(1, 2), 7]
    assert numbers_in(text) == expected


@needs_official
def test_nearly_all_official_steps_hold() -> None:
    """466 of 500: 28 end at another number than the answer, 6 have no steps; none is wrong."""
    found = arithmetic_stats(read_examples(OFFICIAL))
    assert found.num_examples == 500
    assert found.share_correct == pytest.approx(466 / 500)
    assert found.share_answer_in_question == pytest.approx(31 / 500)
    assert found.accuracy_most_frequent == pytest.approx(21 / 500)
    assert found.step_histogram == {0: 6, 1: 26, 2: 155, 3: 140, 4: 91, 5: 53, 6: 18, 7: 8, 8: 3}


# --- statistics -----------------------------------------------------------------------------------


def test_statistics_worked_out_by_hand() -> None:
    examples = [
        Example("a", "3 and 4?", ("<<3*4=12>>",), "12"),
        Example("b", "Half of 2,000?", ("<<2000/2=1000>>", "<<1000+0=1000>>"), "1,000"),
        Example("c", "2 or 5 of it?", ("<<2+2=5>>",), "5"),
        Example("d", "Why 1?", ("<<3*4=12>>",), "12"),
    ]
    found = arithmetic_stats(examples)
    assert found.num_examples == 4
    assert found.step_histogram == {1: 3, 2: 1}
    assert found.mean_question_words == 13 / 4
    assert found.largest_number == 2000
    assert found.share_correct == 0.75
    assert found.share_answer_in_question == 0.25
    assert found.accuracy_most_frequent == 0.5
    with pytest.raises(DataError, match="there is no example"):
        arithmetic_stats([])


@pytest.mark.parametrize("wording", ["story", "short"])
def test_guessing_pays_little(wording: str) -> None:
    options = ArithmeticOptions(wording=wording)  # type: ignore[arg-type]
    found = arithmetic_stats(make_splits(options, {"train": 800}, seed=0)["train"])
    assert found.share_correct == 1
    assert found.share_answer_in_question == 0
    assert found.accuracy_most_frequent < 0.04


# --- options --------------------------------------------------------------------------------------


def test_all_problems_come_in_one_error() -> None:
    with pytest.raises(RecipeError) as caught:
        ArithmeticOptions(
            wording="shrot",  # type: ignore[arg-type]
            shape="tree",  # type: ignore[arg-type]
            min_steps=0,
            max_steps=9,
            max_number=9,
            operations="+^",
        )
    for part in (
        "wording must be one of story, short, got 'shrot'",
        "shape must be one of mixed, chain, got 'tree'",
        "min_steps must be a whole number from 1 to 8, got 0",
        "max_steps must be a whole number from 1 to 8, got 9",
        "max_number must be a whole number of at least 10, got 9",
        "operations must be some of +-*/, each once, without blanks, got '+^'",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_steps": 5, "max_steps": 4}, "min_steps must not be above max_steps, got 5 and 4"),
        ({"operations": "*", "max_number": 511}, "at least 512 for 8 steps of \\* alone"),
        ({"operations": "/", "max_number": 767}, "at least 768 for 8 steps of / alone"),
        ({"operations": "+", "max_number": 17}, "at least 18"),
        ({"operations": "-", "max_number": 18}, "at least 19"),
        ({"operations": "++"}, "each once"),
        ({"operations": ""}, "got ''"),
        ({"operations": 3}, "got 3"),
    ],
)
def test_options_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ArithmeticOptions(**changes)  # type: ignore[arg-type]
