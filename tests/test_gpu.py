"""On a CUDA device: updates recorded as graphs make the weights of updates that are not.

pytest -m gpu tests/test_gpu.py
"""

import copy

import pytest
import torch

from latentcot.learner import Learner
from latentcot.stopping import StopHead
from reference import HIDDEN_SIZE, tiny_model
from test_replay import UPDATES, training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def weights_after(model, updates, *, is_recorded, stop_head=None, **changes):
    learner = Learner(copy.deepcopy(model), training(**changes), stop_head=copy.deepcopy(stop_head))
    if not is_recorded:
        learner._replayed = None
    for number, layouts in enumerate(updates):
        learner.seed_dropout(f"{number}")
        learner.learn(layouts, rate=1e-3)
    if is_recorded:
        assert learner._replayed.num_recordings > 1
    return {name: weight.detach().cpu() for name, weight in learner.loss.named_parameters()}


@pytest.mark.parametrize("micro_batch_size", [None, 3])
@pytest.mark.parametrize("has_classifier", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_graphs_make_the_same_weights(name, has_classifier, micro_batch_size):
    model = tiny_model(name, torch.float32)
    options = {
        "stop_head": StopHead(HIDDEN_SIZE) if has_classifier else None,
        "micro_batch_size": micro_batch_size,
    }
    updates = [*UPDATES[:6], *UPDATES[:2]]  # the last two are replayed alone
    plain = weights_after(model, updates, is_recorded=False, **options)
    recorded = weights_after(model, updates, is_recorded=True, **options)
    torch.testing.assert_close(recorded, plain, rtol=1e-5, atol=1e-5)


def test_a_resumed_run_drops_what_the_first_dropped():
    """Recording, which a resumed run does anew, uses up no random numbers."""
    model = tiny_model("gpt2", torch.float32, resid_pdrop=0.2, embd_pdrop=0.2)
    updates = [UPDATES[2]] * 3
    found = []
    for is_anew in (False, True):
        learner = Learner(copy.deepcopy(model), training())
        for number, layouts in enumerate(updates):
            if is_anew:
                learner._replayed._known.clear()
            learner.seed_dropout(f"{number}")
            learner.learn(layouts, rate=1e-3)
        found.append([weight.detach().cpu() for weight in learner.loss.parameters()])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_a_recipe_on_a_gpu_records():
    learner = Learner(tiny_model("gpt2", torch.float32), training())
    assert learner._replayed is not None
    saving = Learner(tiny_model("gpt2", torch.float32), training(save_memory=True))
    assert saving._replayed is None
