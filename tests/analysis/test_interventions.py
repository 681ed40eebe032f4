"""Other vectors in the latent positions: exactly those that are meant, in exactly those latent
positions."""

import json
from collections import Counter
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import pytest
import torch

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
from latentcot.analysis.shared.subject import Subject
from latentcot.errors import UsageError
from latentcot.evaluation.statistics import mcnemar
from latentcot.methods import PAPER_METHODS
from subjects import graph_examples, untrained


@pytest.fixture
def pausing(subject):
    """The same model as if its thoughts were pauses."""
    return with_method(subject, "coconut-pause-as-thought")


def with_method(subject, method):
    reasoner = subject.reasoner
    info = replace(reasoner.info, method=method)
    return replace(
        subject,
        name=method,
        reasoner=type(reasoner)(reasoner.model, reasoner.tokenizer, info, reasoner.modules),
    )


def fed_under(subject, name, place, monkeypatch):
    """Return (Q, N, D), what an intervention feeds, and the chains it started from."""
    lab = Lab(with_latents(subject))
    numbers, seen = lab.counted(name, place), {}
    original = Subject.answers

    def answers(self, *args, update_for=None, **kwargs):
        for chosen, rollout in self.rollouts(update_for=update_for):
            seen.update(zip(chosen, rollout.latent_inputs, strict=True))
        return original(self, *args, update_for=update_for, **kwargs)

    monkeypatch.setattr(Subject, "answers", answers)
    lab.answer(name, place)
    monkeypatch.undo()
    assert len(seen) == len(numbers)
    return lab, torch.stack([seen[i] for i in range(len(numbers))])


class TestWhatIsFed:
    def test_zero_at_one_thought_changes_what_is_behind_it_too(self, subject, monkeypatch):
        lab, latent_inputs = fed_under(subject, "zero", Place(thought=1), monkeypatch)
        assert (latent_inputs[:, 0] == 0).all()
        assert not torch.allclose(latent_inputs[:, 1], lab.chains.latent_inputs[:, 1], atol=1e-2)
        lab, latent_inputs = fed_under(subject, "zero", Place(thought=2), monkeypatch)
        torch.testing.assert_close(latent_inputs[:, 0], lab.chains.latent_inputs[:, 0])
        assert (latent_inputs[:, 1] == 0).all()

    def test_up_to_and_all(self, subject, monkeypatch):
        _, latent_inputs = fed_under(subject, "zero", Place(up_to=1), monkeypatch)
        assert (latent_inputs[:, 0] == 0).all() and (latent_inputs[:, 1] != 0).any(-1).all()
        _, latent_inputs = fed_under(subject, "zero", Place(), monkeypatch)
        assert (latent_inputs == 0).all()

    def test_noise_is_as_long_and_of_any_direction(self, subject, monkeypatch):
        lab, latent_inputs = fed_under(subject, "noise", Place(thought=1), monkeypatch)
        torch.testing.assert_close(
            latent_inputs[:, 0].norm(dim=-1), lab.chains.latent_inputs[:, 0].norm(dim=-1)
        )
        directions = torch.nn.functional.normalize(latent_inputs[:, 0], dim=-1)
        assert (directions @ directions.T - torch.eye(len(latent_inputs))).abs().max() < 0.9
        own = torch.nn.functional.normalize(lab.chains.latent_inputs[:, 0], dim=-1)
        assert (directions * own).sum(-1).abs().mean() < 0.5

    def test_noise_differs_between_latents(self, subject, monkeypatch):
        _, latent_inputs = fed_under(subject, "noise", Place(), monkeypatch)
        both = torch.nn.functional.normalize(latent_inputs, dim=-1)
        assert (both[:, 0] * both[:, 1]).sum(-1).max() < 0.9

    def test_mean_is_that_of_the_same_thought(self, subject, monkeypatch):
        lab, latent_inputs = fed_under(subject, "mean", Place(), monkeypatch)
        expected = lab.chains.latent_inputs.mean(0, keepdim=True).expand_as(latent_inputs)
        torch.testing.assert_close(latent_inputs, expected)
        assert not torch.allclose(latent_inputs[:, 0], latent_inputs[:, 1])

    def test_shuffle_keeps_the_recorded_vectors_of_the_chain(self, subject, monkeypatch):
        for place in (Place(), Place(thought=1), Place(thought=2)):
            lab, latent_inputs = fed_under(subject, "shuffle", place, monkeypatch)
            torch.testing.assert_close(
                latent_inputs, lab.chains.latent_inputs.flip(1)
            )  # two thoughts: one other order

    def test_swap_brings_the_thoughts_of_the_partner(self, subject, monkeypatch):
        lab, latent_inputs = fed_under(subject, "swap", Place(), monkeypatch)
        numbers = lab.counted("swap", Place())
        assert len(numbers) > 4
        partners = [lab.partners[q] for q in numbers]
        torch.testing.assert_close(latent_inputs, lab.chains.latent_inputs[partners])

    def test_token_is_the_embedding_of_the_best_one(self, subject, monkeypatch):
        lab, latent_inputs = fed_under(subject, "token", Place(thought=1), monkeypatch)
        table = subject.reasoner.model.transformer.wte.weight.detach()
        best = (lab.chains.latent_inputs[:, 0] @ table.T).argmax(-1)
        torch.testing.assert_close(latent_inputs[:, 0], table[best])

    def test_replay_changes_nothing(self, subject, monkeypatch):
        lab, latent_inputs = fed_under(subject, "replay", Place(), monkeypatch)
        assert torch.equal(latent_inputs, lab.chains.latent_inputs)
        answers = lab.answer("replay", Place()).outputs
        assert list(answers.values()) == subject.answers()


