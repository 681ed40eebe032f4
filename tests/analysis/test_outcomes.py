"""What models write after k thoughts: on texts made by hand, and on tiny models in both forms."""

import json
from dataclasses import replace

import pytest

from fresh import subject_of, with_info
from latentcot import Example, load
from latentcot.analysis import outcomes
from latentcot.analysis.outcomes import hidden_steps, measure
from latentcot.analysis.registry import ANALYSES
from latentcot.analysis.shared import values
from latentcot.analysis.shared.paths import OUTCOMES, Form, Judge, read
from latentcot.analysis.shared.style import save
from latentcot.analysis.shared.subject import Subject
from latentcot.analysis.shared.values import forced_numbers
from latentcot.errors import DataError, UsageError
from latentcot.evaluation.evaluate import evaluate
from latentcot.evaluation.reasoner import Output
from latentcot.evaluation.statistics import holm, mcnemar, share_with_interval
from latentcot.tasks import extract_answer
from subjects import graph_examples, untrained

# Tom → b → d and Tom → c → d → e; Max → f elsewhere.
GRAPH = {
    "idx_to_symbol": ["0", "1", "2", "3", "4", "5", "6"],
    "edges": [[0, 2], [0, 3], [2, 4], [3, 4], [4, 5], [1, 6]],
    "root": 0, "target": 5, "neg_target": 6,
}  # fmt: skip


def example_number(number):
    question = "0 2 0 3 2 4 3 4 4 5 1 6 [Q] 5 6 [R] 0"
    return Example(f"q{number}", question, ("2", "4", "5"), "5", GRAPH)


@pytest.fixture
def one(tiny_run):
    """A trained model and one question."""
    return subject_of(load(tiny_run), [example_number(0)])


@pytest.fixture
def scripted(tiny_run, monkeypatch):
    """A function (k → texts) → a subject whose model writes these, forced or not."""

    def make(texts, count=4):
        subject = subject_of(load(tiny_run), [example_number(i) for i in range(count)])

        def answers(self, k=None, *, force_steps, on_progress):
            on_progress(count)
            found = []
            for text in texts.get(k, ["[A] 5"] * count):
                words = ("5 " if force_steps else "") + text.removesuffix("…")
                is_finished = not text.endswith("…")
                found.append(Output(words, extract_answer(words, "[A] "), 0, 0, 0, is_finished))
            return found

        monkeypatch.setattr(Subject, "answers", answers)
        return subject

    return make


def test_rows_count_what_was_written(scripted):
    texts = {
        0: ["2 4 5 [A] 5", "3 4 5 [A] 6", "4 5 [A] 5", "1 6 [A] 6"],
        1: ["4 5 [A] 5", "5 [A] 5", "2…", "[A] 6"],
    }
    done = []
    found = measure(scripted(texts), done.append)
    assert sum(done) == 4 * 7 * 2
    first, second, *_ = found["by_k"]
    assert (first["k"], first["num_questions"], first["accuracy"]) == (0, 4, 0.5)
    assert (first["low"], first["high"]) == pytest.approx(share_with_interval(2, 4)[1:], abs=1e-6)
    # Without thoughts a chain must begin at the root: "4 5" does not.
    shares = {"correct_path": 0.5, "hallucination": 0.5}
    assert first["shares"] == dict.fromkeys(OUTCOMES, 0) | shares
    low, high = share_with_interval(2, 4)[1:]
    assert first["intervals"]["hallucination"] == pytest.approx([low, high], abs=1e-6)
    assert first["num_inconsistent"] == 1
    assert second["shares"] == dict.fromkeys(OUTCOMES, 0) | {
        "correct_path": 0.5,  # "5" may have two steps before it
        "wrong_target": 0.25,
        "incorrect_label": 0.25,
    }
    assert second["other_readings"]["given_k"]["hallucination"] == 0.5  # "5", and "2" after a step
    assert second["other_readings"]["open"]["correct_path"] == 0.75  # "2" may go on to 4 and 5
    assert (second["num_without_answer"], second["num_unfinished"]) == (1, 1)
    assert found["questions"][2] == {
        "id": "q2",
        "outcomes": ["hallucination", "wrong_target", *["correct_label"] * 5],
        "answers": ["5", "", *["5"] * 5],
        "texts": ["4 5 [A] 5", "2", *["[A] 5"] * 5],
    }


