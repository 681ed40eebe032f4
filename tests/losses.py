"""The loss of one batch as tests ask for it: one view, sums by name."""

from dataclasses import replace
from types import SimpleNamespace

from torch import nn

from latentcot.curriculum.layout import LaidOut, LayoutRules, SpecialTokens
from latentcot.curriculum.views import Plan, Sequential
from latentcot.methods import Method, method_named
from latentcot.methods.stopping import with_stop_classifier
from latentcot.thinking.batch import Batch, Batches
from latentcot.thinking.think import Thinker
from latentcot.training.objective import Objective
from latentcot.training.step import Part, TrainStep

TOKENS = SpecialTokens(bot=1, eot=2, pause=17, eos=3)
RULES = LayoutRules(TOKENS, Plan(num_stages=3))


def thinker(update=None) -> Thinker | None:
    """What fills latent positions with `update`; with thoughts if it is None."""
    return None if update is None else Thinker(Sequential(update), TOKENS)


def coconut(update=None, stops: bool = False) -> Method:
    """Coconut, with another update, and with the stop classifier."""
    method = method_named("coconut")
    if update is not None:
        method = replace(method, views={"answer": replace(method.view, latents=Sequential(update))})
    return with_stop_classifier(method) if stops else method


def laid(layouts) -> list[LaidOut]:
    """Layouts as a method with one view reads them."""
    return [LaidOut({"answer": layout}) for layout in layouts]


class LanguageLoss(nn.Module):
    """Coconut's objective on a batch."""

    def __init__(self, model, update=None, stop_head=None, *, saves_memory=False) -> None:
        super().__init__()
        modules = nn.ModuleDict({} if stop_head is None else {"stop": stop_head})
        method = coconut(update, stops=stop_head is not None)
        self.objective = Objective(model, method, RULES, modules, saves_memory=saves_memory)

    def forward(self, batch: Batch) -> SimpleNamespace:
        sums = self.objective(Batches({"answer": batch}, {}))
        names = ["nll_sum", "next_nll_sum", "num_correct", "stop_nll_sum"][: len(sums)]
        found = dict(zip(names, sums, strict=True))
        return SimpleNamespace(**found, num_labels=(batch.labels != -100).sum())


class LayoutStep(TrainStep):
    """Coconut's train step, on layouts."""

    def learn(self, layouts, rate: float) -> dict:
        """One update; each term's mean by name."""
        return self.step(self.part_of(layouts), rate)

    def part_of(self, update) -> Part:
        return super().part_of(laid(update))

    @property
    def stop_head(self):
        return self.objective.learned["stop"]


def train_step_of(
    model, training, *, stop_head=None, stop_weight=1.0, update=None, kind=None, **options
) -> TrainStep:
    """A train step for Coconut, with the stop classifier if one is given."""
    modules = nn.ModuleDict({} if stop_head is None else {"stop": stop_head})
    method = coconut(update)
    if stop_head is not None:
        method = with_stop_classifier(method, stop_weight)
    saves = training.save_memory
    objective = Objective(model, method, RULES, modules, saves_memory=saves)
    return (kind or LayoutStep)(objective, training, **options)
