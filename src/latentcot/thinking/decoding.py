"""Questions → thoughts → text, many at a time.

Thoughts and words use the same growing cache. A row that has ended leaves the batch, so that the
rest does not pay for it. What a row gives does not depend on its neighbours (but for ties within
rounding): not when greedy, and not when sampled, since every prompt draws from its own stream of
random numbers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

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
from latentcot.thinking.perturbation import Perturbation, generator_of
from latentcot.thinking.readings import logits_of
from latentcot.thinking.recorded import GreedyRecorder
from latentcot.thinking.think import Rollout, Stop, Thinker, think
from latentcot.utils.distributed import every_nth, gathered
from latentcot.utils.parsing import shown

MOST_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Sampling:
    """How words are drawn; leave it out for greedy decoding, as in the paper.

    Attributes:
        temperature: 0.0001 to 10000; 1 leaves the model's distribution as it is.
        top_p: Keep the smallest set of words with this much probability.
        top_k: Keep this many words at most; 0 keeps all.
        seed: Prompt number i draws from a stream of its own, made of this seed and i; with several
            samples, each sample of it.
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
        log_prob: The mean log-probability of its words and its end, before any temperature; NaN
            where it was written by a recorded run.
    """

    token_ids: tuple[int, ...]
    is_finished: bool
    latent_inputs: Tensor
    num_passes: int
    log_prob: float

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
    num_samples: int = 1,
    sampling: Sampling | None = None,
    perturbation: Perturbation | None = None,
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
        batch_size: Texts at a time; they are sorted by length and thoughts, so that pads are few.
        num_samples: Texts for each prompt, which then stand together; the first k are those that k
            samples give.
        sampling: How to draw words; greedy if left out.
        perturbation: How the thoughts of each sample are changed; not at all if left out.
        thinker: How latent positions are filled; with continuous thoughts if left out.
        stop: Ends latent mode for each row by itself, at the latent positions of its prompt at the
            latest.
        forced: Makes every text begin with a step.
        soft: Feeds mixtures in place of the words of the chain.
        recorder: Writes texts faster where nothing but greedy words is asked for.
        on_progress: Called with the number of prompts that have just been finished.

    Raises:
        UsageError: A number is out of its range, the samples would all be the same, or no prompt
            has a latent input to change.
    """
    if max_new_tokens < 1 or batch_size < 1:
        got = f"{max_new_tokens} and {batch_size}"
        raise UsageError(f"max_new_tokens and batch_size must be at least 1, got {got}.")
    _check_samples(num_samples, sampling, perturbation, soft, prompts)
    if any(one is not None for one in (sampling, perturbation, stop, forced, soft)):
        recorder = None
    thinker, found = thinker or Thinker(), list[Generation]()
    # Of each text: its prompt, and the name of the streams that it draws from.
    names = [f"{i}/{j}" if j else f"{i}" for i in range(len(prompts)) for j in range(num_samples)]
    prompts = [prompt for prompt in prompts for _ in range(num_samples)]
    order = reading_order(prompts)
    mine = every_nth(order)
    for start in range(0, len(mine), batch_size):
        chosen = mine[start : start + batch_size]
        batch, rows = [prompts[i] for i in chosen], [names[i] for i in chosen]
        most = max_new_tokens, max_length
        limits = _limits(batch, [one.num_latents for one in batch], *most)
        texts = None if recorder is None else _recorded(recorder, batch, limits, eos_id)
        if texts is None:
            thinks = thinker if perturbation is None else perturbation.on(thinker, rows)
            rollout = roll_out(model, batch, thinks, stop)
            if stop is not None:  # it may have ended latent mode sooner
                limits = _limits(batch, rollout.num_latents_B.tolist(), *most)
            draw = _drawer(sampling, rows)
            texts = _decode(model, rollout, batch, eos_id, limits, draw, forced, soft)
            if recorder is not None:
                recorder.saw(max(text.num_tokens + text.is_finished for text in texts))
        found += texts
        if on_progress is not None:  # questions of all processes, to judge by this one
            ends = [end * len(order) // len(mine) for end in (start, start + len(chosen))]
            on_progress(ends[1] // num_samples - ends[0] // num_samples)
    results = dict(zip(order, gathered(found), strict=True))
    return [results[i] for i in range(len(prompts))]


def _limits(
    prompts: Sequence[Layout], nums: Sequence[int], max_new_tokens: int, max_length: int | None
) -> list[int]:
    """Return how many words at most each prompt gets, behind so many thoughts of it."""
    if max_length is None:
        return [max_new_tokens] * len(prompts)
    taken = [len(one) - one.num_latents + num for one, num in zip(prompts, nums, strict=True)]
    return [max(1, min(max_new_tokens, max_length - length)) for length in taken]


def _recorded(
    recorder: GreedyRecorder, prompts: Sequence[Layout], limits: Sequence[int], eos_id: int
) -> list[Generation] | None:
    """Write a batch of texts by a recorded run; None where one would not do."""
    recorded = recorder.write(prompts, limits, eos_id)
    if recorded is None:
        return None
    words, inputs_BND, num_passes_B = recorded
    return [
        _generation(text, inputs_ND[: prompt.num_latents], num_passes, eos_id)
        for text, inputs_ND, num_passes, prompt in zip(
            words, inputs_BND, num_passes_B.tolist(), prompts, strict=True
        )
    ]


def _check_samples(
    num_samples: int,
    sampling: Sampling | None,
    perturbation: Perturbation | None,
    soft: SoftWords | None,
    prompts: Sequence[Layout],
) -> None:
    if soft is not None and sampling is not None:
        raise UsageError(
            "soft_words: mixtures are read, so no words of a chain are drawn. Leave out either the "
            "mixtures or the temperature of sampling."
        )
    if not 1 <= num_samples <= MOST_SAMPLES:
        raise UsageError(f"num_samples: must be 1 … {MOST_SAMPLES:,}, got {shown(num_samples)}.")
    if num_samples > 1 and sampling is None and perturbation is None:
        raise UsageError(
            f"num_samples: {num_samples} samples would all be the same. Let them differ by noise, "
            "dropout, or a temperature."
        )
    if perturbation is not None and prompts and not any(one.num_latents for one in prompts):
        raise UsageError(
            "noise and dropout change latent inputs, and no question has a latent position that is "
            "filled: the method has none, or this stage or num_thoughts leaves none. Draw words "
            "instead (temperature)."
        )


def reading_order(prompts: Sequence[Layout]) -> list[int]:
    """Return the numbers of prompts by thoughts and length, so that a batch of them pads little."""
    return sorted(
        range(len(prompts)), key=lambda i: (prompts[i].num_latents, len(prompts[i].prefix))
    )


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
    embed = model.get_input_embeddings()
    if soft is not None:  # asked of the module: some scale what stands in their table
        size = model.get_output_embeddings().get_parameter("weight").shape[0]
        table_VD = embed(torch.arange(size, device=model.device))
    rows = list(range(len(prompts)))  # the rows still in the batch
    state_BD = rollout.states[rows, [len(prompt.suffix) for prompt in prompts]]
    words: list[list[int]] = [[] for _ in rows]
    log_probs: list[list[float]] = [[] for _ in rows]
    limits_B = torch.tensor(limits, device=model.device)
    num_words = 0
    while True:
        logits_BV = logits_of(model, state_BD)
        if forced is not None:  # until a step is written, nothing else may be
            waiting = [i for i, row in enumerate(rows) if not forced.has_step(words[row])]
            for token in forced.forbidden:
                logits_BV[waiting, token] = -torch.inf
        drawn_B = draw(logits_BV, rows)
        likely_B = logits_BV.gather(1, drawn_B[:, None])[:, 0] - logits_BV.logsumexp(-1)
        for row, token, log_prob in zip(rows, drawn_B.tolist(), likely_B.tolist(), strict=True):
            words[row].append(token)
            log_probs[row].append(log_prob)
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
        _generation(
            text,
            rollout.latent_inputs[row, :num_latents],
            num_passes,
            eos_id,
            log_prob=fmean(log_probs[row]),
        )
        for row, (text, num_latents, num_passes) in enumerate(
            zip(words, rollout.num_latents_B.tolist(), rollout.num_passes_B.tolist(), strict=True)
        )
    ]


def _generation(
    words: list[int],
    latent_inputs: Tensor,
    num_passes: int,
    eos_id: int,
    log_prob: float = math.nan,
) -> Generation:
    is_finished = words[-1] == eos_id
    return Generation(
        token_ids=tuple(words[:-1] if is_finished else words),
        is_finished=is_finished,
        # A view would hold, and send, those of the whole batch.
        latent_inputs=latent_inputs.to("cpu", copy=True),
        num_passes=num_passes + len(words) - 1,
        log_prob=log_prob,
    )


def _drawer(
    sampling: Sampling | None, names: Sequence[str]
) -> Callable[[Tensor, list[int]], Tensor]:
    """Return (logits of the rows still going, their numbers) → one token each."""
    if sampling is None:
        return lambda logits, rows: logits.argmax(-1)
    warp = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warp.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warp.append(TopPLogitsWarper(sampling.top_p))
    streams = [generator_of(sampling.seed, name) for name in names]

    def draw(logits: Tensor, rows: list[int]) -> Tensor:
        nothing = torch.empty(len(rows), 0, dtype=torch.long)  # these three read no earlier words
        probabilities = warp(nothing, logits).softmax(-1).cpu()  # type: ignore[arg-type]
        drawn = [
            torch.multinomial(row, 1, generator=streams[number])
            for row, number in zip(probabilities, rows, strict=True)
        ]
        return torch.cat(drawn).to(logits.device)

    return draw
