"""Linear maps from vectors to labels, in closed form: ridge regression on 0/1 labels.

Shapes: R rows (training), E rows (elsewhere), D features, K labels.
"""

import torch
from torch import Tensor

STRENGTHS = tuple(10.0**power for power in range(-5, 2))
"""Penalties tried, as multiples of the number of rows."""


class Ridge:
    """Maps fitted to the same vectors; the penalty of each is chosen by leaving one row out.

    Features are brought to mean 0 and standard deviation 1 over the rows; the constant is not
    penalized. The error of leaving out each row in turn has a closed form: the residual over one
    minus the row's leverage.

    Args:
        rows_RD: The vectors, at least one.
    """

    def __init__(self, rows_RD: Tensor) -> None:
        rows = rows_RD.double()
        self.mean_D = rows.mean(0)
        deviation = (rows - self.mean_D).square().mean(0).sqrt()
        self.scale_D = torch.where(deviation > 0, deviation, 1.0)
        self.left_RM, self.values_M, self.right_MD = torch.linalg.svd(
            (rows - self.mean_D) / self.scale_D, full_matrices=False
        )

    def scores(self, labels_RK: Tensor, others_ED: Tensor) -> Tensor:
        """Fit the labels and return what the map makes of other vectors: (E, K)."""
        labels = labels_RK.double()
        mean_K = labels.mean(0)
        along_MK = self.left_RM.T @ (labels - mean_K)
        penalty = len(labels) * min(
            STRENGTHS, key=lambda strength: self._error(labels - mean_K, along_MK, strength)
        )
        weights_M = self.values_M / (self.values_M.square() + penalty)
        map_DK = self.right_MD.T @ (weights_M[:, None] * along_MK)
        found_EK: Tensor = ((others_ED.double() - self.mean_D) / self.scale_D) @ map_DK + mean_K
        return found_EK

    def _error(self, centred_RK: Tensor, along_MK: Tensor, strength: float) -> float:
        """Return the mean squared error of rows left out in turn."""
        squares_M = self.values_M.square()
        kept_M = squares_M / (squares_M + strength * len(centred_RK))
        fitted_RK = self.left_RM @ (kept_M[:, None] * along_MK)
        leverage_R = self.left_RM.square() @ kept_M + 1 / len(centred_RK)
        left_out = (centred_RK - fitted_RK) / (1 - leverage_R).clamp(min=1e-9)[:, None]
        return float(left_out.square().mean())
