"""The language model that thinks: from the hub, from a folder, or small and made from scratch."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import NewGELUActivation
from transformers.utils import logging as transformers_logging
from transformers.utils.import_utils import is_gguf_available
from transformers.utils.peft_utils import find_adapter_config_file

from latentcot.curriculum.layout import Layout
from latentcot.errors import DataError, RecipeError
from latentcot.models.backend.dropout import Dropout
from latentcot.models.settings import FromScratch
from latentcot.utils.display import say
from latentcot.utils.network import use_cache_if_unreachable
from latentcot.utils.parsing import could_be_on_hub, one_line, shown


@contextmanager
def no_bars() -> Iterator[None]:
    """Keep transformers from drawing bars for what takes no time."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()


def load_pretrained(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal LM and its tokenizer from a folder or from the hub.

    Raises:
        RecipeError: Nothing of this name can be loaded.
    """
    try:
        if not Path(name).is_dir() and gguf_of(name) is None:
            if not could_be_on_hub(name):
                raise ValueError("is a file." if Path(name).is_file() else "no such folder.")
            use_cache_if_unreachable()
        tokenizer = load_tokenizer_of(name)
        model = load_weights(name)
        rows = model.get_input_embeddings().get_parameter("weight").shape[0]
        highest = max(tokenizer.get_vocab().values(), default=0)
        if highest >= rows:  # they would be given rows that mean nothing
            raise ValueError(f"its tokenizer has a token {highest}, but it has {rows} embeddings.")
    except Exception as error:  # transformers, its hub and safetensors raise many kinds
        raise _not_loaded(name, error) from None
    return model, tokenizer


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model alone.

    Raises:
        RecipeError: Nothing of this name can be loaded.
    """
    try:
        return load_tokenizer_of(name)
    except Exception as error:  # transformers and its hub raise many kinds
        raise _not_loaded(name, error) from None


def load_tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer, never code that comes with it.

    Raises:
        Exception: Many kinds, by transformers, if there is none.
    """
    # False, since without an answer transformers would ask the terminal.
    place, options = gguf_of(name) or (name, {})
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        place, trust_remote_code=False, **options
    )
    if len(tokenizer) < 2:  # transformers makes an empty one where a folder has a config alone
        raise ValueError("it holds no tokenizer.")
    return tokenizer


def gguf_file(path: Path) -> Path | None:
    """Return the GGUF file that a path means; None for others.

    A folder stands for the one GGUF file in it, where it holds no configuration.
    """
    if path.is_dir() and not (path / "config.json").exists():
        inside = [one for one in path.iterdir() if _is_gguf(one)]
        return inside[0] if len(inside) == 1 else None
    return path if _is_gguf(path) else None


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf" and path.is_file()


def gguf_of(name: str) -> tuple[str, dict[str, str]] | None:
    """Return folder and options of a GGUF file, as transformers wants them; None for others.

    Raises:
        ValueError: The package gguf is not installed.
    """
    path = gguf_file(Path(name))
    if path is None:
        return None
    if not is_gguf_available():
        raise ValueError("GGUF files need the package gguf: pip install 'latentcot[gguf]'.")
    return str(path.parent), {"gguf_file": path.name}


def _not_loaded(name: str, error: Exception) -> RecipeError:
    reason = one_line(str(error)) or type(error).__name__
    folder = Path(name)
    if folder.is_dir() and any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        reason = (
            "its weights are a .bin file, which could run code when it is unpickled. Write them as "
            "safetensors: latentcot convert, or transformers' save_pretrained."
        )
    checkpoints = sorted((folder / "checkpoints").glob("update-*"))
    if checkpoints:  # which of them stands in the recipe: a run that goes on has others
        reason = f"it is a run. Name one of its checkpoints, such as {checkpoints[-1]}."
    return RecipeError(
        f"model: {shown(name)} cannot be loaded: {reason} Give a folder with a saved causal "
        "LM, a GGUF file, a hub id such as openai-community/gpt2 (needs a network or the hub's "
        "cache), or the settings of a model made from scratch. See docs/recipes.md."
    )


_OWN_ATTENTION = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


def load_weights(name: str) -> PreTrainedModel:
    """Load a causal LM in float32: safetensors or GGUF, and never code that comes with it.

    Raises:
        Exception: Many kinds, by transformers and safetensors, if nothing can be loaded.
        ValueError: Some of its weights are missing, which transformers would draw at random, or are
            no numbers. Or it holds adapters, whose settings can make peft import what they name; or
            its config.json makes transformers fetch and run more than its own code.
    """
    place, options = gguf_of(name) or (name, {})
    if find_adapter_config_file(place) is not None:
        raise ValueError(
            "it holds adapters. Merge them with their base first: latentcot convert "
            f"{name} --out FOLDER."
        )
    with no_bars():
        config = AutoConfig.from_pretrained(place, trust_remote_code=False, **options)
        attention = config._attn_implementation
        if attention not in _OWN_ATTENTION:  # "owner/name" is a kernel of the hub
            raise ValueError(
                f"config.json asks for the attention {shown(attention)}, which is code that "
                "transformers does not hold itself; take attn_implementation out of it"
            )
        is_quantized = getattr(config, "quantization_config", None) is not None
        if is_quantized and not options:  # a library unpacks these
            raise ValueError(
                "its weights are quantized; give a model whose weights are plain floats"
            )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=not options,
            trust_remote_code=False,
            **options,
        )
    model: PreTrainedModel = loaded[0]
    take_faster_modules(model)
    keep_fixed_positions(model)
    report: dict[str, Any] = loaded[1]
    if options:  # they are plain floats by now, and can be saved as such
        unpacked: Any = model
        unpacked.hf_quantizer, unpacked.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{len(missing)} of its weights are missing, such as {missing[0]}.")
    damaged = [key for key, one in model.named_parameters() if not bool(one.isfinite().all())]
    if damaged:
        raise ValueError(
            f"{len(damaged)} of its weights hold NaN or infinity, such as {damaged[0]}."
        )
    return model


def take_faster_modules(model: nn.Module) -> None:
    """Compute GPT-2's GELU by one kernel, where transformers takes eight, and draw dropout cheaply.

    Both are the same functions. The config stays as it is, so that what is saved is what others
    know.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, nn.GELU(approximate="tanh"))
            elif type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))


