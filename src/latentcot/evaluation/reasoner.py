"""The Python API: a trained model that thinks and answers.

reasoner = latentcot.load("runs/quickstart/coconut")
out = reasoner.generate(["…question…"])
out[0].answer, out[0].num_thoughts
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.curriculum.layout import (
    NO_LABEL,
    EncodedExample,
    Layout,
    encode,
    encode_questions,
    latents_of_chain,
    lay_out,
)
from latentcot.data.examples import Example
from latentcot.errors import UsageError, did_you_mean
from latentcot.methods.stopping import STOP, StopRule, WordRule, choose_threshold
from latentcot.models.backend.cuda_graphs import cuda_graphs
from latentcot.models.backend.split_cache import takes_split_cache
from latentcot.models.loading import check_lengths, max_positions, width_of
from latentcot.runs.checkpoint import CheckpointInfo, load_checkpoint, locate
from latentcot.tasks import extract_answer
from latentcot.thinking.decoding import (
    ForcedSteps,
    Generation,
    Sampling,
    SoftWords,
    generate,
    roll_out,
)
from latentcot.thinking.perturbation import Perturbation
from latentcot.thinking.recorded import GreedyRecorder
from latentcot.thinking.think import Thinker
from latentcot.utils.distributed import every_nth, gathered, own_device
from latentcot.utils.parsing import one_line, shown


@dataclass(frozen=True, slots=True)
class Output:
    """What a question gave.

    Attributes:
        text: All words after the thoughts.
        answer: The part behind the template's `answer_start`; empty where the text has none.
        num_tokens: Words and continuous thoughts, without special tokens, pauses and end of text:
            the paper's count (docs/method.md).
        num_thoughts: Continuous thoughts.
        num_passes: Sequential calls of the backbone.
        is_finished: Whether the end of text came before `max_new_tokens` did.
    """

    text: str
    answer: str
    num_tokens: int
    num_thoughts: int
    num_passes: int
    is_finished: bool


@dataclass(frozen=True, slots=True, repr=False)
class Thinking:
    """The continuous thoughts about some questions.

    Attributes:
        thoughts: (batch, thoughts, hidden size). `thoughts[b, i]` was fed into latent position i
            of row b.
        last_states: (batch, hidden size). The last hidden state at the last latent position (or at
            the end of the question, without thoughts): what one more thought would have been.
    """

    thoughts: Tensor
    last_states: Tensor

    def __repr__(self) -> str:
        """Return one line, the shape without the numbers."""
        questions, thoughts, width = self.thoughts.shape
        return f"Thinking({questions} × {thoughts} thoughts of {width} numbers)"


BATCH_SIZE = 100
"""Texts at a time where nothing else is said."""


class Drawn(TypedDict, total=False):
    """How answers differ; each can be left out.

    Attributes:
        num_samples: Texts for each question, 1 if left out. More must differ by one of the next.
        sampling: How words are drawn; greedy if left out.
        perturbation: How the thoughts of each sample are changed; not at all if left out.
        soft_words: Read mixtures of words in place of those of the chain, weighed with this
            temperature (`thinking.decoding.SoftWords`).
    """

    num_samples: int
    sampling: Sampling | None
    perturbation: Perturbation | None
    soft_words: float | None


class Options(Drawn, total=False):
    """How answers are written; each can be left out, and so can those of `Drawn`.

    Attributes:
        force_steps: Make every text begin with a step of the chain.
        force_answer: Make it answer straight behind the thoughts: the template's `answer_start` is
            read with `<eot>`, and counts as written.
        max_new_tokens: Words at most; as in training if left out. A text that reaches the model's
            last position stops there.
        batch_size: Texts at a time, `BATCH_SIZE` if left out; the results do not depend on it.
        on_progress: Told the number of questions that are done.
        generations: A list that gets what was generated, one for each answer, in order: latent
            inputs and log-probabilities too.
    """

    force_steps: bool
    force_answer: bool
    max_new_tokens: int | None
    batch_size: int
    on_progress: Callable[[int], None] | None
    generations: list[Generation] | None


class Reasoner:
    """A model, its tokenizer, and what its checkpoint says of method, stage and thoughts.

    Args:
        model: In evaluation mode.
        tokenizer: With the special tokens.
        info: What the checkpoint says.
        modules: What was learned beside the model, by name; those that answers need.
        source: Where it was loaded from, if it was.

    Attributes:
        precision: Of autocast while answers are written; logits are in float32 always.
    """

    precision: Literal["float32", "bfloat16"] = "float32"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        info: CheckpointInfo,
        modules: Mapping[str, nn.Module] | None = None,
        source: str | None = None,
    ) -> None:
        self.source = source
        self.model = model
        self.tokenizer = tokenizer
        self.info = info
        self.rules = info.layout_rules(tokenizer)
        self.modules = dict(modules or {})
        self.method = info.bound_method
        self.thinker = Thinker(
            self.method.view.latents,
            self.rules.special_tokens,
            self.method.kept_of(self.modules),
        )
        self.recorder: GreedyRecorder | None = None
        graphs = cuda_graphs(model.device)
        if graphs is not None and takes_split_cache(model):
            self.recorder = GreedyRecorder(model, self.thinker, graphs)

    def use_rate(self, rate: int) -> None:
        """Let each thought stand for so many tokens from now on, in a method that compresses them.

        Raises:
            UsageError: The method does not, or has not been trained for this rate.
        """
        compression = self.method.view.compression
        allowed = () if compression is None else (*compression.rates, compression.rate)
        if rate not in allowed:
            raise UsageError(
                f"rate: must be one of those that were trained ({min(allowed)} … {max(allowed)}), "
                f"got {shown(rate)}."
                if allowed
                else f"rate: the thoughts of {self.method.name} stand for no number of tokens that "
                "could be chosen. Leave it out; colar's do."
            )
        self.rules = replace(self.rules, rate=rate)

    def __repr__(self) -> str:
        """Return one line: what it is, and where."""
        weights = sum(weight.numel() for weight in self.model.parameters())
        return (
            f"Reasoner({self.info.method_name}, stage {self.info.stage}, "
            f"{self.info.num_thoughts} thoughts, {type(self.model).__name__} with {weights:,} "
            f"weights on {self.model.device})"
        )

    @overload
    def generate(  # type: ignore[overload-overlap]  # a text is a sequence of texts too
        self, questions: str, *, num_thoughts: int | None = None, **options: Unpack[Options]
    ) -> Output: ...

    @overload
    def generate(
        self,
        questions: Sequence[str],
        *,
        num_thoughts: int | None = None,
        **options: Unpack[Options],
    ) -> list[Output]: ...

    def generate(
        self,
        questions: str | Sequence[str],
        *,
        num_thoughts: int | None = None,
        **options: Unpack[Options],
    ) -> Output | list[Output]:
        """Think about each question and answer it.

        Args:
            questions: Texts as in the training data, without steps or answer; or one alone.
            num_thoughts: This number of thoughts, instead of what was trained for; a stop
                classifier is not asked then.
            **options: How answers are written: see `Options`.

        Returns:
            One a question, in order; with `num_samples` so many a question, those of a question
            together. For one text alone its output.

        Raises:
            DataError: A question does not fit the vocabulary or the model's positions.
            UsageError: The samples would all be the same, or have no thoughts to change; or are
                asked for of one text alone.
        """
        if isinstance(questions, str) and options.get("num_samples", 1) != 1:
            raise UsageError("num_samples: several answers are a list: give [question], a list.")
        name = next((name for name in options if name not in Options.__annotations__), None)
        if name is not None:
            is_drawn = name in ("temperature", "top_p", "top_k", "do_sample", "seed")
            instead = " Words are drawn by sampling=latentcot.Sampling(temperature=0.8)."
            raise UsageError(
                f"generate: has no option {name}.{did_you_mean(name, Options.__annotations__)}"
                f"{instead if is_drawn else ''} See help(latentcot.Reasoner.generate)."
            )
        encoded = encode_questions(_texts(questions), self.tokenizer, self.info.template)
        found = self.answer(encoded, num_thoughts=num_thoughts, **options)
        return found[0] if isinstance(questions, str) else found

    def answer(
        self,
        encoded: Sequence[EncodedExample],
        *,
        num_thoughts: int | None = None,
        **options: Unpack[Options],
    ) -> list[Output]:
        """Answer encoded examples; their latent positions are counted as in training."""
        stop = self.stop_rule() if num_thoughts is None else None
        prompts = self.prompts(encoded, stop.max_thoughts if stop else num_thoughts)
        opening = self._ids_of_opening() if options.get("force_answer") else []
        check_lengths(self.model, prompts, [e.id for e in encoded], new_tokens=1 + len(opening))
        return self.answer_prompts(prompts, stop=stop, **options)

    def answer_prompts(
        self,
        prompts: Sequence[Layout],
        *,
        thinker: Thinker | None = None,
        stop: StopRule | WordRule | None = None,
        force_steps: bool = False,
        force_answer: bool = False,
        soft_words: float | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = BATCH_SIZE,
        num_samples: int = 1,
        sampling: Sampling | None = None,
        perturbation: Perturbation | None = None,
        on_progress: Callable[[int], None] | None = None,
        generations: list[Generation] | None = None,
    ) -> list[Output]:
        """Answer questions that are laid out already, by another thinker if one is given."""
        if force_steps and force_answer:
            raise UsageError(
                "force_steps and force_answer exclude each other: a step comes before the answer, "
                "or the answer at once. Give one of them."
            )
        if soft_words is not None and force_answer:
            raise UsageError(
                "soft_words and force_answer exclude each other: mixtures stand in place of the "
                "chain, and none is written. Give one of them."
            )
        opening = self._ids_of_opening() if force_answer else []
        if opening:
            read = (*[NO_LABEL] * len(opening),)
            prompts = [
                replace(one, suffix=(*one.suffix, *opening), labels=(*one.labels, *read))
                for one in prompts
            ]
        kind, is_low = self.model.device.type, self.precision == "bfloat16"
        low = torch.autocast(kind, torch.bfloat16) if is_low else nullcontext()  # a caller's holds
        if max_new_tokens is None:
            max_new_tokens = self.info.max_new_tokens
        with low:
            found = generate(
                self.model,
                prompts,
                eos_id=self.rules.special_tokens.eos,
                max_new_tokens=max_new_tokens,
                max_length=max_positions(self.model),
                batch_size=batch_size,
                num_samples=num_samples,
                sampling=sampling,
                perturbation=perturbation,
                thinker=thinker or self.thinker,
                stop=stop,
                forced=self._forced_steps() if force_steps else None,
                soft=None if soft_words is None else SoftWords(soft_words, self._ends_of_chain()),
                recorder=self.recorder if thinker is None else None,
                on_progress=on_progress,
            )
        are_thoughts = self.method.view.latents.is_thought
        if generations is not None:
            generations += found
        texts = [str(self.tokenizer.decode([*opening, *g.token_ids])) for g in found]
        return [
            Output(
                text=text,
                answer=extract_answer(text, self.info.template.answer_start),
                num_tokens=(
                    len(opening) + generation.num_tokens + generation.num_latents * are_thoughts
                ),
                num_thoughts=generation.num_latents * are_thoughts,
                num_passes=generation.num_passes,
                is_finished=generation.is_finished,
            )
            for generation, text in zip(found, texts, strict=True)
        ]

    def think(self, questions: Sequence[str], num_thoughts: int | None = None) -> Thinking:
        """Return the continuous thoughts about each question.

        Args:
            questions: Texts as in the training data, without steps or answer.
            num_thoughts: Thoughts of each; as in training if left out.

        Raises:
            UsageError: The number of thoughts is negative.
            DataError: A question does not fit the vocabulary or the model's positions.
        """
        encoded = encode_questions(_texts(questions), self.tokenizer, self.info.template)
        stop = self.stop_rule() if num_thoughts is None else None
        prompts = self.prompts(encoded, stop.max_thoughts if stop else num_thoughts)
        check_lengths(self.model, prompts, [e.id for e in encoded])
        if not prompts:
            size = width_of(self.model)
            latents = self.info.num_thoughts if num_thoughts is None else num_thoughts
            return Thinking(torch.zeros(0, latents, size), torch.zeros(0, size))
        rollout = roll_out(self.model, _without_words(prompts), self.thinker, stop)
        return Thinking(rollout.latent_inputs, rollout.states[:, 0])

    def stop_probabilities(self, encoded: Sequence[EncodedExample], batch_size: int) -> Tensor:
        """Let every example think to the upper bound; return where the classifier would end it.

        Returns:
            (examples, most thoughts), the probability at each latent position that the chain ends
            there.

        Raises:
            UsageError: The checkpoint has no stop classifier.
        """
        if STOP not in self.modules or self.info.max_thoughts is None:
            raise UsageError("stop_probabilities: this checkpoint has no stop classifier.")
        prompts = every_nth(_without_words(self.prompts(encoded, self.info.max_thoughts)))
        found: list[Tensor] = []
        for start in range(0, len(prompts), batch_size):
            rollout = roll_out(self.model, prompts[start : start + batch_size], self.thinker)
            with torch.no_grad():
                found += self.modules[STOP](rollout.latent_states).sigmoid().cpu()
        return torch.stack(gathered(found))

    def best_threshold(self, encoded: Sequence[EncodedExample], batch_size: int) -> float:
        """Return the threshold with which most of these examples stop where their chain ends.

        Raises:
            UsageError: The checkpoint has no stop classifier.
        """
        plan = self.rules.plan
        ends = [latents_of_chain(len(example.steps or ()), plan) for example in encoded]
        probabilities = self.stop_probabilities(encoded, batch_size)
        return choose_threshold(probabilities, torch.tensor(ends))

    def stop_rule(self) -> StopRule | WordRule | None:
        """Return what ends latent mode; None where the number of thoughts is fixed."""
        if self.method.view.compression is not None:
            return WordRule(self.model, self._ends_of_chain(), self.info.num_thoughts)
        if STOP not in self.modules or self.info.stop_threshold is None:
            return None
        most = self.info.max_thoughts  # 0 at stage 0, where there is nothing to stop
        return StopRule(self.modules[STOP], self.info.stop_threshold, most) if most else None

    def _ids_of_opening(self) -> list[int]:
        """Return what stands before the answer, without a blank at its end.

        Where a blank belongs to the word behind it, the model writes both.
        """
        return self._ids(self.info.template.answer_start.rstrip())

    def _ends_of_chain(self) -> tuple[int, ...]:
        """Return the tokens that may not stand in a chain: the answer's first, the end of text."""
        return *self._ids(self.info.template.answer_start)[:1], self.rules.special_tokens.eos

    def _forced_steps(self) -> ForcedSteps:
        template = self.info.template
        # A tokenizer of whole words writes no line ends; nor do steps of one token need an end.
        end = template.step_end if template.step_end and self._ids(template.step_end) else ""
        end = end.rstrip(" ") or end  # decoded, a text does not end with a blank

        def has_step(words: Sequence[int]) -> bool:
            return bool(words) and end in str(self.tokenizer.decode(list(words)))

        return ForcedSteps(self._ends_of_chain(), has_step)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def encode(self, examples: Sequence[Example]) -> list[EncodedExample]:
        """Turn examples into token ids."""
        return encode(examples, self.tokenizer, self.info.template, reads_steps=False)

    def push_to_hub(self, repo: str, *, private: bool = False, licence: str | None = None) -> str:
        """Send the checkpoint that this was loaded from to the hub, with a model card.

        Args:
            repo: OWNER/NAME.
            private: Make a private repository, if there is none.
            licence: Of the weights, as the hub names it; not in the card if left out.

        Returns:
            The address of the repository.

        Raises:
            UsageError: It was not loaded from a folder, the name is none, or there is no token.
            RunError: The hub cannot be reached, or refuses.
        """
        from latentcot.evaluation.hub import pack, push  # which reads results, made by reasoners

        if self.source is None:
            raise UsageError(
                "push_to_hub: sends the files that a reasoner was loaded from, and this one was "
                "not loaded. Take latentcot.load(run)."
            )
        return push(pack(self.source, repo, licence), private=private)

    def prompts(
        self, encoded: Sequence[EncodedExample], num_thoughts: int | None = None
    ) -> list[Layout]:
        """Lay examples out up to where the model takes over."""
        view, stage = self.method.view, self.info.stage
        return [lay_out(e, view, stage, self.rules, num_thoughts).prompt() for e in encoded]


