"""LOTUS, held to the slow reference and to what it must equal."""

import pytest
import torch

from latentcot.curriculum.layout import LayoutRules, lay_out
from latentcot.curriculum.views import Parallel, Plan
from latentcot.methods import method_named
from latentcot.methods.lotus import STEP_LOSS
from latentcot.thinking.batch import collate
from latentcot.thinking.think import Thinker, think
from losses import TOKENS
from method_losses import EXAMPLES, assert_same_gradients, laid_out, losses
from reference import reference_refined, tiny_model
from rollouts import EXACT

RULES = LayoutRules(TOKENS, Plan(num_stages=3, thoughts_per_step=2, pad_to_num_stages=False))


@pytest.fixture(params=["gpt2", "llama"])
def model(request):
    return tiny_model(request.param)


def lotus(iterations, step_weight=0.05):
    return method_named({"name": "lotus", "iterations": iterations, "step_weight": step_weight})


def ragged(latents=(3, 1, 0, 4)):
    """Other numbers of latent positions than those of any stage, and none."""
    view = lotus(1).view
    pairs = zip(EXAMPLES, latents, strict=True)
    return [lay_out(example, view, 3, RULES, count) for example, count in pairs]


@pytest.mark.parametrize("is_in_place", [True, False], ids=["in place", "shifted"])
@pytest.mark.parametrize("is_added", [True, False], ids=["added", "replaced"])
@pytest.mark.parametrize("iterations", [0, 2])
@pytest.mark.parametrize("way", ["fast", "plain"])
def test_the_shift_is_all_that_parts_pccots_roll_out_from_one_without_the_start_embedding(
    model, iterations, is_added, is_in_place, way, monkeypatch
):
    if way == "plain":
        monkeypatch.setattr("latentcot.thinking.passes.takes_split_cache", lambda model: False)
    latents = Parallel(
        iterations,
        lambda latent: latent.state + latent.embed("pause") if is_added else latent.state,
        is_in_place=is_in_place,
    )
    rows = ragged()
    with torch.no_grad():
        found = think(model, collate(rows, pad_id=30), Thinker(latents, TOKENS))
    assert found.passes.num_passes == iterations + 1
    for number, row in enumerate(rows):
        states, inputs = reference_refined(
            model, row.prefix, row.num_latents, row.suffix, iterations, TOKENS.pause,
            (lambda start, state: start + state) if is_added else (lambda start, state: state),
            is_in_place=is_in_place,
        )  # fmt: skip
        count, end = row.num_latents, len(row.suffix) + 1
        before, behind = states[:count], states[count:]
        torch.testing.assert_close(found.states_before_latents[number, :count], before, **EXACT)
        torch.testing.assert_close(found.states[number, :end], behind, **EXACT)
        torch.testing.assert_close(found.latent_inputs[number, :count], inputs, **EXACT)


@pytest.mark.parametrize(("iterations", "stage", "size"), [(0, 3, None), (1, 1, 3), (3, 3, 1)])
def test_losses_and_gradients_are_those_of_the_slow_loop(model, iterations, stage, size):
    """One row at a time: block k says step k, each token at the position before its own."""
    language, steps = [], []
    for example in EXAMPLES:
        row = lay_out(example, lotus(1).view, stage, RULES)
        states, _ = reference_refined(
            model, row.prefix, row.num_latents, row.suffix, iterations, TOKENS.pause,
            lambda start, state: start + state, is_in_place=True,
        )  # fmt: skip
        log_probs = model.get_output_embeddings()(states).log_softmax(-1)
        for position in range(row.num_latents):
            step = example.steps[position // 2]
            if position % 2 < len(step):
                steps.append(-log_probs[position, step[position % 2]])
        for number, label in enumerate(row.labels):
            if label != -100:
                language.append(-log_probs[row.num_latents + number, label])
    expected = torch.stack(language).mean() + 0.05 * torch.stack(steps).mean()
    weights = dict(model.named_parameters())
    gradients = torch.autograd.grad(expected, list(weights.values()))
    means, loss, found = losses(lotus(iterations), model, stage=stage, size=size, rules=RULES)
    assert means["loss"] == pytest.approx(torch.stack(language).mean().item(), rel=1e-9)
    assert means[STEP_LOSS] == pytest.approx(torch.stack(steps).mean().item(), rel=1e-9)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    found = {name.removeprefix("model."): one for name, one in found.items()}
    assert_same_gradients(found, dict(zip(weights, gradients, strict=True)))


@pytest.mark.parametrize("stage", [0, 2])
def test_without_iterations_and_step_loss_it_is_coconut_with_pauses(model, stage):
    found, _, gradients = losses(lotus(0, 0.0), model, stage=stage, rules=RULES)
    paused = method_named("coconut-pause-as-thought")
    expected, _, wanted = losses(paused, model, stage=stage, rules=RULES)
    assert found == pytest.approx(expected, rel=1e-9)
    assert_same_gradients(gradients, wanted)


def test_at_stage_0_no_step_is_to_be_said(model):
    means, _, _ = losses(lotus(2), model, stage=0, rules=RULES)
    expected, _, _ = losses(method_named("coconut"), model, stage=0, rules=RULES)
    assert means.pop(STEP_LOSS) is None
    assert means == pytest.approx(expected, rel=1e-9)


def test_gradients_reach_the_first_iteration(model):
    probe = torch.zeros(32, dtype=torch.float64, requires_grad=True)

    def update(latent):
        vector = latent.embed("pause") + latent.state
        return vector + probe if latent.number == 0 else vector

    latents = Parallel(4, update, is_in_place=True)
    rollout = think(model, collate(ragged()), Thinker(latents, TOKENS))
    (gradient,) = torch.autograd.grad(rollout.states[0, 0].sum(), probe)
    assert gradient.norm() > 1e-3


def test_steps_are_cut_to_their_block_and_short_ones_leave_its_rest_silent():
    targets = [laid.targets[STEP_LOSS] for laid in laid_out(lotus(1), 3, rules=RULES)]
    assert targets == [
        ((10,), (11,), (12,), (), (13,), (14,)),
        ((16,), (17,)),
        (),
        ((10,), (), (11,), (), (12,), ()),
    ]
    padded = LayoutRules(TOKENS, Plan(num_stages=2, thoughts_per_step=2))
    targets = [laid.targets[STEP_LOSS] for laid in laid_out(lotus(1), 2, rules=padded)]
    assert targets[1:3] == [((16,), (17,), (), ()), ((), (), (), ())]
