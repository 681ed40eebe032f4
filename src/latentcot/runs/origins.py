"""Who saved a state dict, told by its names, and its parts under ours.

    base_causallm.*   Coconut and LOTUS, with embedding.weight a second time; ia_decoder.* of LOTUS
                      and expainable_llm.* of SIM-CoT are decoders that only training needs
    codi.*, prj.*     CODI, which prj.* projects thoughts for; decoder.*, pj_in.*, pj_out.* are
                      SIM-CoT's decoder and what fits it on
    a peft folder     PCCoT, with prj.* and pccot_args.json, or plain fine-tuning
    llm.*, latent_policy.*    CoLaR, which is told and refused: nothing here draws thoughts so

Facts on names and rows: the public code of each (zhenyi4/codi, InternLM/SIM-CoT, whyNLP/PCCoT,
yingfan-bot/lotus); docs/convert.md. Adapters of peft are W + α/r · BA (arXiv 2106.09685), and are
merged here, in float32, without peft: its settings can name code that it would import.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from latentcot.curriculum.layout import Template
from latentcot.errors import CheckpointError
from latentcot.models.special_tokens import BOT, EOT, PAUSE
from latentcot.utils.parsing import parse_json, shown

DISTRIBUTED, PEFT = "module.", "base_model.model."
EMBEDDING_COPY = "embedding.weight"
PROJECTION = "prj."
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PCCOT_ARGS = "pccot_args.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """A code that saves models.

    Attributes:
        name: The methods that it trains.
        model: What stands before the names of the language model.
        beside: What stands before those of parts that only training needs.
        refused: What stands before those of a part that answers need and nothing here has.
        projection: Its layers, by their names there → those of ours.
        special_tokens: The rows that it adds behind the vocabulary, in order.
        template: The text between the parts of an example, in its own recipes.
    """

    name: str
    model: str
    beside: tuple[str, ...] = ()
    refused: str | None = None
    projection: Mapping[str, str] = field(default_factory=dict)
    special_tokens: tuple[str, str, str] = (BOT, EOT, PAUSE)
    template: Template = field(default_factory=Template)


PLAIN = Origin("a plain model, or PCCoT", "", projection={"0": "0", "2": "2", "3": "3"})
ORIGINS = (
    Origin(
        "Coconut, LOTUS, SIM-CoT on Coconut", "base_causallm.", ("expainable_llm.", "ia_decoder."),
    ),
    Origin(
        "CODI, SIM-CoT on CODI", "codi.", ("decoder.", "pj_in.", "pj_out."),
        projection={"1": "0", "3": "2", "ln": "3"},
        special_tokens=(PAUSE, BOT, EOT),  # the first is its padding, of no use here
        template=Template("", " ", "The answer is: "),
    ),
    Origin("CoLaR", "llm.", refused="latent_policy."),
    PLAIN,
)  # fmt: skip
KNOWN = "; ".join(f"{one.model or 'none'}: {one.name}" for one in ORIGINS)


@dataclass(slots=True)
class Beside:
    """What files next to the weights tell.

    Attributes:
        settings: Of the method.
        tokens: Id → our name of a special token.
        template: The text between the parts, if it is told.
        alpha: Scale of the adapters; rows: table → the ids whose rows were trained.
        is_rank_stable: Whether they are scaled by α/√r.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    tokens: dict[int, str] = field(default_factory=dict)
    template: Template | None = None
    alpha: float | None = None
    rows: dict[str, list[int]] = field(default_factory=dict)
    is_rank_stable: bool = False


KEEP_BASE = (None, True, False, "gaussian", "eva", "orthogonal")
"""What peft may begin adapters with and leave the weights beside them as they are."""


