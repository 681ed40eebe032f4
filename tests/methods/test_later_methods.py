"""CODI, PCCoT and SIM-CoT, held to the slow reference and to the methods that they must equal."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from latentcot.curriculum.layout import group_targets, lay_out
from latentcot.curriculum.views import Parallel, Tokens
from latentcot.data.examples import Example
from latentcot.errors import DataError, MethodError
from latentcot.methods import method_named
from latentcot.methods.codi import distillation
from latentcot.methods.simcot import DECODER, SPELLING, make_decoder, spelling
from latentcot.tasks.prosqa.frontier import frontier_chain
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named
from latentcot.thinking.batch import collate, collate_views
from latentcot.thinking.decoding import generate
from latentcot.thinking.passes import Passes
from latentcot.thinking.think import Thinker, think
from latentcot.training.objective import Objective, make_modules
from losses import TOKENS
from method_losses import EXAMPLES, RULES, assert_same_gradients, laid_out, losses
from reference import embed, last_hidden, reference_loss, reference_states, tiny_model
from rollouts import EXACT

ARCHITECTURES = ["gpt2", "llama"]


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    return tiny_model(request.param)


def assert_near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def rows_of(method, view, stage=4, examples=EXAMPLES):
    """One view as the reference takes it."""
    layouts = [lay_out(e, method.views[view], stage, RULES) for e in examples]
    return [(x.prefix, x.num_latents, x.suffix, x.labels) for x in layouts]


def codi(**settings):
    return method_named({"name": "codi", "num_latents": 3, **settings})


class TestCodi:
    def test_without_distillation_it_is_two_losses_of_the_table(self, model):
        """`coconut-no-curriculum` and `cot` without the last step, each with its own mean."""
        method = codi(distillation_weight=0, projection="identity")
        means, _, gradients = losses(method, model)
        student = reference_loss(model, rows_of(method, "student"))
        teacher = reference_loss(model, rows_of(method, "teacher"))
        assert means["loss"] == pytest.approx(student.item(), rel=1e-9)
        assert means["teacher_loss"] == pytest.approx(teacher.item(), rel=1e-9)
        weights = dict(model.named_parameters())
        found = torch.autograd.grad(student + teacher, list(weights.values()))
        expected = dict(zip(weights, found, strict=True))
        assert_same_gradients({k.removeprefix("model."): v for k, v in gradients.items()}, expected)
        shorter = [replace(e, steps=e.steps[:-1]) for e in EXAMPLES]
        cot, _, _ = losses(method_named("cot"), model, stage=0, examples=shorter)
        assert means["teacher_loss"] == pytest.approx(cot["loss"], rel=1e-9)

    @pytest.mark.parametrize("spread", ["batch", "example", "none"])
    def test_the_distance_is_that_of_the_equation(self, model, spread):
        """All layers of unpadded rows, from transformers' own `hidden_states`."""
        method = codi(projection="identity", spread=spread)
        states = {"student": [], "teacher": []}
        for view, found in states.items():
            for example in EXAMPLES:
                row = lay_out(example, method.views[view], 4, RULES)
                _, thoughts = reference_states(model, row.prefix, row.num_latents, row.suffix)
                inputs = torch.cat([embed(model, row.prefix), thoughts, embed(model, row.suffix)])
                read = model.base_model(inputs_embeds=inputs[None], output_hidden_states=True)
                at = len(row.prefix) + row.num_latents + row.anchor - 1
                assert row.suffix[row.anchor] == example.answer[1]
                found.append(torch.stack([layer[0, at] for layer in read.hidden_states]))
        student, teacher = (torch.stack(found) for found in states.values())  # (B, L + 1, D)
        apart = nn.functional.smooth_l1_loss(student, teacher, reduction="none")
        if spread == "batch":
            apart = apart / teacher.transpose(0, 1).flatten(1).std(1)[None, :, None]
        elif spread == "example":
            apart = apart / teacher.std(2, keepdim=True)
        means, _, _ = losses(method, model)
        assert means["distillation"] == pytest.approx(apart.mean().item(), rel=1e-6)

    def test_the_target_carries_no_gradient(self, model):
        """One set of weights: compared with a target from a frozen copy."""
        method = codi(projection="identity", spread="none", teacher_weight=0)
        only = replace(method, terms=(distillation("none", 1.0),))
        _, _, gradients = losses(only, model)
        frozen = copy.deepcopy(model).requires_grad_(False)
        rows = laid_out(only)
        batches = collate_views(rows)
        with torch.no_grad():
            teacher = think(
                frozen, batches.views["teacher"], Thinker(Tokens("pause")), keeps_layers=True
            )
        student = think(model, batches.views["student"], keeps_layers=True)
        apart = map(nn.functional.smooth_l1_loss, student.layers, teacher.layers)
        loss = torch.stack(list(apart)).mean()
        weights = dict(model.named_parameters())
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, found, strict=True):
            if gradient is not None:
                torch.testing.assert_close(gradients[f"model.{name}"], gradient, **EXACT)

    def test_the_projection_is_learned_and_kept(self, model):
        method = codi()
        modules = make_modules(method, model, seed=3)
        again = make_modules(method, model, seed=3)
        assert torch.equal(modules["projection"][0].weight, again["projection"][0].weight)
        _, _, gradients = losses(method, model, modules)
        assert all(g.any() for name, g in gradients.items() if name.startswith("learned."))
        assert method.modules["projection"].is_kept

    @pytest.mark.parametrize(
        ("name", "settings", "size"),
        [("codi", {"num_latents": 3}, 1), ("pccot", {"num_latents": 4, "iterations": 2}, 2)],
    )
    def test_micro_batches_change_nothing_where_the_spread_is_that_of_an_example(
        self, model, name, settings, size
    ):
        method = method_named({"name": name, "spread": "example", **settings})
        modules = make_modules(method, model, seed=3)
        means, _, gradients = losses(method, model, modules)
        small, _, same = losses(method, model, modules, size=size)
        assert small == pytest.approx(means, rel=1e-9)
        assert_same_gradients(same, gradients)


