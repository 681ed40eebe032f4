"""Other vectors in the latent positions: exactly those that are meant, in exactly those latent
positions."""

from collections import Counter
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from fresh import subject_of, with_info
from latentcot.analysis.interventions import (
    DEFINITIONS,
    NAMES,
    Lab,
    Place,
    draw,
    draw_order,
    draw_partners,
    measure,
    places,
    summary,
)
from latentcot.analysis.registry import ANALYSES
from latentcot.analysis.shared.latents import record, with_latents
from latentcot.errors import UsageError
from latentcot.evaluation.statistics import mcnemar
from latentcot.methods import PAPER_METHODS
from subjects import graph_examples, untrained

ALL, FIRST, SECOND = Place(), Place(thought=1), Place(thought=2)


@pytest.fixture(scope="module")
def subject():
    """Eight questions, of two thoughts each."""
    return untrained("symbols", examples=graph_examples("symbols", 8), batch_size=3)


@pytest.fixture(scope="module")
def pausing(subject):
    """The same model as if its thoughts were pauses."""
    return with_info(subject, method="coconut-pause-as-thought")


@pytest.fixture(scope="module")
def lab(subject):
    return Lab(with_latents(subject))


@pytest.fixture(scope="module")
def measured(subject, pausing):
    """The result, against the pauses, and how many questions were said to be done."""
    done = []
    return measure(subject, done.append, against=[pausing]), done


def effect(rows, name, thought):
    [row] = [r for r in rows if (r["name"], r["thought"]) == (name, thought)]
    return row


class TestWhatIsFed:
    @pytest.mark.parametrize(
        ("place", "zeros"),
        [(FIRST, [True, False]), (SECOND, [False, True]), (Place(up_to=1), [True, False]),
         (ALL, [True, True])],
    )  # fmt: skip
    def test_zeros_stand_where_they_are_meant(self, lab, fed, place, zeros):
        lab.answer("zero", place)
        assert (fed() == 0).all(-1).all(0).tolist() == zeros
        assert (fed() == 0).all(-1).any(0).tolist() == zeros

    def test_what_is_behind_changes_and_what_is_before_does_not(self, lab, fed):
        recorded = lab.chains.latent_inputs
        lab.answer("zero", FIRST)
        assert not torch.allclose(fed()[:, 1], recorded[:, 1], atol=1e-2)
        lab.answer("zero", SECOND)
        torch.testing.assert_close(fed()[:, 0], recorded[:, 0])

    def test_noise_is_as_long_and_of_any_direction(self, lab, fed):
        lab.answer("noise", ALL)
        first, own = fed()[:, 0], lab.chains.latent_inputs[:, 0]
        torch.testing.assert_close(first.norm(dim=-1), own.norm(dim=-1))
        directions = normalize(fed(), dim=-1)
        among = directions[:, 0] @ directions[:, 0].T - torch.eye(len(first))
        assert among.abs().max() < 0.9  # from question to question
        assert (directions[:, 0] * directions[:, 1]).sum(-1).max() < 0.9  # and from thought to next
        assert (directions[:, 0] * normalize(own, dim=-1)).sum(-1).abs().mean() < 0.5

    def test_mean_is_that_of_the_same_thought(self, lab, fed):
        lab.answer("mean", ALL)
        expected = lab.chains.latent_inputs.mean(0, keepdim=True).expand_as(fed())
        torch.testing.assert_close(fed(), expected)
        assert not torch.allclose(fed()[:, 0], fed()[:, 1])

    @pytest.mark.parametrize("place", [ALL, FIRST, SECOND])
    def test_shuffle_keeps_the_recorded_vectors_of_the_chain(self, lab, fed, place):
        lab.answer("shuffle", place)  # two thoughts have one other order
        torch.testing.assert_close(fed(), lab.chains.latent_inputs.flip(1))

    def test_swap_brings_the_thoughts_of_the_partner(self, lab, fed):
        lab.answer("swap", ALL)
        numbers = lab.counted("swap", ALL)
        assert len(numbers) > 4
        partners = [lab.partners[q] for q in numbers]
        torch.testing.assert_close(fed(), lab.chains.latent_inputs[partners])

    def test_token_is_the_embedding_of_the_best_one(self, lab, fed):
        lab.answer("token", FIRST)
        table = lab.subject.reasoner.model.transformer.wte.weight.detach()
        best = (lab.chains.latent_inputs[:, 0] @ table.T).argmax(-1)
        torch.testing.assert_close(fed()[:, 0], table[best])

    def test_replay_changes_nothing(self, subject, lab, fed):
        answers = lab.answer("replay", ALL)
        assert torch.equal(fed(), lab.chains.latent_inputs)
        assert list(answers.values()) == subject.answers()


