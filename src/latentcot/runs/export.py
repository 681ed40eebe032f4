"""What a checkpoint holds so that plain transformers thinks: a `generate` of its own, and settings.

    custom_generate/generate.py     `custom_generate.py`, as it is
    custom_generate/thinking.json   what stands in latent positions, and which tokens around them
    generation_config.json          greedy, as many words as in training, and a note
    chat_template.jinja             the last message of the user is the question

transformers runs the first where it is told to trust it; latentcot never does. Where it is not
told so, it would write words as if there were no thoughts, and say nothing. Hence the note: it
stands where transformers wants a list of biases, so that plain `generate` ends in an error that
shows it. It loads, and its logits can be asked for, as ever.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from latentcot.curriculum.layout import EncodedExample, Layout, lay_out, put_around, unknown_of
from latentcot.curriculum.views import PAUSE_MULTIPASS, THOUGHT, Parallel, Sequential
from latentcot.methods.codi import make_projection, project
from latentcot.methods.lotus import looped
from latentcot.methods.method import Method
from latentcot.methods.stopping import STOP
from latentcot.models.backend.split_cache import FAMILIES
from latentcot.models.loading import max_positions
from latentcot.models.ways import rope_switch_of, way_of, window_of
from latentcot.utils.files import write_json

if TYPE_CHECKING:
    from latentcot.runs.checkpoint import CheckpointInfo

GENERATE_FILE = "custom_generate/generate.py"
THINKING_FILE = "custom_generate/thinking.json"
THINKING_VERSION = 1
INPUTS = {
    THOUGHT.update: "state",
    project: "projected state",
    PAUSE_MULTIPASS.update: "token",
    looped: "token and state",
}
"""What goes into a latent position → its name in thinking.json, for custom_generate.py."""
NOTE = (
    "a note of latentcot: this model thinks before it writes, and plain generate() leaves its "
    "thoughts out. Load it with trust_remote_code=True, so that custom_generate/generate.py of the "
    "checkpoint is used, or with latentcot. To leave them out all the same, set "
    "model.generation_config.sequence_bias = None"
)
CHAT_TEMPLATE = """\
{%- set asked = messages | selectattr("role", "equalto", "user") | list -%}
{%- if not asked -%}
{{- raise_exception("This model answers a question: give a message of the user.") -}}
{%- endif -%}
{{- (asked | last).content + QUESTION_END -}}
"""


def write_export(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    info: "CheckpointInfo",
) -> None:
    """Write all of it into the folder of a checkpoint with plain weights.

    Where plain transformers cannot think as this checkpoint does, its `generate` refuses to, with
    the reason.
    """
    view, rules = info.bound_method.view, info.layout_rules(tokenizer)
    special = rules.special_tokens
    # Where a classifier decides, the most; else, of a question alone, the stage's full number.
    most = info.max_thoughts if info.stop_threshold is not None else None
    layout = lay_out(EncodedExample("", (), None, ()), view, info.stage, rules, most or None)
    refused, latents = why_not(model, info.bound_method, layout), None
    if layout.num_latents and not refused and isinstance(view.latents, Sequential | Parallel):
        latents = {
            "input": INPUTS[view.latents.update],
            "start": special.pause,
            "iterations": None,
            "is_in_place": False,
        }
        if isinstance(view.latents, Parallel):
            latents |= {
                "start": getattr(special, view.latents.start),
                "iterations": view.latents.iterations,
                "is_in_place": view.latents.is_in_place,
            }
    front, behind = put_around(tokenizer)
    end = info.template.question_end
    kept = [name for name, one in info.bound_method.modules.items() if one.is_kept]
    settings: dict[str, Any] = {
        "format_version": THINKING_VERSION,
        "refused": refused,
        "front": list(front),
        "behind": list(behind),
        "question_end": end,
        "question_end_ids": tokenizer(end, add_special_tokens=False)["input_ids"],
        "unknown": unknown_of(tokenizer),
        "special": [special.bot, special.eot, special.pause],
        "eos": special.eos,
        "prefix": list(layout.prefix),
        "latents": latents,
        "num_latents": layout.num_latents,
        "stop_threshold": info.stop_threshold if most else None,
        "suffix": list(layout.suffix),
        "has_modules": bool(kept),
        "max_new_tokens": info.max_new_tokens,
        "max_positions": max_positions(model),
        "rope_switch": rope_switch_of(model),
        "takes_pads": model.config.model_type in FAMILIES and window_of(model) is None,
    }
    write_json(folder / THINKING_FILE, settings)
    shutil.copyfile(Path(__file__).with_name("custom_generate.py"), folder / GENERATE_FILE)
    template = CHAT_TEMPLATE.replace("QUESTION_END", json.dumps(end, ensure_ascii=False))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    pad = special.eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    GenerationConfig(
        do_sample=False,
        max_new_tokens=info.max_new_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=special.eos,
        pad_token_id=pad,
    ).save_pretrained(folder)
    if len(layout) or refused:
        path = folder / "generation_config.json"
        write_json(path, json.loads(path.read_text()) | {"sequence_bias": NOTE})


def why_not(model: PreTrainedModel, method: Method, layout: Layout) -> str | None:
    """Return why plain transformers cannot think as a checkpoint does; None where it can.

    Args:
        model: The model.
        method: That of the checkpoint.
        layout: What stands behind a question.
    """
    latents = method.view.latents
    if not layout.num_latents or not isinstance(latents, Sequential | Parallel):
        return None
    name, makes = method.name, {"projection": make_projection}
    own = [
        key
        for key, one in method.modules.items()
        if one.is_kept and key != STOP and makes.get(key) is not one.make
    ]
    if own:
        return f"{name} answers with {', '.join(own)} beside the model, not known to latentcot."
    if latents.update not in INPUTS:
        return f"{name} fills latent positions in a way of its own ({latents.summary})."
    if not layout.suffix:
        return f"{name} has no token between its thoughts and the words."
    if way_of(model) == "rows":
        return f"{type(model).__name__} keeps no cache in which thoughts could stand."
    if isinstance(latents, Parallel) and window_of(model) is not None:
        return f"{type(model).__name__} has sliding windows, and {name} reads positions again."
    return None
