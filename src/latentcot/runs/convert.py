"""Weights of others → a checkpoint of ours; adapters → plain weights (docs/convert.md).

Weights do not tell what they were trained for. Whatever changes results and cannot be read off them
must be said, in a `Request`; nothing of that has a default.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from latentcot.curriculum.layout import SpecialTokens, count_latents
from latentcot.errors import CheckpointError, RunError, UsageError
from latentcot.methods import METHODS, Method, Plan, method_named
from latentcot.models.loading import load_pretrained
from latentcot.models.lora import adapters_of, merge_adapters
from latentcot.models.settings import ADAPTERS_FILE
from latentcot.models.special_tokens import (
    install_special_tokens,
    missing_special_tokens,
    special_tokens_of,
)
from latentcot.runs.checkpoint import (
    CheckpointInfo,
    holds,
    load_checkpoint,
    save_checkpoint,
)
from latentcot.runs.checkpoint_folders import (
    INFO_FILE,
    refuse_missing,
    refuse_place,
    refuse_taken,
)
from latentcot.runs.export import GENERATE_FILE
from latentcot.runs.external import OFFICIAL, External, lacking, load_external
from latentcot.runs.folder import RECIPE
from latentcot.runs.origins import PLAIN, Beside, beside
from latentcot.tasks import TASKS, AnswerMatch, task_named
from latentcot.thinking.capability import choose_way
from latentcot.utils.files import put_in_place, why_unwritten
from latentcot.utils.parsing import shown


@dataclass(frozen=True, slots=True)
class Request:
    """What the weights do not tell; None where it was not said.

    Attributes:
        method: A name of `latentcot list methods`.
        settings: Those of the method that differ from its defaults, and from what files beside the
            weights tell.
        task: A name of `latentcot list tasks`, or how to compare answers.
        thoughts_per_step: The paper's c.
        num_stages: Stages after stage 0.
        stage: The stage that the weights were trained for.
        pad_to_num_stages: Whether short chains get the stage's full number of thoughts.
        template: What differs in the text between the parts of an example from that of the code
            that saved them.
        max_new_tokens: Words at most. More than any answer needs changes nothing, so this has a
            default.
        special_tokens_start_from: The token from which special tokens start that a method does not
            use.
        lora_alpha: Scale of adapters; asked for where a state dict holds some.
    """

    method: str | None = None
    task: str | AnswerMatch | None = None
    thoughts_per_step: int | None = None
    num_stages: int | None = None
    stage: int | None = None
    pad_to_num_stages: bool | None = None
    template: Mapping[str, str] = field(default_factory=dict)
    max_new_tokens: int = 256
    special_tokens_start_from: str = "<<"
    settings: Mapping[str, Any] = field(default_factory=dict)
    lora_alpha: float | None = None


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written.

    Attributes:
        folder: The checkpoint.
        info: What it says of itself.
        num_tensors: Tensors that were read.
        num_rows: Rows of its embedding table.
        special_tokens: Their token ids.
        notes: What was changed or added, one sentence each.
    """

    folder: Path
    info: CheckpointInfo
    num_tensors: int
    num_rows: int
    special_tokens: SpecialTokens
    notes: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """What it was taken for, a line a figure."""
        info, tokens = self.info, self.special_tokens
        parts = asdict(info.template).items()
        method, last = info.bound_method, info.bound_method.stages(info.plan)[-1]
        latents = f", {info.num_thoughts} latent positions" if method.view.has_latents else ""
        return [
            f"method    {info.method_name}, stage {info.stage} of {last}{latents}",
            f"weights   {self.num_tensors} tensors, {self.num_rows} rows, float32",
            f"special   <bot> {tokens.bot}, <eot> {tokens.eot}, <pause> {tokens.pause}",
            f"template  {', '.join(f'{key} {json.dumps(text)}' for key, text in parts)}",
            *(f"note      {note}" for note in self.notes),
        ]


