"""Accuracy, cost and records, on models whose answers are known."""

import json
from collections import Counter
from dataclasses import asdict, replace

import pytest

from latentcot import Evaluation, evaluate, load, read_examples, train
from latentcot.cli.shared.tables import print_evaluation
from latentcot.data.formats import source_hash
from latentcot.errors import RunError
from latentcot.evaluation.results import Estimate, Evaluated, Questions, Record
from latentcot.evaluation.statistics import percent, share_with_interval
from latentcot.methods import method_named
from latentcot.tasks import AnswerMatch
from latentcot.utils.versions import EVALUATION_VERSION
from subjects import untrained


@pytest.fixture
def examples(data):
    return read_examples(data / "test.jsonl")


def test_a_model_that_always_gives_one_answer(speaker, examples):
    """ "[A] X": two words, two thoughts; question, thoughts, X and end of text take five passes.

    The paper counts words and thoughts, but no special tokens and no end of text.
    """
    answer, count = Counter(example.answer for example in examples).most_common(1)[0]
    assert 0 < count < 8
    result = evaluate(speaker("[A]", answer), examples)
    assert result.accuracy == Estimate(*share_with_interval(count, 8), 8)
    assert (result.method, result.stage, result.last_stage) == ("coconut", 2, 2)
    assert (result.tokens_per_question, result.thoughts_per_question) == (4, 2)
    assert result.passes_per_question == 5
    assert result.seconds_per_question > 0
    assert result.records == tuple(
        Record(
            id=example.id,
            gold=example.answer,
            answer=answer,
            is_correct=example.answer == answer,
            text=f"[A] {answer}",
            num_tokens=4,
            num_thoughts=2,
            num_passes=5,
            is_finished=True,
            chain_thoughts=2,
        )
        for example in examples
    )
    assert result.summary().keys() == asdict(result).keys() - {"records"}


def test_without_the_words_before_the_answer_there_is_none(speaker, examples):
    result = evaluate(speaker(examples[0].answer), examples)
    assert {record.answer for record in result.records} == {""}
    assert result.accuracy.value == 0


def test_words_are_cut_at_the_limit(speaker, examples):
    result = evaluate(speaker("[A]", "1", "2"), examples, max_new_tokens=2)
    assert {(r.text, r.num_tokens, r.num_passes, r.is_finished) for r in result.records} == {
        ("[A] 1", 4, 4, False)
    }


def test_records_are_what_generate_gives(babbler, examples):
    counts = []
    result = evaluate(babbler, examples, batch_size=3, on_progress=counts.append)
    assert sum(counts) == len(examples) and len(counts) == 3
    for record, example in zip(result.records, examples, strict=True):
        [output] = babbler.generate([example.question])
        assert asdict(output).items() <= asdict(record).items()
    assert len({record.text for record in result.records}) > 4  # it does look at the question
    mean = sum(record.num_tokens for record in result.records) / len(examples)
    assert result.tokens_per_question == pytest.approx(mean)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_answers_do_not_depend_on_the_batch_size(babbler, examples, batch_size):
    result = evaluate(babbler, examples, batch_size=batch_size)
    assert result.records == evaluate(babbler, examples).records
    assert result.batch_size == batch_size


@pytest.mark.parametrize("num_thoughts", [0, 1, 5])
def test_the_number_of_thoughts_can_be_forced(babbler, examples, num_thoughts):
    result = evaluate(babbler, examples, num_thoughts=num_thoughts)
    assert {record.num_thoughts for record in result.records} == {num_thoughts}
    assert result.thoughts_per_question == num_thoughts
    for record in result.records:
        assert record.num_passes == record.num_tokens + record.is_finished  # thoughts are tokens
    ordinary = evaluate(babbler, examples)
    assert [r.text for r in result.records] != [r.text for r in ordinary.records]


def test_latents_are_counted_as_in_training(babbler, examples):
    """Without padding an example has no more thoughts than steps, in evaluation too."""
    plan = replace(babbler.rules.plan, pad_to_num_stages=False)
    babbler.rules = replace(babbler.rules, plan=plan)
    short = [replace(e, steps=e.steps[: 1 + i % 2]) for i, e in enumerate(examples)]
    result = evaluate(babbler, short)
    assert [record.num_thoughts for record in result.records] == [1, 2] * 4


def test_how_often_latent_mode_ends_where_the_chain_would(babbler, examples):
    """Chains of 1 and 2 steps in turn, but always as many thoughts as the longer ones take."""
    short = [replace(e, steps=e.steps[: 1 + i % 2]) for i, e in enumerate(examples)]
    result = evaluate(babbler, short)
    assert [record.chain_thoughts for record in result.records] == [1, 2] * 4
    assert result.share_stopped_with_chain == 0.5
    assert evaluate(babbler, short, num_thoughts=1).share_stopped_with_chain == 0.5
    assert evaluate(babbler, short, num_thoughts=3).share_stopped_with_chain == 0
    assert evaluate(babbler, examples).share_stopped_with_chain == 1
    # A chain of more steps than there are stages takes no more thoughts.
    long = [replace(example, steps=example.steps * 3) for example in examples]
    assert {record.chain_thoughts for record in evaluate(babbler, long).records} == {2}


