"""Layouts: written out by hand for one example, and what holds for all of them.

`show` writes a layout as text: `~` is a thought, and a word in brackets carries loss. The golden
layouts follow from arXiv 2412.06769, sections 3.1 and 4.3:
- Question, `<bot>`, thoughts, `<eot>`, the steps left, answer, end of text.
- At stage s the first s steps are gone and s·c thoughts stand there (c = 2 here).
- Loss on the steps left, the answer and the end of text, and on nothing else.
"""

import dataclasses
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from latentcot.curriculum.layout import (
    NO_LABEL,
    EncodedExample,
    Layout,
    LayoutRules,
    SpecialTokens,
    Template,
    count_latents,
    encode,
    encode_questions,
    latents_of_chain,
    lay_out,
)
from latentcot.data.examples import Example
from latentcot.errors import DataError, UsageError
from latentcot.methods import PAPER_METHODS, Method, Plan, method_named
from latentcot.models.special_tokens import word_tokenizer

BOT, EOT, PAUSE, EOS = 91, 92, 93, 94
WORDS = {BOT: "<bot>", EOT: "<eot>", PAUSE: "<pause>", EOS: "<eos>"}
WORDS |= {1: "Q1", 2: "Q2", 11: "a1", 12: "a2", 13: "a3", 21: "b1", 31: "##", 32: "A"}

# Two steps, but three stages: at the last one a padded example has more thoughts than it needs.
EXAMPLE = EncodedExample("x", question=(1, 2), steps=((11, 12, 13), (21,)), answer=(31, 32))
QUESTION = EncodedExample("x", question=(1, 2), steps=None, answer=())
# All of its 4 tokens are gone at stage 4 of icot, and the schedule ends at 5.
RULES = LayoutRules(
    SpecialTokens(BOT, EOT, PAUSE, EOS), Plan(num_stages=3, thoughts_per_step=2, tokens_until_all=5)
)
ROWS = [method_named(name) for name in (*PAPER_METHODS, "pause-multipass")]


def changed(rules: LayoutRules, **plan: Any) -> LayoutRules:
    """Rules with another plan."""
    return dataclasses.replace(rules, plan=dataclasses.replace(rules.plan, **plan))


UNPADDED = changed(RULES, pad_to_num_stages=False)


def show(layout: Layout) -> str:
    assert len(layout.suffix) == len(layout.labels)
    suffix = [
        WORDS[token] if label == NO_LABEL else f"[{WORDS[token]}]"
        for token, label in zip(layout.suffix, layout.labels, strict=True)
    ]
    return " ".join([*(WORDS[t] for t in layout.prefix), *"~" * layout.num_latents, *suffix])


CHAIN = "Q1 Q2 [a1] [a2] [a3] [b1] [##] [A] [<eos>]"
SECOND = "[b1] [##] [A] [<eos>]"
ANSWER = "[##] [A] [<eos>]"

GOLDEN = {
    ("cot", 0): CHAIN,
    ("no-cot", 3): f"Q1 Q2 {ANSWER}",
    ("icot", 0): CHAIN,
    ("icot", 1): f"Q1 Q2 [a2] [a3] {SECOND}",
    ("icot", 2): f"Q1 Q2 [a3] {SECOND}",
    ("icot", 3): f"Q1 Q2 {SECOND}",
    ("icot", 4): f"Q1 Q2 {ANSWER}",
    ("icot", 5): f"Q1 Q2 {ANSWER}",
    ("pause", 3): f"Q1 Q2 <bot> {'<pause> ' * 6}<eot> {ANSWER}",
    ("coconut", 0): "Q1 Q2 <bot> <eot> [a1] [a2] [a3] [b1] [##] [A] [<eos>]",
    ("coconut", 1): f"Q1 Q2 <bot> ~ ~ <eot> {SECOND}",
    ("coconut", 2): f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {ANSWER}",
    ("coconut", 3): f"Q1 Q2 <bot> ~ ~ ~ ~ ~ ~ <eot> {ANSWER}",
    ("coconut-no-curriculum", 3): f"Q1 Q2 <bot> ~ ~ ~ ~ ~ ~ <eot> {ANSWER}",
    ("coconut-no-thought", 0): CHAIN,
    ("coconut-no-thought", 1): f"Q1 Q2 {SECOND}",
    ("coconut-no-thought", 2): f"Q1 Q2 {ANSWER}",
    ("coconut-no-thought", 3): f"Q1 Q2 {ANSWER}",
    ("coconut-pause-as-thought", 0): "Q1 Q2 <bot> <eot> [a1] [a2] [a3] [b1] [##] [A] [<eos>]",
    ("coconut-pause-as-thought", 1): f"Q1 Q2 <bot> <pause> <pause> <eot> {SECOND}",
    ("coconut-pause-as-thought", 2): f"Q1 Q2 <bot> {'<pause> ' * 4}<eot> {ANSWER}",
    ("coconut-pause-as-thought", 3): f"Q1 Q2 <bot> {'<pause> ' * 6}<eot> {ANSWER}",
    # A <pause> in a pass of its own stands in a latent position, as a thought does.
    ("pause-multipass", 0): "Q1 Q2 <bot> <eot> [a1] [a2] [a3] [b1] [##] [A] [<eos>]",
    ("pause-multipass", 1): f"Q1 Q2 <bot> ~ ~ <eot> {SECOND}",
    ("pause-multipass", 2): f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {ANSWER}",
    ("pause-multipass", 3): f"Q1 Q2 <bot> ~ ~ ~ ~ ~ ~ <eot> {ANSWER}",
}

