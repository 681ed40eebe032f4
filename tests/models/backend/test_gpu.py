"""On a CUDA device: updates and texts recorded as graphs are those that are not recorded.

    pytest -m gpu tests/models/backend/test_gpu.py

Both ways take batches that are padded alike, and GPT-2's key biases stand still: their gradient is
nothing but rounding, and Adam makes updates of full size of it.
"""

import copy

import pytest
import torch
from torch import nn

from latentcot.methods.stopping import StopHead
from latentcot.models.backend.cuda_graphs import Captured, cuda_graphs
from latentcot.thinking.decoding import generate
from latentcot.thinking.recorded import GreedyRecorder
from latentcot.thinking.think import Thinker
from latentcot.training.step import TrainStep
from losses import train_step_of
from reference import HIDDEN_SIZE, tiny_model
from rollouts import NO_EOS, PROMPTS, UPDATES, relative_errors, training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SHAPES = [*UPDATES[:6], *UPDATES[:2]]  # the last two are replayed alone


def make_model(name: str, **options) -> nn.Module:
    model = tiny_model(name, torch.float32, **options)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(not key.endswith("c_attn.bias"))
    return model


def make_train_step(model: nn.Module, *, stop_head: StopHead | None = None, **changes) -> TrainStep:
    train_step = train_step_of(
        copy.deepcopy(model), training(**changes), stop_head=copy.deepcopy(stop_head)
    )
    if train_step._captured is not None:
        train_step._captured.sights = 1  # at first sight: each shape comes once here
    return train_step


def learn(train_step: TrainStep, updates, *, is_recorded: bool = True, is_anew: bool = False):
    """Make updates; return the weights. Anew: as a resumed run, which has recorded nothing."""
    shards = [train_step.part_of(layouts) for layouts in updates]  # padded, as where recorded
    if not is_recorded:
        train_step._captured = None
    for number, shard in enumerate(shards):
        if is_anew:
            train_step._captured._known.clear()
        train_step.seed_dropout(f"{number}")
        train_step.step(shard, rate=1e-4)
    assert not is_recorded or not train_step._captured._has_failed
    return {name: weight.detach().cpu() for name, weight in train_step.wrapped.named_parameters()}


@pytest.mark.parametrize("micro_batch_size", [None, 3])
@pytest.mark.parametrize("has_classifier", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_graphs_make_the_same_weights(name, has_classifier, micro_batch_size):
    head = StopHead(HIDDEN_SIZE) if has_classifier else None
    model = make_model(name)
    train_steps = [
        make_train_step(model, stop_head=head, micro_batch_size=micro_batch_size) for _ in range(2)
    ]
    recorded = learn(train_steps[0], SHAPES)
    plain = learn(train_steps[1], SHAPES, is_recorded=False)
    assert train_steps[0]._captured.num_recordings > 1
    torch.testing.assert_close(recorded, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_graphs_give_the_same_gradients(name, precision):
    """Recorded while gradients of micro-batches stand there, and replayed."""
    found = []
    for is_recorded in (True, False):
        train_step = make_train_step(make_model(name), micro_batch_size=1, precision=precision)
        shard = train_step.part_of(UPDATES[0])
        coefficients = torch.tensor(shard.counts.coefficients(), device="cuda")
        train_step._captured = train_step._captured if is_recorded else None
        train_step.wrapped.train()
        for _ in range(2):
            for batch in shard.micro_batches:
                train_step._gradients(batch.to("cuda"), coefficients)
        assert not is_recorded or not train_step._captured._has_failed
        weights = train_step.wrapped.named_parameters()
        found.append({key: weight.grad for key, weight in weights if weight.requires_grad})
    errors = relative_errors(*found)
    assert max(errors.values()) < (1e-4 if precision == "float32" else 3e-2), errors


def test_a_resumed_run_drops_what_the_first_dropped():
    """Recording, which a resumed run does anew, uses up no random numbers."""
    model = make_model("gpt2", resid_pdrop=0.2, embd_pdrop=0.2)
    found = [
        learn(make_train_step(model), [UPDATES[2]] * 3, is_anew=is_anew)
        for is_anew in (False, True)
    ]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_where_nothing_is_recorded():
    assert make_train_step(make_model("gpt2"))._captured is not None
    assert make_train_step(make_model("gpt2"), save_memory=True)._captured is None
    assert (
        make_train_step(tiny_model("llama", torch.float32, attention="eager"))._captured is not None
    )


@pytest.mark.parametrize("is_autocast", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_recorded_texts_are_those_written_word_by_word(name, is_autocast):
    """Also after an update in between, as in validation, and with memory given away."""
    train_step = make_train_step(make_model(name))
    model = train_step.model.eval()
    recorder = GreedyRecorder(model, Thinker(), cuda_graphs(model.device), sights=1)
    options = {"eos_id": NO_EOS, "max_new_tokens": 8, "batch_size": 4}
    for _ in range(3):
        with torch.autocast("cuda", torch.bfloat16, enabled=is_autocast):
            expected = generate(model, PROMPTS, **options)
            found = generate(model, PROMPTS, recorder=recorder, **options)
        same = [a.token_ids == b.token_ids for a, b in zip(found, expected, strict=True)]
        assert all(same) if not is_autocast else sum(same) >= len(same) - 1  # ties in bfloat16
        train_step.learn(UPDATES[0], rate=1e-3)
        model.eval()
        _ = [torch.randn(1000, 1000, device="cuda") for _ in range(5)]
    assert recorder._captured.num_recordings > 0 and not recorder._captured._has_failed


def test_what_waits_for_the_device_is_not_recorded(capsys):
    """Found out before recording begins, so that all goes on."""
    captured = Captured(cuda_graphs(torch.device("cuda")), sights=1)
    x = torch.ones(3, device="cuda")
    for _ in range(2):
        found = captured("k", lambda t: t * float(t.sum()), (x,))
        assert found.tolist() == [3.0, 3.0, 3.0]
    assert "Goes on without CUDA graphs" in " ".join(capsys.readouterr().err.split())
    assert captured("other", lambda t: t + 1, (x,)).tolist() == [2.0, 2.0, 2.0]
