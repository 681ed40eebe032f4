"""Terms of a method on four ragged examples: each one's mean, and the gradients of the loss."""

import torch
from torch import nn

from latentcot.curriculum.layout import EncodedExample, LayoutRules, lay_out
from latentcot.curriculum.views import Plan
from latentcot.thinking.batch import collate_views
from latentcot.training.objective import Counts, Objective
from losses import TOKENS

RULES = LayoutRules(TOKENS, Plan(num_stages=4, pad_to_num_stages=False))
EXAMPLES = [
    EncodedExample("a", (5, 6, 7, 8), ((10, 11), (12,), (13, 14, 15)), (20, 21, 22), lead=1),
    EncodedExample("b", (9,), ((16, 17),), (20, 23), lead=1),
    EncodedExample("c", (5, 9, 5, 9, 5, 9), (), (20, 24, 25, 26), lead=1),
    EncodedExample("d", (6, 6), ((10,), (11,), (12,), (13,), (14, 15)), (20, 27), lead=1),
]


def laid_out(method, stage=4, examples=EXAMPLES, rules=RULES):
    def views(example):
        return {name: lay_out(example, view, stage, rules) for name, view in method.views.items()}

    return [method.with_targets(views(example), example, rules) for example in examples]


def losses(method, model, modules=None, stage=4, examples=EXAMPLES, size=None, rules=RULES):
    """(each term's mean, the gradients of the loss), over micro-batches of `size`."""
    modules = nn.ModuleDict() if modules is None else modules
    objective = Objective(model, method, rules, modules).eval()
    rows = laid_out(method, stage, examples, rules)
    counts = Counts(method, rows)
    coefficients = torch.tensor(counts.coefficients(), dtype=torch.float64)
    sums = 0
    for start in range(0, len(rows), size or len(rows)):
        mine = rows[start : start + (size or len(rows))]
        sums = sums + objective(collate_views(mine, update=rows))
    loss = (sums * coefficients).sum()
    weights = {name: one for name, one in objective.named_parameters() if one.requires_grad}
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in zip(weights.items(), found, strict=True)
    }
    return counts.means(sums.tolist()), loss, gradients


def assert_same_gradients(found, expected, tolerance=1e-9):
    for name, gradient in expected.items():
        error = (found[name] - gradient).norm() / gradient.norm().clamp_min(1e-6)
        assert error < tolerance, name