class TestLatents:
    def test_pauses_one_by_one_give_the_same_answers(self, pausing):
        latentted = with_latents(pausing)
        assert [p.num_latents for p in pausing.prompts()] == [0] * 8
        assert [p.num_latents for p in latentted.prompts()] == [2] * 8
        assert [len(p) for p in latentted.prompts()] == [len(p) for p in pausing.prompts()]
        one, other = latentted.answers(), pausing.answers()
        assert [o.answer for o in one] == [o.answer for o in other]
        assert [o.text for o in one] == [o.text for o in other]

    def test_recorded_states_are_the_thoughts(self, subject):
        chains = record(with_latents(subject))
        assert torch.equal(chains.states[:, :-1], chains.latent_inputs)
        thinking = subject.reasoner.think([e.question for e in subject.examples])
        torch.testing.assert_close(chains.latent_inputs, thinking.thoughts)
        torch.testing.assert_close(chains.states[:, -1], thinking.last_states)
        assert not chains.is_constant and chains.num_latents == (2,) * 8

    def test_pauses_hold_one_vector_and_states_differ(self, pausing):
        chains = record(with_latents(pausing))
        assert chains.is_constant
        assert not torch.allclose(chains.states[:, 0], chains.states[:, 1])

    def test_all_rows_of_the_table_with_latents_can_be_measured(self, subject):
        for name in [*PAPER_METHODS, "pause-multipass"]:
            one = with_method(subject.first(4), name)
            if one.reasoner.method.view.has_latents:
                assert record(with_latents(one)).most == 2
            else:
                with pytest.raises(UsageError, match=f"{name}: .* has no latent positions"):
                    measure(one)

    def test_questions_with_fewer_thoughts(self, subject, monkeypatch):
        """A question with one step has one latent position where latent positions follow the
        chain."""
        reasoner = subject.reasoner
        plan = replace(reasoner.info.plan, pad_to_num_stages=False)
        info = replace(reasoner.info, plan=plan)
        reasoner = type(reasoner)(reasoner.model, reasoner.tokenizer, info)
        examples = [
            replace(e, steps=e.steps[: i % 3]) for i, e in enumerate(subject.examples)
        ]  # 0, 1 or 2 steps
        mixed = replace(
            subject,
            reasoner=reasoner,
            examples=tuple(examples),
            encoded=tuple(reasoner.encode(examples)),
        )
        lab = Lab(with_latents(mixed))
        assert lab.chains.num_latents == (0, 1, 2, 0, 1, 2, 0, 1)
        assert lab.counted("zero", Place()) == [1, 2, 4, 5, 7]
        assert lab.counted("zero", Place(thought=2)) == [2, 5]
        assert lab.counted("shuffle", Place()) == [2, 5]
        assert lab.chains.with_state(1) == lab.chains.with_state(2) == [1, 2, 4, 5, 7]
        assert lab.chains.with_state(3) == [2, 5]
        put_in, first = lab.replacement("mean", Place()), torch.tensor([0])
        for i, those in enumerate([[1, 2, 4, 5, 7], [2, 5]]):  # the questions that have the thought
            [mean] = put_in(first, SimpleNamespace(number=i), first)
            torch.testing.assert_close(mean, lab.chains.latent_inputs[those, i].mean(0))
        _, latent_inputs = fed_under(mixed, "noise", Place(thought=2), monkeypatch)
        for row, q in enumerate([2, 5]):  # each question has its own noise
            length = lab.chains.latent_inputs[q, 1].norm()
            torch.testing.assert_close(latent_inputs[row, 1], lab.noise[q, 1] * length)
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
        assert [[p.has(s) for s in range(4)] for p in (Place(), Place(2), Place(up_to=3))] == [
            [True] * 4,
            [False, True, False, False],
            [True, True, True, False],
        ]

    def test_orders_of_all_leave_none_in_its_place_and_are_equally_likely(self):
        found = Counter(tuple(draw_order(4, Place(), number)) for number in range(900))
        free = {p for p in permutations(range(4)) if all(i != s for i, s in enumerate(p))}
        assert set(found) == free and min(found.values()) > 60

    def test_orders_of_one_thought_or_the_first_ones(self):
        for number in range(50):
            alone = draw_order(4, Place(thought=2), number)
            assert sorted(alone) == [0, 1, 2, 3]
            assert alone[1] != 1 and sum(i != s for i, s in enumerate(alone)) == 2
            first = draw_order(4, Place(up_to=3), number)
            assert first[3] == 3 and all(first[i] != i for i in range(3))
        assert draw_order(1, Place()) == [0]

    def test_partners_have_as_many_latents_and_another_answer(self):
        ids, keys = [str(i) for i in range(60)], [str(i % 3) for i in range(60)]
        latents = [2 + (i % 2) for i in range(60)]
        partners = draw_partners(ids, latents, keys, 0)
        assert None not in partners and sorted(partners) == list(range(60))
        for q, partner in enumerate(partners):
            assert keys[q] != keys[partner] and latents[q] == latents[partner]
        assert (
            partners == draw_partners(ids, latents, keys, 0) != draw_partners(ids, latents, keys, 1)
        )
        assert len({(p - q) % 60 for q, p in enumerate(partners)}) > 10

    def test_too_few_other_answers_leave_some_without_a_partner(self):
        partners = draw_partners(list("abcde"), [1] * 5, ["x", "x", "x", "x", "y"], 0)
        have = [q for q, partner in enumerate(partners) if partner is not None]
        assert len(have) == 2 and 4 in have
        assert draw_partners(["a", "b"], [0, 0], ["x", "y"], 0) == [None, None]