class TestLatents:
    def test_pauses_one_by_one_give_the_same_answers(self, pausing):
        one_by_one = with_latents(pausing)
        assert [p.num_latents for p in pausing.prompts()] == [0] * 8
        assert [p.num_latents for p in one_by_one.prompts()] == [2] * 8
        assert [len(p) for p in one_by_one.prompts()] == [len(p) for p in pausing.prompts()]
        for one, other in zip(one_by_one.answers(), pausing.answers(), strict=True):
            assert (one.answer, one.text) == (other.answer, other.text)

    def test_recorded_states_are_the_thoughts(self, subject, lab):
        chains = lab.chains
        assert torch.equal(chains.states[:, :-1], chains.latent_inputs)
        thinking = subject.reasoner.think([e.question for e in subject.examples])
        torch.testing.assert_close(chains.latent_inputs, thinking.thoughts)
        torch.testing.assert_close(chains.states[:, -1], thinking.last_states)
        assert not chains.is_constant and chains.num_latents == (2,) * 8

    def test_pauses_hold_one_vector_and_states_differ(self, pausing):
        chains = record(with_latents(pausing))
        assert chains.is_constant
        assert not torch.allclose(chains.states[:, 0], chains.states[:, 1])

    @pytest.mark.parametrize("name", [*PAPER_METHODS, "pause-multipass"])
    def test_every_method_with_latents_can_be_measured(self, subject, name):
        one = with_info(subject.first(4), method=name)
        if one.reasoner.method.view.has_latents:
            assert record(with_latents(one)).most == 2
        else:
            with pytest.raises(UsageError, match=f"{name}: .* has no latent positions"):
                measure(one)

    @pytest.mark.slow
    def test_questions_with_fewer_thoughts(self, subject, fed):
        """Questions of no, one or two steps have as many latent positions, if all follow the
        chain."""
        plan = replace(subject.reasoner.info.plan, pad_to_num_stages=False)
        examples = [replace(e, steps=e.steps[: i % 3]) for i, e in enumerate(subject.examples)]
        mixed = subject_of(with_info(subject, plan=plan).reasoner, examples)
        lab = Lab(with_latents(mixed))
        recorded = lab.chains.latent_inputs
        assert lab.chains.num_latents == (0, 1, 2, 0, 1, 2, 0, 1)
        assert lab.counted("zero", ALL) == [1, 2, 4, 5, 7]
        assert lab.counted("zero", SECOND) == lab.counted("shuffle", ALL) == [2, 5]
        assert lab.chains.with_state(1) == lab.chains.with_state(2) == [1, 2, 4, 5, 7]
        assert lab.chains.with_state(3) == [2, 5]
        put_in, first = lab.replacement("mean", ALL), torch.tensor([0])
        for i, those in enumerate([[1, 2, 4, 5, 7], [2, 5]]):  # the questions that have the thought
            [mean] = put_in(first, SimpleNamespace(number=i), first)
            torch.testing.assert_close(mean, recorded[those, i].mean(0))
        lab.answer("noise", SECOND)
        for row, q in enumerate([2, 5]):  # each question has its own noise
            expected = lab.noise[q, 1].to(recorded) * recorded[q, 1].norm()
            torch.testing.assert_close(fed()[row, 1], expected)
        result = measure(mixed)
        assert {row["num_questions"] for row in result["effects"]} <= {2, 3, 4, 5}
        assert result["replay"] == {"num_questions": 5, "num_changed": 0}
        with pytest.raises(UsageError, match="none of the 2 questions has a latent position"):
            record(with_latents(mixed.of([0, 3])))