@dataclass(slots=True)
class Parts:
    """A state dict, sorted.

    Attributes:
        origin: Who saved it.
        weights: Of the language model.
        embedding_copy: The input embeddings once more.
        adapters: Layer → A (r, in) and B (out, r).
        rows: Table → its trained rows (K, D).
        modules: What answers need beside the model, as `modules.safetensors` of ours holds it.
        notes: What was left out, one sentence each.
    """

    origin: Origin
    weights: dict[str, Tensor] = field(default_factory=dict)
    embedding_copy: Tensor | None = None
    adapters: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: Tensor) -> None:
        """Put one tensor of the language model where it belongs; peft wraps layers and tables.

        Raises:
            CheckpointError: It belongs to adapters of another kind.
        """
        layer, is_lora, kind = name.partition(".lora_")
        table, is_row, _ = name.partition(".token_adapter.trainable_tokens_delta")
        if is_lora:
            if kind.endswith(".bias"):
                raise CheckpointError(
                    f"{name}: adapters with biases of their own (lora_bias) are not merged here. "
                    "Merge them with peft (merge_and_unload), and give the merged folder."
                )
            self.adapters.setdefault(layer, {})[kind.partition(".")[0]] = value.to(torch.float32)
        elif is_row:
            self.rows[table] = value
        else:
            plain = name.replace(".token_adapter.", ".").replace(".base_layer.", ".")
            self.weights[plain] = value


