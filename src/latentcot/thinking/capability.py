"""Whether a model can do what thinking in batches needs, found out on a few tokens at load."""

import torch
from transformers import PreTrainedModel

from latentcot.curriculum.layout import Layout
from latentcot.errors import RecipeError
from latentcot.models.loading import max_positions
from latentcot.thinking.batch import collate
from latentcot.thinking.readings import Reading
from latentcot.thinking.think import think


def check_thinks_in_batches(model: PreTrainedModel) -> None:
    """Make sure that padded examples of a batch give what each gives alone.

    Some families mix in pads where no mask reaches: convolutions, recurrent states, position biases
    counted by positions, windows of local attention.

    Raises:
        RecipeError: They do not.
    """
    window = getattr(model.config, "window_size", None)
    width = (window if isinstance(window, int) else 0) + 12
    width = min(width, (max_positions(model) or width + 8) - 8)
    suffix = (3, 4, 5)
    rows = [
        Layout(tuple(1 + i % 7 for i in range(length)), thoughts, suffix, suffix)
        for length, thoughts in ((width, 1), (max(1, width // 2), 3))
    ]
    was_training = model.training
    model.eval()

    def nll(*layouts: Layout) -> torch.Tensor:
        batch = collate(layouts)
        return Reading(model, batch, think(model, batch)).nll.sum()

    with torch.no_grad():
        together, alone = nll(*rows), nll(rows[0]) + nll(rows[1])
    model.train(was_training)
    if not torch.allclose(together, alone, rtol=1e-3):
        raise RecipeError(
            f"model: {type(model).__name__} gives other results for a row in a padded batch than "
            "for the row alone, so thoughts in batches would be wrong. GPT-2, Llama, Qwen2, Qwen3 "
            "and others with plain causal attention do not."
        )