def load(path: Path | str, device: str | torch.device | None = None) -> Reasoner:
    """Load a run (its best checkpoint), a checkpoint folder, or a hub id.

    Args:
        path: Where it is; `quickstart` is the small model that comes with the package.
        device: Where to put it, such as cpu or cuda; a GPU if there is one, that of this process if
            there are more.

    Raises:
        CheckpointError: It is none, it is damaged, or it is of a newer format.
        UsageError: There is no such device.
    """
    try:
        device = torch.device(device or own_device())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch was built without it
        raise UsageError(f"device: {one_line(str(error))}, got {shown(str(device))}.") from None
    name = locate(path)[0]  # once: the best checkpoint of a run may be another one tomorrow
    found = load_checkpoint(name)
    found.model.to(device)  # type: ignore[arg-type]  # transformers wraps `to` without its types
    modules = dict(found.modules.to(device).items())
    source = str(Path(name).absolute()) if Path(name).is_dir() else name
    return Reasoner(found.model, found.tokenizer, found.info, modules, source)


def _without_words(prompts: Sequence[Layout]) -> list[Layout]:
    """Leave out what stands behind the latent positions: only the thoughts are asked for."""
    return [replace(prompt, suffix=(), labels=()) for prompt in prompts]


def _texts(questions: Sequence[str]) -> list[str]:
    texts = [questions] if isinstance(questions, str) else list(questions)
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"questions: must be texts, got {shown(text)} among them.")
    return texts
