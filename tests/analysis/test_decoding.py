"""Thoughts read as words: hits and chance by hand, results of equations, any task."""

import json
from dataclasses import replace
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fresh import fresh_subject, is_plain, prosqa, subject_of, with_info
from latentcot import Example
from latentcot.analysis import decoding
from latentcot.analysis.decoding import Decoded, decode, hits_and_chance, result_tokens
from latentcot.analysis.registry import ANALYSES
from latentcot.methods import Plan
from latentcot.tasks.arithmetic.generator import make_splits
from latentcot.tasks.arithmetic.problems import ArithmeticOptions
from latentcot.tasks.prosqa.graphs import distances


def arithmetic(count, **options):
    options = ArithmeticOptions(max_steps=3, max_number=500, **options)
    return make_splits(options, {"test": count}, seed=0)["test"]


@pytest.fixture(scope="module")
def sums():
    """Equations with blanks, so that each number is a word."""
    examples = arithmetic(12, wording="short", step_form="spaced")
    return fresh_subject(examples, task="gsm8k", plan=Plan(2, pad_to_num_stages=False))


@pytest.fixture(scope="module")
def digits():
    """Equations as in GSM8k-Aug, one token a digit."""
    return fresh_subject(arithmetic(12), task="gsm8k", tokenizer="bpe", num_positions=600)


class TestHitsAndChance:
    def test_by_hand(self):
        decoded = Decoded([0, 1, 2, 4], [[5, 6], [6, 7], [5, 8], [9, 5]], [[0.5, 0.1]] * 4)
        wanted = {0: [5], 1: [5, 7], 2: [], 4: [6]}
        hits, chances = hits_and_chance(decoded, wanted.__getitem__, 1)
        assert hits == [True, False, False]
        # Question 2 wants nothing. On top of the others: 5, 6, 9.
        assert chances == pytest.approx([0, 1 / 2, 1 / 2])

    def test_of_a_single_question_there_is_no_chance(self):
        assert hits_and_chance(Decoded([3], [[1]], [[0.5]]), lambda q: [1], 1) == ([True], [])

    @given(
        st.lists(st.tuples(st.permutations(range(6)), st.integers(0, 5)), min_size=2, max_size=12),
        st.integers(1, 4),
    )
    def test_chance_is_the_mean_over_all_other_questions(self, questions, top):
        tokens = [order[:4] for order, _ in questions]
        decoded = Decoded(list(range(len(tokens))), tokens, [[0.1] * 4] * len(tokens))
        hits, chances = hits_and_chance(decoded, lambda q: [questions[q][1]], top)
        for q, (_, want) in enumerate(questions):
            assert hits[q] == (want in tokens[q][:top])
            others = [want in one[:top] for i, one in enumerate(tokens) if i != q]
            assert chances[q] == pytest.approx(fmean(others))


class TestDecode:
    def test_gives_the_most_probable_tokens(self, symbols):
        found = decode(symbols, 4)
        head = symbols.reasoner.model.transformer.wte.weight.detach()
        for number, example in enumerate(symbols.examples):
            thoughts = symbols.reasoner.think([example.question]).thoughts[0].detach()
            for one, thought in zip(found, thoughts, strict=True):
                shares = (head @ thought).softmax(-1)
                assert one.numbers[number] == number
                best = shares.argsort(descending=True)[:4].tolist()
                assert one.tokens[number][0] == best[0]
                expected = [float(shares[token]) for token in one.tokens[number]]
                assert one.probabilities[number] == pytest.approx(expected, abs=1e-4)
                assert one.probabilities[number] == sorted(one.probabilities[number])[::-1]
                assert expected[-1] == pytest.approx(float(shares[best[-1]]), abs=1e-4)

    def test_keeps_questions_of_fewer_latents_apart(self, sums):
        first, second = decode(sums, 3)
        num_steps = [len(example.steps) for example in sums.examples]
        assert first.numbers == list(range(12))
        assert second.numbers == [i for i, steps in enumerate(num_steps) if steps > 1]
        assert 0 < len(second.numbers) < 12

    def test_no_more_tokens_than_there_are(self, symbols):
        size = len(symbols.reasoner.tokenizer)
        assert {len(tokens) for one in decode(symbols, 1000) for tokens in one.tokens} == {size}


