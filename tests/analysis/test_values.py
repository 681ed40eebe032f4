"""The value of every node, against one forward pass for each of them, and how names are cut."""

from dataclasses import replace

import pytest
import torch

from latentcot.analysis.shared.statistics import mean_of
from latentcot.analysis.shared.subject import Subject
from latentcot.analysis.shared.values import (
    candidates_of,
    form_of,
    nodes_at,
    possible_counts,
    scored_counts,
    scored_depth,
    values_after,
)
from latentcot.errors import DataError, UsageError
from latentcot.evaluation.statistics import mean_interval
from latentcot.tasks.prosqa.generator import graph_of
from reference import pause, reference_states
from subjects import graph_examples, untrained

COUNTS = (0, 2, 3)


@torch.no_grad()
def brute_force(subject: Subject, number: int, name: str, k: int) -> float:
    """The value of one name: everything read again from the first token on, without a cache."""
    reasoner, question = subject.reasoner, subject.examples[number].question
    tokenizer, special_tokens = reasoner.tokenizer, reasoner.rules.special_tokens

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    method = subject.reasoner.info.method
    prefix = [*ids(question + reasoner.info.template.question_end)]
    around = "none" if method == "cot" else reasoner.info.zero_thoughts if k == 0 else "both"
    pauses = [special_tokens.pause] * k if method == "coconut-pause-as-thought" else []
    prefix += [special_tokens.bot] * (around != "none")
    suffix = [*pauses, *[special_tokens.eot] * (around == "both")]
    front, word = (ids("Every"), " " + name) if "[R]" not in question else ([], name)
    word = ids(word)
    fill = pause(special_tokens.pause) if method == "pause-multipass" else None
    states, _ = reference_states(
        reasoner.model, prefix, 0 if pauses else k, [*suffix, *front, *word], fill=fill
    )
    shares = reasoner.model.get_output_embeddings()(states).softmax(-1)
    value = 1.0
    for i, token in enumerate(word, start=len(suffix) + len(front)):
        value *= float(shares[i, token])
    return value


def check(subject: Subject, counts=COUNTS) -> None:
    found = values_after(subject, counts)
    for number, (example, values) in enumerate(zip(subject.examples, found, strict=True)):
        names = graph_of(example).names
        assert values.shape == (len(counts), len(names)) and values.dtype == torch.float64
        for row, k in zip(values.tolist(), counts, strict=True):
            expected = [brute_force(subject, number, name, k) for name in names]
            # Llama's norms compute in float32, whatever the weights are.
            assert row == pytest.approx(expected, abs=0, rel=1e-4)


class TestValuesAfter:
    @pytest.mark.parametrize(
        ("form", "tokenizer", "architecture"),
        [
            ("words", "bpe", "gpt2"),
            ("symbols", "bpe", "llama"),
            ("symbols", "words", "gpt2"),
            pytest.param("words", "words", "llama", marks=pytest.mark.slow),
            pytest.param("words", "bpe", "llama", marks=pytest.mark.slow),
        ],
    )
    def test_are_those_of_one_pass_for_each_node(self, form, tokenizer, architecture):
        subject = untrained(form, tokenizer, architecture)
        lengths = {len(example.question) for example in subject.encoded}
        several = {len(ids) for names in candidates_of(subject).names for ids in names}
        assert len(lengths) > 1, "ragged questions"
        assert (max(several) > 1) == (tokenizer == "bpe")
        check(subject)

    @pytest.mark.parametrize(
        "method",
        ["coconut-pause-as-thought", pytest.param("pause-multipass", marks=pytest.mark.slow)],
    )
    def test_of_pauses(self, method):
        check(untrained("words", "bpe", examples=graph_examples("words", 2), method=method))

    def test_of_a_method_without_latents(self):
        check(untrained("symbols", "bpe", method="cot"), (0,))

    @pytest.mark.parametrize("form", ["words", "symbols"])
    @pytest.mark.parametrize("zero_thoughts", ["bot", "none"])
    def test_without_thoughts_in_another_layout(self, form, zero_thoughts):
        check(untrained(form, zero_thoughts=zero_thoughts), (0, 1))

    def test_come_in_the_order_of_the_questions_and_tell_progress(self):
        subject = replace(untrained(examples=graph_examples("words", 5)), batch_size=2)
        done = []
        found = values_after(subject, (1,), on_progress=done.append)
        assert done == [2, 2, 1]
        lengths = [len(example.question) for example in subject.encoded]
        assert lengths != sorted(lengths), "the batches are in another order"
        for number, values in enumerate(found):
            [alone] = values_after(subject.of([number]), (1,))
            torch.testing.assert_close(values, alone)

    def test_of_thoughts_need_latents(self):
        with pytest.raises(UsageError, match="this method has no thoughts"):
            values_after(untrained(method="cot"), (1,))


