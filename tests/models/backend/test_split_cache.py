"""A cache in parts gives what transformers' own cache gives: states, gradients, words."""

from contextlib import contextmanager, nullcontext
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from latentcot.models.backend import weight_gradients
from latentcot.models.backend.split_cache import (
    FAMILIES,
    NAME,
    Fixed,
    Seen,
    SplitLayer,
    attends_over_split_cache,
    blocks_of,
    patched,
    split_cache,
    takes_split_cache,
)
from latentcot.models.backend.weight_gradients import joint_weight_gradients
from latentcot.models.ways import set_way
from latentcot.thinking.batch import collate
from latentcot.thinking.decoding import generate
from latentcot.thinking.passes import Passes
from losses import LanguageLoss
from marks import mostly_slow
from reference import ARCHITECTURES, HIDDEN_SIZE, VOCAB_SIZE, tiny_model
from rollouts import (
    CLOSE,
    EXACT,
    RAGGED,
    check_loss,
    check_states,
    make_rows,
    product_loss,
    read_states,
    relative_errors,
    run_think,
    take_gradients,
)

DECODER = ARCHITECTURES["llama"][2]
NEOX = {key: value for key, value in DECODER.items() if key != "num_key_value_heads"}
MORE = {
    "mistral": (MistralForCausalLM, MistralConfig, {**DECODER, "sliding_window": None}),
    "windows": (MistralForCausalLM, MistralConfig, {**DECODER, "sliding_window": 64}),
    "gpt_neox": (GPTNeoXForCausalLM, GPTNeoXConfig, NEOX),
}
ROWS = make_rows(RAGGED)


def make_model(name: str, *args, **options) -> nn.Module:
    """A `tiny_model` of more architectures."""
    with mock.patch.dict(ARCHITECTURES, MORE):
        return tiny_model(name, *args, **options)


@contextmanager
def without_parts():
    """As for a family that is not known: transformers' own cache and attention."""
    with mock.patch("latentcot.thinking.passes.takes_split_cache", return_value=False):
        yield


class TestFamilies:
    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    @pytest.mark.parametrize("family", FAMILIES)
    def test_states_and_gradients_are_those_of_transformers(self, family, attention):
        model = make_model(family, attention=attention).train()
        assert takes_split_cache(model)
        states, latent_inputs = read_states(model, ROWS)
        gradients = take_gradients(model, product_loss(model, ROWS))
        model.config._attn_implementation = "sdpa"  # llama's eager softmax rounds to float32
        with without_parts():
            assert type(run_think(model, ROWS).passes.cache) is DynamicCache
            expected_states, expected_fed = read_states(model, ROWS)
            expected = take_gradients(model, product_loss(model, ROWS))
        torch.testing.assert_close(states, expected_states, **EXACT)
        torch.testing.assert_close(latent_inputs, expected_fed, **EXACT)
        errors = relative_errors(gradients, expected)
        assert max(errors.values()) < 1e-8, errors

    def test_are_those_of_the_tests(self):
        assert set(FAMILIES) == {*ARCHITECTURES, "mistral"}

    @pytest.mark.parametrize("heads", [1, 2, 4])
    def test_heads_share_keys(self, heads):
        """Of 4 heads of queries."""
        model = make_model("llama", num_key_value_heads=heads)
        check_loss(model, ROWS, 1e-8)

    def test_scores_are_scaled_as_the_model_says(self):
        """GPT-2 can scale each block in its own way."""
        plain, scaled = (  # the first of the blocks is scaled as ever, the last one is narrowed
            make_model("gpt2", n_layer=3, scale_attn_by_inverse_layer_idx=is_on)
            for is_on in (False, True)
        )
        with torch.no_grad():
            check_states(scaled, ROWS, run_think(scaled, ROWS), EXACT)
            assert (read_states(scaled, ROWS)[0] - read_states(plain, ROWS)[0]).abs().max() > 1e-2


FALLING_BACK = {
    "unknown family": ("gpt_neox", {}),
    "sliding window": ("windows", {}),
    "upcast attention": ("gpt2", {"reorder_and_upcast_attn": True}),
}


