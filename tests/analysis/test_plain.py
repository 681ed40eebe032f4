"""The plain reader gives what the fast one gives, and hides and patches what it says."""

import torch

from latentcot.analysis.mediation import with_donors
from latentcot.analysis.shared.latents import record, with_latents
from latentcot.analysis.shared.plain import Patch, read_plainly
from latentcot.tasks.prosqa.generator import graph_of
from latentcot.tasks.prosqa.rendering import twin


def test_answers_are_those_of_the_fast_reader(symbols, uneven):
    for subject in (symbols.first(12), with_latents(uneven)):
        found = read_plainly(subject, record(subject))
        assert found.answers == [output.answer for output in subject.answers()]


def test_texts_stop_at_the_models_last_position(symbols, monkeypatch):
    subject = symbols.first(12)
    longest = max(map(len, subject.prompts()))
    chains, whole = record(subject), [output.text for output in subject.answers()]
    monkeypatch.setattr(subject.reasoner.model.config, "n_positions", longest + 1)
    monkeypatch.setattr("latentcot.analysis.shared.plain.extract_answer", lambda text, start: text)
    cut = [output.text for output in subject.answers()]
    assert cut != whole
    assert read_plainly(subject, chains).answers == cut


def test_a_thought_that_nothing_sees_changes_later_ones(symbols):
    subject = symbols.first(12)
    chains, seen = record(subject), []

    def hidden(span):
        seen.append(span)
        return span.start + 1, None, span.start

    plain, blind = (read_plainly(subject, chains, hidden=h).blocks for h in (None, hidden))
    assert torch.equal(plain[:, :, 0], blind[:, :, 0])  # it stands before what may not see it
    assert not torch.allclose(plain[:, :, 1], blind[:, :, 1])
    assert {span.question for span in seen} == set(range(len(subject.examples)))


def test_a_patch_of_its_own_changes_nothing_and_one_of_another_all_behind(symbols):
    subject = symbols.first(12)
    chains = record(subject)
    plain = read_plainly(subject, chains)
    given = plain.blocks[0, :, 0]
    own = read_plainly(subject, chains, patch=Patch(0, 0, given))
    assert torch.allclose(own.blocks, plain.blocks, atol=1e-5) and own.answers == plain.answers
    other = read_plainly(subject, chains, patch=Patch(0, 0, given.flip(0))).blocks
    assert torch.allclose(other[0, :, 0], given.flip(0))
    assert not torch.allclose(other[0, :, 1], plain.blocks[0, :, 1])


def test_a_twin_asks_for_the_other_candidate(symbols):
    subject, donors, goals = with_donors(symbols.first(12))
    for example, donor, goal in zip(subject.examples, donors.examples, goals, strict=True):
        assert donor.question.rpartition("[R]")[0] == example.question.rpartition("[R]")[0]
        mine, other = graph_of(example), graph_of(donor)
        assert (mine.target, mine.neg_target) == (other.neg_target, other.target)
        assert donor.answer == goal and len(donor.steps) == len(example.steps)
        again = twin(donor)
        assert again is not None and again.question == example.question
