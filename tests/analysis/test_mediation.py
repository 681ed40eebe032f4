"""Donors and controls: who is fed whose thoughts, and which questions count."""

from dataclasses import replace
from functools import cache

from fresh import prosqa, subject_of
from latentcot import load
from latentcot.analysis.interventions import draw_partners
from latentcot.analysis.mediation import mediated, others_of, with_donors
from latentcot.analysis.shared.latents import record, with_latents
from latentcot.analysis.shared.subject import no_progress
from latentcot.data.examples import read_examples
from latentcot.runs.checkpoint_folders import QUESTIONS_FILE, SHIPPED
from latentcot.studies.quickstart import make_examples


@cache
def shipped():
    return load("quickstart", device="cpu")


def without_graphs(examples):
    return [replace(example, meta={}) for example in examples]


def test_partners_avoid_what_is_taken():
    ids = [str(number) for number in range(60)]
    for num_answers in (2, 50):
        answers = [str(number * 7 % num_answers) for number in range(60)]
        partners = draw_partners(ids, [2] * 60, answers, 0)
        taken = [ids[partner] for partner in partners]
        others = draw_partners(ids, [2] * 60, ids, 0, taken)
        for own, donor, other in zip(range(60), partners, others, strict=True):
            assert len({own, donor, other}) == 3


def test_without_graphs_unrelated_is_not_the_donor():
    """Once both were the same draw, and the control followed as often as what it controls."""
    examples = read_examples(SHIPPED / "quickstart" / QUESTIONS_FILE)[:60]
    subject = with_latents(subject_of(shipped(), without_graphs(examples), 60))
    asked, donors, goals = with_donors(subject)
    others = others_of(asked, record(asked), donors)
    for example, donor, other, goal in zip(
        asked.examples, donors.examples, others, goals, strict=True
    ):
        assert len({example.id, donor.id, asked.examples[other].id}) == 3
        assert goal == donor.answer != example.answer


def test_a_place_counts_the_questions_that_have_it():
    """Of shorter chains nothing is replaced there, so they say nothing of it."""
    examples = prosqa("two-family", 12, layers=1) + make_examples(24)
    subject = subject_of(shipped(), examples, 36)
    numbers = [prompt.num_latents for prompt in subject.prompts()]
    assert len({*numbers}) > 1
    result, values = mediated(subject, no_progress)
    rows = {(row["fed"], row["thought"], row["up_to"]): row for row in result["fed"]}
    counts = [rows["donor", thought, None]["num_questions"] for thought in (1, 2, 3)]
    assert counts[0] > counts[1] > 0
    assert rows["donor", None, None]["num_questions"] == counts[0] == result["num_right"]
    assert rows["donor", None, 2]["num_questions"] == counts[1]
    for key, row in rows.items():
        assert len(values[key]) == row["num_questions"]
    assert rows["donor", 3, None]["follows"] in (None, 1)
