"""What is analyzed: a trained model, questions with their graphs, and how they are put to it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count
from pathlib import Path

from latentcot.curriculum.layout import EncodedExample, Layout
from latentcot.curriculum.views import Update
from latentcot.data.examples import Example, read_examples
from latentcot.data.fields import USUAL, Fields
from latentcot.errors import DataError, UsageError
from latentcot.evaluation.reasoner import Output, Reasoner, load
from latentcot.pages import Question
from latentcot.tasks import Task, task_named
from latentcot.tasks.prosqa.generator import chain_of, fact
from latentcot.tasks.prosqa.graphs import Graph
from latentcot.thinking.decoding import reading_order, roll_out
from latentcot.thinking.think import Rollout

NUM_LISTED = 40
"""Questions whose results are kept one by one; the page shows them."""

UpdateFor = Callable[[Sequence[int]], Update]
"""Questions of a batch, by number in their order in it → what is fed into their latent
positions."""
Progress = Callable[[int], None]
"""Takes the number of questions that have just been done."""


def no_progress(count: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Subject:
    """A model and the questions that it is looked at with."""

    name: str  # what tables and figures call it: its method, or what was given
    reasoner: Reasoner  # the model with its checkpoint's settings
    examples: tuple[Example, ...]  # the questions
    encoded: tuple[EncodedExample, ...]  # the same as token ids
    batch_size: int = 100  # questions at a time; no result depends on it but for rounding
    source: str | None = None  # where the questions were read from; None if they were made

    @property
    def task(self) -> Task:
        """How answers are scored."""
        return task_named(self.reasoner.info.task)

    @property
    def most_thoughts(self) -> int:
        """Return how many latent positions a full example has, as in training."""
        return self.reasoner.info.num_thoughts

    @property
    def can_force_thoughts(self) -> bool:
        """Return whether a number of thoughts, or of pauses, can be forced on the method."""
        return self.reasoner.method.view.has_latents

    @property
    def has_latents(self) -> bool:
        """Return whether thoughts, or pauses in their place, stand before what is written."""
        return self.can_force_thoughts and self.most_thoughts > 0

    @property
    def has_thoughts(self) -> bool:
        """Return whether continuous thoughts stand in its latent positions."""
        return self.reasoner.method.view.latents.is_thought and self.most_thoughts > 0

    @cached_property
    def has_graphs(self) -> bool:
        """Return whether every question carries the graph of its task, as ProsQA's do."""
        if self.task.graph_of is None:
            return False
        try:
            return bool(self.graphs)
        except DataError:
            return False

    @cached_property
    def graphs(self) -> tuple[Graph, ...]:
        """The graph of each question.

        Raises:
            DataError: A question carries none.
        """
        if self.task.graph_of is None:
            raise DataError(f"{self.name}: questions of {self.task.name} carry no graphs.")
        return tuple(map(self.task.graph_of, self.examples))

    @cached_property
    def is_in_words(self) -> bool:
        """Return whether chain and answer are sentences, and not the names of nodes alone."""
        graph = self.graphs[0]
        return self.examples[0].answer != graph.names[graph.target]

    @cached_property
    def name_ids(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """The token ids of each node's name, as it stands behind a blank, for each question."""
        names = sorted({name for graph in self.graphs for name in graph.names})
        tokenizer = self.reasoner.tokenizer
        two, one = tokenizer(["a a", "a"], add_special_tokens=False)["input_ids"]
        # Where words are the tokens, a blank in front makes no other one.
        blank = " " if one and two[-1] != one[-1] else ""
        ids = tokenizer([blank + name for name in names], add_special_tokens=False)
        found = dict(zip(names, map(tuple, ids["input_ids"]), strict=True))
        return tuple(tuple(found[name] for name in graph.names) for graph in self.graphs)

    def answer_naming(self, question: int, name: str) -> str:
        """Return the answer to a question with a graph, if the node of this name were right."""
        graph = self.graphs[question]
        return fact(graph.names[graph.root], name) if self.is_in_words else name

    def prompts(self, num_thoughts: int | None = None) -> list[Layout]:
        """Lay every question out up to where the model takes over.

        With this number of latent positions for each; as in training if left out.
        """
        return self.reasoner.prompts(self.encoded, num_thoughts)

    def batches(self, prompts: Sequence[Layout]) -> Iterator[list[int]]:
        """Yield the numbers of the questions of each batch, in the order of `generate`."""
        order = reading_order(prompts)
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def answers(
        self,
        num_thoughts: int | None = None,
        *,
        force_steps: bool = False,
        update_for: UpdateFor | None = None,
        on_progress: Progress = no_progress,
    ) -> list[Output]:
        """Answer every question, greedily.

        Args:
            num_thoughts: This number of thoughts; as in training if left out.
            force_steps: Make every text begin with a step of the chain.
            update_for: What goes into the latent positions of a batch; as in training if left out.
            on_progress: Called after each batch.
        """
        prompts, found = self.prompts(num_thoughts), dict[int, Output]()
        for chosen in self.batches(prompts):
            update = None if update_for is None else update_for(chosen)
            outputs = self.reasoner.answer_prompts(
                [prompts[i] for i in chosen],
                batch_size=len(chosen),
                thinker=None if update is None else self.reasoner.thinker.with_update(update),
                force_steps=force_steps,
            )
            found.update(zip(chosen, outputs, strict=True))
            on_progress(len(chosen))
        return [found[i] for i in range(len(prompts))]

    def rollouts(
        self, *, update_for: UpdateFor | None = None
    ) -> Iterator[tuple[list[int], Rollout]]:
        """Yield (numbers of the questions, what came of thinking about them) batch by batch.

        The latent positions are filled and `<eot>` is read; no word is written. Without gradients.
        """
        prompts = self.prompts()
        for chosen in self.batches(prompts):
            thinker = self.reasoner.thinker
            if update_for is not None:
                thinker = thinker.with_update(update_for(chosen))
            yield chosen, roll_out(self.reasoner.model, [prompts[i] for i in chosen], thinker)

    def are_right(self, outputs: Sequence[Output]) -> list[bool]:
        """Return which answers count as right."""
        return [
            self.task.is_correct(output.answer, example.answer)
            for output, example in zip(outputs, self.examples, strict=True)
        ]

    def first(self, count: int) -> "Subject":
        """Return the same model with the first `count` questions."""
        return self.of(range(min(count, len(self.examples))))

    def of(self, numbers: Sequence[int]) -> "Subject":
        """Return the same model with these questions, counted from 0."""
        return replace(
            self,
            examples=tuple(self.examples[i] for i in numbers),
            encoded=tuple(self.encoded[i] for i in numbers),
        )


REQUIREMENTS: dict[str, Callable[[Subject], str | None]] = {
    "graphs": lambda one: None if one.has_graphs else "its questions carry no graph",
    "latents": lambda one: (
        None
        if one.has_latents
        else f"{one.reasoner.info.method_name} at stage {one.reasoner.info.stage} has no latent "
        "positions, so there is nothing to look at or to replace. Choose a run with thoughts or "
        "pauses, of a later stage."
    ),
    "thoughts": lambda one: None if one.has_thoughts else "it has no continuous thoughts",
}
"""What an analysis may require → what is missing, in words; None if it is there."""


def asked(example: Example, graph: Graph) -> Question:
    """Return a question with its graph as results list it and the pages draw it."""
    return {
        "id": example.id,
        "nodes": list(graph.names),
        "edges": [list(edge) for edge in graph.edges],
        "root": graph.root,
        "target": graph.target,
        "neg_target": graph.neg_target,
        "path": list(chain_of(example, graph) or ()),
    }


def with_own_names(subject: Subject, others: Sequence[Subject]) -> list[Subject]:
    """Return other models under names that no two models share: coconut, coconut-2, …"""
    taken, found = {subject.name}, []
    for other in others:
        names = chain([other.name], (f"{other.name}-{number}" for number in count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        found.append(replace(other, name=name))
    return found


def open_subject(
    checkpoint: Path | str,
    data: str,
    *,
    limit: int | None = None,
    batch_size: int = 100,
    name: str | None = None,
    fields: Fields = USUAL,
) -> Subject:
    """Load a model and questions.

    Args:
        checkpoint: A run, a checkpoint folder, or a hub id.
        data: A file of examples, or hub:NAME:SPLIT.
        limit: Use this many questions, from the beginning of the file.
        batch_size: Questions at a time.
        name: What it is called; its method if left out.
        fields: How question, steps and answer are found in the data.

    Raises:
        CheckpointError: There is no such checkpoint, or it is damaged.
        DataError: The data cannot be read, or hold no question.
        UsageError: `limit` or `batch_size` is below 1.
    """
    for option, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{option}: must be at least 1, got {value}.")
    reasoner = load(checkpoint)
    examples = tuple(read_examples(data, limit, fields))
    encoded = tuple(reasoner.encode(examples))
    return Subject(name or reasoner.info.method_name, reasoner, examples, encoded, batch_size, data)