class TestFallingBack:
    @pytest.mark.parametrize("case", FALLING_BACK)
    def test_gives_what_the_reference_gives(self, case):
        name, options = FALLING_BACK[case]
        model = make_model(name, **options)
        assert not takes_split_cache(model)
        if case == "unknown family":
            set_way(model, "plain")  # as choose_way finds, in float32
        with torch.no_grad():
            rollout = run_think(model, ROWS)
            assert type(rollout.passes.cache) is DynamicCache
            check_states(model, ROWS, rollout, EXACT)
        check_loss(model, ROWS, 1e-8)

    def test_gives_what_the_reference_gives_where_attention_is_in_float32(self):
        options = {"attention": "eager", "reorder_and_upcast_attn": True}
        model = make_model("gpt2", torch.float32, **options)
        assert not takes_split_cache(model)
        with torch.no_grad():
            check_states(model, ROWS, run_think(model, ROWS), CLOSE)

    def test_for_attention_of_others(self):
        """An implementation that is not known stays what it is, even for a known family."""
        sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
        calls = []

        def others(*args, **kwargs):
            calls.append(1)
            return sdpa(*args, **kwargs)

        model = make_model("llama")
        ALL_ATTENTION_FUNCTIONS["others"] = others
        try:
            model.config._attn_implementation = "others"
            assert not takes_split_cache(model)
            # No mask is made for what transformers does not know: one row, nothing to hide.
            with torch.no_grad():
                run_think(model, ROWS[:1])
        finally:
            del ALL_ATTENTION_FUNCTIONS["others"]
        assert len(calls) == 2 * (ROWS[0].num_thoughts + 1)  # blocks × passes

    @pytest.mark.parametrize(
        ("name", "attention", "options"),
        [
            # Kernels with a rule of their own.
            ("llama", "flex_attention", {}),
            ("llama", "flash_attention_2", {}),
            # Something else is attended to.
            ("gpt2", "sdpa", {"add_cross_attention": True}),
            # A window in the upper half of the layers.
            (
                "qwen2",
                "sdpa",
                {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
            ),
        ],
    )
    def test_for_other_ways_to_attend(self, name, attention, options):
        model = make_model(name, **options)
        model.config._attn_implementation = attention
        assert not takes_split_cache(model)

    def test_is_said_once(self, capsys):
        """Training would be several times slower, and nothing else would tell why."""
        model = make_model("gpt_neox")
        for _ in range(2):
            takes_split_cache(model)
        said = capsys.readouterr().err
        assert said.count("GPTNeoXForCausalLM") == 1
        assert ", ".join(FAMILIES) in said
        takes_split_cache(make_model("gpt2"))
        assert not capsys.readouterr().err


class TestTheModelIsLeftAlone:
    @pytest.mark.parametrize("saves_memory", [False, True])
    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_afterwards(self, attention, saves_memory):
        model = make_model("llama", attention=attention).train()
        loss = LanguageLoss(model, saves_memory=saves_memory)(
            collate([row.as_layout for row in ROWS])
        )
        assert model.config._attn_implementation == attention
        loss.nll_sum.backward()
        assert model.config._attn_implementation == attention
        assert not any("forward" in vars(module) for module in model.modules())
        assert takes_split_cache(model)

    @pytest.mark.parametrize("block", [0, -1])
    @pytest.mark.parametrize("when", [0, 2])
    @pytest.mark.parametrize("saves_memory", [False, True])
    def test_after_an_error(self, saves_memory, when, block):
        """In the question's pass, and in that of a thought."""
        model = make_model("gpt2").train()
        calls = []

        def fail(*_):
            calls.append(1)
            if len(calls) > when:
                raise ZeroDivisionError

        hook = blocks_of(model.base_model)[block].mlp.register_forward_pre_hook(fail)
        with pytest.raises(ZeroDivisionError):
            run_think(model, ROWS, saves_memory=saves_memory)
        hook.remove()
        assert model.config._attn_implementation == "sdpa"
        assert not any("forward" in vars(module) for module in model.modules())
        check_states(model, ROWS, run_think(model, ROWS), EXACT)

    def test_within_it_the_name_is_ours(self):
        model = make_model("llama", attention="eager")
        with attends_over_split_cache(model.config), attends_over_split_cache(model.config):
            assert model.config._attn_implementation == NAME
            assert takes_split_cache(model)
        assert model.config._attn_implementation == "eager"

    def test_a_forward_that_somebody_else_put_there_comes_back(self):
        block = blocks_of(make_model("gpt2").base_model)[0]

        def theirs(*args, **kwargs):
            return None

        block.forward = theirs
        with pytest.raises(ZeroDivisionError), patched(block, lambda *_: 1 / 0):
            block(None)
        assert block.forward is theirs


class TestCache:
    def read(self, passes: Passes, columns: Tensor, lengths=None) -> Tensor:
        size, width = columns.shape[:2]
        lengths = torch.full((size,), width) if lengths is None else torch.tensor(lengths)
        return passes.read(columns, torch.arange(width) < lengths[:, None])

    def columns(self, count: int, seed: int, rows: int = 3) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(rows, count, HIDDEN_SIZE, generator=generator, dtype=torch.float64)

    def read_and_keep(self, model, kept) -> list[Tensor]:
        """Question, thought, a choice of rows, another thought, two words."""
        passes = Passes(model, 3)
        self.read(passes, self.columns(5, seed=0), [5, 2, 4])
        found = []
        if not kept:
            passes.keep_rows(torch.tensor([2, 1, 2]))
        for number, rows in enumerate(kept):
            size = len(passes.lengths_B)
            found.append(self.read(passes, self.columns(1, seed=1 + number, rows=size)))
            passes.keep_rows(torch.tensor(rows))
        found.append(self.read(passes, self.columns(2, seed=9, rows=len(passes.lengths_B))))
        return found

    @torch.no_grad()
    @pytest.mark.parametrize(
        "kept", [([2, 0],), ([2, 0, 2, 1],), ([1, 2], [1]), ([0, 2, 2], [1]), ()]
    )
    @pytest.mark.parametrize("family", ["gpt2", "llama"])
    def test_keeps_rows(self, family, kept):
        """In any order, also more than once; also before anything came behind the question."""
        model = make_model(family)
        found = self.read_and_keep(model, kept)
        with without_parts():
            torch.testing.assert_close(found, self.read_and_keep(model, kept), **EXACT)

    def test_keeping_rows_of_an_empty_cache(self):
        layer = SplitLayer()
        layer.batch_select_indices(torch.tensor([0]))
        assert layer.first is None and layer.get_seq_length() == 0

    def test_generation_gives_the_same_words(self):
        model = make_model("qwen3")
        prompts = [row.as_layout.prompt() for row in ROWS]
        options = {"eos_id": 7, "max_new_tokens": 9, "batch_size": 8}
        found = generate(model, prompts, **options)
        assert len({len(one.token_ids) for one in found}) > 1  # rows leave at different times
        with without_parts():
            expected = generate(model, prompts, **options)
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]

    @torch.no_grad()
    def test_the_question_is_written_once_and_never_copied(self):
        model = make_model("llama")
        passes = Passes(model, 3)
        self.read(passes, self.columns(5, seed=0))
        layer = passes.cache.layers[0]
        first, fixed = layer.first, layer.fixed
        assert all(tensor.is_contiguous() for tensor in first)
        for number, count in enumerate((1, 1, 4)):
            self.read(passes, self.columns(count, seed=number))
            assert layer.first is first and layer.fixed is fixed
            assert layer.newest[0].shape[-2] == count
        assert [part.shape[-2] for part in layer.rest] == [6, 6]
        assert passes.cache.get_seq_length() == layer.get_seq_length() == 11
        assert fixed.keys_NFE.data_ptr() == first[0].data_ptr()

    def test_has_a_layer_for_each_block(self):
        model = make_model("gpt2", n_layer=3)
        layers = split_cache(len(blocks_of(model.base_model))).layers
        assert [type(layer) for layer in layers] == [SplitLayer] * 3
        assert blocks_of(model.base_model) == list(model.transformer.h)


