"""The slow reference: continuous thoughts written down from the paper alone.

One example at a time, no cache, no padding, no mask: every pass recomputes the whole sequence. The
product code must give the same numbers (`test_think.py`, `test_generate.py`). Nothing here
imports `latentcot`.

A sequence is prefix (question and `<bot>`), thought latent positions, suffix (`<eot>`, steps,
answer, end). The thought in a latent position is the last hidden state, after the final norm, one
column to its left. `states[j]` is the last hidden state one column to the left of `suffix[j]`, so
the output head at `states[j]` predicts `suffix[j]`.

A control puts something else into a latent position (`fill`), and a rule that sees the newest
latent position may end latent mode (`reference_count`). Both are asked one row and one latent
position at a time.
"""

from collections.abc import Callable, Iterable, Sequence

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

NO_LABEL = -100
VOCAB_SIZE = 40
HIDDEN_SIZE = 32

Example = tuple[Sequence[int], int, Sequence[int], Sequence[int]]  # prefix, count, suffix, labels
Fill = Callable[
    [nn.Module, int, Tensor], Tensor
]  # (model, latent position, thought (1, D)) → (1, D)


def embed(model: nn.Module, token_ids: Sequence[int]) -> Tensor:
    """Input embeddings of the tokens, (length, hidden)."""
    return model.get_input_embeddings()(torch.tensor(list(token_ids), dtype=torch.long))


def last_hidden(model: nn.Module, inputs: Tensor) -> Tensor:
    """What the output head reads at every column of one sequence of input embeddings."""
    positions = torch.arange(len(inputs))
    output = model.base_model(
        inputs_embeds=inputs[None], position_ids=positions[None], use_cache=False
    )
    return output.last_hidden_state[0]


def pause(token: int) -> Fill:
    """A fill that looks at nothing: the embedding of one token."""
    return lambda model, number, thought: embed(model, [token])


def half(model: nn.Module, number: int, thought: Tensor) -> Tensor:
    """A fill that depends on the latent position and on the thought."""
    return thought / (number + 2)


def reference_states(
    model: nn.Module,
    prefix: Sequence[int],
    num_thoughts: int,
    suffix: Sequence[int],
    *,
    detach_thoughts: bool = False,
    fill: Fill | None = None,
) -> tuple[Tensor, Tensor]:
    """States (1 + len(suffix), hidden) and thoughts (num_thoughts, hidden) of one example.

    `detach_thoughts` stops the gradient at every thought. That is not the method: it is there to
    show that the gradient through the thoughts is not negligible.
    """
    inputs = embed(model, prefix)
    thoughts = [inputs.new_zeros(0, inputs.shape[-1])]
    for number in range(num_thoughts):
        thought = last_hidden(model, inputs)[-1:]
        if fill is not None:
            thought = fill(model, number, thought)
        if detach_thoughts:
            thought = thought.detach()
        thoughts.append(thought)
        inputs = torch.cat([inputs, thought])
    first = len(inputs) - 1
    hidden = last_hidden(model, torch.cat([inputs, embed(model, suffix)]))
    return hidden[first:], torch.cat(thoughts)


def reference_latent_states(
    model: nn.Module, prefix: Sequence[int], num_latents: int, *, fill: Fill | None = None
) -> Tensor:
    """What comes of reading each latent position: (num_latents, hidden)."""
    _, latent_inputs = reference_states(model, prefix, num_latents, (), fill=fill)
    return last_hidden(model, torch.cat([embed(model, prefix), latent_inputs]))[len(prefix) :]


def reference_refined(
    model: nn.Module,
    prefix: Sequence[int],
    num_latents: int,
    suffix: Sequence[int],
    iterations: int,
    start: int,
    update: Callable[[Tensor, Tensor], Tensor],
    *,
    is_in_place: bool,
) -> tuple[Tensor, Tensor]:
    """States (num_latents + 1 + len(suffix), hidden) from the end of the prefix on, and what went
    into the latent positions.

    `update`: (embedding of `start`, state) → input of a position, of the state at the position
    before, or at the position itself.
    """
    first, starts = embed(model, prefix), embed(model, [start] * num_latents)
    inputs, back = starts, 0 if is_in_place else 1
    for _ in range(iterations):
        states = last_hidden(model, torch.cat([first, inputs]))
        new = [update(s, states[len(first) + i - back]) for i, s in enumerate(starts)]
        inputs = torch.stack([*new, first[0]])[:-1]  # also where there are none
    hidden = last_hidden(model, torch.cat([first, inputs, embed(model, suffix)]))
    return hidden[len(first) - 1 :], inputs


