"""What models write after k thoughts: on texts made by hand, and on tiny models in both forms."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latentcot import load
from latentcot.analysis import outcomes
from latentcot.analysis.outcomes import forced_numbers, hidden_steps, measure
from latentcot.analysis.registry import ANALYSES
from latentcot.analysis.shared.paths import OUTCOMES, Form, Judge, read
from latentcot.analysis.shared.style import save
from latentcot.analysis.shared.subject import Subject, open_subject
from latentcot.data.examples import Example, write_examples
from latentcot.errors import DataError
from latentcot.evaluation.evaluate import evaluate
from latentcot.evaluation.reasoner import Output, Reasoner
from latentcot.evaluation.statistics import holm, mcnemar, share_with_interval
from latentcot.tasks import extract_answer
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named
from latentcot.training.train import train

# Tom → b → d and Tom → c → d → e; Max → f elsewhere.
GRAPH = {
    "idx_to_symbol": ["0", "1", "2", "3", "4", "5", "6"],
    "edges": [[0, 2], [0, 3], [2, 4], [3, 4], [4, 5], [1, 6]],
    "root": 0, "target": 5, "neg_target": 6,
}  # fmt: skip


def example_number(number: int) -> Example:
    question = "0 2 0 3 2 4 3 4 4 5 1 6 [Q] 5 6 [R] 0"
    return Example(f"q{number}", question, ("2", "4", "5"), "5", GRAPH)


def subject_of(reasoner: Reasoner, examples: Sequence[Example], name: str = "mine") -> Subject:
    return Subject(name, reasoner, tuple(examples), tuple(reasoner.encode(examples)), batch_size=3)


Scripted = Callable[..., Subject]


@pytest.fixture
def scripted(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A function (k → texts) → a subject whose model writes these, forced or not."""

    def make(texts: dict[int | None, list[str]], count: int = 4) -> Subject:
        subject = subject_of(load(tiny_run), [example_number(i) for i in range(count)])

        def answers(
            self: Subject, k: int | None = None, *, force_steps: bool, on_progress: Any
        ) -> list[Output]:
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


def test_rows_count_what_was_written(scripted: Scripted) -> None:
    texts = {
        0: ["2 4 5 [A] 5", "3 4 5 [A] 6", "4 5 [A] 5", "1 6 [A] 6"],
        1: ["4 5 [A] 5", "5 [A] 5", "2…", "[A] 6"],
    }
    done: list[int] = []
    found = measure(scripted(texts), done.append)
    assert sum(done) == 4 * 7 * 2
    first, second, *_ = found["by_k"]
    assert first["k"] == 0
    assert first["num_questions"] == 4
    assert first["accuracy"] == 0.5
    assert (first["low"], first["high"]) == pytest.approx(share_with_interval(2, 4)[1:], abs=1e-6)
    # Without thoughts a chain must begin at the root: "4 5" does not.
    assert first["shares"] == dict.fromkeys(OUTCOMES, 0) | {
        "correct_path": 0.5,
        "hallucination": 0.5,
    }
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


def test_one_series_is_forced_to_write_a_step(scripted: Scripted) -> None:
    free, forced = measure(scripted({}))["series"]
    assert {row["shares"]["correct_label"] for row in free["by_k"]} == {1}
    assert forced["by_k"][1]["shares"]["correct_path"] == 1
    assert forced["questions"][0]["texts"] == ["5 [A] 5"] * 7


def test_names_cut_off_at_the_limit_are_none(scripted: Scripted) -> None:
    subject = scripted({1: ["2 4", "2 4…", "2 4 ", "4…"]})
    names = ("0", "1", "2", "3", "44", "5", "6")
    subject.__dict__["graphs"] = tuple(replace(graph, names=names) for graph in subject.graphs)
    outcome = [question["outcomes"][1] for question in measure(subject)["questions"]]
    assert outcome == ["hallucination", "wrong_target", "hallucination", "incorrect_label"]


def test_p_values_compare_with_the_trained_number(scripted: Scripted) -> None:
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


