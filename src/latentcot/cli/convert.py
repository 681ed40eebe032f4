"""`latentcot convert`: external weights → a checkpoint of ours; adapters → plain weights."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import yaml
from cyclopts import Parameter

from latentcot.curriculum.layout import Template
from latentcot.errors import UsageError


def convert(
    source: Path,
    *,
    out: Path,
    base: str | None = None,
    method: str | None = None,
    task: str | None = None,
    thoughts_per_step: int | None = None,
    num_stages: int | None = None,
    stage: int | None = None,
    pad_to_num_stages: bool | None = None,
    max_new_tokens: int = 256,
    set_: Annotated[tuple[str, ...], Parameter("--set", negative="")] = (),
    special_tokens_start_from: str = "<<",
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a checkpoint from weights of the official Coconut code, or of plain fine-tuning.

    What weights cannot tell must be said. All that is missing is named at once: begin with SOURCE
    and --out alone. Nothing more is needed for a run that was trained with lora, whose adapters are
    merged with their base.

    Args:
        source: A torch state dict, a .safetensors file, or a folder of save_pretrained; or a run or
            checkpoint with adapters.
        out: The checkpoint folder to write.
        base: Hub id or folder of the model that the run started from, for what SOURCE lacks:
            configuration and tokenizer. Its weights are not read, but for adapters: there it is
            the model that they were trained on, if that is not where it was.
        method: What was trained: `latentcot list methods`.
        task: How answers are scored: `latentcot list tasks`; or exact, number or regex:PATTERN.
        thoughts_per_step: Thoughts in place of one step (c); for methods with thoughts.
        num_stages: Stages after stage 0; for methods with thoughts.
        stage: The stage in which these weights were saved; for methods with thoughts and stages.
        pad_to_num_stages: Whether short chains get the stage's full number of thoughts.
        max_new_tokens: Words at most.
        set_: Change the text between the parts of an example, if it was trained with another:
            --set 'template.answer_start="Answer: "'. Repeatable.
        special_tokens_start_from: The token that the special tokens start as copies of, where a
            method has none.
        overwrite: Replace the checkpoint in this folder.
    """
    from latentcot.runs.convert import Request
    from latentcot.runs.convert import convert as write
    from latentcot.tasks import AnswerMatch
    from latentcot.utils.display import put

    match = None
    if task in ("exact", "number"):
        match = AnswerMatch(match=task)  # type: ignore[arg-type]  # mypy does not narrow `in`
    elif task is not None and task.startswith("regex:"):
        match = AnswerMatch("regex", task.removeprefix("regex:"))
    request = Request(
        method=method,
        task=match or task,
        thoughts_per_step=thoughts_per_step,
        num_stages=num_stages,
        stage=stage,
        pad_to_num_stages=pad_to_num_stages,
        template=_template(set_),
        max_new_tokens=max_new_tokens,
        special_tokens_start_from=special_tokens_start_from,
    )
    done = write(source, out, request, base=base, overwrite=overwrite)
    info, tokens = done.info, done.special_tokens
    trained = info.bound_method
    texts = ", ".join(f"{key} {json.dumps(text)}" for key, text in asdict(info.template).items())
    latents = f", {info.num_thoughts} latent positions" if trained.view.has_latents else ""
    put(f"{source} → {done.folder}")
    last = trained.stages(info.plan)[-1]
    put(f"  method    {info.method_name}, stage {info.stage} of {last}{latents}")
    put(f"  weights   {done.num_tensors} tensors, {done.num_rows} rows, float32")
    put(f"  special   <bot> {tokens.bot}, <eot> {tokens.eot}, <pause> {tokens.pause}")
    put(f"  template  {texts}")
    for note in done.notes:
        put(f"  note      {note}")
    put(f"Evaluate it: latentcot eval {done.folder} --data FILE")


def _template(changes: Iterable[str]) -> Template:
    template = Template()
    for change in changes:  # values are read as YAML, as those of recipes are
        key, is_given, text = change.partition("=")
        name = key.strip().removeprefix("template.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:  # such as #### without quotes
            value = None
        if not is_given or name not in asdict(template) or not isinstance(value, str):
            keys = ", ".join(f"template.{key}" for key in asdict(template))
            raise UsageError(
                f"--set: must be KEY=TEXT with one of {keys} and the text in double quotes, as in "
                f"'template.answer_start=\\"  ### \\"', got {change!r}."
            )
        template = replace(template, **{name: value})
    return template