def convert(
    source: Path, out: Path, request: Request, *, base: str | None = None, overwrite: bool = False
) -> Conversion:
    """Write a checkpoint of ours from weights of others, or from one of ours.

    Args:
        source: A file of weights, a folder that `save_pretrained` wrote, or a run or checkpoint of
            ours with adapters, which are merged, or written by an older latentcot.
        out: The checkpoint folder to write.
        request: What the weights do not tell.
        base: Hub id or folder with the configuration and the tokenizer that SOURCE lacks; of
            adapters the model that they were trained on, if it is not where it was then.
        overwrite: Replace the checkpoint that is there.

    Raises:
        UsageError: Something is missing (all of it is named) or has a value that it cannot have.
        MethodError: There is no such method or task.
        CheckpointError: The weights cannot be read, or are not those of such a model or method.
        RunError: `out` is taken or cannot be written.
        RecipeError: The model cannot think in continuous thoughts, or has no end of text.
    """
    inputs = [source, *([Path(base)] if base else [])]
    if (source / INFO_FILE).is_file() or (source / RECIPE).is_file():
        if not holds(source, ADAPTERS_FILE) and holds(source, GENERATE_FILE):
            raise CheckpointError(
                f"{source}: is latentcot's own already: `latentcot eval` takes it."
            )
        if request != Request():
            raise UsageError(
                f"convert: {source} is latentcot's own, and tells of itself all that --method, "
                "--task and the like would. Leave them out."
            )
        if base is not None and not holds(source, ADAPTERS_FILE):
            raise UsageError(
                f"--base: is of adapters, and {source} holds none, got {shown(base)}. Leave it out."
            )
        refuse_taken(out, inputs, overwrite=overwrite)
        return _written_anew(source, out, base)
    refuse_missing(source)
    told = beside(source)
    info = _info(request, lacking(source, base), told)
    refuse_taken(out, inputs, overwrite=overwrite)
    external = load_external(source, base, told, request.lora_alpha)
    template = told.template or external.origin.template
    info = replace(info, template=replace(template, **request.template))
    modules = _modules(external, source, info.bound_method)
    choose_way(external.model)
    note = _give_special_tokens(
        external, source, info.bound_method, request.special_tokens_start_from
    )
    special_tokens = special_tokens_of(external.tokenizer)
    save_checkpoint(out, external.model, external.tokenizer, info, modules=modules)
    notes = (*external.notes, note)
    return Conversion(out, info, external.num_tensors, external.num_rows, special_tokens, notes)