def test_one_series_is_forced_to_write_a_step(scripted):
    free, forced = measure(scripted({}))["series"]
    assert {row["shares"]["correct_label"] for row in free["by_k"]} == {1}
    assert forced["by_k"][1]["shares"]["correct_path"] == 1
    assert forced["questions"][0]["texts"] == ["5 [A] 5"] * 7


def test_names_cut_off_at_the_limit_are_none(scripted):
    subject = scripted({1: ["2 4", "2 4…", "2 4 ", "4…"]})
    names = ("0", "1", "2", "3", "44", "5", "6")
    subject.__dict__["graphs"] = tuple(replace(graph, names=names) for graph in subject.graphs)
    outcome = [question["outcomes"][1] for question in measure(subject)["questions"]]
    assert outcome == ["hallucination", "wrong_target", "hallucination", "incorrect_label"]


def test_p_values_compare_with_the_trained_number(scripted):
    right, wrong = "[A] 5", "[A] 6"
    count = 20
    texts = {k: [right] * (count - k) + [wrong] * k for k in range(7)}
    texts[2] = [right] * count  # trained with 2 thoughts
    [free, forced] = measure(scripted(texts, count))["series"]
    assert free["as_trained"]["k"] == 2
    expected = iter(holm([mcnemar(0, k) for k in (0, 1, 3, 4, 5, 6)]))
    for row in free["by_k"]:
        assert row["p"] == (None if row["k"] == 2 else pytest.approx(next(expected), rel=1e-2))
    assert free["by_k"][6]["p"] < free["by_k"][0]["p"] == 1
    assert (free["forced_steps"], forced["forced_steps"]) == (False, True)


def test_chains_of_several_lengths_are_compared_with_their_own_number(one):
    object.__setattr__(one.reasoner.rules.plan, "pad_to_num_stages", False)
    short = Example("short", "0 2 1 3 [Q] 2 3 [R] 0", ("2",), "2", GRAPH | {
        "idx_to_symbol": ["0", "1", "2", "3"], "edges": [[0, 2], [1, 3]],
        "target": 2, "neg_target": 3,
    })  # fmt: skip
    subject = subject_of(one.reasoner, [example_number(0), short])
    found = measure(subject)
    assert (found["num_thoughts"], found["num_thoughts_varies"]) == (2, True)
    assert found["series"][0]["as_trained"]["k"] is None
    assert all(row["p"] is not None for row in found["by_k"])
    assert hidden_steps(subject, None, "given_k") == [(2, 2), (1, 1)]


def test_hidden_steps_are_thoughts_by_c(one):
    assert hidden_steps(one, 0, "any") == [(0,)]
    assert hidden_steps(one, 3, "any") == [None]
    assert hidden_steps(one, 3, "given_k") == [(3, 3)]
    object.__setattr__(one.reasoner.rules.plan, "thoughts_per_step", 2)
    found = [hidden_steps(one, k, "given_k") for k in (0, 3, 4)]
    assert found == [[(0, 0)], [(1, 2)], [(2, 2)]]


# --- tiny models ----------------------------------------------------------------------------------


def test_of_a_tiny_model(symbols, monkeypatch):
    monkeypatch.setattr(outcomes, "NUM_TEXTS", 2)
    found = json.loads(json.dumps(measure(symbols)))
    assert [row["k"] for row in found["by_k"]] == list(range(7))
    assert (found["form"], found["num_thoughts"], found["left_out"]) == ("symbols", 2, None)
    assert found["num_thoughts_varies"] is False
    free, forced = found["series"]
    for row in (*free["by_k"], *forced["by_k"]):
        for shares in (row["shares"], *row["other_readings"].values()):
            assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    for k in (0, 2, 6):
        asked = [
            evaluate(symbols.reasoner, symbols.examples, num_thoughts=k, force_steps=is_forced)
            for is_forced in (False, True)
        ]
        for series, evaluation in zip(found["series"], asked, strict=True):
            accuracy = series["by_k"][k]["accuracy"]
            assert accuracy == pytest.approx(evaluation.accuracy.value, abs=1e-6)
        for i, (record, question) in enumerate(
            zip(asked[0].records, found["questions"], strict=True)
        ):
            assert question["answers"][k] == record.answer
            assert question.get("texts", [None] * 7)[k] == (record.text if i < 2 else None)
    assert free["questions"] is None
    assert [q["id"] for q in forced["questions"]] == [e.id for e in symbols.examples]
    labels = ("correct_label", "incorrect_label")
    assert {row["shares"][label] for row in forced["by_k"] for label in labels} == {0}