class TestDrawing:
    def test_places(self):
        found = list(places(4))
        assert [p.thought for p in found[:5]] == [1, 2, 3, 4, None]
        assert [p.up_to for p in found[5:]] == [2, 3]
        assert [[p.has(s) for s in range(4)] for p in (ALL, SECOND, Place(up_to=3))] == [
            [True] * 4,
            [False, True, False, False],
            [True, True, True, False],
        ]

    def test_orders_of_all_leave_none_in_its_place_and_are_equally_likely(self):
        found = Counter(tuple(draw_order(4, ALL, number)) for number in range(900))
        free = {p for p in permutations(range(4)) if all(i != s for i, s in enumerate(p))}
        assert set(found) == free and min(found.values()) > 60

    def test_orders_of_one_thought_or_the_first_ones(self):
        for number in range(50):
            alone = draw_order(4, SECOND, number)
            assert sorted(alone) == [0, 1, 2, 3]
            assert alone[1] != 1 and sum(i != s for i, s in enumerate(alone)) == 2
            first = draw_order(4, Place(up_to=3), number)
            assert first[3] == 3 and all(first[i] != i for i in range(3))
        assert draw_order(1, ALL) == [0]

    def test_partners_have_as_many_latents_and_another_answer(self):
        ids, keys = [str(i) for i in range(60)], [str(i % 3) for i in range(60)]
        latents = [2 + (i % 2) for i in range(60)]
        partners, again, other = (draw_partners(ids, latents, keys, seed) for seed in (0, 0, 1))
        assert None not in partners and sorted(partners) == list(range(60))
        for q, partner in enumerate(partners):
            assert keys[q] != keys[partner] and latents[q] == latents[partner]
        assert partners == again != other
        assert len({(p - q) % 60 for q, p in enumerate(partners)}) > 10

    def test_too_few_other_answers_leave_some_without_a_partner(self):
        partners = draw_partners(list("abcde"), [1] * 5, ["x", "x", "x", "x", "y"], 0)
        have = [q for q, partner in enumerate(partners) if partner is not None]
        assert len(have) == 2 and 4 in have
        assert draw_partners(["a", "b"], [0, 0], ["x", "y"], 0) == [None, None]