# Without padding, two steps never become more than 2·c latent positions; the rest is as above.
GOLDEN_UNPADDED = GOLDEN | {
    (name, 3): GOLDEN[name, 3]
    .replace("~ ~ ~ ~ ~ ~", "~ ~ ~ ~")
    .replace("<pause> " * 6, "<pause> " * 4)
    for name in (
        *("pause", "coconut", "coconut-no-curriculum"),
        *("coconut-pause-as-thought", "pause-multipass"),
    )
}


def test_every_method_has_a_golden_layout_at_each_of_its_stages() -> None:
    assert set(GOLDEN) == {
        (row.name, stage) for row in ROWS for stage in row.view.schedule.stages(RULES.plan)
    }


@pytest.mark.parametrize(("name", "stage"), GOLDEN)
def test_golden_layouts(name: str, stage: int) -> None:
    view = method_named(name).view
    assert show(lay_out(EXAMPLE, view, stage, RULES)) == GOLDEN[name, stage]
    assert show(lay_out(EXAMPLE, view, stage, UNPADDED)) == GOLDEN_UNPADDED[name, stage]


@pytest.mark.parametrize("name", ["coconut", "coconut-pause-as-thought", "pause-multipass"])
@pytest.mark.parametrize(
    ("choice", "expected"),
    [("both", "Q1 Q2 <bot> <eot> [a1]"), ("bot", "Q1 Q2 <bot> [a1]"), ("none", "Q1 Q2 [a1]")],
)
def test_what_stands_in_place_of_no_thoughts(
    name: str, choice: Literal["both", "bot", "none"], expected: str
) -> None:
    rules = dataclasses.replace(RULES, zero_thoughts=choice)
    assert show(lay_out(EXAMPLE, method_named(name).view, 0, rules)).startswith(expected)


@pytest.mark.parametrize("choice", ["both", "bot", "none"])
@pytest.mark.parametrize("key", [key for key in GOLDEN if key[1] > 0])
def test_that_choice_changes_nothing_where_there_are_thoughts_or_no_special_tokens(
    key: tuple[str, int], choice: Literal["both", "bot", "none"]
) -> None:
    rules = dataclasses.replace(RULES, zero_thoughts=choice)
    assert show(lay_out(EXAMPLE, method_named(key[0]).view, key[1], rules)) == GOLDEN[key]


# --- icot: tokens go one by one (arXiv 2405.14838) ---

THREE = EncodedExample("3", (1, 2), ((11, 12), (21,), (13, 11, 12)), (31, 32))


def test_tokens_are_removed_across_the_borders_of_steps_and_at_last_all_at_once() -> None:
    """Six tokens in three steps; four removed are the signal for the other two."""
    rules = changed(RULES, tokens_until_all=4)
    shown = [show(lay_out(THREE, method_named("icot").view, stage, rules)) for stage in range(5)]
    assert shown == [
        f"Q1 Q2 [a1] [a2] [b1] [a3] [a1] [a2] {ANSWER}",
        f"Q1 Q2 [a2] [b1] [a3] [a1] [a2] {ANSWER}",
        f"Q1 Q2 [b1] [a3] [a1] [a2] {ANSWER}",
        f"Q1 Q2 [a3] [a1] [a2] {ANSWER}",
        f"Q1 Q2 {ANSWER}",
    ]
    next_words = [
        lay_out(THREE, method_named("icot").view, stage, rules).num_next for stage in range(5)
    ]
    assert next_words == [2, 1, 1, 3, 2]