class TestResultTokens:
    def test_of_words(self, sums):
        found = result_tokens(sums)
        for number, example in enumerate(sums.examples):
            for step, text in enumerate(example.steps):
                [token] = found.of(number, step)
                assert sums.reasoner.tokenizer.decode([token]) == text.rpartition("= ")[2]
            assert found.of(number, len(example.steps)) == []
        num_results = sum(len(example.steps) for example in sums.examples)
        assert (found.num_whole, found.num_begun, found.num_left_out) == (num_results, 0, 0)
        assert found.most_steps == max(len(example.steps) for example in sums.examples)

    def test_of_digits_is_the_first(self, digits):
        found = result_tokens(digits)
        results = []
        for number, example in enumerate(digits.examples):
            for step, text in enumerate(example.steps):
                results.append(text.rpartition("=")[2].removesuffix(">>"))
                [token] = found.of(number, step)
                assert digits.reasoner.tokenizer.decode([token]) == results[-1][0]
        assert found.num_whole == sum(len(result) == 1 for result in results)
        assert found.num_begun == sum(len(result) > 1 for result in results) > 0

    def test_of_other_forms(self, digits):
        steps = ("<<1,200/2=600>>", "3 * 4 = 12", "0.5*3=1.5", "<<4-9=-5>>", "Tom is a lempus.")
        example = Example("forms", "?", steps, "12")
        found = result_tokens(subject_of(digits.reasoner, [example]))
        ids = [found.of(0, step) for step in range(5)]
        decode = digits.reasoner.tokenizer.decode
        assert [decode(one).strip() for one in ids] == ["6", "1", "1", "-", ""]
        assert found.most_steps == 4

    def test_inside_a_word_is_left_out(self):
        subject = fresh_subject(arithmetic(4), task="gsm8k")  # <<3*4=12>> is one word
        found = result_tokens(subject)
        assert found.most_steps == 0
        assert found.num_left_out == sum(len(example.steps) for example in subject.examples)
        result = decoding.measure(subject)
        assert result["results"] == []
        assert result["result_tokens"]["num_left_out"] == found.num_left_out

    def test_there_are_none_in_graphs(self, symbols):
        found = result_tokens(symbols)
        assert (found.most_steps, found.num_whole, found.num_left_out) == (0, 0, 0)


@torch.no_grad()
def say(subject, *tokens):
    """Make thought i have its i-th token on top, whatever the question.

    The blocks do nothing, so that a thought is the normed embedding of the column it stands at.
    """
    model, special_tokens = subject.reasoner.model, subject.reasoner.rules.special_tokens
    for name, parameter in model.named_parameters():
        if "wte" not in name:
            parameter.fill_(name.endswith("ln_f.weight"))
    head = torch.nn.Linear(16, len(subject.reasoner.tokenizer), bias=False)
    head.weight.zero_()
    state = model.transformer.wte.weight[special_tokens.bot]
    for token in tokens:
        state = model.transformer.ln_f(state)
        head.weight[token] += 10 * state
    model.set_output_embeddings(head)


class TestMadeByHand:
    def test_results(self):
        """All first thoughts say one number: hits are the questions whose result it is."""
        examples = arithmetic(30, wording="short", step_form="spaced")
        subject = fresh_subject(examples, task="gsm8k", num_stages=1)
        results = [example.steps[0].rpartition("= ")[2] for example in examples]
        number = max(results, key=results.count)
        assert results.count(number) > 1
        say(subject, *subject.reasoner.tokenizer.convert_tokens_to_ids([number]))
        found = decoding.measure(subject)
        [row] = [r for r in found["results"] if (r["step"], r["top"]) == (1, 1)]
        share = results.count(number) / 30
        assert row["share"] == pytest.approx(share, abs=1e-6)
        assert row["by_chance"] == pytest.approx(share, abs=1e-6)  # all say the same
        assert row["low"] < share < row["high"]
        [thought] = found["thoughts"]
        assert thought["thought"] == 1
        assert thought["most_frequent"][0]["token"] == number
        assert thought["most_frequent"][0]["share"] == 1
        assert found["examples"][3]["thoughts"][0][0]["token"] == number

    def test_nodes(self):
        examples = prosqa("two-family", 20, layers=1)
        subject = fresh_subject(examples, num_stages=1)
        say(subject, *subject.reasoner.tokenizer.convert_tokens_to_ids(["3"]))
        rows = {row["group"]: row for row in decoding.measure(subject)["nodes"]}
        depth = [
            distances(graph, graph.root).get(graph.names.index("3"))
            for graph in subject.graphs
            if "3" in graph.names
        ]
        assert rows["frontier"]["share"] == pytest.approx(depth.count(1) / 20)
        assert rows["passed"]["share"] == pytest.approx(depth.count(0) / 20)
        assert rows["unreachable"]["share"] == pytest.approx(depth.count(None) / 20)
        optimal = sum(graph.names[graph.target] == "3" for graph in subject.graphs)
        assert rows["optimal"]["share"] == pytest.approx(optimal / 20)
        assert all(r["by_chance"] == pytest.approx(r["share"], abs=1e-6) for r in rows.values())


