"""Several answers to each question: what k of them are worth, held to counting by hand."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from latentcot import Evaluation, Perturbation, Sampling, evaluate, read_examples
from latentcot.cli.shared.tables import print_evaluation
from latentcot.errors import UsageError
from latentcot.evaluation.results import Evaluated, Questions, Record, Sample
from latentcot.evaluation.samples import at_each_k, pass_at_k, vote
from latentcot.evaluation.scorer import fit_scorer, train_scorer
from latentcot.evaluation.statistics import share_interval
from latentcot.methods import method_named
from latentcot.tasks import same_number
from latentcot.tasks.scoring import same_text
from latentcot.thinking.decoding import Generation

FOUR = {"num_samples": 4, "perturbation": Perturbation(noise=1.0, seed=2)}


@pytest.fixture
def examples(data):
    return read_examples(data / "test.jsonl")


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_all_choices(n):
    for num_right in range(n + 1):
        right = [i < num_right for i in range(n)]
        for k in range(1, n + 1):
            choices = [any(one) for one in combinations(right, k)]
            expected = sum(choices) / len(choices)
            assert pass_at_k(n, num_right, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_of_many_samples_is_a_number():
    assert pass_at_k(10_000, 5_000, 10_000) == 1
    assert pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (["1", "2", "2"], 1),
        (["1", "2", "2", "1"], 0),  # of equally many, the one that came first
        (["", "", "3"], 2),  # a text without an answer has no vote
        (["", ""], 0),
        (["5", "4.0", "4"], 1),  # the same, says the task's rule
    ],
)
def test_the_vote(answers, chosen):
    assert vote(answers, same_number) == chosen


def records_of(*questions):
    """Records from letters: A and B are answers, of which A is right; - is none."""
    return [
        Record(
            str(number),
            is_correct=True,
            samples=tuple(
                Sample(one == "A", one.strip("-"), num_tokens=2, num_passes=3) for one in letters
            ),
        )
        for number, letters in enumerate(questions)
    ]


def test_what_k_samples_are_worth():
    found = at_each_k(records_of("ABBA-", "BBBBA"), same_text)
    assert [at.k for at in found] == [1, 2, 4, 5]
    # Runs of 2: AB → A, BA → B; BB, BB.
    assert [at.vote.value for at in found] == pytest.approx(
        [(2 / 5 + 1 / 5) / 2, 1 / 4, 1 / 2, 1 / 2]
    )
    passes = [(1 - 3 / 10) / 2 + (4 / 10) / 2, 1 / 2 + (4 / 5) / 2, 1]
    assert [at.pass_at_k.value for at in found[1:]] == pytest.approx(passes)
    assert found[0].pass_at_k.value == pytest.approx(found[0].vote.value)
    for at in found:
        assert (at.tokens, at.passes, at.pass_at_k.n) == (2 * at.k, 3 * at.k, 2)
        low, high = share_interval(at.pass_at_k.value, 2)
        assert (at.pass_at_k.low, at.pass_at_k.high) == (low, high)


def test_the_samples_are_in_the_result(babbler, examples, tmp_path, capsys):
    """As `generate` gives them; the record is that of the vote, and costs what all cost."""
    options = {"num_samples": 3, "perturbation": Perturbation(noise=1.0, seed=2)}
    counts = []
    result = evaluate(babbler, examples, batch_size=7, on_progress=counts.append, **options)
    assert sum(counts) == len(examples)
    outputs = babbler.generate([example.question for example in examples], **options)
    for number, record in enumerate(result.records):
        mine = outputs[3 * number : 3 * number + 3]
        assert [one.text for one in record.samples] == [output.text for output in mine]
        assert record.num_passes == sum(output.num_passes for output in mine)
        assert record.text == record.samples[vote([o.answer for o in mine], same_text)].text
    assert result.accuracy.value == result.sampled.at[-1].vote.value
    assert result.passes_per_question == result.sampled.at[-1].passes
    assert result.share_stopped_with_chain == 1  # of single samples, whose thoughts are not summed
    assert (result.sampled.num_samples, result.sampled.noise, result.sampled.seed) == (3, 1.0, 2)
    assert len({one.text for record in result.records for one in record.samples}) > 8

    result = replace(result, checkpoint=Evaluated(1), data=Questions("0" * 64))
    result.write(tmp_path / "test.json")
    read = Evaluation.read(tmp_path / "test.json")
    assert (read.sampled, read.records) == (result.sampled, result.records)
    print_evaluation(read, None)
    shown = capsys.readouterr().out
    assert "votes of 3 samples, noise 1" in shown and "pass@k" in shown


def test_one_sample_says_that_it_was_drawn(babbler, examples):
    result = evaluate(babbler, examples, perturbation=Perturbation(dropout=0.2))
    assert (result.sampled.num_samples, result.sampled.dropout) == (1, 0.2)
    assert result.accuracy.value == result.sampled.at[0].pass_at_k.value
    assert evaluate(babbler, examples, num_samples=1).sampled is None


def test_words_can_be_drawn(babbler, examples):
    options = {"num_samples": 4, "sampling": Sampling(temperature=1.5, seed=3)}
    result = evaluate(babbler, examples, **options)
    assert result.records == evaluate(babbler, examples, batch_size=3, **options).records
    assert (result.sampled.temperature, result.sampled.word_seed) == (1.5, 3)


def test_no_thoughts_no_noise(babbler, examples):
    """Of a method that reads tokens there, of one without, of no thoughts by force."""
    options = {"num_samples": 2, "perturbation": Perturbation(noise=1.0)}
    with pytest.raises(UsageError, match="no question has a latent position that is filled"):
        evaluate(babbler, examples, num_thoughts=0, **options)
    for name in ("coconut-pause-as-thought", "no-cot"):
        babbler.method = method_named(name)
        with pytest.raises(UsageError, match="Draw words instead"):
            evaluate(babbler, examples, **options)
    babbler.method = method_named("pause-multipass")  # one pass each: the control of the noise
    assert evaluate(babbler, examples, **options).thoughts_per_question == 0


def generations_of(features, log_probs):
    """Samples of one thought each, which ended there."""
    return [
        Generation((), True, torch.tensor([[one, 7.0]]), num_passes=1, log_prob=log_prob)
        for one, log_prob in zip(features, log_probs, strict=True)
    ]


def test_a_scorer_is_the_logistic_regression_that_it_says():
    """The gradient of its loss, written out, is zero. What is always the same has no weight."""
    random = torch.Generator().manual_seed(0)
    thoughts = torch.randn(60, generator=random, dtype=torch.float64)
    right = (thoughts + torch.randn(60, generator=random) > 0).tolist()
    log_probs = torch.rand(60, generator=random).neg().tolist()
    samples = generations_of(thoughts.tolist(), log_probs)
    scorer = fit_scorer(samples, right)
    scores = torch.tensor(scorer.scores(samples), dtype=torch.float64)
    wrong_by = scores.sigmoid() - torch.tensor(right).double()
    features = torch.stack([torch.tensor(log_probs), torch.tensor(thoughts.tolist())], 1).double()
    features = (features - features.mean(0)) / features.std(0, correction=0)
    weights = scorer.weights[[2, 0]]
    assert (features.T @ wrong_by + weights).abs().max() < 1e-3
    assert abs(wrong_by.sum()) < 1e-3
    assert scorer.weights[1] == 0 and weights[1] > 1


def test_the_best_of_k_is_the_one_with_the_highest_score():
    samples = [Sample(i == 2, f"{i}", score=score) for i, score in enumerate([0.1, -3, 0.9, 0.9])]
    found = at_each_k([Record("0", is_correct=True, samples=tuple(samples))], same_text)
    assert [at.best.value for at in found] == [1 / 4, 1 / 2, 1]


def test_a_scorer_puts_right_samples_first(babbler, examples):
    """On the questions that it was trained on, so that it must, if it can learn at all."""
    info = babbler.info  # whose answers are what stands behind a 1: there are enough of these
    babbler.info = replace(info, template=replace(info.template, answer_start="1 "))
    options = {"max_new_tokens": 4, **FOUR}
    told = []
    for example, record in zip(
        examples, evaluate(babbler, examples, **options).records, strict=True
    ):
        found = [one.answer for one in record.samples if one.answer and "<" not in one.answer]
        told += [replace(example, answer=found[-1])] if found else []
    result = evaluate(babbler, told, scorer=train_scorer(babbler, told, **options), **options)
    first, last = result.sampled.at[0], result.sampled.at[-1]
    assert first.best.value == pytest.approx(first.pass_at_k.value)
    assert first.best.value < last.best.value <= last.pass_at_k.value
    assert len({one.score for record in result.records for one in record.samples}) > 4


def test_a_scorer_must_have_something_to_learn(babbler, examples):
    with pytest.raises(UsageError, match="chooses among 2 samples or more, got 1"):
        train_scorer(babbler, examples)
    with pytest.raises(UsageError, match="but 0 of its 32 samples are right"):
        train_scorer(babbler, [replace(one, answer="[Q]") for one in examples], **FOUR)