# --- GSM8k's last stage: no text is left, and no thought more (arXiv 2412.06769, section 4.1) ---

FINAL = changed(RULES, num_stages=2, final_stage_without_text=True)
FINAL_UNPADDED = changed(FINAL, pad_to_num_stages=False)
THIRD = "[a3] [a1] [a2] [##] [A] [<eos>]"
ONE = EncodedExample("1", (1, 2), ((11, 12, 13),), (31, 32))
EMPTY = EncodedExample("0", (1, 2), (), (31, 32))

GOLDEN_FINAL = [  # c = 2, two stages and one more; three, one and no steps
    (FINAL, THREE, "coconut", 2, f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {THIRD}"),
    (FINAL, THREE, "coconut", 3, f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {ANSWER}"),
    (FINAL, ONE, "coconut", 2, f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {ANSWER}"),
    (FINAL, ONE, "coconut", 3, f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {ANSWER}"),
    (FINAL_UNPADDED, THREE, "coconut", 2, f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {THIRD}"),
    (FINAL_UNPADDED, THREE, "coconut", 3, f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {ANSWER}"),
    (FINAL_UNPADDED, ONE, "coconut", 3, f"Q1 Q2 <bot> ~ ~ <eot> {ANSWER}"),
    (FINAL_UNPADDED, EMPTY, "coconut", 3, f"Q1 Q2 <bot> <eot> {ANSWER}"),
    (FINAL, THREE, "coconut-no-curriculum", 3, f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {ANSWER}"),
    (FINAL_UNPADDED, ONE, "coconut-no-curriculum", 3, f"Q1 Q2 <bot> ~ ~ <eot> {ANSWER}"),
    (FINAL, THREE, "pause", 3, f"Q1 Q2 <bot> {'<pause> ' * 4}<eot> {ANSWER}"),
    (FINAL, THREE, "coconut-pause-as-thought", 3, f"Q1 Q2 <bot> {'<pause> ' * 4}<eot> {ANSWER}"),
    (FINAL, THREE, "pause-multipass", 3, f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {ANSWER}"),
    (FINAL, THREE, "coconut-no-thought", 2, f"Q1 Q2 {THIRD}"),
    (FINAL, THREE, "coconut-no-thought", 3, f"Q1 Q2 {ANSWER}"),
    (FINAL, THREE, "no-cot", 3, f"Q1 Q2 {ANSWER}"),
]


@pytest.mark.parametrize(("rules", "example", "name", "stage", "expected"), GOLDEN_FINAL)
def test_the_final_stage_without_text(
    rules: LayoutRules, example: EncodedExample, name: str, stage: int, expected: str
) -> None:
    assert stage in method_named(name).view.schedule.stages(rules.plan)
    assert show(lay_out(example, method_named(name).view, stage, rules)) == expected


def test_without_that_stage_a_long_chain_keeps_its_last_steps() -> None:
    rules = changed(FINAL, final_stage_without_text=False)
    assert list(method_named("coconut").view.schedule.stages(rules.plan)) == [0, 1, 2]
    layout = lay_out(THREE, method_named("coconut").view, 2, rules)
    assert show(layout) == f"Q1 Q2 <bot> ~ ~ ~ ~ <eot> {THIRD}"


# --- another number of thoughts than trained for ---


@pytest.mark.parametrize("name", ["coconut", "coconut-pause-as-thought", "pause-multipass"])
def test_a_forced_number_of_thoughts_changes_the_latents_and_nothing_else(name: str) -> None:
    given = "<pause> " if name == "coconut-pause-as-thought" else "~ "
    view = method_named(name).view
    for number in (0, 5):  # forced to none, the place looks as it does at stage 0
        found = show(lay_out(EXAMPLE, view, 1, RULES, num_thoughts=number))
        assert found == f"Q1 Q2 <bot> {given * number}<eot> {SECOND}"
    rules = dataclasses.replace(RULES, zero_thoughts="none")
    assert show(lay_out(EXAMPLE, view, 1, rules, num_thoughts=0)) == f"Q1 Q2 {SECOND}"
    with pytest.raises(UsageError, match="num_thoughts: .* got -1"):
        lay_out(EXAMPLE, view, 1, RULES, num_thoughts=-1)


# --- a question alone ---


@pytest.mark.parametrize("rules", [RULES, UNPADDED], ids=["padded", "unpadded"])
@pytest.mark.parametrize(("name", "stage"), GOLDEN)
def test_a_question_alone_gets_the_stages_full_number_of_latents(
    name: str, stage: int, rules: LayoutRules
) -> None:
    given_words = GOLDEN[name, stage].partition("[")[0].strip()
    layout = lay_out(QUESTION, method_named(name).view, stage, rules)
    assert show(layout) == given_words
    assert layout == layout.prompt()


# --- what holds for all of them ---


@st.composite
def cases(draw: st.DrawFn) -> tuple[EncodedExample, Method, int, LayoutRules]:
    """Any example with any method at any of its stages; every token of the example differs."""
    lengths = draw(st.lists(st.integers(1, 3), max_size=7))
    tokens = iter(range(1000, 2000))
    steps = tuple(tuple(next(tokens) for _ in range(length)) for length in lengths)
    answer = tuple(next(tokens) for _ in range(draw(st.integers(1, 3))))
    question = tuple(next(tokens) for _ in range(draw(st.integers(0, 4))))
    rules = changed(
        RULES,
        num_stages=draw(st.integers(0, 6)),
        thoughts_per_step=draw(st.integers(1, 3)),
        pad_to_num_stages=draw(st.booleans()),
        final_stage_without_text=draw(st.booleans()),
        tokens_until_all=draw(st.integers(1, 25)),
    )
    around = draw(st.sampled_from(["both", "bot", "none"]))
    rules = dataclasses.replace(rules, zero_thoughts=around)
    method = draw(st.sampled_from(ROWS))
    stage = draw(st.sampled_from(list(method.view.schedule.stages(rules.plan))))
    return EncodedExample("x", question, steps, answer), method, stage, rules


def viewed(case: Any) -> Any:
    """A case as `lay_out` takes it."""
    example, method, *rest = case
    return example, method.view, *rest


def words_left(case: Any) -> tuple[int, ...]:
    """The tokens of the steps left, from the paper's list of methods and not from the table."""
    example, method, stage, rules = case
    chain = tuple(token for step in example.steps for token in step)
    if method.name == "cot":
        return chain
    if method.name in ("no-cot", "pause", "coconut-no-curriculum"):
        return ()
    if method.name == "icot":
        return chain[stage:] if stage < rules.plan.tokens_until_all else ()
    is_without_text = stage > rules.plan.num_stages
    gone = example.steps if is_without_text else example.steps[:stage]
    return chain[sum(len(step) for step in gone) :]


def latents_of(layout: Layout) -> int:
    return layout.num_latents + layout.suffix.count(PAUSE)


@given(cases())
def test_a_layout_is_question_latents_steps_left_and_answer(case: Any) -> None:
    """Loss stands on what comes behind the latents; the prompt ends where the model takes over."""
    example = case[0]
    layout = lay_out(*viewed(case))
    assert len(layout) == len(layout.prefix) + layout.num_latents + len(layout.suffix)
    said = (*words_left(case), *example.answer, EOS)
    text = tuple(t for t in (*layout.prefix, *layout.suffix) if t not in {BOT, EOT, PAUSE})
    assert text == (*example.question, *said)
    assert tuple(label for label in layout.labels if label != NO_LABEL) == said
    assert layout.suffix[layout.opening :] == said, "a label is the token at its own position"
    prompt = layout.prompt()
    assert (prompt.prefix, prompt.num_latents) == (layout.prefix, layout.num_latents)
    assert prompt.suffix == layout.suffix[: len(prompt.suffix)]
    assert set(prompt.labels) <= {NO_LABEL}
    assert layout.labels[len(prompt.suffix)] != NO_LABEL
    assert prompt == prompt.prompt()


@given(cases())
def test_the_number_of_latents(case: Any) -> None:
    example, method, stage, rules = case
    plan = rules.plan
    in_thought = stage if stage <= plan.num_stages else plan.num_stages  # the one without text
    in_thought = in_thought if plan.pad_to_num_stages else min(in_thought, len(example.steps))
    has_latents = method.name.startswith(("coconut", "pause")) and "no-thought" not in method.name
    expected = in_thought * plan.thoughts_per_step if has_latents else 0
    assert latents_of(lay_out(*viewed(case))) == expected
    assert count_latents(method.view, stage, len(example.steps), plan) == expected


@given(cases())
def test_the_latents_of_a_chain_are_those_of_its_last_stage_unpadded(case: Any) -> None:
    """By which a stop classifier learns, and an evaluation tells how often it was right."""
    example, _, _, rules = case
    plan = changed(rules, pad_to_num_stages=False).plan
    expected = count_latents(
        method_named("coconut").view, plan.last_stage, len(example.steps), plan
    )
    assert latents_of_chain(len(example.steps), plan) == expected
    assert lay_out(*viewed(case)).stop_after == expected
    question = dataclasses.replace(example, steps=None, answer=())
    assert lay_out(question, *viewed(case)[1:]).stop_after is None


@given(cases())
def test_a_padded_example_is_generated_from_as_its_question_alone_is(case: Any) -> None:
    example, method, stage, rules = case
    rules = changed(rules, pad_to_num_stages=True)
    question = dataclasses.replace(example, steps=None, answer=())
    trained = lay_out(example, method.view, stage, rules)
    known = dataclasses.replace(trained.prompt(), stop_after=None)  # but not how long its chain is
    assert lay_out(question, method.view, stage, rules) == known


@given(cases())
def test_special_tokens_stand_once_and_around_the_latents(case: Any) -> None:
    layout = lay_out(*viewed(case))
    method, rules = case[1], case[3]
    tokens = (*layout.prefix, *layout.suffix)
    has_them, has_latents = method.view.has_special_tokens, latents_of(layout) > 0
    is_open = has_them and (has_latents or rules.zero_thoughts != "none")
    is_closed = has_them and (has_latents or rules.zero_thoughts == "both")
    assert tokens.count(BOT) == is_open
    assert tokens.count(EOT) == is_closed
    if is_open:
        assert layout.prefix[-1] == BOT, "the first thought is the hidden state at <bot>"
    if is_closed:
        assert layout.suffix[layout.opening - 1] == EOT


@given(cases())
def test_num_next_counts_the_first_step_left_or_the_answer(case: Any) -> None:
    """Of a first step that has lost tokens, what is left of it."""
    example = case[0]
    left = words_left(case)
    first_step = next((step for step in example.steps if left and left[0] in step), None)
    expected = example.answer
    if first_step is not None:
        expected = first_step[first_step.index(left[0]) :]
    assert lay_out(*viewed(case)).num_next == len(expected)


# --- texts → token ids ---

WORDY = Example("ex-7", "Is Tom a b or c?", ("Tom is a b.", "b is c."), "Tom is c.")
TEXTS = [WORDY.question, *WORDY.steps, WORDY.answer, "### =>"]
TEMPLATE = Template(question_end=" =>", step_end=" =>", answer_start="### ")


def test_encode_puts_the_template_between_the_parts() -> None:
    tokenizer = word_tokenizer(TEXTS)
    (encoded,) = encode([WORDY], tokenizer, TEMPLATE)

    def words(ids: tuple[int, ...]) -> str:
        return " ".join(tokenizer.convert_ids_to_tokens(list(ids)))

    assert encoded.id == "ex-7"
    assert words(encoded.question) == "Is Tom a b or c ? =>"
    assert [words(step) for step in encoded.steps] == ["Tom is a b . =>", "b is c . =>"]
    assert words(encoded.answer) == "### Tom is c ."


def test_encode_keeps_the_order_of_examples_and_equal_texts_apart() -> None:
    tokenizer = word_tokenizer(TEXTS)
    other = Example("2", "or", ("c", "c", "a"), "c")
    encoded = encode([other, WORDY], tokenizer, Template("", "", ""))
    assert [e.id for e in encoded] == ["2", "ex-7"]
    c, a = tokenizer.convert_tokens_to_ids(["c", "a"])
    assert encoded[0].steps == ((c,), (c,), (a,))
    assert encoded[0].answer == (c,)


def test_questions_are_encoded_as_those_of_examples_are() -> None:
    tokenizer = word_tokenizer(TEXTS)
    (full,) = encode([WORDY], tokenizer, TEMPLATE)
    (bare,) = encode_questions([WORDY.question], tokenizer, TEMPLATE)
    assert (bare.question, bare.steps, bare.answer) == (full.question, None, ())
    assert encode([], tokenizer, TEMPLATE) == encode_questions([], tokenizer, TEMPLATE) == []


def tokenizer_with_bos() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<s>", "<eos>", "a", "b", "c"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<eos>", unk_token="<eos>"
    )


def test_only_the_question_gets_the_beginning_of_text_and_only_once() -> None:
    example = Example("1", "a b", ("b", "c c"), "a")
    (encoded,) = encode([example], tokenizer_with_bos(), Template("\n", "\n", ""))
    assert encoded == EncodedExample("1", (0, 2, 3), ((3,), (4, 4)), (2,))
    (bare,) = encode_questions(["a b"], tokenizer_with_bos(), Template("\n", "\n", ""))
    assert bare.question == (0, 2, 3)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("question", {"question": "Is Rex a b?"}),
        ("answer", {"answer": "Rex"}),
        ("step 1", {"steps": ("Rex is c.", "b is c.")}),
        ("step 2", {"steps": ("b is c.", "Rex is c.")}),
    ],
)
def test_a_word_outside_the_vocabulary_is_refused_with_id_part_and_text(
    part: str, change: dict[str, Any]
) -> None:
    odd = dataclasses.replace(WORDY, id="odd", **change)
    with pytest.raises(DataError) as caught:
        encode([WORDY, odd], word_tokenizer(TEXTS), TEMPLATE)
    message = str(caught.value)
    text = next(iter(change.values()))
    text = next(step for step in text if "Rex" in step) if part.startswith("step") else text
    assert message.startswith(f"example 'odd': its {part} cannot be written")
    assert f"got {text!r}" in message
    assert "Not in the vocabulary: 'Rex'" in message


def test_a_bare_question_with_an_unknown_word_is_named_by_its_place() -> None:
    """And only unknown words are listed as such."""
    tokenizer = word_tokenizer(TEXTS)
    with pytest.raises(DataError, match=r"example '1': its question .* in the vocabulary: 'Rex'\."):
        encode_questions(["Is Tom c?", "Rex is c. Tom is c."], tokenizer, TEMPLATE)


@pytest.mark.parametrize("name", ["cot", "no-cot", "icot", "coconut-no-thought"])
def test_thoughts_are_refused_where_the_method_has_none(name: str) -> None:
    assert lay_out(EXAMPLE, method_named(name).view, 1, RULES, 0) == lay_out(
        EXAMPLE, method_named(name).view, 1, RULES
    )
    with pytest.raises(UsageError, match="num_thoughts: this method has no thoughts, .* got 2"):
        lay_out(EXAMPLE, method_named(name).view, 1, RULES, num_thoughts=2)


@pytest.mark.parametrize("token", ["<bot>", "<eot>", "<pause>", "<eos>"])
@pytest.mark.parametrize("part", ["question", "answer", "steps"])
def test_a_special_token_in_a_text_is_refused(part: str, token: str) -> None:
    """It would open latent mode, or end the text, in silence."""
    text = f"b {token} is c."
    odd = dataclasses.replace(WORDY, id="odd", **{part: (text,) if part == "steps" else text})
    with pytest.raises(DataError, match=f"'odd': holds the special token '{token}'"):
        encode([WORDY, odd], word_tokenizer(TEXTS), TEMPLATE)
    with pytest.raises(DataError, match=f"'0': holds the special token '{token}'"):
        encode_questions([text], word_tokenizer(TEXTS), TEMPLATE)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (Template("", "; ", ""), r"its step 1 .*: 'c;', .* which template\.step_end '; ' makes"),
        (
            Template("\n", "", ""),
            r"its question .*: '\\n', which template\.question_end '\\n' makes",
        ),
    ],
)
def test_what_the_template_makes_of_a_word_is_named(template: Template, words: str) -> None:
    example = dataclasses.replace(WORDY, question="b c", steps=("b c",), answer="b")
    tokenizer = word_tokenizer(["b c"])
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    with pytest.raises(DataError, match=words):
        encode([example], tokenizer, template)