def unpack_gguf(source: Path, out: Path, *, overwrite: bool = False) -> int:
    """Write the model of a GGUF file, its weights as float32, as `save_pretrained` writes one.

    Args:
        source: The file.
        out: The folder to write, for `model:` of a recipe.
        overwrite: Replace the model that is there.

    Returns:
        How many weights it has.

    Raises:
        RecipeError: It cannot be read.
        RunError: `out` is taken, holds the file, or cannot be written.
    """
    refuse_place(out, [source])
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (overwrite and (out / "config.json").is_file()):
        again = "Give --overwrite to replace the model in it, or another --out."
        raise RunError(f"{out}: exists already. {again}")
    strange = [one.name for one in out.iterdir() if not _is_of_model(one)] if taken else []
    if strange:
        raise RunError(
            f"{out}: holds more than a model, {shown(min(strange))}, so it will not be replaced. "
            "Delete it yourself, or give another --out."
        )
    model, tokenizer = load_pretrained(str(source))
    beside = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        put_in_place(beside, out)
    except Exception as error:  # safetensors has no kind of its own for a full disk
        raise RunError(f"{out}: cannot be written: {why_unwritten(error, out.parent)}.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return int(model.num_parameters())


def _is_of_model(path: Path) -> bool:
    """Return whether `save_pretrained` may have written a file."""
    endings = (".json", ".safetensors", ".jinja", ".model", ".txt")
    return path.is_file() and path.suffix in endings


def _modules(external: External, source: Path, method: Method) -> dict[str, Tensor]:
    """Return what a method needs beside the model; it must be what was saved, no more and no less.

    Raises:
        CheckpointError: It is not.
    """
    kept = {key: one.make(external.model) for key, one in method.modules.items() if one.is_kept}
    wanted = {key: tuple(one.shape) for key, one in nn.ModuleDict(kept).state_dict().items()}
    saved = {key: tuple(one.shape) for key, one in external.modules.items()}
    if wanted != saved:

        def listed(shapes: dict[str, tuple[int, ...]]) -> str:
            return ", ".join(f"{key} {shape}" for key, shape in shapes.items()) or "nothing"

        raise CheckpointError(
            f"{source}: {method.name} answers with {listed(wanted)} beside the model, but there is "
            f"{listed(saved)}. Give the --method that was trained, or its settings, such as --set "
            "method.projection=identity for a run without a projection."
        )
    return external.modules


def _written_anew(source: Path, out: Path, base: str | None) -> Conversion:
    """Write a checkpoint of ours again, with plain weights and all that transformers needs."""
    found = load_checkpoint(source, base=base)
    adapters = adapters_of(found.model)
    note = "What plain transformers needs to think was added; it was written by an older latentcot."
    if adapters is not None:
        merge_adapters(found.model)
        rank, merged = adapters.lora.rank, base or adapters.base
        note = f"Adapters of rank {rank} were merged with {merged}."
    modules = found.modules.state_dict()
    save_checkpoint(out, found.model, found.tokenizer, found.info, modules=modules)
    weights = found.model.state_dict()
    return Conversion(
        folder=out,
        info=found.info,
        num_tensors=len({tensor.data_ptr() for tensor in weights.values()}),
        num_rows=len(found.model.get_input_embeddings().get_parameter("weight")),
        special_tokens=special_tokens_of(found.tokenizer),
        notes=(note,),
    )


# --- what must be said --------------------------------------------------------------------------


def _info(request: Request, lacks: list[str], told: Beside) -> CheckpointInfo:
    """Return what the checkpoint will say of itself; `lacks` are files that nobody gives.

    Raises:
        UsageError: Something is missing, all of which is named, or has an impossible value.
        MethodError: There is no such method or task.
    """
    method = None if request.method is None else method_named(request.method)
    if method is not None:  # what files tell, and what was said
        known = {key: value for key, value in told.settings.items() if key in method.settings}
        method = method_named({"name": method.name, **known, **request.settings})
    if request.task is not None:
        task_named(request.task)
    if request.lora_alpha is not None and not 0 < request.lora_alpha < float("inf"):
        raise UsageError(f"--lora-alpha: must be above 0, got {request.lora_alpha}.")
    missing = _missing(request, method, lacks)
    if missing or method is None or request.task is None:
        lines = "\n".join(f"  {option}: {meaning}" for option, meaning in missing.items())
        raise UsageError(f"convert: the weights do not tell everything. Give also\n{lines}")
    if method.view.num_latents is not None and request.thoughts_per_step is not None:
        raise UsageError(
            f"--thoughts-per-step: thoughts of {method.name} do not stand for steps, got "
            f"{request.thoughts_per_step}. Say how many with --set method.num_latents=N."
        )
    for name, least in (("thoughts_per_step", 1), ("num_stages", 0), ("max_new_tokens", 1)):
        value = getattr(request, name)
        if value is not None and value < least:
            option = name.replace("_", "-")
            raise UsageError(f"--{option}: must be at least {least}, got {value}.")

    num_stages = request.num_stages or 0
    plan = Plan(
        num_stages=num_stages,
        thoughts_per_step=request.thoughts_per_step or 1,
        pad_to_num_stages=request.pad_to_num_stages is not False,
        final_stage_without_text=request.stage == num_stages + 1 > 1,
    )
    stages = method.stages(plan)
    stage = stages[-1] if request.stage is None else request.stage
    if stage not in stages:
        first, last = stages[0], stages[-1]
        raise UsageError(
            f"--stage: must be {first if first == last else f'{first} … {last}'} for {method.name} "
            f"with --num-stages {num_stages}, got {stage}."
        )
    return CheckpointInfo(
        method=method.choice,
        task=request.task,
        stage=stage,
        plan=plan,
        num_thoughts=count_latents(method.view, stage, None, plan),
        zero_thoughts="both",
        template=PLAIN.template,
        max_new_tokens=request.max_new_tokens,
        update=0,
        seed=0,
    )


def _missing(request: Request, method: Method | None, lacks: list[str]) -> dict[str, str]:
    """Return option → meaning of all that was not said and has to be."""
    options: dict[str, tuple[object, str]] = {
        "--base": (
            None if lacks else True,
            f"hub id or folder of the model that the run started from ({' and '.join(lacks)} "
            "cannot be told from weights)",
        ),
        "--method": (request.method, f"what was trained: {', '.join(METHODS)}"),
        "--task": (
            request.task,
            f"how answers are scored: {', '.join(TASKS)}, or exact, number or regex:PATTERN for "
            "custom data",
        ),
    }
    view = None if method is None else method.view
    if view is None or (view.has_latents and view.num_latents is None):
        unless = " (not for methods without thoughts)" if view is None else ""
        options |= {
            "--thoughts-per-step": (
                request.thoughts_per_step,
                f"thoughts in place of one step; officially c_thought{unless}",
            ),
            "--num-stages": (
                request.num_stages,
                f"stages after stage 0; officially max_latent_stage{unless}",
            ),
            "--pad-to-num-stages or --no-pad-to-num-stages": (
                request.pad_to_num_stages,
                "whether chains that are shorter than the stage get its full number of thoughts; "
                f"officially pad_latent_to_max{unless}",
            ),
        }
    if view is None or (view.has_latents and len(view.schedule.stages(Plan(num_stages=1))) > 1):
        options["--stage"] = (
            request.stage,
            "the stage in which these weights were saved, 0 … num-stages; one more for a stage "
            f"without text behind them{' (not for all methods)' if view is None else ''}",
        )
    return {option: meaning for option, (value, meaning) in options.items() if value is None}


# --- special tokens -----------------------------------------------------------------------------


def _give_special_tokens(external: External, source: Path, method: Method, start_from: str) -> str:
    """Make sure that the tokenizer has the special tokens, and each its row; tell where from.

    Rows behind the vocabulary are special tokens only where something shows it: many models pad
    their table, and an untrained row must not pass for a trained special token.

    Raises:
        CheckpointError: The rows are not those of the tokenizer, or the method needs trained
            special tokens and there are none.
        RecipeError: `start_from` is needed and is not one token.
    """
    tokenizer, num_rows, base_rows = external.tokenizer, external.num_rows, external.base_rows
    note = "The tokenizer has the special tokens."
    is_wrapped, names = external.origin is not PLAIN, external.origin.special_tokens
    is_grown = is_wrapped or num_rows != base_rows  # behind the base's, as far as we see
    if is_grown and num_rows == len(tokenizer) + len(names):
        tokenizer.add_special_tokens({"additional_special_tokens": list(names)})
        note = "The last three rows are the official special tokens."

    # A row must be a token, or padding that the configuration knows of.
    num_tokens, last = len(tokenizer), max(tokenizer.get_vocab().values())
    is_padded = num_rows == base_rows and not is_wrapped
    if last >= num_rows or not (num_rows == num_tokens or is_padded):
        raise CheckpointError(
            f"{source}: has {num_rows} rows, but the tokenizer has {num_tokens} tokens (the last "
            f"is {last}) and the configuration {base_rows} rows. Give the --base that the run "
            "started from, or weights and tokenizer in one folder."
        )
    if not missing_special_tokens(tokenizer):
        return note
    if method.view.has_special_tokens or method.view.has_latents:
        raise CheckpointError(
            f"{source}: {method.name} needs special tokens that were trained, but none of its "
            f"{num_rows} rows is known to be one: the tokenizer has neither {', '.join(OFFICIAL)} "
            f"nor {', '.join(OFFICIAL.values())}, and a run of the official code would have "
            f"{num_tokens + len(OFFICIAL)} rows, three more than tokens. Give the --base that the "
            "run started from, or weights and tokenizer in one folder, or another --method."
        )
    install_special_tokens(tokenizer, external.model, start_from)
    return f"The special tokens were added, each a copy of {start_from!r}; {method.name} uses none."
