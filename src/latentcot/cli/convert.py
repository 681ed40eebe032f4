"""`latentcot convert`: external weights → a checkpoint of ours; adapters → plain weights."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import yaml
from cyclopts import Parameter

from latentcot.curriculum.layout import Template
from latentcot.errors import UsageError
from latentcot.utils.display import put


def convert(
    source: Path,
    /,
    *changes: str,
    out: Annotated[Path, Parameter(alias="--output-dir")],
    base: str | None = None,
    method: str | None = None,
    task: str | None = None,
    thoughts_per_step: int | None = None,
    num_stages: int | None = None,
    stage: int | None = None,
    pad_to_num_stages: bool | None = None,
    max_new_tokens: int = 256,
    set_: Annotated[tuple[str, ...], Parameter("--set")] = (),
    special_tokens_start_from: str = "<<",
    lora_alpha: float | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a checkpoint from weights of other code, or of plain fine-tuning; unpack a GGUF file.

    It knows what Coconut, CODI, SIM-CoT, PCCoT and LOTUS save (docs/convert.md).

    What weights cannot tell must be said. All that is missing is named at once: begin with SOURCE
    and --out alone. Nothing more is needed for a run that was trained with lora, whose adapters are
    merged with their base. Of a GGUF file (llama.cpp) comes a plain model for `model:` of a recipe.

    Args:
        source: A GGUF file, a torch state dict, a .safetensors file, or a folder of
            save_pretrained, adapters included; or a run or checkpoint of ours with adapters.
        changes: KEY=VALUE, as behind --set.
        out: The checkpoint folder to write.
        base: Hub id or folder of the model that the run started from, for what SOURCE lacks:
            configuration and tokenizer. Its weights are read for adapters alone: there it is the
            model that they were trained on.
        method: What was trained: `latentcot list methods`.
        task: How answers are scored: `latentcot list tasks`; or exact, number or regex:PATTERN.
        thoughts_per_step: Thoughts in place of one step (c); for methods with thoughts.
        num_stages: Stages after stage 0; for methods with thoughts.
        stage: The stage in which these weights were saved; for methods with thoughts and stages.
        pad_to_num_stages: Whether short chains get the stage's full number of thoughts.
        max_new_tokens: Words at most.
        set_: Change the text between the parts of an example, or a setting of the method, if it was
            trained with another: --set 'template.answer_start="Answer: "', or
            --set method.num_latents=12. Repeatable.
        special_tokens_start_from: The token that the special tokens start as copies of, where a
            method has none.
        lora_alpha: Scale of adapters, alpha, where SOURCE holds some and does not tell it.
        overwrite: Replace the checkpoint in this folder.
    """
    from latentcot.runs.checkpoint_folders import refuse_missing

    refuse_missing(source)  # before what loads torch
    from latentcot.models.loading import gguf_file

    if file := gguf_file(source):
        from latentcot.runs.convert import Request, unpack_gguf

        given = [
            method, task, base, thoughts_per_step, num_stages, stage, pad_to_num_stages, lora_alpha,
        ]  # fmt: skip
        usual = Request()
        is_usual = (
            max_new_tokens == usual.max_new_tokens
            and special_tokens_start_from == usual.special_tokens_start_from
        )
        if any(one is not None for one in given) or set_ or changes or not is_usual:
            raise UsageError(
                f"{file}: is a plain model, for which only --out and --overwrite count. Leave "
                "--method and the like out."
            )
        count = unpack_gguf(file, out, overwrite=overwrite)
        put(f"{file} → {out}: {count:,} weights as float32, the tokenizer beside them")
        return put(f"Train it: latentcot train RECIPE --set model={out} --out RUN")
    from latentcot.runs.convert import Request
    from latentcot.runs.convert import convert as write
    from latentcot.tasks import AnswerMatch

    template, settings = _changes([*set_, *changes])
    request = Request(
        method=method,
        task=task if task is None else AnswerMatch.told(task) or task,
        thoughts_per_step=thoughts_per_step,
        num_stages=num_stages,
        stage=stage,
        pad_to_num_stages=pad_to_num_stages,
        template=template,
        settings=settings,
        lora_alpha=lora_alpha,
        max_new_tokens=max_new_tokens,
        special_tokens_start_from=special_tokens_start_from,
    )
    done = write(source, out, request, base=base, overwrite=overwrite)
    put(f"{source} → {done.folder}")
    for line in done.lines:
        put(f"  {line}")
    put(f"Evaluate it: latentcot eval {done.folder} --data FILE")


def _changes(changes: Iterable[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what differs in the template, and in the settings of the method."""
    template: dict[str, str] = {}
    settings: dict[str, Any] = {}
    keys = [f"template.{key}" for key in asdict(Template())]
    for change in changes:  # values are read as YAML, as those of recipes are
        key, is_given, text = change.partition("=")
        part, _, name = key.strip().rpartition(".")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:  # such as #### without quotes
            value = None
        is_text = part in ("", "template") and f"template.{name}" in keys
        if is_given and is_text and isinstance(value, str):
            template[name] = value
        elif is_given and part == "method" and name:
            settings[name] = value
        else:
            raise UsageError(
                f"--set: must be KEY=TEXT with one of {', '.join(keys)} and the text in double "
                "quotes, as in 'template.answer_start=\"  ### \"', or method.KEY=VALUE, got "
                f"{change!r}."
            )
    return template, settings