class TestCandidates:
    def test_in_words_stand_behind_every(self):
        subject = untrained("words", "bpe")
        tokenizer, candidates = subject.reasoner.tokenizer, candidates_of(subject)
        assert tokenizer.decode(candidates.front) == "Every"
        for example, names in zip(subject.examples, candidates.names, strict=True):
            written = [tokenizer.decode(ids) for ids in names]
            assert written == [" " + name for name in example.meta["idx_to_symbol"]]
        longest = max(len(ids) for names in candidates.names for ids in names)
        assert candidates.num_positions == len(candidates.front) + longest - 1

    def test_in_symbols_begin_a_step(self):
        subject = untrained("symbols", "bpe")
        candidates = candidates_of(subject)
        assert candidates.front == ()
        tokenizer = subject.reasoner.tokenizer
        for example, names in zip(subject.examples, candidates.names, strict=True):
            assert [tokenizer.decode(ids) for ids in names] == example.meta["idx_to_symbol"]

    def test_refuse_a_name_without_tokens(self):
        [example] = graph_examples("symbols", 1)
        names = [*example.meta["idx_to_symbol"][:-1], " "]
        example = replace(example, meta=example.meta | {"idx_to_symbol": names})
        with pytest.raises(DataError, match="node ' '"):
            candidates_of(untrained("symbols", examples=[example]))


class TestCounts:
    @pytest.mark.parametrize(
        ("form", "per_step", "depths"),
        [("words", 1, [0, 1, 2, 3]), ("symbols", 1, [1, 2, 3, 4]),
         ("words", 2, [0, 0, 1, 1, 2]), ("symbols", 2, [1, 1, 2, 2, 3])],
    )  # fmt: skip
    def test_depths(self, form, per_step, depths):
        subject = untrained(form, thoughts_per_step=per_step)
        assert form_of(subject) == form
        assert [scored_depth(subject, k) for k in range(len(depths))] == depths

    def test_go_to_six_or_as_far_as_trained(self):
        assert possible_counts(untrained()) == [0, 1, 2, 3, 4, 5, 6]
        assert possible_counts(untrained(thoughts_per_step=4)) == list(range(9))
        assert possible_counts(untrained(method="cot")) == [0]

    @pytest.mark.parametrize("form", ["words", "symbols"])
    def test_end_where_the_positions_do(self, form):
        roomy = untrained(form, "bpe")
        longest = max(map(len, roomy.prompts(2))) + candidates_of(roomy).num_positions
        subject = untrained(form, "bpe", num_positions=longest)
        assert possible_counts(subject) == [0, 1, 2]
        assert len(values_after(subject, (2,))) == 3
        with pytest.raises(IndexError):
            values_after(subject, (3,))
        with pytest.raises(DataError, match="the model has"):
            possible_counts(untrained(form, "bpe", num_positions=longest - 3))

    def test_are_scored_where_there_are_nodes_and_a_choice(self):
        words, symbols = untrained("words"), untrained("symbols")
        deep = {
            subject.name: [k for k in range(8) if any(nodes_at(g, k) for g in subject.graphs)]
            for subject in (replace(words, name="words"), replace(symbols, name="symbols"))
        }
        assert scored_counts(words) == [depth for depth in deep["words"] if depth >= 1]
        assert scored_counts(symbols) == [depth - 1 for depth in deep["symbols"] if depth >= 1]
        with pytest.raises(UsageError, match="cot: there is no number of thoughts"):
            scored_counts(untrained("words", method="cot"))
        assert scored_counts(untrained("symbols", method="cot")) == [0]


def test_means_have_intervals_cut_off_at_what_is_possible():
    low, high = mean_interval([0.2, 0.4, 0.5])
    assert mean_of([0.2, 0.4, 0.5]) == {
        "mean": 0.36667, "low": pytest.approx(max(low, 0), abs=1e-5),
        "high": pytest.approx(high, abs=1e-5), "num_questions": 3,
    }  # fmt: skip
    assert mean_of([0, 1])["low"] == 0 and mean_of([0, 1])["high"] == 1
    assert mean_of([0, 1], lowest=-1)["low"] == -1
    assert mean_of([0.25]) == {"mean": 0.25, "low": None, "high": None, "num_questions": 1}