def make_from_scratch(
    settings: FromScratch, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """Make a small model from scratch, its weights drawn from `seed` alone.

    Raises:
        RecipeError: The heads do not divide the width, or into parts that rotary positions cannot
            turn.
    """
    if settings.hidden_size % settings.num_heads:
        raise RecipeError(
            f"model.num_heads: must divide model.hidden_size, got {settings.num_heads} and "
            f"{settings.hidden_size}."
        )
    if settings.architecture != "gpt2" and settings.hidden_size // settings.num_heads % 2:
        raise RecipeError(
            f"model.num_heads: rotary positions of {settings.architecture} turn pairs, so "
            "model.hidden_size / model.num_heads must be even, got "
            f"{settings.hidden_size} / {settings.num_heads}."
        )
    of_family: dict[str, Any]
    if settings.architecture == "gpt2":
        of_family = {
            "n_embd": settings.hidden_size,
            "n_layer": settings.num_layers,
            "n_head": settings.num_heads,
            "n_inner": settings.intermediate_size,
            "n_positions": settings.num_positions,
            # The same function as GPT-2's gelu_new, but one kernel.
            "activation_function": "gelu_pytorch_tanh",
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings.dropout),
        }
    else:
        of_family = {
            "hidden_size": settings.hidden_size,
            "num_hidden_layers": settings.num_layers,
            "num_attention_heads": settings.num_heads,
            "num_key_value_heads": settings.num_heads,
            "head_dim": settings.hidden_size // settings.num_heads,
            "intermediate_size": settings.intermediate_size,
            "max_position_embeddings": settings.num_positions,
            "attention_dropout": settings.dropout,
            "tie_word_embeddings": True,
        }
    config = AutoConfig.for_model(
        settings.architecture,
        vocab_size=len(tokenizer),
        initializer_range=settings.init_std,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        **of_family,
    )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    take_faster_modules(model)
    if settings.architecture == "gpt2" and settings.positions == "sinusoidal":
        # Sines and cosines of falling frequency, for good.
        table = model.get_parameter("transformer.wpe.weight")
        num_positions, width = table.shape
        scale = settings.position_scale * 2**0.5
        frequency = 10_000 ** (-torch.arange(0, width, 2) / width)
        angle = torch.arange(num_positions)[:, None] * frequency
        with torch.no_grad():
            table[:, 0::2] = scale * angle.sin()
            table[:, 1::2] = scale * angle.cos()[:, : width // 2]
        setattr(config, FIXED_POSITIONS, True)
        keep_fixed_positions(model)
    return model


FIXED_POSITIONS = "latentcot_fixed_positions"
"""What the config of a model says whose table of positions is not learned."""


def keep_fixed_positions(model: PreTrainedModel) -> None:
    """Freeze the table of positions, where it is not learned."""
    if getattr(model.config, FIXED_POSITIONS, False):
        model.get_parameter("transformer.wpe.weight").requires_grad_(False)


def width_of(model: PreTrainedModel) -> int:
    """Return the width of what the model reads and of the states that it gives: D.

    Not always `config.hidden_size`: some project between the two (OPT-350m).
    """
    table: Any = model.get_input_embeddings()  # adapters wrap it
    return int(table.weight.shape[1])


def fast_precision(model: PreTrainedModel) -> Literal["float32", "bfloat16"]:
    """Return the precision in which a model trains fastest on the processor at hand.

    On a CPU alone: nobody has measured it on other devices. Says so where it is not float32.
    """
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older torch
    has_bfloat16 = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    if torch.accelerator.is_available() or not has_bfloat16 or width_of(model) < WIDE:
        return "float32"
    times = times_as_fast_in_bfloat16()
    if times < FASTER:
        return "float32"
    say(
        "Note: trains in bfloat16 (autocast; the weights stay float32), in which this processor "
        f"multiplies {times:.1f} times as fast. Set training.precision: float32 if you do not want "
        "it."
    )
    return "bfloat16"


WIDE = 512
"""Width from which training in bfloat16 is faster (docs/performance.md)."""
FASTER = 1.5
"""Of products; a good part of it goes into casts."""


def times_as_fast_in_bfloat16() -> float:
    """Measure a product of a block in bfloat16 beside float32, some 0.1 s on two cores.

    That a processor has avx512_bf16 is not enough: an Intel Xeon whose AMX is hidden by its virtual
    machine multiplies at half the rate of float32. The best of some turns counts, so that other
    work on the machine does not decide.
    """
    sides = [(torch.ones(1024, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype))
             for dtype in (torch.float32, torch.bfloat16)]  # fmt: skip
    seconds = []
    for _ in range(7):
        for left, right in sides:
            start = time.perf_counter()
            _ = left @ right
            seconds.append(time.perf_counter() - start)
    return min(seconds[::2]) / min(seconds[1::2])


def max_positions(model: PreTrainedModel) -> int | None:
    """Return the longest sequence that the model takes, or None where it does not say."""
    return getattr(model.config, "max_position_embeddings", None)


def check_lengths(
    model: PreTrainedModel, layouts: Iterable[Layout], ids: Iterable[str], new_tokens: int = 0
) -> None:
    """Refuse sequences that are longer than the model has positions.

    Raises:
        DataError: With the first example that is too long.
    """
    limit = max_positions(model)
    for layout, id_ in zip(layouts, ids, strict=True):
        if limit is not None and len(layout) + new_tokens > limit:
            raise DataError(
                f"example {id_!r}: needs {len(layout) + new_tokens} positions "
                f"({len(layout.prefix)} for the question, {layout.num_latents} latent positions, "
                f"{len(layout.suffix) + new_tokens} for what follows), but the model has {limit}. "
                "Leave it out (data.skip_long: true does, in training), shorten it, or use a model "
                "with more positions (for one made from scratch, model.num_positions)."
            )
