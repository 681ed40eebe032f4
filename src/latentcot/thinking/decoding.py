"""Questions → thoughts → text, many at a time.

Thoughts and words use the same growing cache. A row that has ended leaves the batch, so that the
rest does not pay for it. What a row gives does not depend on its neighbours (but for ties within
rounding): not when greedy, and not when sampled, since every prompt draws from its own stream of
random numbers.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from latentcot.curriculum.layout import Layout
from latentcot.errors import UsageError
from latentcot.thinking.batch import collate
from latentcot.thinking.recorded import GreedyRecorder
from latentcot.thinking.think import Rollout, Stop, Thinker, think
from latentcot.utils.distributed import every_nth, gathered


@dataclass(frozen=True, slots=True)
class Sampling:
    """How words are drawn; leave it out for greedy decoding, as in the paper.

    Attributes:
        temperature: 0.0001 to 10000; 1 leaves the model's distribution as it is.
        top_p: Keep the smallest set of words with this much probability.
        top_k: Keep this many words at most; 0 keeps all.
        seed: Prompt number i draws from a stream of its own, made of this seed and i.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        is_warm = 1e-4 <= self.temperature <= 1e4  # beyond, logits are no numbers any more
        if not is_warm or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise UsageError(
                "sampling needs 0.0001 ≤ temperature ≤ 10000, 0 < top_p ≤ 1 and top_k ≥ 0, got "
                f"temperature={self.temperature}, top_p={self.top_p}, top_k={self.top_k}. "
                "For greedy decoding leave sampling out."
            )


@dataclass(frozen=True, slots=True)
class Generation:
    """What a prompt gave.

    Attributes:
        token_ids: The words, without the end of text.
        is_finished: Whether the end of text came before `max_new_tokens` did.
        latent_inputs: (latent positions, hidden size), on the CPU: the vectors fed into the latent
            positions.
        num_passes: Sequential calls of the backbone: one for the question, one a latent position
            (and one more behind the last, where a classifier ended latent mode), one for each
            further word (the end of text is a word here).
    """

    token_ids: tuple[int, ...]
    is_finished: bool
    latent_inputs: Tensor
    num_passes: int

    @property
    def num_tokens(self) -> int:
        """The number of words, without special tokens, thoughts and end of text."""
        return len(self.token_ids)

    @property
    def num_latents(self) -> int:
        """The number of latent positions that were filled one pass after the other."""
        return self.latent_inputs.shape[0]


@dataclass(frozen=True, slots=True)
class ForcedSteps:
    """Makes a text begin with a step: until one is written, the answer and the end are forbidden.

    Attributes:
        forbidden: Token ids.
        has_step: words → whether a step has been written. It must look at the text: many tokenizers
            join the line end behind a step with what stands before it.
    """

    forbidden: tuple[int, ...]
    has_step: Callable[[Sequence[int]], bool]