class TestDropout:
    """Each of the three ways to attend drops weights, in the share it is told."""

    def attend(self, width: int, rest: int | None, *, is_masked: bool, dropout: float) -> Tensor:
        """Each query sees one key only, of value 1: what comes out is its weight."""
        rows = 2000
        ones = torch.ones(rows, 1, width, 2)
        more = None if rest is None else (torch.ones(rows, 1, rest, 2),) * 2
        mask = torch.full((1, 1, 1, width + (rest or 0)), -torch.inf)
        mask[..., 0] = 0
        seen = Seen((ones, ones), Fixed(ones, ones), more, mask if is_masked else None)
        attend = ALL_ATTENTION_FUNCTIONS[NAME]
        torch.manual_seed(0)
        found, weights = attend(None, torch.zeros(rows, 1, 1, 2), seen, None, None, dropout=dropout)
        assert weights is None
        return found[:, 0, 0, 0]

    @pytest.mark.parametrize(
        ("width", "rest", "is_masked"), [(1, None, False), (4, None, True), (4, 2, True)]
    )
    def test_share(self, width, rest, is_masked):
        found = self.attend(width, rest, is_masked=is_masked, dropout=0.75)
        assert set(found.tolist()) == {0.0, 4.0}
        assert float((found == 0).float().mean()) == pytest.approx(0.75, abs=0.05)
        kept = self.attend(width, rest, is_masked=is_masked, dropout=0.0)
        assert set(kept.tolist()) == {1.0}

    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_only_in_training(self, attention):
        def read(model, seed):
            torch.manual_seed(seed)
            return read_states(model, ROWS)

        model = make_model("gpt2", attention=attention, attn_pdrop=0.5)
        torch.testing.assert_close(read(model, 0), read(model, 1), rtol=0, atol=0)
        model.train()
        torch.testing.assert_close(read(model, 0), read(model, 0), rtol=0, atol=0)
        assert not torch.allclose(read(model, 0)[0], read(model, 1)[0])