class TestMeasure:
    def test_numbers_are_those_of_the_answers(self, subject, lab, measured):
        result, done = measured
        assert sum(done) == 8 * (2 + 6 * 3 + 2 + 3 * 3) and max(done) <= 3
        before = subject.answers()
        right = subject.are_right(before)
        none, *rows = result["effects"]
        assert (none["name"], none["thought"], none["num_questions"]) == ("none", None, 8)
        assert none["accuracy"] == pytest.approx(sum(right) / 8)
        assert none["low"] < none["accuracy"] + 1e-9 and none["p"] is None
        assert [(r["name"], r["thought"]) for r in rows] == [
            (name, thought) for name in NAMES for thought in (1, 2, None)
        ]
        outputs = lab.answer("swap", ALL)
        now = subject.of(list(outputs)).are_right(list(outputs.values()))
        row = effect(rows, "swap", None)
        assert row["accuracy"] == pytest.approx(sum(now) / len(now), abs=1e-4)
        same = [before[q].answer == output.answer for q, output in outputs.items()]
        assert row["changed"] == pytest.approx(1 - sum(same) / len(same), abs=1e-4)
        assert set(DEFINITIONS) > set(NAMES)
        assert result["replay"] == {"num_questions": 8, "num_changed": 0}
        assert result["num_given"] == 8

    def test_swap_counts_answers_of_the_partner(self, subject, lab):
        """Every answer is made that of the partner, so all of them are counted."""
        unchanged = lab.answer("none", ALL)
        swapped = {
            q: replace(output, answer=subject.examples[lab.partners[q]].answer)
            for q, output in lab.answer("swap", ALL).items()
        }
        keys = ("none", ALL), ("replay", ALL), ("swap", ALL)
        found, _ = summary(lab, dict(zip(keys, (unchanged, unchanged, swapped), strict=True)))
        [_, row] = found["effects"]
        assert row["other_num_questions"] == sum(other is not None for other in lab.others)
        assert row["other"] == 1.0 and row["other_unchanged"] < 1 and row["accuracy"] == 0.0

    def test_tests_are_paired_with_the_unchanged_model(self, subject, lab):
        """Of eight questions six are lost and one is won."""

        def answering(are_right):
            return {
                q: replace(output, answer=subject.examples[q].answer if are_right[q] else "")
                for q, output in lab.answer("none", ALL).items()
            }

        before = answering([True] * 7 + [False])
        after = answering([True] + [False] * 6 + [True])
        answered = {("none", ALL): before, ("replay", ALL): before, ("zero", ALL): after}
        found, rights = summary(lab, answered)
        [none, row] = found["effects"]
        assert (none["accuracy"], row["accuracy"]) == (7 / 8, 2 / 8)
        assert list(rights["zero", ALL].values()) == [True] + [False] * 6 + [True]
        assert row["changed"] == 7 / 8
        assert row["p_raw"] == row["p"] == pytest.approx(mcnemar(6, 1))

    def test_without_a_partner_nothing_is_swapped(self, subject):
        lab = Lab(with_latents(subject))
        lab.partners[0] = None
        assert 0 not in lab.counted("swap", ALL)
        assert 0 in lab.counted("zero", ALL)

    def test_questions_one_by_one(self, subject, measured):
        shown = measured[0]["questions"]
        assert [one["id"] for one in shown] == [e.id for e in subject.examples]
        first = shown[0]["interventions"]
        [output] = subject.first(1).answers()
        [is_right] = subject.first(1).are_right([output])
        assert list(first[0].values()) == ["none", None, output.answer, is_right]
        assert {(r["name"], r["thought"]) for r in first[1:]} == {
            (name, thought) for name in NAMES for thought in (1, 2, None)
        }


class TestAgainst:
    def test_pauses_side_by_side(self, measured):
        result = measured[0]
        other = result["against"]
        assert set(other["left_out"]) == {"mean", "shuffle", "swap"}
        assert {row["name"] for row in other["effects"]} == {"none", "zero", "noise", "token"}
        assert result["comparison"][0]["name"] == "none"
        assert len(result["comparison"]) == 1 + 3 * 3
        row = effect(result["comparison"], "zero", None)
        before, now = (
            [effect(model["effects"], name, None)["accuracy"] for model in (result, other)]
            for name in ("none", "zero")
        )
        assert [row["accuracy"], row["accuracy_against"]] == now
        lost, lost_there = before[0] - now[0], before[1] - now[1]
        assert row["more_lost"] == pytest.approx(lost - lost_there, abs=1e-3)

    @pytest.mark.slow
    def test_a_model_against_itself_differs_nowhere(self, subject):
        few = subject.first(3)
        for row in measure(few, against=[few])["comparison"]:
            assert row["p"] == row["more_lost_p"] == 1 and row["more_lost"] == 0

    def test_figures_and_rows(self, measured):
        assert list(draw(measured[0])) == ["interventions", "interventions-first"]
        rows = ANALYSES["interventions"].rows(measured[0])["interventions"]
        assert len(rows) == 19 + 10
        assert {row["thought"] for row in rows} == {1, 2, None}


@pytest.mark.parametrize(("form", "tokenizer"), [("symbols", "words"), ("words", "bpe")])
def test_partners_answer_counts_where_its_name_exists(form, tokenizer):
    lab = Lab(with_latents(untrained(form, tokenizer, examples=graph_examples(form, 5))))
    graphs = lab.subject.graphs
    for here, partner, other in zip(graphs, lab.partners, lab.others, strict=True):
        name = graphs[partner].names[graphs[partner].target]
        answer = f"{here.names[here.root]} is a {name}." if form == "words" else name
        assert other == (answer if name in here.names else None)
