"""To the hub: a checkpoint with a model card, in one commit.

What is sent are the files that plain transformers and `latentcot.load` read, and README.md: the
card, written from what the run says of itself. A checkpoint that holds a README.md of its own is
sent with that one. The training state stays here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    get_token,
)
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils._validators import validate_repo_id

from latentcot.errors import RunError, UsageError
from latentcot.evaluation.results import Evaluation
from latentcot.evaluation.statistics import percent
from latentcot.models.settings import ADAPTERS_FILE, WEIGHTS_FILE
from latentcot.runs.checkpoint import MODULES_FILE, STOP_FILE, CheckpointInfo, locate
from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE, QUESTIONS_FILE, STATE_FILE
from latentcot.runs.export import GENERATE_FILE, THINKING_FILE, THINKING_VERSION
from latentcot.runs.folder import read_run_recipe, run_of
from latentcot.runs.provenance import code_of, read_provenance
from latentcot.utils.parsing import could_be_on_hub, one_line
from latentcot.utils.versions import read_versioned

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes to the hub.

    Attributes:
        repo: OWNER/NAME.
        files: Name there → the file here.
        card: The text of README.md.
        is_own_card: Whether it lay in the checkpoint.
    """

    repo: str
    files: Mapping[str, Path]
    card: str
    is_own_card: bool


def pack(path: Path | str, repo: str, licence: str | None = None) -> Parcel:
    """Put together what would be sent; nothing is sent, and nothing is written.

    Args:
        path: A run (its best checkpoint), a checkpoint folder, or a name in the package.
        repo: OWNER/NAME.
        licence: As the hub names it, `apache-2.0`; not in the card if left out.

    Raises:
        UsageError: The name is none of the hub, or the checkpoint lies there already.
        CheckpointError: There is no checkpoint, or it is damaged.
        RunError: A file of the run is damaged.
    """
    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise HFValidationError("no owner is named")
    except HFValidationError as error:
        raise UsageError(
            f"push: the name must be OWNER/NAME, of letters, digits, '-', '_' and '.', got "
            f"{repo!r}: {one_line(str(error))}"
        ) from None
    name, info = locate(path)
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(f"push: {name} lies on the hub already. Give a run or checkpoint folder.")
    files = {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and file.name != STATE_FILE
        and not any(
            part.startswith(".") or part == "__pycache__" for part in file.relative_to(folder).parts
        )
    }
    own = files.pop(CARD, None)
    card = own.read_text(encoding="utf-8") if own else model_card(folder, info, repo, licence)
    return Parcel(repo, files, card, own is not None)


def is_ours(name: str) -> bool:
    """Return whether a file of a repository is one that a checkpoint has or may have had."""
    is_weights = re.fullmatch(r"model[\w.-]*\.safetensors(\.index\.json)?", name)
    return name in BESIDE or name.startswith("custom_generate/") or is_weights is not None


BESIDE = (ADAPTERS_FILE, WEIGHTS_FILE, MODULES_FILE, STOP_FILE, CHECKSUMS_FILE, QUESTIONS_FILE)
"""What not every checkpoint has."""


def push(parcel: Parcel, *, private: bool = False) -> str:
    """Send a parcel in one commit, and make its repository if there is none; return its address.

    Args:
        parcel: As `pack` gives it.
        private: Make a private repository; one that is there stays what it is.

    Raises:
        UsageError: There is no token.
        RunError: The hub cannot be reached, or refuses.
    """
    api = HfApi()
    if get_token() is None:
        raise UsageError(
            "push: there is no token for the hub. `hf auth login` asks for one that may write; or "
            "set HF_TOKEN."
        )
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(name, file) for name, file in parcel.files.items()),
        CommitOperationAdd(CARD, parcel.card.encode()),
    ]
    try:
        api.create_repo(parcel.repo, private=private or None, exist_ok=True)
        # What an earlier push left would be read beside, or in place of, what comes now.
        left = {*api.list_repo_files(parcel.repo)} - {*parcel.files, CARD}
        operations += [CommitOperationDelete(name) for name in sorted(left) if is_ours(name)]
        made = api.create_commit(
            parcel.repo, operations, commit_message="Upload a checkpoint of latentcot"
        )
    except OfflineModeIsEnabled:
        raise RunError(
            f"push: {parcel.repo} was not sent: HF_HUB_OFFLINE is set. Unset it to reach the hub."
        ) from None
    except Exception as error:  # of the hub, of its transport, of files that vanish meanwhile
        raise RunError(
            f"push: {parcel.repo} was not sent: {why_refused(error)} Nothing here has changed; "
            "push again once that is put right."
        ) from None
    return str(made.repo_url)