def parallel(iterations: int) -> Thinker:
    return Thinker(Parallel(iterations, lambda latent: latent.state), TOKENS)


LATENTS = [3, 1, 0, 4]


def ragged_batch():
    view = method_named("coconut").view
    layouts = [
        lay_out(example, view, 4, RULES, count)
        for example, count in zip(EXAMPLES, LATENTS, strict=True)
    ]
    return layouts, collate(layouts, pad_id=30)


@pytest.fixture(params=["fast", "plain"])
def way(request, monkeypatch):
    """Through the split cache, and through transformers' own."""
    if request.param == "plain":
        monkeypatch.setattr("latentcot.thinking.passes.takes_split_cache", lambda model: False)


@pytest.mark.usefixtures("way")
class TestParallel:
    @pytest.mark.parametrize("iterations", [4, 6])
    def test_enough_iterations_are_the_sequential_roll_out(self, model, iterations):
        layouts, batch = ragged_batch()
        found, expected = think(model, batch, parallel(iterations)), think(model, batch)
        for row, layout in enumerate(layouts):
            end, count = len(layout.suffix) + 1, layout.num_latents
            assert_near(found.states[row, :end], expected.states[row, :end])
            assert_near(found.latent_inputs[row, :count], expected.latent_inputs[row, :count])
        assert found.passes.num_passes == iterations + 1
        weights = list(model.parameters())

        def gradients(rollout):
            sums = [rollout.states[r, : len(x.suffix) + 1].sum() for r, x in enumerate(layouts)]
            return torch.autograd.grad(torch.stack(sums).sum(), weights, allow_unused=True)

        for one, other in zip(gradients(found), gradients(expected), strict=True):
            if other is not None and other.norm() > 1e-6:
                assert (one - other).norm() / other.norm() < 1e-5

    @pytest.mark.parametrize("iterations", [1, 2, 3])
    def test_the_first_thoughts_are_exact(self, model, iterations):
        layouts, batch = ragged_batch()
        with torch.no_grad():
            found, expected = think(model, batch, parallel(iterations)), think(model, batch)
        for row, layout in enumerate(layouts):
            exact = min(iterations, layout.num_latents)
            assert_near(found.latent_inputs[row, :exact], expected.latent_inputs[row, :exact])
        assert not torch.allclose(
            found.latent_inputs[3, iterations], expected.latent_inputs[3, iterations]
        )

    def test_no_iteration_is_pauses(self, model):
        layouts, batch = ragged_batch()
        paused = []
        for x in layouts:
            pauses, silent = (TOKENS.pause,) * x.num_latents, (-100,) * x.num_latents
            paused.append(
                replace(x, num_latents=0, suffix=pauses + x.suffix, labels=silent + x.labels)
            )
        with torch.no_grad():
            found = think(model, batch, parallel(0))
            expected = think(model, collate(paused, pad_id=30))
        assert found.passes.num_passes == 1
        for row, x in enumerate(layouts):
            end = len(x.suffix) + 1
            behind = expected.states[row, x.num_latents : x.num_latents + end]
            torch.testing.assert_close(found.states[row, :end], behind, **EXACT)

    def test_texts_equal_those_of_sequential_thoughts(self, model):
        layouts, _ = ragged_batch()
        prompts = [layout.prompt() for layout in layouts]
        options = {"eos_id": -1, "max_new_tokens": 4}
        expected = generate(model, prompts, **options)
        for size in (1, 4):
            found = generate(model, prompts, thinker=parallel(4), batch_size=size, **options)
            assert [one.token_ids for one in found] == [one.token_ids for one in expected]


