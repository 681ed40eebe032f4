"""lm-evaluation-harness: our checkpoints as one of its models, our tasks as some of its tasks.

    python -m latentcot.evaluation.harness --model latentcot --model_args pretrained=RUN \
        --tasks latentcot_prosqa_symbols

`generate_until` thinks and then writes; `loglikelihood` thinks and then scores the continuation.
The tasks are the YAML files in `lm_eval/`: they read any file of examples that we read, and score
by the rules of `tasks/`. Only this module knows lm_eval. Releases up to 0.4.13 do not look for the
models of other packages: `main` registers ours and is their command line otherwise.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import torch

from latentcot.curriculum.layout import Layout, Template, encode_questions, unknown_of
from latentcot.data.examples import read_examples
from latentcot.data.fields import USUAL
from latentcot.data.named import asked
from latentcot.errors import CheckpointError, DataError, LatentcotError, UsageError
from latentcot.evaluation.reasoner import BATCH_SIZE, Reasoner, load
from latentcot.models.loading import check_lengths
from latentcot.runs.checkpoint import locate
from latentcot.runs.folder import recipe_fields, recipe_test_file
from latentcot.tasks import AnswerMatch, extract_answer, task_named
from latentcot.thinking.decoding import Sampling, roll_out
from latentcot.thinking.readings import logits_of
from latentcot.utils.display import say
from latentcot.utils.distributed import num_started
from latentcot.utils.parsing import shown

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.registry import model_registry
except ImportError:
    raise UsageError(
        "lm-evaluation-harness is not installed. `pip install 'latentcot[lm-eval]'` does that; "
        "`latentcot eval` needs nothing more."
    ) from None

NAME = "latentcot"
TASKS = Path(__file__).parent / "lm_eval"
"""The folder of the task files, for --include_path."""
WRITTEN = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}
"""What a task may say of how texts are written."""


class LatentLM(LM):  # type: ignore[misc]  # it has no types
    """A checkpoint as a model of lm-evaluation-harness.

    What a task calls the context is the question: the text between question and answer is the
    checkpoint's template, so a task must not add its own.

    Args:
        pretrained: A run, a checkpoint folder, a hub id, or a reasoner.
        num_thoughts: This number of thoughts, instead of what was trained for.
        batch_size: Texts at a time; `auto` stands for our own number.
        device: As torch names it; a GPU if there is one.
        **others: Of what the harness hands to every model, max_batch_size alone.

    Raises:
        UsageError: An argument that nothing here knows, or several processes.
        CheckpointError: It is no checkpoint.
    """

    def __init__(
        self,
        pretrained: str | Reasoner,
        num_thoughts: int | None = None,
        batch_size: int | str = BATCH_SIZE,
        device: str | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        if unknown := others.keys() - {"max_batch_size"}:
            raise UsageError(
                f"model_args: {NAME} takes pretrained, num_thoughts, batch_size and device, got "
                f"{', '.join(sorted(unknown))} too."
            )
        if num_started() > 1:
            raise UsageError(
                f"lm-evaluation-harness runs {NAME} in one process, and {num_started()} were "
                "started. Start it without torchrun; `latentcot eval` can share its questions."
            )
        if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
            device = None  # the command line of the harness says cuda:0 where nobody has said it
        self.reasoner = (
            pretrained if isinstance(pretrained, Reasoner) else load(str(pretrained), device)
        )
        self.num_thoughts = num_thoughts
        self.batch_size = int(batch_size) if str(batch_size).isdecimal() else BATCH_SIZE

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Think about each context, and write; a text ends before the first of its `until`.

        Raises:
            UsageError: A task asks for a way of writing that there is not, such as beams.
            DataError: A context does not fit the vocabulary or the model's positions.
        """
        texts = dict[int, str]()
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):  # those of a task are all alike
            groups.setdefault(repr(request.args[1]), []).append(number)
        for numbers in groups.values():
            ways: Mapping[str, Any] = requests[numbers[0]].args[1]
            outputs = self.reasoner.generate(
                [requests[number].args[0] for number in numbers],
                num_thoughts=self.num_thoughts,
                batch_size=self.batch_size,
                max_new_tokens=ways.get("max_gen_toks"),
                sampling=sampling_of(ways),
            )
            until = ways.get("until") or []
            for number, output in zip(numbers, outputs, strict=True):
                text = output.text
                for end in [until] if isinstance(until, str) else until:
                    text = text.partition(end)[0] if end else text
                texts[number] = text
                self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return [texts[number] for number in range(len(requests))]

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Think about each context, then score its continuation.

        Returns:
            The log-probability of the continuation behind the thoughts, in nats, and whether greedy
            decoding would write it.

        Raises:
            DataError: A context does not fit the vocabulary, or both the model's positions.
                A continuation holds a word that the vocabulary lacks.
            UsageError: A continuation has no tokens.
        """
        reasoner, found = self.reasoner, list[tuple[float, bool]]()
        for start in range(0, len(requests), self.batch_size):
            some = [request.args for request in requests[start : start + self.batch_size]]
            layouts, stop = self.lay_out_pairs(some)
            with torch.no_grad():
                rollout = roll_out(reasoner.model, layouts, reasoner.thinker, stop)
                for row, layout in enumerate(layouts):
                    states_TD = rollout.states[row, layout.opening : len(layout.suffix)]
                    words = torch.tensor(layout.suffix[layout.opening :], device=states_TD.device)
                    log_probs_TV = logits_of(reasoner.model, states_TD).float().log_softmax(-1)
                    score = log_probs_TV.gather(1, words[:, None]).sum().item()
                    is_greedy = bool((log_probs_TV.argmax(-1) == words).all())
                    found.append((score, is_greedy))
                    self.cache_hook.add_partial("loglikelihood", some[row], found[-1])
        return found

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Refuse: a text by itself has no question to think about.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "loglikelihood_rolling: a text by itself has no question, so there is nothing to think "
            "about. For the perplexity of the weights without thoughts use --model hf."
        )

    def lay_out_pairs(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[Layout], Any]:
        """Lay contexts out with their continuations as words that have labels."""
        reasoner = self.reasoner
        encoded = encode_questions(
            [context for context, _ in pairs], reasoner.tokenizer, reasoner.info.template
        )
        stop = reasoner.stop_rule() if self.num_thoughts is None else None
        layouts, unknown = [], unknown_of(reasoner.tokenizer)
        prompts = reasoner.prompts(encoded, stop.max_thoughts if stop else self.num_thoughts)
        for prompt, (_, continuation) in zip(prompts, pairs, strict=True):
            ids = tuple(reasoner.tokenizer(continuation, add_special_tokens=False)["input_ids"])
            if not ids:
                raise UsageError(f"continuation: has no tokens, got {shown(continuation)}.")
            if unknown in ids:  # all such would have one score
                raise DataError(
                    f"continuation: {shown(continuation)} holds a word that the model's vocabulary "
                    "lacks, so it has no score."
                )
            layouts.append(replace(prompt, suffix=prompt.suffix + ids, labels=prompt.labels + ids))
        check_lengths(reasoner.model, layouts, [one.id for one in encoded])
        return layouts, stop


def sampling_of(ways: Mapping[str, Any]) -> Sampling | None:
    """Return how a task wants words to be drawn; None for greedy."""
    if unknown := ways.keys() - WRITTEN:
        raise UsageError(
            f"generation_kwargs: {NAME} knows {', '.join(sorted(WRITTEN))}, got "
            f"{', '.join(sorted(unknown))} too."
        )
    temperature = ways.get("temperature")
    if not ways.get("do_sample", bool(temperature)) or temperature == 0:
        return None
    kept = {key: ways[key] for key in ("top_p", "top_k") if key in ways}
    return Sampling(temperature=1.0 if temperature is None else temperature, **kept)


# --- what the task files call ------------------------------------------------------------------


def questions(
    data: str | None = None,
    pretrained: str | None = None,
    answer_start: str | None = None,
    task: str | None = None,
    default_data: str | None = None,
    **others: Any,
) -> dict[str, datasets.Dataset]:
    """Read the questions of a task, for `custom_dataset`.

    The harness hands over --metadata, and model_args with it.

    Args:
        data: A file of examples, hub:NAME:SPLIT, or a name of `latentcot list data`; that which the
            recipe of the run names as its test if left out.
        pretrained: The model.
        answer_start: What stands before an answer; as the checkpoint says if left out.
        task: By whose rule answers are scored; the checkpoint's if left out.
        default_data: Taken where neither `data` nor a run says more.
        **others: Of no use here.

    Raises:
        DataError: The data cannot be read.
        UsageError: Nothing says which data.
    """
    info = None
    if pretrained is not None:
        try:
            info = locate(pretrained)[1]
        except CheckpointError:  # a plain model of transformers, by --model hf
            say(f"Note: {pretrained} is no checkpoint of latentcot.")
    if data is None:
        try:
            data = recipe_test_file(pretrained or "")
        except LatentcotError:
            data = default_data
    if data is None:
        raise UsageError(
            f"{pretrained or 'the model'}: no recipe names test data. Say which file: "
            '--metadata \'{"data": "FILE"}\'.'
        )
    if task is None and info is None:
        raise UsageError("task: no checkpoint says how answers are scored. Take another task file.")
    named, rule = asked(data), info.task if task is None and info is not None else task
    if task is None and named is not None and named.row.match is not None:
        rule = AnswerMatch(named.row.match)  # the data set's own, as in `latentcot eval`
    fields = USUAL if pretrained is None else recipe_fields(pretrained, data)
    match = {"match": rule.match, "pattern": rule.pattern} if isinstance(rule, AnswerMatch) else {}
    start = answer_start or (info.template if info else Template()).answer_start
    rows = [
        {
            "question": example.question,
            "answer": example.answer,
            "answer_start": start,
            "task": rule if isinstance(rule, str) else None,
            **match,
        }
        for example in read_examples(data, fields=fields)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score a text as `latentcot eval` does, for `process_results`."""
    name = doc["task"]
    rule = task_named(AnswerMatch(doc["match"], doc["pattern"]) if name is None else name)
    answer = extract_answer(results[0], doc["answer_start"])
    return {"exact_match": float(rule.is_correct(answer, doc["answer"]))}


def main() -> None:
    """Be lm_eval's command line, with our model and the folder of our tasks."""
    from lm_eval.__main__ import cli_evaluate

    if NAME not in model_registry:
        model_registry.register(NAME, target=LatentLM)
    words = [word.partition("=")[0] for word in sys.argv[1:]]
    if {"--tasks", "-t"} & {*words} and "--include_path" not in words:
        sys.argv += ["--include_path", str(TASKS)]
    try:
        cli_evaluate()
    except LatentcotError as error:
        say(f"{type(error).__name__}: {error}")
        sys.exit(2)


if __name__ == "__main__":
    main()
