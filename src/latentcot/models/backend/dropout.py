"""Dropout whose mask is drawn 16 bits a number where a CPU draws it.

torch draws 64 bits for each entry of a mask, one entry after the other if the processor is not
Intel's: an eighth of an update of GPT-2 small. Here 64 bits decide about four entries. That rounds
a share to a multiple of 2⁻¹⁶; what is kept is scaled by the share asked for.
"""

import math

import torch
from torch import Tensor, nn

LANES = 4
"""Numbers of 16 bits in one of 64."""


def drop(values: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Set a share of the values to zero and divide the rest by 1 − share, as in training.

    Args:
        values: Any shape.
        share: Between 0 and 1, without either.

    Returns:
        The values that are left, and which these are, as bool.
    """
    if values.device.type != "cpu":
        return torch.native_dropout(values, share, True)
    drawn = torch.empty(math.ceil(values.numel() / LANES), dtype=torch.int64)
    drawn.random_(torch.iinfo(torch.int64).min, None)  # all bits, also that of the sign
    lowest_kept = round(share * 2**16) - 2**15
    is_kept = (drawn.view(torch.int16)[: values.numel()] >= lowest_kept).view(values.shape)
    return values * is_kept.to(values.dtype).mul_(1 / (1 - share)), is_kept


class Dropout(nn.Dropout):
    """torch's, with the mask of `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input, in training with its share dropped."""
        is_drawn_here = self.training and 0 < self.p < 1 and not self.inplace
        if is_drawn_here and input.device.type == "cpu":
            return drop(input, self.p)[0]
        return super().forward(input)
