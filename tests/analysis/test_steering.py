"""Thoughts pushed along directions: the right vectors, and flips counted as they are."""

import pytest
import torch

from latentcot import Example
from latentcot.analysis import steering
from latentcot.analysis.shared.latents import random_directions, record, with_latents
from latentcot.analysis.steering import (
    ALPHAS,
    counted,
    embedding_directions,
    measure,
    thought_directions,
)
from latentcot.evaluation.reasoner import Output
from latentcot.evaluation.statistics import mcnemar
from subjects import graph_examples, untrained


@pytest.fixture(scope="module")
def subject():
    """Eight questions, of two thoughts each."""
    return untrained("symbols", examples=graph_examples("symbols", 8), batch_size=3)


def chained(name_of_target, name_of_other, id):
    """A question whose root 0 leads over 2 to 3, and root 1 over 4 to 5."""
    names = ["a", "b", "c", name_of_target, "d", name_of_other]
    meta = {
        "idx_to_symbol": names, "edges": [[0, 2], [2, 3], [1, 4], [4, 5]],
        "root": 0, "target": 3, "neg_target": 5,
    }  # fmt: skip
    asked = f"a c | c {name_of_target} | b d | d {name_of_other} | "
    question = f"{asked}[Q] {name_of_target} {name_of_other} [R] a"
    return Example(id, question, ("c", name_of_target), name_of_target, meta)


class TestDirections:
    def test_of_thoughts_leave_the_question_itself_out(self):
        examples = [chained(*pair, str(i)) for i, pair in enumerate(["xy", "xz", "yx", "zy", "xy"])]
        subject = with_latents(untrained("symbols", examples=examples))
        chains = record(subject)
        x, y = chains.latent_inputs[[0, 1, 4]], chains.latent_inputs[[2]]
        found = thought_directions(subject, chains)
        torch.testing.assert_close(found[0], y.mean(0) - chains.latent_inputs[[1, 4]].mean(0))
        torch.testing.assert_close(
            found[1], chains.latent_inputs[3] - chains.latent_inputs[[0, 4]].mean(0)
        )
        assert (found[2] == 0).all()  # nobody else has the answer y
        assert not torch.allclose(found[4], y.mean(0) - x.mean(0))

    def test_of_embeddings_average_the_tokens_of_a_name(self):
        subject = untrained("words", "bpe")
        found = embedding_directions(subject)
        table = subject.reasoner.model.get_input_embeddings().weight.detach()
        num_tokens = set()
        for direction, graph in zip(found, subject.graphs, strict=True):
            here, there = (
                subject.reasoner.tokenizer(" " + graph.names[node])["input_ids"]
                for node in (graph.target, graph.neg_target)
            )
            num_tokens |= {len(here), len(there)}
            torch.testing.assert_close(direction[0], table[there].mean(0) - table[here].mean(0))
        assert max(num_tokens) > 1

    def test_random_ones_belong_to_question_and_thought(self, subject):
        found = random_directions(subject, (1, 2), "a")
        assert found.shape == (8, 2, 16)
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(8, 2))
        turned = random_directions(subject.of([3, 1]), (2,), "a")
        assert torch.equal(turned, found[[3, 1], 1:])
        assert len({tuple(row) for row in found.flatten(0, 1).tolist()}) == 16


class TestPush:
    def test_adds_alpha_norms_along_the_unit_direction(self, subject, fed):
        latents = with_latents(subject).of(range(7))
        recorded = record(latents).latent_inputs
        for place, alpha in enumerate((-0.5, 2.0)):
            steering.pushed(latents, place + 1, alpha, torch.eye(16)[[5] * 7], lambda n: None)
            expected = torch.zeros(7, 16).double()
            expected[:, 5] = alpha * recorded[:, place].norm(dim=-1)
            torch.testing.assert_close(fed()[:, place] - recorded[:, place], expected)
            is_same = torch.allclose(fed()[:, 1 - place], recorded[:, 1 - place], atol=1e-2)
            assert is_same == (place == 1)  # what is before stays, what is behind changes

    def test_what_an_answer_names(self):
        subject = untrained("words")
        graph = subject.graphs[0]
        root, target, other = (
            graph.names[node] for node in (graph.root, graph.target, graph.neg_target)
        )
        texts = [f"{root} is a {target}.", f"{root} is a {other}.", target, "", f"X is a {other}."]
        outputs = [Output(text, text, 1, 1, 1, True) for text in texts]
        named = [steering.named_by(subject, [0], [output])[0] for output in outputs]
        assert named == ["target", "neg_target", None, None, None]


class TestMeasure:
    def test_counts(self):
        """With answers made up: t, u or neither before and after."""
        roles = ["target", "target", "neg_target", None, "target", "target", "neg_target", "target"]
        now = ["neg_target", *["target"] * 3, None, *["neg_target"] * 3]
        pushed = {"embeddings": now, "random": [*roles[:7], "neg_target"]}
        answers = {(name, 1, 0.5): dict(enumerate(named)) for name, named in pushed.items()}
        (row, control), flips = counted(dict(enumerate(roles)), answers)
        assert [q for q, is_so in flips["embeddings", 1, 0.5].items() if is_so] == [0, 2, 5, 7]
        assert row["flipped_num_questions"] == 7  # one unchanged answer names no candidate
        assert row["flipped"] == pytest.approx(4 / 7, abs=1e-4)
        assert (row["target"], row["neg_target"], row["neither"]) == (3 / 8, 4 / 8, 1 / 8)
        assert row["p_raw"] == row["p"] == pytest.approx(mcnemar(3, 0))
        assert control["flipped"] == pytest.approx(1 / 7, abs=1e-4)
        assert control["p"] is None and control["p_raw"] is None

    @pytest.mark.slow
    def test_only_so_many_questions_are_steered(self, subject, monkeypatch):
        monkeypatch.setattr(steering, "MAX_QUESTIONS", 3)
        done = []
        result = measure(subject, on_progress=done.append)
        keys = {(r["direction"], r["thought"], r["alpha"]) for r in result["steered"]}
        assert {a for _, _, a in keys} == set(ALPHAS) and {t for _, t, _ in keys} == {1, 2}
        assert {d for d, _, _ in keys} | set(result["left_out"]) == set(steering.DIRECTIONS)
        assert (result["num_questions"], result["num_given"]) == (3, 8)
        assert sum(done) >= 3 + 3 * 2 * 2 * 6  # unchanged, then two directions at least
