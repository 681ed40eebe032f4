"""The loss of a method: all its views read, all its terms summed.

No formula of a method stands here: terms are functions (`methods/method.py`). The whole roll-out is
the `forward` of one module, so that a wrapper such as DistributedDataParallel sees all passes of an
update as one call.
"""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import LaidOut, LayoutRules
from latentcot.methods.method import Method
from latentcot.thinking.batch import Batches
from latentcot.thinking.readings import Reading, Readings
from latentcot.thinking.think import Thinker, think


def make_modules(method: Method, model: PreTrainedModel, seed: int) -> nn.ModuleDict:
    """Make what a method learns beside a model, the same for the same seed."""
    modules = nn.ModuleDict()
    for name, module in method.modules.items():
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            modules[name] = module.make(model)
    return modules


class Objective(nn.Module):
    """A model, what is learned beside it, and the terms of the loss.

    Args:
        model: The language model.
        method: What is read, and what is summed.
        rules: Special tokens and the numbers of the curriculum.
        modules: Of `make_modules`.
        saves_memory: Compute blocks a second time for their gradients.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        method: Method,
        rules: LayoutRules,
        modules: nn.ModuleDict | None = None,
        *,
        saves_memory: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.learned = nn.ModuleDict() if modules is None else modules
        self.method, self.rules = method, rules
        self.saves_memory = saves_memory

    def forward(self, batches: Batches) -> Tensor:
        """Return the sums of all terms, one after the other: (all entries,), float32 or wider."""
        anchored = {view for term in self.method.terms for view in term.anchored}
        modules = dict(self.learned.items())
        kept, special_tokens = self.method.kept_of(modules), self.rules.special_tokens
        views, saves_memory = {}, self.saves_memory and self.training
        for view, batch in batches.views.items():
            rollout = think(
                self.model,
                batch,
                Thinker(self.method.views[view].latents, special_tokens, kept),
                saves_memory=saves_memory,
                keeps_layers=view in anchored,
            )
            views[view] = Reading(self.model, batch, rollout)
        readings = Readings(
            views, batches.targets, modules, self.model, self.rules.plan, saves_memory
        )
        sums = []
        for term in self.method.terms:
            total = term.total(readings).reshape(-1)
            sums.append(total if term.weight is not None else total.detach())
        kind = next((total.dtype for total in sums if total.is_floating_point()), torch.float32)
        return torch.cat([total.to(kind) for total in sums])


class Counts:
    """By what the sums of an update are divided: known to every process, on the host.

    Args:
        method: Whose terms are counted.
        update: What the whole update reads.
    """

    def __init__(self, method: Method, update: Sequence[LaidOut]) -> None:
        self.method = method
        self.counts = {
            term.name: [
                sum(entries)  # a term has one entry at least
                for entries in zip_longest(*map(term.count, update), (0,), fillvalue=0)
            ]
            for term in method.terms
        }

    def coefficients(self) -> list[float]:
        """Return what each sum is multiplied with to give the loss."""
        found = []
        for term in self.method.terms:
            counts = self.counts[term.name]
            num_used = sum(count > 0 for count in counts)
            weight = term.weight or 0.0
            found += [weight / (count * num_used) if count else 0.0 for count in counts]
        return found

    def means(self, sums: Sequence[float]) -> dict[str, float | None]:
        """Return each term for itself, without its weight; None where nothing counted."""
        found: dict[str, float | None] = {}
        given = iter(sums)
        for term in self.method.terms:
            pairs = [(next(given), count) for count in self.counts[term.name]]
            used = [total / count for total, count in pairs if count]
            found[term.name] = sum(used) / len(used) if used else None
        return found
