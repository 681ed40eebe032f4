"""LoRA through peft: weights stay as they are, adapters and the rows of special tokens learn.

A linear layer W of a block becomes W + α/r · BA, with A (r, in) drawn at random and B (out, r) zero
at first (arXiv 2106.09685). peft puts A and B into the model where it lies, so it stays the model
of transformers that everything else here knows. Special tokens are new words, of which the base
knows nothing: their rows of the embedding, and of an output head that is not tied to it, are
trained too. peft can do that, but copies the whole table in each call; here the few rows are looked
up.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from latentcot.errors import LatentcotError, RecipeError
from latentcot.models.backend.split_cache import blocks_of
from latentcot.models.settings import Lora
from latentcot.utils.parsing import shown


@dataclass(frozen=True)
class Adapters:
    """What a model with adapters was made of.

    Attributes:
        base: Hub id or folder of the frozen weights.
        fingerprint: Of these weights, see `fingerprint`.
        lora: The settings.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    base: str
    fingerprint: str
    lora: Lora


_KEY = "latentcot_adapters"
"""Under which a model holds its `Adapters`, next to peft's own `peft_config`."""


def require_peft(where: str, kind: type[LatentcotError] = RecipeError) -> None:
    """Make sure that peft is installed.

    Raises:
        LatentcotError: Of this kind; it is not.
    """
    if find_spec("peft") is None:
        raise kind(f"{where}: adapters need peft. Install it: pip install 'latentcot[lora]'")


def adapters_of(model: PreTrainedModel) -> Adapters | None:
    """Return what a model with adapters was made of; None for a plain one."""
    found: Adapters | None = vars(model).get(_KEY)
    return found


def fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of the first numbers of each tensor: whoever trains on changes all of them.

    Not of those behind: a table of embeddings may get new rows there.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.flatten()[:16].float().numpy().tobytes())
    return digest.hexdigest()


# --- giving a model adapters --------------------------------------------------------------------


def add_adapters(
    model: PreTrainedModel, adapters: Adapters, special_tokens: Sequence[int], seed: int = 0
) -> None:
    """Freeze a model where it lies, and give it adapters and rows of its own for special tokens.

    What it computes is the same as before, until these are trained.

    Args:
        model: On the CPU, with a row for each special token.
        adapters: The settings, and what the model is.
        special_tokens: Their token ids.
        seed: The adapters are drawn from it alone.

    Raises:
        RecipeError: peft is missing, a target is no linear layer of the blocks, or the embeddings
            are of an unknown kind.
    """
    require_peft("lora")
    from peft import LoraConfig, inject_adapter_in_model

    lora = adapters.lora
    tables = _tables(model)
    linear = dict(_linear_layers(model))
    names = sorted({name.rpartition(".")[2] for name in linear})
    unknown = [
        target
        for target in lora.targets
        if not any(f".{name}".endswith(f".{target}") for name in linear)
    ]
    if unknown or not names:
        raise RecipeError(
            f"lora.targets: must name linear layers of the model's blocks, got {shown(unknown)}. "
            f"There are: {', '.join(names)}."
        )
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=adapters.base,
        revision=getattr(model.config, "_commit_hash", None),
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft takes any number
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or names,
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in linear.values()),
    )
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # the model is on the CPU
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(config, model)
    # Tables get rows of their own for the special tokens; tied ones share them.
    ids, rows, trained = list(special_tokens), {}, {}
    for name, table in tables.items():
        if id(table.weight) not in rows:
            rows[id(table.weight)] = nn.Parameter(table.weight[ids].detach().clone())
            trained[name.rpartition(".")[2]] = ids
        table.__class__ = _PARTLY_TRAINED[type(table)]
        table.trained_rows = rows[id(table.weight)]
        table.register_buffer(
            "trained_ids", torch.tensor(ids, device=table.weight.device), persistent=False
        )
    # Only now: peft would have put in its own rows. It is what plain peft reads.
    config.trainable_token_indices = trained
    vars(model)[_KEY] = adapters