class TestMeasure:
    def test_probability_is_that_of_the_top_token(self, symbols):
        result = decoding.measure(symbols)
        for row, one in zip(result["thoughts"], decode(symbols, 1), strict=True):
            assert row["probability"] == pytest.approx(
                fmean(p[0] for p in one.probabilities), abs=1e-5
            )
            shares = [token["share"] for token in row["most_frequent"]]
            assert shares == sorted(shares, reverse=True) and 1 <= len(shares) <= 5

    def test_results_are_counted_for_every_step_and_top(self, sums):
        result = decoding.measure(sums)
        decoded, results = decode(sums, 10), result_tokens(sums)
        assert {row["top"] for row in result["results"]} == {1, 5, 10}
        for row in result["results"]:
            one = decoded[row["thought"] - 1]
            hits = [
                results.of(q, row["step"] - 1)[0] in tokens[: row["top"]]
                for q, tokens in zip(one.numbers, one.tokens, strict=True)
                if results.of(q, row["step"] - 1)
            ]
            assert row["num_questions"] == len(hits)
            assert row["share"] == pytest.approx(fmean(hits), abs=1e-6)
        shares = {(r["thought"], r["step"], r["top"]): r["share"] for r in result["results"]}
        assert all(shares[i, j, 1] <= shares[i, j, 5] <= shares[i, j, 10] for i, j, _ in shares)

    def test_is_plain_and_complete(self, symbols, sums):
        for subject in (symbols, sums):
            done = []
            result = decoding.measure(subject, done.append)
            assert sum(done) == len(subject.examples) and is_plain(result)
            assert bool(result["nodes"]) == (subject is symbols)
            assert bool(result["results"]) == (subject is not symbols)
            assert [one["id"] for one in result["examples"]] == [e.id for e in subject.examples]

    def test_examples_are_the_first_questions(self, symbols, monkeypatch):
        monkeypatch.setattr(decoding, "NUM_EXAMPLES", 3)
        shown = decoding.measure(symbols)["examples"]
        assert [one["id"] for one in shown] == ["test-0", "test-1", "test-2"]
        tokens = decode(symbols, 5)
        for number, one in enumerate(shown):
            assert one["question"] == symbols.examples[number].question
            assert [len(thought) for thought in one["thoughts"]] == [5, 5]
            texts = [token["token"] for token in one["thoughts"][1]]
            ids = tokens[1].tokens[number]
            assert texts == [symbols.reasoner.tokenizer.decode([i]) for i in ids]

    def test_controls_and_refusals(self, symbols):
        result = decoding.measure(with_info(symbols, method="pause-multipass"))
        assert "where a thought would be" in result["thought_meaning"]


class TestFigure:
    def test_is_drawn_from_the_file_alone(self, sums):
        plain = subject_of(sums.reasoner, [replace(e, steps=()) for e in sums.examples])
        plain = with_info(plain, plan=Plan(2))
        for subject in (sums, plain):  # with graphs: test_every_analysis.py
            result = json.loads(json.dumps(decoding.measure(subject)))
            figures, tables = decoding.draw(result), ANALYSES["decoding"].rows(result)
            for figure in figures.values():
                figure.draw_without_rendering()
            assert ("decoding-results" in figures) == bool(result["results"])
            assert set(figures) <= set(tables)
            for rows in tables.values():
                for row in rows:
                    assert all(not isinstance(value, list | dict) for value in row.values())

    def test_stacks_no_more_than_all_questions(self):
        """With few questions that have nodes of a group, shares of groups do not add up to 1."""
        short, long = prosqa("two-family", 6, layers=1), prosqa("two-family", 6, layers=3)
        subject = fresh_subject([*short, *long], num_stages=2)
        result = decoding.measure(subject)
        assert {r["num_questions"] for r in result["nodes"]} == {6, 12}
        named = decoding.draw(result)["decoding"].axes[1]
        for thought in (1, 2):
            wide = [
                bar
                for bars in named.containers
                for bar in bars
                if bar.get_width() == 0.4 and abs(bar.get_center()[0] - thought) < 0.5
            ]
            rows = [r for r in result["nodes"] if r["thought"] == thought]
            parts = [r for r in rows if r["group"] != "frontier"]
            share = sum(round(r["share"] * r["num_questions"]) for r in parts) / 12
            assert sum(bar.get_height() for bar in wide) == pytest.approx(share, abs=1e-5)
            assert max(bar.get_y() + bar.get_height() for bar in wide) <= 1 + 1e-6
