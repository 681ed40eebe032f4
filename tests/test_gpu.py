"""On a CUDA device: updates recorded as graphs make the weights of updates that are not.

    pytest -m gpu tests/test_gpu.py

Both ways take batches that are padded alike, and GPT-2's key biases stand still: their gradient is
nothing but rounding, and Adam makes updates of full size of it.
"""

import copy

import pytest
import torch
from torch import nn

from latentcot.learner import Learner
from latentcot.stopping import StopHead
from reference import HIDDEN_SIZE, tiny_model
from test_replay import UPDATES, training
from test_thoughts import relative_errors

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


def make_learner(model: nn.Module, *, stop_head: StopHead | None = None, **changes) -> Learner:
    return Learner(copy.deepcopy(model), training(**changes), stop_head=copy.deepcopy(stop_head))


def learn(learner: Learner, updates, *, is_recorded: bool = True, is_anew: bool = False):
    """Make updates; return the weights. Anew: as a resumed run, which has recorded nothing."""
    shares = [learner.share_of(layouts) for layouts in updates]  # padded, as where it is recorded
    if not is_recorded:
        learner._replayed = None
    for number, share in enumerate(shares):
        if is_anew:
            learner._replayed._known.clear()
        learner.seed_dropout(f"{number}")
        learner.learn_from(share, rate=1e-4)
    return {name: weight.detach().cpu() for name, weight in learner.loss.named_parameters()}


@pytest.mark.parametrize("micro_batch_size", [None, 3])
@pytest.mark.parametrize("has_classifier", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_graphs_make_the_same_weights(name, has_classifier, micro_batch_size):
    head = StopHead(HIDDEN_SIZE) if has_classifier else None
    model = make_model(name)
    learners = [
        make_learner(model, stop_head=head, micro_batch_size=micro_batch_size) for _ in range(2)
    ]
    recorded = learn(learners[0], SHAPES)
    plain = learn(learners[1], SHAPES, is_recorded=False)
    assert learners[0]._replayed.num_recordings > 1
    torch.testing.assert_close(recorded, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_graphs_give_the_same_gradients(name, precision):
    """Recorded while gradients of micro-batches stand there, and replayed."""
    found = []
    for is_recorded in (True, False):
        learner = make_learner(make_model(name), micro_batch_size=1, precision=precision)
        share = learner.share_of(UPDATES[0])
        learner._replayed = learner._replayed if is_recorded else None
        learner.loss.train()
        for _ in range(2):
            for batch in share.micro_batches:
                learner._gradients(batch.to(learner.accelerator.device), share)
        weights = learner.loss.named_parameters()
        found.append({key: weight.grad for key, weight in weights if weight.requires_grad})
    errors = relative_errors(*found)
    assert max(errors.values()) < (1e-4 if precision == "float32" else 3e-2), errors


def test_a_resumed_run_drops_what_the_first_dropped():
    """Recording, which a resumed run does anew, uses up no random numbers."""
    model = make_model("gpt2", resid_pdrop=0.2, embd_pdrop=0.2)
    found = [
        learn(make_learner(model), [UPDATES[2]] * 3, is_anew=is_anew) for is_anew in (False, True)
    ]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_where_nothing_is_recorded():
    assert make_learner(make_model("gpt2"))._replayed is not None
    assert make_learner(make_model("gpt2"), save_memory=True)._replayed is None
    assert make_learner(tiny_model("llama", torch.float32, attention="eager"))._replayed is not None