def _linear_layers(model: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    """Yield the linear layers of the blocks, with the names that they have in their block."""
    for block in blocks_of(model.base_model):
        for name, layer in block.named_modules():
            if isinstance(layer, (nn.Linear, Conv1D)):
                yield name, layer


# --- the rows of special tokens -----------------------------------------------------------------


class _PartlyTrainedEmbedding(nn.Embedding):
    """A frozen table of embeddings in which the rows of some tokens are trained."""

    trained_ids: Tensor
    trained_rows: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """Look ids up."""
        is_trained = input[..., None] == self.trained_ids
        rows = functional.embedding(is_trained.long().argmax(-1), self.trained_rows)
        return torch.where(is_trained.any(-1, keepdim=True), rows, super().forward(input))


class _PartlyTrainedHead(nn.Linear):
    """A frozen output head in which the rows of some tokens are trained."""

    trained_ids: Tensor
    trained_rows: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits."""
        bias = None if self.bias is None else self.bias[self.trained_ids]
        of_trained = functional.linear(input, self.trained_rows, bias)
        logits: Tensor = super().forward(input)
        return logits.index_copy_(-1, self.trained_ids, of_trained)  # nobody else holds them


_PARTLY_TRAINED = {nn.Embedding: _PartlyTrainedEmbedding, nn.Linear: _PartlyTrainedHead}
_PLAIN = {partly: plain for plain, partly in _PARTLY_TRAINED.items()}


def _tables(model: PreTrainedModel) -> dict[str, Any]:
    """Return the embedding and the output head by their names in the model."""
    tables = model.get_input_embeddings(), model.get_output_embeddings()
    for table in tables:
        if type(table) not in (*_PARTLY_TRAINED, *_PLAIN):
            raise RecipeError(
                f"lora: {type(model).__name__} has {type(table).__name__} for its embeddings or "
                "output head, and only plain ones can be frozen but for special tokens. Leave "
                "lora out."
            )
    names = {module: name for name, module in model.named_modules()}
    return {names[table]: table for table in tables}


# --- less memory --------------------------------------------------------------------------------


class _LightLinear(nn.Linear):
    """A frozen linear layer that holds its weight in bfloat16, and computes in what it is given."""

    def forward(self, input: Tensor) -> Tensor:
        """Multiply as autocast says, or in the precision of the input."""
        if torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        return functional.linear(input, self.weight.to(input.dtype), self.bias)


def hold_lightly(model: PreTrainedModel, *, is_exact: bool | None = None) -> None:
    """Hold frozen weights of the blocks in bfloat16, where that changes none of them.

    For training under autocast to bfloat16. It keeps one copy in that precision of each weight that
    is trained, but makes a new one of a frozen weight in each pass, and all of them stay until the
    backward pass: with n thoughts n + 1 times the model. Nothing that is computed changes, there or
    in float32. Models that were published in bfloat16, such as Llama and Qwen, are held like this;
    in others the weights stay as they are.

    Args:
        model: With adapters.
        is_exact: Whether bfloat16 holds these weights as they are, where that is known: of weights
            that are only planned there are no numbers to compare. Found out for each if None.
    """
    for _, layer in _linear_layers(model):
        weight = layer.weight
        if type(layer) is nn.Linear and not weight.requires_grad:
            light = weight.detach().bfloat16()
            if torch.equal(light.to(weight.dtype), weight) if is_exact is None else is_exact:
                layer.weight = nn.Parameter(light, requires_grad=False)
                layer.__class__ = _LightLinear


# --- what was trained ---------------------------------------------------------------------------


def trained_names(model: PreTrainedModel) -> dict[str, str]:
    """Return the names of all trained tensors in the model → in the files of peft."""
    names = {}
    for name, _ in model.named_parameters():  # tied ones once
        before, _, last = name.rpartition(".")
        if last == "trained_rows":
            names[name] = f"base_model.model.{before}.token_adapter.trainable_tokens_delta"
        elif ".lora_" in name:
            names[name] = f"base_model.model.{name.replace('.default.', '.')}"
    return names


def take_over(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Load what was trained, under the names of peft's files.

    Raises:
        ValueError: Some of it is missing, or there is something else too.
    """
    names = trained_names(model)
    if tensors.keys() != set(names.values()):
        odd = sorted(tensors.keys() ^ set(names.values()))
        raise ValueError(f"{len(odd)} of its tensors are missing or unknown, such as {odd[0]}")
    model.load_state_dict({here: tensors[there] for here, there in names.items()}, strict=False)
    for table in _tables(model).values():  # nobody should find older ones in the table
        table.weight.data[table.trained_ids] = table.trained_rows.detach()


# --- merging ------------------------------------------------------------------------------------


def merge_adapters(model: PreTrainedModel) -> None:
    """Turn a model with adapters into a plain one that computes the same, where it lies."""
    from peft.tuners.lora import LoraLayer

    tables = _tables(model)
    with torch.no_grad():
        for name, layer in list(model.named_modules()):
            if isinstance(layer, LoraLayer):
                layer.merge()
                model.set_submodule(name, layer.get_base_layer())
        for table in tables.values():
            table.weight[table.trained_ids] = table.trained_rows
            table.__class__ = _PLAIN[type(table)]
            del table.trained_rows, table.trained_ids
    model.requires_grad_(True)
    for name in ("peft_config", _KEY):
        vars(model).pop(name, None)