class TestMeasure:
    def test_numbers_are_those_of_the_answers(self, subject):
        result = measure(subject)
        lab = Lab(with_latents(subject))
        right = subject.are_right(subject.answers())
        none = result["effects"][0]
        assert (none["name"], none["thought"], none["num_questions"]) == ("none", None, 8)
        assert none["accuracy"] == pytest.approx(sum(right) / 8)
        assert none["low"] < none["accuracy"] + 1e-9 and none["p"] is None
        assert [(r["name"], r["thought"]) for r in result["effects"][1:]] == [
            (name, thought) for name in NAMES for thought in (1, 2, None)
        ]
        row = next(r for r in result["effects"] if (r["name"], r["thought"]) == ("swap", None))
        outputs = lab.answer("swap", Place()).outputs
        now = subject.of(list(outputs)).are_right(list(outputs.values()))
        assert row["accuracy"] == pytest.approx(sum(now) / len(now), abs=1e-4)
        before = [right[q] for q in outputs]
        lost = sum(a and not b for a, b in zip(before, now, strict=True))
        won = sum(b and not a for a, b in zip(before, now, strict=True))
        assert row["p_raw"] == pytest.approx(mcnemar(lost, won), rel=1e-2)
        assert row["p"] >= row["p_raw"]
        same = [subject.answers()[q].answer == o.answer for q, o in outputs.items()]
        assert row["changed"] == pytest.approx(1 - sum(same) / len(same), abs=1e-4)

    def test_swap_counts_answers_of_the_partner(self, subject):
        """Every answer is made that of the partner, so all of them are counted."""
        lab = Lab(with_latents(subject))
        place, unchanged = Place(), lab.answer("none", Place())
        swapped = lab.answer("swap", place)
        outputs = {
            q: replace(output, answer=subject.examples[lab.partners[q]].answer)
            for q, output in swapped.outputs.items()
        }
        effect = replace(swapped, outputs=outputs)
        [_, row] = summary(lab, 8, unchanged, unchanged, [effect])["effects"]
        assert row["other"] == 1.0 and row["other_num_questions"] == len(outputs)
        assert row["other_unchanged"] < 1 and row["accuracy"] == 0.0

    def test_tests_are_paired_with_the_unchanged_model(self, subject):
        """Of eight questions six are lost and one is won."""
        lab = Lab(with_latents(subject))
        unchanged = lab.answer("none", Place())
        gold = [example.answer for example in subject.examples]

        def answering(are_right):
            outputs = {
                q: replace(unchanged.outputs[q], answer=gold[q] if is_so else "")
                for q, is_so in enumerate(are_right)
            }
            return replace(unchanged, outputs=outputs)

        before = answering([True] * 7 + [False])
        after = replace(answering([True] + [False] * 6 + [True]), name="zero")
        [none, row] = summary(lab, 8, before, before, [after])["effects"]
        assert (none["accuracy"], row["accuracy"]) == (7 / 8, 2 / 8)
        assert row["changed"] == 7 / 8
        assert row["p_raw"] == row["p"] == pytest.approx(mcnemar(6, 1))

    def test_without_a_partner_nothing_is_swapped(self, subject):
        lab = Lab(with_latents(subject))
        lab.__dict__["partners"] = [None, *lab.partners[1:]]
        assert 0 not in lab.counted("swap", Place())
        assert 0 in lab.counted("zero", Place())

    def test_partners_answer_counts_where_its_name_exists(self, subject):
        lab = Lab(with_latents(subject))
        for q, partner in enumerate(lab.partners):
            name = subject.examples[partner].answer
            expected = name if name in subject.graphs[q].names else None
            assert lab.others[q] == expected

    def test_is_the_same_every_time_and_plain(self, subject):
        result = measure(subject)
        assert json.loads(json.dumps(result)) == result
        assert result["schema_version"] == 1 and set(DEFINITIONS) > set(NAMES)
        assert result["replay"] == {"num_questions": 8, "num_changed": 0}
        assert result["has_thoughts"] and result["num_questions"] == result["num_given"] == 8

    def test_questions_one_by_one(self, subject):
        shown = measure(subject)["questions"]
        assert [one["id"] for one in shown] == [e.id for e in subject.examples]
        first = shown[0]["interventions"]
        [output] = subject.first(1).answers()
        is_right = subject.first(1).are_right([output])[0]
        assert list(first[0].values()) == ["none", None, output.answer, is_right]
        assert {(r["name"], r["thought"]) for r in first[1:]} == {
            (name, thought) for name in NAMES for thought in (1, 2, None)
        }

    def test_progress_counts_every_answer(self, subject):
        done = []
        measure(subject, on_progress=done.append)
        assert sum(done) == 8 * (2 + 6 * 3) and max(done) <= 3