def test_pccots_terms_equal_codis_where_it_iterates_enough(model):
    settings = {"num_latents": 3, "projection": "mlp", "spread": "example"}
    method = method_named({"name": "pccot", "iterations": 3, **settings})
    modules = make_modules(method, model, seed=1)
    found, _, gradients = losses(method, model, modules)
    expected, _, wanted = losses(codi(spread="example"), model, modules)
    assert found == pytest.approx(expected, rel=1e-6)
    assert_same_gradients(gradients, wanted, tolerance=1e-5)


HOSTS = ["coconut", {"name": "codi", "num_latents": 3, "spread": "example"},
         {"name": "pccot", "num_latents": 3, "iterations": 2, "spread": "example"}]  # fmt: skip


class TestSimcot:
    @pytest.mark.parametrize("host", HOSTS, ids=["coconut", "codi", "pccot"])
    def test_without_weight_it_is_its_host(self, model, host):
        host = method_named(host)
        modules = make_modules(host, model, seed=2)
        expected, _, wanted = losses(host, model, modules)
        silent = host.with_(terms=(spelling(host, None, 0.0),))
        both = nn.ModuleDict({**modules, DECODER: make_decoder(model)})
        found, _, gradients = losses(silent, model, both)
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)
        for name, gradient in wanted.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-12, atol=1e-15)
        assert not any(g.any() for name, g in gradients.items() if DECODER in name)

    @pytest.mark.parametrize("size", [None, 1, 3])
    def test_the_decoder_spells_each_step_from_its_thoughts_alone(self, model, size):
        """By hand: one group of one row at a time, without a cache and without the question."""
        method = method_named("simcot")
        modules = nn.ModuleDict({DECODER: make_decoder(tiny_model("gpt2", seed=5))})
        modules[DECODER].resize_token_embeddings(model.config.vocab_size)
        sums, counts = [0.0] * 4, [0] * 4
        for example in EXAMPLES:
            row = lay_out(example, method.view, 4, RULES)
            _, thoughts = reference_states(model, row.prefix, row.num_latents, ())
            for group, target in enumerate(group_targets(example.steps, 4)[: row.num_latents]):
                words = [*target, TOKENS.eos]
                inputs = torch.cat([thoughts[group : group + 1], embed(model, words)])
                states = last_hidden(modules[DECODER], inputs)[:-1]
                log_probs = modules[DECODER].get_output_embeddings()(states).log_softmax(-1)
                sums[group] -= sum(log_probs[i, word].item() for i, word in enumerate(words))
                counts[group] += len(words)
        expected = sum(s / c for s, c in zip(sums, counts, strict=True) if c) / sum(
            map(bool, counts)
        )
        means, _, _ = losses(method, model, modules, size=size)
        assert means[SPELLING] == pytest.approx(expected, rel=1e-8)

    def test_the_term_reaches_the_host_through_thoughts_alone(self, model):
        method = method_named("simcot")
        term = next(term for term in method.terms if term.name == SPELLING)
        only = replace(method, terms=(term,))
        modules = make_modules(method, model, seed=0)
        _, _, gradients = losses(only, model, modules)
        head = model.get_output_embeddings().weight
        if head is not model.get_input_embeddings().weight:
            [name] = [n for n, p in model.named_parameters() if p is head]
            assert not gradients[f"model.{name}"].any()
        assert any(g.any() for name, g in gradients.items() if name.startswith("model."))

    @pytest.mark.parametrize("saves", [False, True])
    def test_the_decoder_saves_memory_as_the_model_does(self, model, saves, monkeypatch):
        seen = []

        class Spy(Passes):
            def read(self, *inputs):
                seen.append(self.saves_memory)
                return super().read(*inputs)

        monkeypatch.setattr("latentcot.methods.simcot.Passes", Spy)
        method = method_named("simcot")
        modules = make_modules(method, model, seed=0)
        objective = Objective(model, method, RULES, modules, saves_memory=saves).train()
        objective(collate_views(laid_out(method))).sum().backward()
        assert seen == [saves]

    def test_targets_of_groups(self):
        steps = [(1,), (2,), (3,), (4,), (5,), (6,)]
        assert group_targets([], 3) == ((), (), ())
        assert group_targets(steps[:1], 3) == ((1,), (), ())
        assert group_targets(steps[:3], 3) == ((1,), (2,), (3,))
        assert group_targets(steps, 3) == ((1,), (2,), (3, 4, 5, 6))
        # Too long ones, and steps behind the last group.
        assert group_targets([(1, 2, 3)], 2, width=2) == ((1, 2), ())
        assert group_targets(steps[:3], 2, joins_rest=False) == ((1,), (2,))

    def test_at_stage_0_it_does_nothing_and_uses_every_weight(self, model):
        method = method_named("simcot")
        modules = make_modules(method, model, seed=0)
        means, _, gradients = losses(method, model, modules, stage=0)
        learned = [n for n, one in modules.named_parameters() if one.requires_grad]
        of_decoder = [f"learned.{name}" for name in learned]
        assert means[SPELLING] is None
        assert all(name in gradients for name in of_decoder)

    def test_answers_need_no_decoder(self, model):
        method = method_named("simcot")
        assert not method.kept_of({})

    def test_a_host_without_thoughts_is_refused(self):
        with pytest.raises(MethodError, match="cot has no thoughts"):
            method_named({"name": "simcot", "host": "cot"})


class TestCotBfs:
    """The chain itself is held to a reference in tests/tasks/test_prosqa.py."""

    def test_it_is_chain_of_thought_on_other_steps(self, model):
        own, method = method_named("cot"), method_named("cot-bfs")
        assert losses(method, model, stage=0)[0] == losses(own, model, stage=0)[0]
        options = options_named("two-family", shared=0)
        example = make_splits(options, {"train": 1}, 0, None)["train"][0]
        (read,) = method.with_chains([example])
        assert read == replace(example, steps=frontier_chain(example)) != example

    def test_examples_without_a_graph_are_refused(self):
        with pytest.raises(DataError, match="example 1: has no 'idx_to_symbol', 'edges'"):
            method_named("cot-bfs").with_chains([Example("1", "a?", ("b",), "c")])
