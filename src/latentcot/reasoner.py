"""The Python API: a trained model that thinks and answers.

reasoner = latentcot.load("runs/quickstart/coconut")
out = reasoner.generate(["…question…"])
out[0].answer, out[0].num_thoughts
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.backbones import check_lengths, max_positions
from latentcot.batching import collate
from latentcot.checkpoints import CheckpointInfo, load_checkpoint
from latentcot.examples import Example
from latentcot.generation import Sampling, generate
from latentcot.layout import EncodedExample, Layout, encode, encode_questions, lay_out
from latentcot.tasks import extract_answer
from latentcot.thoughts import think


@dataclass(frozen=True, slots=True)
class Output:
    """What a question gave.

    Attributes:
        text: All words after the thoughts.
        answer: The part behind the template's `answer_start`; empty where the text has none.
        num_tokens: Words, without markers and end of text.
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


@dataclass(frozen=True, slots=True)
class Thinking:
    """The continuous thoughts about some questions.

    Attributes:
        thoughts: (batch, thoughts, hidden size). `thoughts[b, i]` was fed into slot i of row b.
        last_states: (batch, hidden size). The last hidden state at the last slot (or at the end of
            the question, without thoughts): what one more thought would have been.
    """

    thoughts: Tensor
    last_states: Tensor


class Reasoner:
    """A model, its tokenizer, and what its checkpoint says of method, stage and thoughts."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, info: CheckpointInfo
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.info = info
        self.rules = info.layout_rules(tokenizer)

    def generate(
        self,
        questions: Sequence[str],
        *,
        num_thoughts: int | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = 100,
        sampling: Sampling | None = None,
    ) -> list[Output]:
        """Think about each question and answer it.

        Args:
            questions: Texts as in the training data, without steps or answer.
            num_thoughts: Another number of thoughts than trained for.
            max_new_tokens: Words at most; as in training if left out. A text that reaches the
                model's last position stops there.
            batch_size: Questions at a time; the results do not depend on it.
            sampling: How words are drawn; greedy if left out.

        Raises:
            DataError: A question does not fit the vocabulary or the model's positions.
        """
        encoded = encode_questions(_texts(questions), self.tokenizer, self.info.template)
        return self.answer(encoded, num_thoughts, max_new_tokens, batch_size, sampling)

    def answer(
        self,
        encoded: Sequence[EncodedExample],
        num_thoughts: int | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = 100,
        sampling: Sampling | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Output]:
        """Answer encoded examples; their slots are counted as in training."""
        if max_new_tokens is None:
            max_new_tokens = self.info.max_new_tokens
        prompts = self.prompts(encoded, num_thoughts)
        check_lengths(self.model, prompts, [e.id for e in encoded], new_tokens=1)
        generations = generate(
            self.model,
            prompts,
            eos_id=self.rules.markers.eos,
            max_new_tokens=max_new_tokens,
            max_length=max_positions(self.model),
            batch_size=batch_size,
            sampling=sampling,
            on_progress=on_progress,
        )
        texts = [str(self.tokenizer.decode(list(g.token_ids))) for g in generations]
        return [
            Output(
                text=text,
                answer=extract_answer(text, self.info.template.answer_start),
                num_tokens=generation.num_tokens,
                num_thoughts=generation.num_thoughts,
                num_passes=generation.num_passes,
                is_finished=generation.is_finished,
            )
            for generation, text in zip(generations, texts, strict=True)
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
        prompts = self.prompts(encoded, num_thoughts)
        check_lengths(self.model, prompts, [e.id for e in encoded])
        if not prompts:
            size = self.model.config.hidden_size
            slots = self.info.num_thoughts if num_thoughts is None else num_thoughts
            return Thinking(torch.zeros(0, slots, size), torch.zeros(0, size))
        batch = collate(prompts).to(self.model.device)
        with torch.no_grad():
            rollout = think(
                self.model,
                batch.prefix,
                batch.prefix_lengths,
                batch.num_thoughts,
                batch.suffix[:, :0],
                torch.zeros_like(batch.suffix_lengths),
            )
        return Thinking(rollout.thoughts, rollout.states[:, 0])

    def encode(self, examples: Sequence[Example]) -> list[EncodedExample]:
        """Turn examples into token ids."""
        return encode(examples, self.tokenizer, self.info.template)

    def prompts(
        self, encoded: Sequence[EncodedExample], num_thoughts: int | None = None
    ) -> list[Layout]:
        """Lay examples out up to where the model takes over."""
        row, stage = self.info.row, self.info.stage
        return [lay_out(e, row, stage, self.rules, num_thoughts).prompt() for e in encoded]


def load(path: Path | str, device: str | torch.device | None = None) -> Reasoner:
    """Load a run (its best checkpoint), a checkpoint folder, or a hub id.

    Args:
        path: Where it is.
        device: Where to put it; a GPU if there is one.

    Raises:
        CheckpointError: It is none, it is damaged, or it is of a newer format.
    """
    model, tokenizer, info = load_checkpoint(path)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)  # type: ignore[arg-type]  # transformers wraps `to` without its types
    return Reasoner(model, tokenizer, info)


def _texts(questions: Sequence[str]) -> list[str]:
    if isinstance(questions, str):
        raise TypeError("questions must be a list of strings, got one string: put it in a list.")
    return list(questions)