def test_latents_that_are_not_counted_by_steps_tell_nothing_of_it(examples):
    codi = {"name": "codi", "projection": "identity"}
    subject = untrained("symbols", examples=examples, method=codi)
    result = evaluate(subject.reasoner, examples)
    assert result.share_stopped_with_chain is None
    assert {record.chain_thoughts for record in result.records} == {None}


def test_questions_without_a_chain_tell_nothing_of_it(babbler, examples):
    some = evaluate(babbler, [replace(examples[0], steps=()), *examples[1:]])
    assert some.records[0].chain_thoughts is None
    assert some.share_stopped_with_chain == 1  # of those that have one
    none = [replace(example, steps=()) for example in examples]
    assert evaluate(babbler, none).share_stopped_with_chain is None


def test_steps_can_be_forced(speaker, examples):
    result = evaluate(speaker("[A]", examples[0].answer), examples, force_steps=True)
    assert not any(record.text.startswith("[A]") for record in result.records)


def test_pauses_are_no_tokens(babbler, examples):
    """The paper's count: No-CoT and its pauses 8.2 on ProsQA, Coconut's six thoughts more."""
    ordinary = evaluate(babbler, examples)
    babbler.method = method_named("pause-multipass")
    result = evaluate(babbler, examples)  # as many latent positions, filled as before
    assert [r.text for r in result.records] == [r.text for r in ordinary.records]
    assert result.thoughts_per_question == 0
    assert result.tokens_per_question == ordinary.tokens_per_question - 2
    assert result.passes_per_question == ordinary.passes_per_question
    assert result.share_stopped_with_chain is None


def test_thoughts_that_chains_have_told_are_noted(make_recipe, data, tmp_path):
    """A question alone could not tell how many: what it would get is named."""
    rules = {"pad_to_num_stages": False, "num_stages": 3}
    recipe = make_recipe(curriculum=rules, training={"max_updates": 24})
    assert train(recipe, tmp_path / "run", is_quiet=True)
    reasoner, examples = load(tmp_path / "run"), read_examples(data / "test.jsonl")
    full = reasoner.info.num_thoughts
    told = evaluate(reasoner, examples).notes
    assert any(f"--num-thoughts {full}" in note for note in told)
    assert evaluate(reasoner, examples, num_thoughts=full).notes == ()


def test_the_result_file(tiny_run, data, latentcot, tmp_path):
    file, out = data / "test.jsonl", tmp_path / "new" / "it.json"
    assert latentcot("eval", tiny_run, "--out", out).code == 0
    written = json.loads(out.read_text())
    assert written["format_version"] == EVALUATION_VERSION
    assert written["checkpoint"] == {"path": str(tiny_run), "update": 12, "updates": 12}
    assert written["data"] == {"file": str(file), "sha256": source_hash(file)}
    assert {"command", "commit", "versions", "machine", "python"} <= written["provenance"].keys()

    read, expected = Evaluation.read(out), evaluate(load(tiny_run), read_examples(file))
    same = {"checkpoint": None, "data": None, "provenance": None, "notes": ()}
    same |= {"seconds_per_question": 0.0}
    assert any("before they were learned" in note for note in read.notes)
    assert len(written.pop("sha256")) == 64
    assert json.loads(json.dumps(read.values())) == written
    assert replace(read, **same) == replace(expected, **same)


@pytest.mark.parametrize("is_hashed", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"is_correct": true', '"is_correct": false'),
        ('"value": 0.', '"value": 0.4'),
        ('"n": 8', '"n": 9'),
        ('"answer": "', '"answer": "1'),
    ],
)
def test_a_result_that_was_changed_is_refused(speaker, examples, tmp_path, old, new, is_hashed):
    """One flipped bit made 42.5 % of 2.5 %, in a comparison that was published."""
    path = tmp_path / "test.json"
    result = evaluate(speaker("[A]", examples[0].answer), examples)
    questions, checkpoint = Questions("0" * 64), Evaluated(1)
    replace(result, data=questions, checkpoint=checkpoint).write(path)
    assert Evaluation.read(path).accuracy == result.accuracy
    text = path.read_text()
    if not is_hashed:  # as files of older versions
        text = json.dumps({k: v for k, v in json.loads(text).items() if k != "sha256"}, indent=1)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if is_hashed:
        with pytest.raises(RunError, match="does not hold what was written there"):
            Evaluation.read(path)
    elif "answer" not in old:
        with pytest.raises(RunError, match="its accuracy is not that of its records"):
            Evaluation.read(path)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1, "100.0 %"), (0.9995, "99.9 %"), (0.5, "50.0 %"), (0.0001, "0.1 %"), (0, "0.0 %")],
)
def test_no_mistake_and_no_hit_is_rounded_away(share, shown):
    assert percent(share) == shown


def test_answers_that_are_right_as_numbers_are_told(speaker, examples, capsys):
    """A gold answer of 15.0 is never the text 15: 0.0 % of a model that is right."""
    result = evaluate(speaker("[A]", "1"), examples)
    records = tuple(replace(one, gold="1.0", is_correct=False) for one in result.records)
    print_evaluation(replace(result, records=records), None)
    assert "8 of 8 wrong answers, such as '1' for '1.0': --match number" in capsys.readouterr().out
    told = [replace(example, answer="1") for example in examples]
    assert evaluate(speaker("[A]", "1"), told, match=AnswerMatch("number")).accuracy.value == 1
    print_evaluation(result, None)
    assert "--match" not in capsys.readouterr().out