@dataclass(frozen=True, slots=True)
class SoftWords:
    """Feeds mixtures in place of the words of a chain (Soft Thinking, arXiv 2505.15778, section 3).

    What is read at the next position is Σ_v p(v)·e(v), with p the output head's probabilities and e
    the embedding table, until the most probable word is one that begins the answer. The text has
    the most probable word of each mixture. With τ → 0 this is greedy decoding.

    Attributes:
        temperature: τ, of the softmax that weighs the words.
        ends: Token ids: the first of the answer, and the end of text.
    """

    temperature: float
    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if not 1e-4 <= self.temperature <= 1e4:
            raise UsageError(
                f"soft_words: needs a temperature of 0.0001 to 10000, got {self.temperature}. For "
                "words as they are leave it out."
            )


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Layout],
    *,
    eos_id: int,
    max_new_tokens: int,
    max_length: int | None = None,
    batch_size: int = 64,
    sampling: Sampling | None = None,
    thinker: Thinker | None = None,
    stop: Stop | None = None,
    forced: ForcedSteps | None = None,
    soft: SoftWords | None = None,
    recorder: GreedyRecorder | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Generation]:
    """Let the model think about and answer each prompt; results in the order of the prompts.

    Processes of one job share the prompts, and each returns all results.

    Args:
        model: A causal LM, in evaluation mode.
        prompts: What `Layout.prompt()` gives.
        eos_id: The token that ends a text.
        max_new_tokens: Words at most, at least 1.
        max_length: Columns at most, question and thoughts included: the model's positions. A text
            that reaches it stops there.
        batch_size: Prompts at a time; they are sorted by length and thoughts, so that pads are few.
        sampling: How to draw; greedy if left out.
        thinker: How latent positions are filled; with continuous thoughts if left out.
        stop: Ends latent mode for each row by itself, at the latent positions of its prompt at the
            latest.
        forced: Makes every text begin with a step.
        soft: Feeds mixtures in place of the words of the chain.
        recorder: Writes texts faster where nothing but greedy words is asked for.
        on_progress: Called with the number of prompts that have just been finished.

    Raises:
        UsageError: `max_new_tokens` or `batch_size` is below 1.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise UsageError(
            f"max_new_tokens and batch_size must be at least 1, got {max_new_tokens} and "
            f"{batch_size}."
        )
    if any(one is not None for one in (sampling, stop, forced, soft)):
        recorder = None
    found: list[Generation] = []
    # By thoughts and length, so that a batch pads little.
    order = sorted(
        range(len(prompts)), key=lambda i: (prompts[i].num_latents, len(prompts[i].prefix))
    )
    mine = every_nth(order)
    for start in range(0, len(mine), batch_size):
        chosen = mine[start : start + batch_size]
        draw = _drawer(sampling, chosen)
        rooms = [math.inf if max_length is None else max_length - len(prompts[i]) for i in chosen]
        limits = [int(max(1, min(max_new_tokens, room))) for room in rooms]
        batch = [prompts[i] for i in chosen]
        recorded = None if recorder is None else recorder.write(batch, limits, eos_id)
        if recorded is not None:
            words, inputs_BND, num_passes_B = recorded
            texts = [
                _generation(text, inputs_ND[: prompt.num_latents], num_passes, eos_id)
                for text, inputs_ND, num_passes, prompt in zip(
                    words, inputs_BND, num_passes_B.tolist(), batch, strict=True
                )
            ]
        else:
            rollout = roll_out(model, batch, thinker, stop)
            texts = _decode(model, rollout, batch, eos_id, limits, draw, forced, soft)
            if recorder is not None:
                recorder.saw(max(text.num_tokens + text.is_finished for text in texts))
        found += texts
        if on_progress is not None:
            on_progress(_of_all(start + len(chosen), mine, order) - _of_all(start, mine, order))
    results = dict(zip(order, gathered(found), strict=True))
    return [results[i] for i in range(len(prompts))]


def _of_all(done: int, mine: Sequence[int], order: Sequence[int]) -> int:
    """Return how many prompts all processes have finished, to judge by this one."""
    return done * len(order) // len(mine)


@torch.no_grad()
def roll_out(
    model: PreTrainedModel,
    prompts: Sequence[Layout],
    thinker: Thinker | None = None,
    stop: Stop | None = None,
) -> Rollout:
    """Let the model read prompts and think about them, next to each other."""
    return think(model, collate(prompts).to(model.device), thinker, stop=stop)


@torch.no_grad()
def _decode(
    model: PreTrainedModel,
    rollout: Rollout,
    prompts: Sequence[Layout],
    eos_id: int,
    limits: Sequence[int],
    draw: Callable[[Tensor, list[int]], Tensor],
    forced: ForcedSteps | None,
    soft: SoftWords | None,
) -> list[Generation]:
    """Write words behind a rollout until every row has ended."""
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    if soft is not None:  # asked of the module: some scale what stands in their table
        size = head.get_parameter("weight").shape[0]
        table_VD = embed(torch.arange(size, device=model.device))
    rows = list(range(len(prompts)))  # the rows still in the batch
    state_BD = rollout.states[rows, [len(prompt.suffix) for prompt in prompts]]
    words: list[list[int]] = [[] for _ in rows]
    limits_B = torch.tensor(limits, device=model.device)
    num_words = 0
    while True:
        logits_BV = head(state_BD)
        if forced is not None:  # until a step is written, nothing else may be
            waiting = [i for i, row in enumerate(rows) if not forced.has_step(words[row])]
            for token in forced.forbidden:
                logits_BV[waiting, token] = -torch.inf
        drawn_B = draw(logits_BV, rows)
        for row, token in zip(rows, drawn_B.tolist(), strict=True):
            words[row].append(token)
        num_words += 1
        going_on = ((drawn_B != eos_id) & (limits_B > num_words)).nonzero()[:, 0]
        if len(going_on) == 0:
            break
        if len(going_on) < len(rows):
            rollout.passes.keep_rows(going_on)
            rows = [rows[i] for i in going_on.tolist()]
            drawn_B, limits_B = drawn_B[going_on], limits_B[going_on]
            logits_BV = logits_BV[going_on]
        embeds_BD = embed(drawn_B)
        if soft is not None:
            chain = [not any(word in soft.ends for word in words[row]) for row in rows]
            is_soft_B1 = torch.tensor(chain, device=model.device)[:, None]
            mixed_BD = (logits_BV / soft.temperature).softmax(-1).to(table_VD.dtype) @ table_VD
            embeds_BD = torch.where(is_soft_B1, mixed_BD, embeds_BD)
        is_real = torch.ones_like(drawn_B, dtype=torch.bool)[:, None]
        state_BD = rollout.passes.read(embeds_BD[:, None], is_real)[:, 0]
    return [
        _generation(text, rollout.latent_inputs[row, :num_latents], num_passes, eos_id)
        for row, (text, num_latents, num_passes) in enumerate(
            zip(words, rollout.num_latents_B.tolist(), rollout.num_passes_B.tolist(), strict=True)
        )
    ]


def _generation(
    words: list[int], latent_inputs: Tensor, num_passes: int, eos_id: int
) -> Generation:
    is_finished = words[-1] == eos_id
    return Generation(
        token_ids=tuple(words[:-1] if is_finished else words),
        is_finished=is_finished,
        # A view would hold, and send, those of the whole batch.
        latent_inputs=latent_inputs.to("cpu", copy=True),
        num_passes=num_passes + len(words) - 1,
    )


def _drawer(
    sampling: Sampling | None, prompts: Sequence[int]
) -> Callable[[Tensor, list[int]], Tensor]:
    """Return (logits of the rows still going, their numbers) → one token each."""
    if sampling is None:
        return lambda logits, rows: logits.argmax(-1)
    warp = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warp.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warp.append(TopPLogitsWarper(sampling.top_p))
    seeds = [random.Random(f"{sampling.seed}/{prompt}").getrandbits(63) for prompt in prompts]
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(logits: Tensor, rows: list[int]) -> Tensor:
        nothing = torch.empty(len(rows), 0, dtype=torch.long)  # these three read no earlier words
        probabilities = warp(nothing, logits).softmax(-1).cpu()  # type: ignore[arg-type]
        drawn = [
            torch.multinomial(row, 1, generator=streams[number])
            for row, number in zip(probabilities, rows, strict=True)
        ]
        return torch.cat(drawn).to(logits.device)

    return draw