def beside(source: Path) -> Beside:
    """Read what lies next to weights: the settings of peft, and those of PCCoT.

    Raises:
        CheckpointError: One of the files is damaged, or asks for adapters of another kind.
    """
    told = Beside()
    peft, pccot = (_values(source / name) for name in (ADAPTER_CONFIG, PCCOT_ARGS))
    try:
        if peft:
            patterns = (
                *("use_dora", "rank_pattern", "alpha_pattern", "lora_bias"),
                "alora_invocation_tokens",  # acts behind these alone
            )
            odd = [key for key in patterns if peft.get(key)]
            start = peft.get("init_lora_weights")
            if start not in KEEP_BASE:  # such as pissa: peft has changed the base as well
                odd.append(f"init_lora_weights {shown(start)}")
            if odd or peft.get("peft_type") != "LORA":
                raise CheckpointError(
                    f"{source / ADAPTER_CONFIG}: must be plain LoRA to be merged here, got "
                    f"{shown(peft.get('peft_type'))} {', '.join(odd)}. Merge it with peft "
                    "(merge_and_unload), and give the merged folder."
                )
            told.alpha, told.is_rank_stable = (
                float(peft["lora_alpha"]),
                bool(peft.get("use_rslora")),
            )
            rows = peft.get("trainable_token_indices") or {}
            if isinstance(rows, list):  # of the only embedding table there is
                rows = {"embed_tokens": rows}
            told.rows = {str(name): [int(id_) for id_ in ids] for name, ids in rows.items()}
        if pccot:
            names = {"bot_token_id": BOT, "eot_token_id": EOT, "latent_token_id": PAUSE}
            told.tokens = {int(pccot[key]): name for key, name in names.items()}
            told.template = Template("", "", str(pccot["answer_prompt"]))
            told.settings = {"num_latents": int(pccot["num_latent_tokens"])}
            if "num_iterations" in (config := _values(source / "config.json")):
                told.settings["iterations"] = int(config["num_iterations"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{source}: {ADAPTER_CONFIG} or {PCCOT_ARGS} is not as peft and PCCoT write it: "
            f"{error!r}."
        ) from None
    return told


def _values(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}.") from None
    return values if isinstance(values, dict) else {}


def sort_out(saved: Mapping[str, Tensor], source: Path) -> Parts:
    """Tell who saved these tensors, and sort them.

    Raises:
        CheckpointError: Some belong to no part that is known, or to one that answers need and
            nothing here has.
    """
    names = list(saved)
    start = ""
    while all(name.startswith(start + DISTRIBUTED) for name in names):
        start += DISTRIBUTED
    tensors = {name.removeprefix(start): value for name, value in saved.items()}
    origin = next(one for one in ORIGINS if any(name.startswith(one.model) for name in tensors))
    if origin.refused is not None:
        raise CheckpointError(
            f"{source}: was saved by {origin.name}: {origin.refused}* draws each thought from a "
            "distribution, and no method here has such a head (`latentcot list methods`)."
        )
    parts, left_out, others = Parts(origin), list[str](), list[str]()
    projection: dict[str, Tensor] = {}
    for name, value in tensors.items():
        inner = name.removeprefix(origin.model).removeprefix(PEFT)
        if inner.startswith(PROJECTION) or name.startswith(PROJECTION):
            projection[inner.removeprefix(PROJECTION)] = value
        elif name.startswith(origin.model):
            parts.put(inner, value)
        elif name == EMBEDDING_COPY:
            parts.embedding_copy = value
        elif name.startswith(origin.beside):
            left_out.append(name)
        else:
            others.append(name)
    if others:
        raise CheckpointError(
            f"{source}: must hold names that begin with {origin.model} and {EMBEDDING_COPY} alone, "
            f"or parts that are known beside them ({', '.join((PROJECTION, *origin.beside))}), got "
            f"{', '.join(others[:3])} too. Save the state_dict() of the wrapped model alone."
        )
    for name, value in projection.items():
        # peft holds both the first weights and the trained ones
        if not name.startswith("original_module."):
            layer, _, kind = name.removeprefix("modules_to_save.default.").partition(".")
            ours = origin.projection.get(layer, f"{layer} of theirs")
            parts.modules[f"projection.{ours}.{kind}"] = value.to(torch.float32)
    if left_out:
        parts.notes.append(
            f"{len(left_out)} tensors are of a part that only training needs, such as "
            f"{left_out[0]}: left out."
        )
    return parts


def merge(
    parts: Parts, skeleton: PreTrainedModel, told: Beside, alpha: float | None, source: Path
) -> None:
    """Put adapters and trained rows into the weights, where they lie.

    Args:
        parts: With all weights of the model.
        skeleton: Says which layers hold their weights transposed.
        told: What lies beside the weights.
        alpha: Scale of the adapters, if nothing beside them tells it.
        source: For messages.

    Raises:
        CheckpointError: They do not fit the model, or it is not known how they were scaled.
    """
    layers = dict(skeleton.named_modules())
    scale = told.alpha if told.alpha is not None else alpha
    for layer, pair in parts.adapters.items():
        weight = parts.weights.get(f"{layer}.weight")
        if pair.keys() != {"A", "B"} or weight is None or layer not in layers:
            what = ", ".join(f"{layer}.lora_{kind}" for kind in sorted(pair))
            raise CheckpointError(
                f"{source}: {what} must be the A and B of an adapter on a layer of "
                f"{type(skeleton).__name__}. Give the --base that the run started from."
            )
        rank = len(pair["A"])
        if scale is None:
            raise CheckpointError(
                f"{source}: holds adapters of rank {rank}, which are scaled by alpha / rank, and "
                "alpha stands nowhere. Give --lora-alpha; the scripts of CODI and SIM-CoT say 32."
            )
        change = pair["B"] @ pair["A"] * (scale / (rank**0.5 if told.is_rank_stable else rank))
        change = change.T if isinstance(layers[layer], Conv1D) else change
        if change.shape != weight.shape:
            raise CheckpointError(
                f"{source}: the adapter of {layer} must be {tuple(weight.shape)}, got "
                f"{tuple(change.shape)}. Give the --base that the run started from."
            )
        parts.weights[f"{layer}.weight"] = weight.to(torch.float32) + change
    if parts.adapters:
        parts.notes.append(
            f"{len(parts.adapters)} adapters of rank {rank} were merged, alpha {scale:g}."
        )
    for table, rows in parts.rows.items():
        ids = told.rows.get(table.rpartition(".")[2]) or next(iter(told.rows.values()), [])
        weight = parts.weights.get(f"{table}.weight")
        new = sorted(id_ for id_ in ids if weight is not None and id_ >= len(weight))
        if (
            weight is None
            or min(ids, default=0) < 0
            or len(ids) != len(rows)
            or new != list(range(len(weight), len(weight) + len(new)))
        ):
            raise CheckpointError(
                f"{source}: {len(rows)} rows of {table} were trained, but {ADAPTER_CONFIG} tells "
                f"of {shown(ids)}, and the model has {0 if weight is None else len(weight)}. Give "
                "the folder as peft has written it, and the --base that the run started from."
            )
        grown = torch.cat(
            [weight.to(torch.float32), rows.new_zeros(len(new), rows.shape[1]).float()]
        )
        grown[ids] = rows.to(torch.float32)
        parts.weights[f"{table}.weight"] = grown


def prefixes(names: Iterable[str]) -> str:
    """Return in words how names begin, the most frequent ones first."""
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{name}.* ({count})" for name, count in counts.most_common(5))