# 17 of the question, <bot>, <eot>; 3 steps, "[A] 5" and the end of text: 25, and the thoughts.
@pytest.mark.parametrize(("limit", "last"), [(31, 6), (30, 5), (26, 1), (25, 0)])
def test_numbers_that_do_not_fit_are_left_out(one, monkeypatch, limit, last):
    monkeypatch.setattr(values, "max_positions", lambda model: limit)
    numbers, reason = forced_numbers(one, 6)
    assert numbers == list(range(last + 1))
    if last == 6:
        assert reason is None
    else:
        assert f"k from {last + 1} to 6" in reason and "up to 31 positions" in reason


def test_questions_that_do_not_fit_are_refused(one):
    one.reasoner.model.config.max_position_embeddings = 20
    with pytest.raises(DataError, match="the model has 20"):
        measure(one)


def test_more_thoughts_than_six_where_training_had_more(one, monkeypatch):
    monkeypatch.setattr(Subject, "most_thoughts", 8)
    assert forced_numbers(one, 8)[0] == list(range(9))


@pytest.mark.parametrize("method", ["cot", "no-cot", "coconut-no-thought"])
def test_methods_without_latents_have_one_row(symbols, method):
    subject = with_info(symbols.first(4), method=method, num_thoughts=0)
    found = measure(subject)
    assert [(row["k"], row["p"]) for row in found["by_k"]] == [(0, None)]
    expected = [(0,) if method == "cot" else None] * 4
    assert hidden_steps(subject, None, "any") == hidden_steps(subject, 0, "given_k") == expected
    assert set(outcomes.draw(found)) == {"outcomes", "outcomes-step-first"}


@pytest.mark.parametrize("tokenizer", ["words", "bpe"])
def test_in_words(tokenizer):
    """What a model that has learned its task would write is read as what it means."""
    subject = untrained("words", tokenizer, examples=graph_examples("words", 6))
    template = subject.reasoner.info.template
    form = Form(is_in_words=True, answer_start=template.answer_start, step_end=template.step_end)
    for encoded, graph in zip(subject.encoded, subject.graphs, strict=True):
        for k in range(len(encoded.steps)):
            words = [token for step in encoded.steps[k:] for token in step]
            text = subject.reasoner.tokenizer.decode([*words, *encoded.answer])
            written = read(text, form, graph.names)
            assert Judge(graph).outcome(written, is_right=True, hidden=(k,)) == "correct_path"
            assert len(written.edges) == len(encoded.steps) - k
            assert not written.has_junk and not written.is_inconsistent


# --- the figure -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_figure_needs_the_result_alone(scripted, tmp_path):
    found = json.loads(json.dumps(measure(scripted({0: ["2 4 5 [A] 5"] * 4}))))
    drawn = outcomes.draw(found)
    for name, one in drawn.items():
        save(one, tmp_path / name)
        assert (tmp_path / f"{name}.png").stat().st_size > 1_000
    above, below = drawn["outcomes"].axes
    assert above.get_ylabel() == "accuracy"
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in below.containers}
    assert heights["correct path"] == [1, 0, 0, 0, 0, 0, 0]
    assert heights["correct label"] == [0, 1, 1, 1, 1, 1, 1]
    assert len({bars[0].get_hatch() for bars in below.containers}) == 6
    assert [tick.get_text() for tick in below.get_xticklabels()][2] == "2\n(trained)"


def test_rows_are_one_a_series_number_and_outcome(scripted):
    found = ANALYSES["outcomes"].rows(measure(scripted({0: ["2 4 5 [A] 5"] * 4})))["outcomes"]
    assert len(found) == 2 * 7 * 6
    first = found[0]
    assert (first["series"], first["k"], first["outcome"]) == ("free", 0, "correct_path")
    assert (first["share"], first["given_k"], first["open"], first["p"]) == (1, 1, 1, 1)
    assert {len(row) for row in found} == {len(first)}


def test_chains_that_are_no_paths_are_refused():
    """Every chain of a frontier would count as hallucinated."""
    subject = untrained("symbols", method="cot-bfs")
    with pytest.raises(UsageError, match="cot-bfs is taught chains that are no paths"):
        measure(subject)


def test_compressed_chains_had_as_many_thoughts_as_they_are_long():
    subject = untrained("symbols", method="colar")
    assert outcomes.own_numbers(subject) == [2, 1, 2]