def test_chains_of_several_lengths_are_compared_with_their_own_number(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasoner = load(tiny_run)
    object.__setattr__(reasoner.rules.plan, "pad_to_num_stages", False)
    short = Example("short", "0 2 1 3 [Q] 2 3 [R] 0", ("2",), "2", GRAPH | {
        "idx_to_symbol": ["0", "1", "2", "3"], "edges": [[0, 2], [1, 3]],
        "target": 2, "neg_target": 3,
    })  # fmt: skip
    subject = subject_of(reasoner, [example_number(0), short])
    found = measure(subject)
    assert (found["num_thoughts"], found["num_thoughts_varies"]) == (2, True)
    assert found["series"][0]["as_trained"]["k"] is None
    assert all(row["p"] is not None for row in found["by_k"])
    assert hidden_steps(subject, None, "given_k") == [(2, 2), (1, 1)]


def test_hidden_steps_are_thoughts_by_c(tiny_run: Path) -> None:
    subject = subject_of(load(tiny_run), [example_number(0)])
    assert hidden_steps(subject, 0, "any") == [(0,)]
    assert hidden_steps(subject, 3, "any") == [None]
    assert hidden_steps(subject, 3, "given_k") == [(3, 3)]
    object.__setattr__(subject.reasoner.rules.plan, "thoughts_per_step", 2)
    assert hidden_steps(subject, 3, "given_k") == [(1, 2)]
    assert hidden_steps(subject, 4, "given_k") == [(2, 2)]
    assert hidden_steps(subject, 0, "given_k") == [(0, 0)]


# --- tiny models ----------------------------------------------------------------------------------


def test_of_a_tiny_model(babbler: Reasoner, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "NUM_TEXTS", 2)
    subject = open_subject_with(babbler, data)
    found = json.loads(json.dumps(measure(subject)))
    assert [row["k"] for row in found["by_k"]] == list(range(7))
    assert (found["form"], found["num_thoughts"], found["left_out"]) == ("symbols", 2, None)
    assert found["num_thoughts_varies"] is False
    for series in found["series"]:
        for row in series["by_k"]:
            one = evaluate(
                babbler,
                subject.examples,
                num_thoughts=row["k"],
                force_steps=series["forced_steps"],
            )
            assert row["accuracy"] == pytest.approx(one.accuracy.value, abs=1e-6)
            assert sum(row["shares"].values()) == pytest.approx(1, abs=1e-5)
            for reading in row["other_readings"].values():
                assert sum(reading.values()) == pytest.approx(1, abs=1e-5)
            if not series["forced_steps"]:
                for record, question in zip(one.records, found["questions"], strict=True):
                    assert question["answers"][row["k"]] == record.answer
                    if "texts" in question:
                        assert question["texts"][row["k"]] == record.text
    assert [("texts" in question) for question in found["questions"][:3]] == [True, True, False]
    assert found["series"][0]["questions"] is None
    assert [q["id"] for q in found["series"][1]["questions"]] == [e.id for e in subject.examples]
    labels = [row["shares"]["correct_label"] for row in found["series"][1]["by_k"]]
    labels += [row["shares"]["incorrect_label"] for row in found["series"][1]["by_k"]]
    assert set(labels) == {0}


def open_subject_with(reasoner: Reasoner, data: Path) -> Subject:
    from latentcot import read_examples

    return subject_of(reasoner, read_examples(data / "test.jsonl"))


def test_numbers_that_do_not_fit_are_left_out(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of(load(tiny_run), [example_number(0)])
    # 17 of the question, <bot>, <eot>, 3 steps, "[A] 5" and the end of text: 25, and the thoughts.
    for limit, last in ((31, 6), (30, 5), (26, 1), (25, 0)):
        monkeypatch.setattr(outcomes, "max_positions", lambda model, limit=limit: limit)
        numbers, reason = forced_numbers(subject)
        assert numbers == list(range(last + 1))
        assert (reason is None) == (last == 6)
        if reason is not None:
            assert f"k from {last + 1} to 6" in reason and "up to 31 positions" in reason
    subject.reasoner.model.config.max_position_embeddings = 20
    with pytest.raises(DataError, match="the model has 20"):
        measure(subject)


def test_more_thoughts_than_six_where_training_had_more(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Subject, "most_thoughts", 8)
    assert forced_numbers(subject_of(load(tiny_run), [example_number(0)]))[0] == list(range(9))


@pytest.mark.parametrize("method", ["cot", "no-cot", "coconut-no-thought"])
def test_methods_without_latents_have_one_row(
    method: str, make_recipe: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    train(make_recipe(method, training={"max_updates": 9}), tmp_path / method, is_quiet=True)
    subject = open_subject(tmp_path / method, str(data / "test.jsonl"), limit=4)
    found = measure(subject)
    assert [row["k"] for row in found["by_k"]] == [0]
    assert found["by_k"][0]["p"] is None
    expected = (0,) if method == "cot" else None
    assert (
        hidden_steps(subject, None, "any") == hidden_steps(subject, 0, "given_k") == [expected] * 4
    )
    assert set(outcomes.draw(found)) == {"outcomes", "outcomes-step-first"}


@pytest.mark.parametrize("tokenizer", ["words", "bpe"])
def test_in_words(tokenizer: str, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    """The official wording, and names of one token or of several."""
    sizes = {"train": 24, "valid": 4, "test": 6}
    for split, examples in make_splits(options_named("paper"), sizes, seed=0).items():
        write_examples(tmp_path / f"{split}.jsonl", examples)
    recipe = make_recipe(
        data={split: str(tmp_path / f"{split}.jsonl") for split in sizes},
        model={"tokenizer": tokenizer, "num_positions": 1024},
        template={"question_end": "\n", "step_end": "\n", "answer_start": "### "},
        training={"max_updates": 1},
        generation={"max_new_tokens": 40},
    )
    train(recipe, tmp_path / "run", is_quiet=True)
    subject = open_subject(tmp_path / "run", str(tmp_path / "test.jsonl"))
    found = measure(subject)
    assert found["form"] == "words"
    assert [row["k"] for row in found["by_k"]] == list(range(7))
    # What a model that has learned its task would write is read as what it means.
    form = Form(is_in_words=True, answer_start="### ", step_end="\n")
    for encoded, graph in zip(subject.encoded, subject.graphs, strict=True):
        for k in range(len(encoded.steps or ())):
            words = [token for step in (encoded.steps or ())[k:] for token in step]
            text = str(subject.reasoner.tokenizer.decode([*words, *encoded.answer]))
            written = read(text, form, graph.names)
            assert Judge(graph).outcome(written, is_right=True, hidden=(k,)) == "correct_path"
            assert len(written.edges) == len(encoded.steps or ()) - k
            assert not written.has_junk and not written.is_inconsistent


# --- the figure -----------------------------------------------------------------------------------


def test_the_figure_needs_the_result_alone(scripted: Scripted, tmp_path: Path) -> None:
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


def test_rows_are_one_a_series_number_and_outcome(scripted: Scripted) -> None:
    found = ANALYSES["outcomes"].rows(measure(scripted({0: ["2 4 5 [A] 5"] * 4})))["outcomes"]
    assert len(found) == 2 * 7 * 6
    first = found[0]
    assert (first["series"], first["k"], first["outcome"]) == ("free", 0, "correct_path")
    assert (first["share"], first["given_k"], first["open"], first["p"]) == (1, 1, 1, 1)
    assert {len(row) for row in found} == {len(first)}