class TestAgainst:
    def test_pauses_side_by_side(self, subject, pausing):
        result = measure(subject, against=[pausing])
        other = result["against"]
        assert other["name"] == "coconut-pause-as-thought" and not other["has_thoughts"]
        assert set(other["left_out"]) == {"mean", "shuffle", "swap"}
        assert {row["name"] for row in other["effects"]} == {"none", "zero", "noise", "token"}
        assert result["comparison"][0]["name"] == "none"
        assert len(result["comparison"]) == 1 + 3 * 3
        row = next(r for r in result["comparison"] if (r["name"], r["thought"]) == ("zero", None))
        left = {m["name"]: m["effects"] for m in (result, other)}
        here, there = (
            next(r for r in rows if (r["name"], r["thought"]) == ("zero", None))
            for rows in left.values()
        )
        assert (row["accuracy"], row["accuracy_against"]) == (here["accuracy"], there["accuracy"])
        lost = [
            rows[0]["accuracy"] - e["accuracy"]
            for rows, e in zip(left.values(), (here, there), strict=True)
        ]
        assert row["more_lost"] == pytest.approx(lost[0] - lost[1], abs=1e-3)

    def test_a_model_against_itself_differs_nowhere(self, subject):
        few = subject.first(4)
        for row in measure(few, against=[few])["comparison"]:
            assert row["p"] == row["more_lost_p"] == 1 and row["more_lost"] == 0


def test_figures_and_rows(subject, pausing):
    result = measure(subject, against=[pausing])
    assert list(draw(result)) == ["interventions", "interventions-first"]
    tables = ANALYSES["interventions"].rows(result)
    assert len(tables["interventions"]) == 19 + 10
    assert {row["model"] for row in tables["interventions"]} == {"coconut", pausing.name}
    assert {row["thought"] for row in tables["interventions"]} == {1, 2, None}


@pytest.mark.parametrize("tokenizer", ["words", "bpe"])
def test_in_words(tokenizer):
    subject = untrained("words", tokenizer, examples=graph_examples("words", 5))
    result = measure(subject)
    assert result["replay"]["num_changed"] == 0
    lab = Lab(with_latents(subject))
    for q, (partner, other) in enumerate(zip(lab.partners, lab.others, strict=True)):
        here, there = subject.graphs[q], subject.graphs[partner]
        name = there.names[there.target]
        if name in here.names:
            assert other == f"{here.names[here.root]} is a {name}."
        else:
            assert other is None
