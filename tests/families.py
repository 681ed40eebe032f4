"""Tiny models of every causal LM that transformers has and that can be made small by its config."""

import functools
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

VOCAB_SIZE = 40
SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ["hidden_size", "n_embd", "d_model", "dim", "rnn_hidden_size", "lru_width"], 32
    ),
    **dict.fromkeys(["word_embed_proj_dim", "embedding_size", "input_embedding_size"], 32),
    **dict.fromkeys(
        ["n_layer", "n_layers", "num_hidden_layers", "num_layers", "decoder_layers"], 4
    ),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads"], 4),
    **dict.fromkeys(["num_key_value_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"], 48),
    **dict.fromkeys(["decoder_ffn_dim", "shared_expert_intermediate_size"], 48),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"], 64),
    **dict.fromkeys(["sliding_window", "window_size", "attention_window_size"], 8),
    **dict.fromkeys(["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"], 4),
    **dict.fromkeys(["num_experts_per_tok", "moe_topk", "top_k_experts"], 2),
    **dict.fromkeys(["moe_intermediate_size", "q_lora_rank"], 16),
    **dict.fromkeys(["mamba_n_heads", "mamba_d_head", "mamba_num_heads", "mamba_head_dim"], 8),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim", "kv_lora_rank"], 8),
    **dict.fromkeys(["linear_num_key_heads", "linear_num_value_heads"], 4),
    **dict.fromkeys(["state_size", "mamba_d_state", "time_step_rank", "rotary_dim"], 4),
    **dict.fromkeys(["n_group", "topk_group", "n_groups", "mamba_n_groups"], 1),
    "head_dim": 8,
    "v_head_dim": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "attention_chunk_size": 8,
    "mamba_d_ssm": 64,
    "first_k_dense_replace": 1,
    "vocab_size": VOCAB_SIZE,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
}
MAY_BE_EMPTY = ("num_key_value_heads", "head_dim", "pad_token_id", "num_experts_per_tok")
"""Sizes that are set although the family leaves them out."""
MLA = {"head_dim": None, "qk_head_dim": 8}
OF_FAMILY: dict[str, dict[str, Any]] = {
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba", "attention"]},
    "bamba": {"attn_layer_indices": [1, 3]},
    "falcon": {"head_dim": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "mistral": {"sliding_window": 8},
}


class NotTiny(Exception):
    """A family whose config does not let it be made small in these ways."""


@functools.cache
def _config(family: str) -> Any:
    try:
        default = CONFIG_MAPPING[family]().get_text_config(decoder=True)
        known = {
            name: size
            for name, size in SIZES.items()
            if getattr(default, name, None) is not None
            or (name in MAY_BE_EMPTY and hasattr(default, name))
        }
        if getattr(default, "qk_rope_head_dim", None):
            known.pop("head_dim", None)
        own = OF_FAMILY.get(family, {})
        known = {name: one for name, one in {**known, **own}.items() if one is not None}
        config = type(default)(**known)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # configs raise whatever they like
        raise NotTiny(f"{family}: {type(error).__name__}: {error}") from None
    num_weights = sum(weight.numel() for weight in model.parameters())
    if num_weights > 5_000_000:
        raise NotTiny(f"{family}: {num_weights:,} weights")
    return config


def tiny_family(family: str, *, is_uneven: bool = False) -> PreTrainedModel:
    """Make a tiny model of a family (`config.model_type`).

    Args:
        family: One of transformers.
        is_uneven: Draw its matrices so large that attention is far from flat.

    Raises:
        NotTiny: It cannot be made small.
    """
    config = _config(family)
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float().eval()
    if is_uneven:
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Linear | Conv1D):
                    rows = module.weight.shape[0 if isinstance(module, Conv1D) else -1]
                    module.weight.normal_(0, 1.5 * rows**-0.5)
                elif isinstance(module, nn.Embedding):
                    module.weight.normal_(0, 0.7)
        model.tie_weights()
    return model
