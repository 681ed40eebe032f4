"""Greedy texts, batch after batch, each batch as one recorded run (`backend/cuda_graphs.py`).

Thoughts and words are passes of one column each, and on a GPU each takes longer to launch than to
run. So a whole batch, question, thoughts and words, is recorded once for its shape. A recorded run
writes a fixed number of words, whether rows have ended or not: as many as the batches before it
needed. If that is too few for a batch, the caller writes it word by word, and says how many words
it took.

Shapes: B batch, W words, N most latent positions of any row, D hidden size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from latentcot.curriculum.layout import Layout
from latentcot.models.backend.cuda_graphs import ALONE, SIGHTS, Captured, Record
from latentcot.thinking.batch import ROUNDED, collate
from latentcot.thinking.readings import logits_of
from latentcot.thinking.think import Thinker, think

STEP = 4
"""Recorded runs have a multiple of so many words."""


class GreedyRecorder:
    """Writes greedy texts by recorded runs.

    Args:
        model: In evaluation mode.
        thinker: How latent positions are filled.
        record: How a function is recorded.
        sights: Record a shape when it is seen for this time.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        thinker: Thinker,
        record: Record,
        *,
        sights: int = SIGHTS,
    ) -> None:
        self.model, self.thinker = model, thinker
        self._captured = Captured(record, sights=sights)
        self._most_words = 0

    def saw(self, num_words: int) -> None:
        """Take in how many words the longest text of a batch had, its end included."""
        self._most_words = max(self._most_words, num_words)

    def write(
        self, prompts: Sequence[Layout], limits: Sequence[int], eos_id: int
    ) -> tuple[list[list[int]], Tensor, Tensor] | None:
        """Write a batch of texts.

        Args:
            prompts: What is answered.
            limits: How many words each may have.
            eos_id: The token that ends a text.

        Returns:
            The words of each, with their end where it came, and (B, N, D) what was fed; None where
            a recorded run would not do: nothing is known of the texts yet, or one is longer.
        """
        num_words = min(math.ceil(self._most_words / STEP) * STEP, max(limits))
        # A recorded run calls nobody's hooks, and writes to tensors of its own.
        is_watched = torch.is_inference_mode_enabled() or any(
            module._forward_hooks or module._forward_pre_hooks for module in self.model.modules()
        )
        if num_words == 0 or num_words > min(limits) or is_watched:
            return None
        batch = collate(prompts, columns=ROUNDED).to(self.model.device)

        device = self.model.device.type
        table = self.model.get_input_embeddings()
        is_on, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        @torch.no_grad()
        def run(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # Weights that an autocast around us keeps in another precision are gone when it ends.
            with torch.autocast(device, dtype, enabled=is_on, cache_enabled=False):
                own = batch.with_tensors(tensors)
                rollout = think(self.model, own, self.thinker)
                at_B11 = own.suffix_lengths[:, None, None].expand(-1, 1, rollout.states.shape[-1])
                state_BD = rollout.states.gather(1, at_B11)[:, 0]
                words_B = [logits_of(self.model, state_BD).argmax(-1)]
                is_real = torch.ones_like(words_B[0], dtype=torch.bool)[:, None]
                while len(words_B) < num_words:
                    state_BD = rollout.passes.read(table(words_B[-1])[:, None], is_real)[:, 0]
                    words_B.append(logits_of(self.model, state_BD).argmax(-1))
                words_BW = torch.stack(words_B, dim=1)
                return words_BW, rollout.latent_inputs, rollout.num_passes_B

        weight = table.get_parameter("weight")
        kind = batch.max_latents, num_words, is_on, dtype, weight.dtype, weight.data_ptr()
        with ALONE:
            words_BW, inputs_BND, num_passes_B = self._captured(kind, run, batch.tensors)
            rows, inputs_BND, num_passes_B = words_BW.tolist(), inputs_BND.cpu(), num_passes_B.cpu()
        words = [row[: row.index(eos_id) + 1] if eos_id in row else row for row in rows]
        pairs = zip(words, limits, strict=True)
        if any(text[-1] != eos_id and len(text) < limit for text, limit in pairs):
            return None
        return words, inputs_BND, num_passes_B