def reference_count(
    model: nn.Module,
    prefix: Sequence[int],
    most: int,
    ends: Callable[[Tensor], bool],
    *,
    fill: Fill | None = None,
) -> int:
    """How many latent positions one row takes until `ends` of the state (hidden) at the newest
    one."""
    for count in range(1, most + 1):
        if ends(reference_latent_states(model, prefix, count, fill=fill)[-1]):
            return count
    return most


def reference_loss(
    model: nn.Module,
    batch: Iterable[Example],
    *,
    detach_thoughts: bool = False,
    fill: Fill | None = None,
) -> Tensor:
    """Mean negative log-likelihood over all labelled tokens of the batch."""
    terms = []
    for prefix, num_thoughts, suffix, labels in batch:
        assert len(labels) == len(suffix), "one label per suffix token"
        states, _ = reference_states(
            model, prefix, num_thoughts, suffix, detach_thoughts=detach_thoughts, fill=fill
        )
        log_probs = model.get_output_embeddings()(states).log_softmax(-1)
        terms += [-log_probs[j, label] for j, label in enumerate(labels) if label != NO_LABEL]
    return torch.stack(terms).mean()


@torch.no_grad()
def reference_generate(
    model: nn.Module,
    prefix: Sequence[int],
    num_thoughts: int,
    suffix: Sequence[int],
    max_new_tokens: int,
    eos_id: int | None,
    *,
    fill: Fill | None = None,
    is_forbidden: Callable[[list[int], int], bool] | None = None,
) -> list[int]:
    """Greedy continuation after the suffix, everything recomputed for each token; no eos in it.

    `is_forbidden`: (words so far, token) → whether it may not come next.
    """
    new_tokens: list[int] = []
    while len(new_tokens) < max_new_tokens:
        states, _ = reference_states(model, prefix, num_thoughts, [*suffix, *new_tokens], fill=fill)
        logits = model.get_output_embeddings()(states[-1])
        order = logits.argsort(descending=True).tolist()
        if is_forbidden is not None:
            order = [token for token in order if not is_forbidden(new_tokens, token)]
        token = order[0]
        if token == eos_id:
            break
        new_tokens.append(token)
    return new_tokens


def tiny_models(dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, nn.Module]:
    """Fresh tiny models by architecture; weights large and uneven, so that mistakes are visible."""
    return {name: tiny_model(name, dtype, seed) for name in ARCHITECTURES}


def tiny_model(
    name: str,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    attention: str = "sdpa",
    **overrides: object,
) -> nn.Module:
    """One of `tiny_models`; overrides go to its config."""
    model_class, config_class, options = ARCHITECTURES[name]
    config = config_class(
        vocab_size=VOCAB_SIZE,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        attn_implementation=attention,
        **{**options, **overrides},
    )
    model = model_class(config).to(dtype)
    if dtype == torch.float64:
        _make_norms_exact(model)
    _randomise(model, torch.Generator().manual_seed(seed))
    return model.eval()


def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Every parameter away from its default: norms not at one, biases not at zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() == 2:
                value = (0.4 if len(parameter) == VOCAB_SIZE else 0.3) * noise
            elif name.endswith("bias"):
                value = 0.1 * noise
            else:
                value = 1 + 0.3 * noise
            parameter.copy_(value)


def _make_norms_exact(model: nn.Module) -> None:
    """Swap RMS norms for torch's: the ones of transformers round to float32 inside."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                size, eps = child.weight.shape, child.variance_epsilon
                setattr(parent, name, nn.RMSNorm(size, eps=eps, dtype=torch.float64))


_DECODER = {
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
ARCHITECTURES = {
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config,
        {
            "n_embd": HIDDEN_SIZE,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 128,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "tie_word_embeddings": True,
        },
    ),
    "llama": (
        LlamaForCausalLM,
        LlamaConfig,
        {**_DECODER, "num_key_value_heads": 2, "tie_word_embeddings": False},
    ),
    "qwen3": (
        Qwen3ForCausalLM,
        Qwen3Config,
        {**_DECODER, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True},
    ),
    "qwen2": (
        Qwen2ForCausalLM,
        Qwen2Config,
        {**_DECODER, "num_key_value_heads": 4, "tie_word_embeddings": False},
    ),
}
EACH = [
    "gpt2",
    "llama",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3", "qwen2")),
]
"""Their names as parameters of tests: two are quick."""