class TestBfloat16:
    """Under autocast: no worse than transformers' own way."""

    def gradients(self, model, rows, *, is_on: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_on):
            loss = product_loss(model, rows)
        gradients = take_gradients(model, loss)
        return loss.detach(), torch.cat([gradient.flatten() for gradient in gradients.values()])

    def errors(self, family: str, seed: int) -> list[tuple[float, float]]:
        """(loss, gradients) of ours, ours as a train step has it, and theirs, over float32's."""
        model, rows = calm_model(family, seed), make_rows(RAGGED, seed)
        loss, gradients = self.gradients(model, rows, is_on=False)
        found = []
        joined = joint_weight_gradients(blocks_of(model))
        for context in (nullcontext(), joined, without_parts()):
            with context:
                loss_16, gradients_16 = self.gradients(model, rows, is_on=True)
            error = (gradients_16 - gradients).norm() / gradients.norm()
            found.append((float((loss_16 - loss).abs() / loss), float(error)))
        return found

    @pytest.mark.parametrize("family", mostly_slow(FAMILIES, "gpt2"))
    def test_rounds_no_more_than_transformers(self, family, monkeypatch):
        monkeypatch.setattr(weight_gradients, "LARGE", 0)
        all_errors = torch.tensor([self.errors(family, seed) for seed in range(4)])
        *ours, theirs = all_errors.square().mean(0).sqrt()
        assert theirs[1] > 1e-3  # something was rounded at all
        assert not torch.equal(*ours)
        for errors in ours:
            assert (errors < 1.5 * theirs + 1e-3).all(), (errors, theirs)

    def test_parts_are_in_bfloat16_within_autocast(self):
        model = calm_model("llama", 0)
        with torch.autocast("cpu", torch.bfloat16):
            rollout = run_think(model, ROWS)
        for layer in rollout.passes.cache.layers:
            parts = (*layer.first, *layer.rest, *layer.newest)
            assert {tensor.dtype for tensor in parts} == {torch.bfloat16}
            assert layer.mask_B1CK.dtype == torch.float32
        with torch.no_grad():
            rollout = run_think(model, ROWS)
        assert rollout.passes.cache.layers[0].rest[0].dtype == torch.float32


def calm_model(family: str, seed: int) -> nn.Module:
    """In float32, with weights small enough that rounding does not grow."""
    model = make_model(family, torch.float32, seed).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(0.5)
    return model


def test_gpt2_without_ids_of_its_own_takes_parts():
    """The checks above look at the config alone; here the plainest one."""
    config = GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None
    )
    assert takes_split_cache(GPT2LMHeadModel(config))