def why_refused(error: Exception) -> str:
    """Return in words why the hub took nothing."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    advice: dict[int | None, str] = {
        401: "The token is not valid: `hf auth login`.",
        403: "The token may not write there: take one with write access, or another OWNER.",
        404: "There is no such OWNER, or the token may not see it.",
    }
    is_far = "" if status else "Is there a network, and does HF_ENDPOINT name a hub?"
    said = one_line(str(error), 200).rstrip(".")
    return f"{type(error).__name__}: {said}. {advice.get(status, is_far)}".strip()


# --- the card -----------------------------------------------------------------------------------


def model_card(folder: Path, info: CheckpointInfo, repo: str, licence: str | None = None) -> str:
    """Write the card of a checkpoint; every figure in it stands in the run.

    Args:
        folder: The checkpoint.
        info: What it says of itself.
        repo: Where it will lie.
        licence: As the hub names it.

    Raises:
        RunError: A file of the run is damaged.
    """
    run = run_of(folder)
    origin = read_provenance(run or folder)
    recipe = read_run_recipe(run) if run else {}
    base, results = recipe.get("model"), evaluations_of(run, info)
    base = base if isinstance(base, str) else None
    is_local = base is None or origin.get("is_base_local") or not could_be_on_hub(base)
    refused = why_not_here(folder)
    data = ModelCardData(
        base_model=None if is_local else base,
        license=licence,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["latentcot", "continuous-thought", info.method_name]
        + (["custom_generate"] if refused is None else []),
        model_name=repo.partition("/")[2],
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=one.task,
                dataset_name=name,
                dataset_config=name,  # else the hub takes all of a task for one set of questions
                metric_type="accuracy",
                metric_value=round(one.accuracy.value, 4),
                metric_name=f"accuracy of {one.accuracy.n} questions ({name})",
            )
            for name, one in results.items()
        ]
        or None,
    )
    method = info.bound_method
    lines = [
        f"# {repo.partition('/')[2]}",
        "",
        f"A language model that was trained with {info.method_name}: {method.summary}.",
        *(
            [f"It takes {info.num_thoughts} continuous thoughts before it answers."]
            if info.num_thoughts and method.view.latents.is_thought
            else []
        ),
        "Trained with latentcot: reasoning in continuous thoughts (arXiv 2412.06769).",
        "",
        *results_section(results),
        *training_section(info, origin, recipe, Path(base).name if base and is_local else base),
        *use_section(repo, info, refused),
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines)))


def evaluations_of(run: Path | None, info: CheckpointInfo) -> dict[str, Evaluation]:
    """Return the results in a run that are of this checkpoint, by the name of their file.

    Raises:
        RunError: One of them is damaged.
    """
    files = sorted((run / "evals").glob("*.json")) if run else []
    found = {file.stem: Evaluation.read(file) for file in files}
    return {
        name: one for name, one in found.items()
        if one.checkpoint is not None and one.checkpoint.update == info.update
    }  # fmt: skip


def results_section(results: Mapping[str, Evaluation]) -> list[str]:
    """Return the section with the figures."""
    if not results:
        return ["## Results", "", "No evaluation of this checkpoint lies in its run.", ""]
    rows = [
        f"| {_cell(name)} | {one.accuracy.n:,} | {percent(one.accuracy.value)} "
        f"| {100 * one.accuracy.low:.1f} – {100 * one.accuracy.high:.1f} % "
        f"| {one.tokens_per_question:.2f} | {one.thoughts_per_question:.2f} |"
        for name, one in results.items()
    ]
    noted = {note: None for one in results.values() for note in one.notes}
    return [
        "## Results",
        "",
        "| questions | n | right | 95 % interval | tokens | thoughts |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "Intervals are Wilson's. Tokens are words and thoughts, a mean over questions. One run of "
        "one seed: another seed may lie outside the interval.",
        *(f"Note: {one_line(note)}" for note in noted),
        "",
    ]


def training_section(
    info: CheckpointInfo, origin: Mapping[str, Any], recipe: Mapping[str, Any], base: str | None
) -> list[str]:
    """Return the section that says where the weights come from."""
    last = info.bound_method.stages(info.plan)[-1]
    versions = origin.get("versions") or {}
    of_data = recipe.get("data") or {}
    used = {
        Path(file).name: digest[:12]  # whole paths are nobody else's business
        for file, digest in (origin.get("data") or {}).items()
        if not of_data or file in (of_data.get("train"), of_data.get("valid"))
    }
    facts = {
        "method": f"{info.method_name}, stage {info.stage} of {last}",
        "base model": "made from scratch" if recipe and base is None else base,
        "updates": f"{info.update:,}",
        "seed": str(info.seed),
        "data": ", ".join(f"{name} (SHA-256 {digest}…)" for name, digest in used.items()),
        "latentcot": code_of(origin),
        "versions": ", ".join(f"{name} {one}" for name, one in versions.items() if one),
        "machine": origin.get("gpu") or origin.get("machine"),
        "time": origin.get("time"),
    }
    rows = [f"| {key} | {_cell(str(text))} |" for key, text in facts.items() if text]
    return ["## Training", "", "| | |", "|---|---|", *rows, ""]


def why_not_here(folder: Path) -> str | None:
    """Return why plain transformers cannot think with what lies in a checkpoint; None if it can.

    Raises:
        RunError: What lies there is damaged.
    """
    if not all((folder / name).is_file() for name in (GENERATE_FILE, THINKING_FILE)):
        return f"there is no {GENERATE_FILE} here, which would let it think."
    settings = read_versioned(folder / THINKING_FILE, THINKING_VERSION)
    reason: str | None = settings.get("refused")
    return reason


def use_section(repo: str, info: CheckpointInfo, refused: str | None) -> list[str]:
    """Return the section on the three ways to ask the model; `refused`: why one is none."""
    plain = [
        "With transformers alone. **Without `trust_remote_code=True` a model that thinks would "
        "answer without its thoughts**; `generate` ends with a note that says so:",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{repo}")',
        f'model = AutoModelForCausalLM.from_pretrained("{repo}", trust_remote_code=True)',
        'ids = tokenizer(question, return_tensors="pt")',
        f"print(tokenizer.decode(model.generate(**ids, max_new_tokens={info.max_new_tokens})[0]))",
        "```",
    ]
    if refused is not None:
        plain = [
            "With transformers alone it loads, but **cannot answer with its thoughts**: "
            f"{one_line(refused)} Use latentcot."
        ]
    return [
        "## Use",
        "",
        "With latentcot:",
        "",
        "```python",
        "import latentcot",
        "",
        f'reasoner = latentcot.load("{repo}")',
        "print(reasoner.generate([question])[0].answer)",
        "```",
        "",
        *plain,
        "",
        "With lm-evaluation-harness, thoughts included:",
        "",
        "```sh",
        "python -m latentcot.evaluation.harness --model latentcot \\",
        f"    --model_args pretrained={repo} \\",
        '    --tasks latentcot_own --metadata \'{"data": "FILE"}\'',
        "```",
        "",
        f"A question is a text as in the training data; the answer follows "
        f"`{info.template.answer_start.strip()}`.",
        "",
    ]


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")
