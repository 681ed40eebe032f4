"""The last block runs for the columns that are read alone, and nothing else changes."""

from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from latentcot.models.backend.last_layer import pruned_to
from latentcot.models.backend.split_cache import (
    SplitLayer,
    attends_over_split_cache,
    blocks_of,
    split_cache,
)
from latentcot.thinking.passes import Passes
from reference import HIDDEN_SIZE, tiny_model
from rollouts import (
    CASES,
    EXACT,
    RAGGED,
    check_loss,
    make_rows,
    product_loss,
    read_states,
    relative_errors,
    run_think,
    take_gradients,
)

BLOCKS = {
    (name, count): {key: count}
    for name, key in (("gpt2", "n_layer"), ("llama", "num_hidden_layers"))
    for count in (1, 2, 3)
}
ROWS = make_rows(RAGGED)


@pytest.fixture(params=BLOCKS, ids=str)
def model(request) -> nn.Module:
    return tiny_model(request.param[0], **BLOCKS[request.param])


@contextmanager
def in_full():
    """Every block runs for every position, and what is wanted is picked afterwards."""
    read = Passes.read

    def in_full(self, embeds, is_real, wanted=None, layers_at_B=None):
        states = read(self, embeds, is_real, None, layers_at_B)
        if wanted is None:
            return states
        return states.gather(1, wanted[:, :, None].expand(-1, -1, states.shape[-1]))

    with mock.patch.object(Passes, "read", in_full):
        yield


@contextmanager
def widths_seen(model: nn.Module):
    """Collect, for each block, how many columns each pass brings into its feed-forward."""
    seen: list[list[int]] = [[] for _ in blocks_of(model.base_model)]
    hooks = [
        block.mlp.register_forward_pre_hook(lambda _, args, own=own: own.append(args[0].shape[1]))
        for block, own in zip(blocks_of(model.base_model), seen, strict=True)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


class TestWidth:
    @pytest.mark.parametrize("saves_memory", [False, True])
    def test_with_thoughts_one_column_of_the_question(self, model, saves_memory):
        rows = make_rows(CASES["n=2"])  # the longest question has 8 tokens, the suffix 5
        with widths_seen(model) as seen:
            run_think(model, rows, saves_memory=saves_memory)
        assert seen == [[8, 1, 6]] * (len(seen) - 1) + [[1, 1, 6]]

    def test_without_thoughts_the_language_alone(self, model):
        rows = make_rows(CASES["n=0"])
        with widths_seen(model) as seen:
            run_think(model, rows)
        assert seen == [[13]] * (len(seen) - 1) + [[6]]

    @pytest.mark.parametrize("shapes", [[(1, 2, 3), (1, 1, 2)], [(1, 0, 3), (1, 0, 2)]])
    def test_a_pass_of_which_all_is_read_is_not_narrowed(self, model, shapes):
        with mock.patch("latentcot.thinking.passes.pruned_to", None), torch.no_grad():
            run_think(model, make_rows(shapes))


class TestNumbers:
    @pytest.mark.parametrize("case", ["n=0", "n=1", "n=6", "ragged"])
    def test_states_and_gradients_are_those_of_the_full_pass(self, model, case):
        def find():
            gradients = take_gradients(model, product_loss(model, rows))
            return *read_states(model, rows), gradients

        rows = make_rows(CASES[case])
        states, latent_inputs, gradients = find()
        with in_full():
            full_states, full_fed, full_gradients = find()
        torch.testing.assert_close(states, full_states, **EXACT)
        torch.testing.assert_close(latent_inputs, full_fed, **EXACT)
        errors = relative_errors(gradients, full_gradients)
        assert max(errors.values()) < 1e-9, errors

    def test_those_of_the_reference(self, model):
        check_loss(model, ROWS, 1e-8)

    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_any_columns_in_any_order(self, attention):
        """Also one twice; and the cache holds all columns afterwards."""
        model = tiny_model("llama", attention=attention)
        columns = torch.randn(2, 7, HIDDEN_SIZE, dtype=torch.float64)
        wanted = torch.tensor([[6, 0, 3, 3], [1, 5, 2, 4]])
        is_real = torch.arange(7) < torch.tensor([[7], [6]])

        def read(wanted: Tensor | None) -> tuple[Tensor, Tensor]:
            passes = Passes(model, 2)
            first = passes.read(columns, is_real, wanted)
            return first, passes.read(columns[:, :1], is_real[:, :1])

        with torch.no_grad():
            states, behind = read(wanted)
            full, full_behind = read(None)
        expected = full.gather(1, wanted[:, :, None].expand(-1, -1, HIDDEN_SIZE))
        torch.testing.assert_close(states, expected, **EXACT)
        torch.testing.assert_close(behind, full_behind, **EXACT)

    def test_what_comes_back_has_the_wanted_columns_first(self):
        model, wanted = tiny_model("gpt2"), torch.tensor([[4, 1], [0, 2]])
        columns = torch.randn(2, 5, HIDDEN_SIZE, dtype=torch.float64)

        def run() -> Tensor:
            with attends_over_split_cache(model.config):
                cache = split_cache(len(blocks_of(model.base_model)))
                return model.base_model(inputs_embeds=columns, past_key_values=cache)[0]

        with torch.no_grad():
            full = run()
            with pruned_to(blocks_of(model.base_model)[-1], wanted):
                narrow = run()
        assert narrow.shape == full.shape
        expected = full.gather(1, wanted[:, :, None].expand(-1, -1, HIDDEN_SIZE))
        torch.testing.assert_close(narrow[:, :2], expected, **EXACT)


class TestTheModelIsLeftAlone:
    def test_afterwards(self, model):
        passes = run_think(model, ROWS).passes
        assert not any("forward" in vars(module) for module in model.modules())
        assert {type(layer) for layer in passes.cache.layers} == {SplitLayer}

    @pytest.mark.parametrize("part", ["attn", "mlp"])
    def test_after_an_error_in_the_block(self, part):
        """Before its keys are known, and behind."""
        model = tiny_model("gpt2")
        block = blocks_of(model.base_model)[-1]
        cache = split_cache(len(blocks_of(model.base_model)))

        def fail(*_):
            raise ZeroDivisionError

        hook = getattr(block, part).register_forward_pre_hook(fail)
        columns, wanted = torch.zeros(1, 3, HIDDEN_SIZE, dtype=torch.float64), torch.tensor([[2]])
        with (
            pytest.raises(ZeroDivisionError),
            attends_over_split_cache(model.config),
            pruned_to(blocks_of(model.base_model)[-1], wanted),
        ):
            model.base_model(inputs_embeds=columns, past_key_values=cache)
        hook.remove()
        assert model.config._attn_implementation == "sdpa"
        assert "forward" not in vars(block)
        assert {type(layer) for layer in cache.layers} == {SplitLayer}
        check_loss(model, ROWS, 1e-8)

    def test_a_block_without_a_cache_is_told_apart(self):
        """Rather than to give numbers that mean nothing."""
        model = tiny_model("gpt2")
        block = blocks_of(model.base_model)[-1]
        block.forward = lambda hidden, *args, **kwargs: hidden
        with pytest.raises(AssertionError, match="not used the cache"):
            run_think(model, ROWS)
