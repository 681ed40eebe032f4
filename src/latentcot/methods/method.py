"""What a method is: views of an example, latents, modules that it learns beside the model, terms.

    Method(
        views={"student": View(ALL_AT_ONCE, Sequential(…), …), "teacher": View(…)},
        answers="student",
        terms=(language("student"), language("teacher"), DISTILLATION),
        modules={"projection": Module(make_projection)},
    )

A method has no settings any more: whoever makes it has put them in (`registry.py`). Imports no
torch; terms and modules are functions that are only kept here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from latentcot.curriculum.layout import EncodedExample, LaidOut, Layout, LayoutRules, Rows
from latentcot.curriculum.views import Plan, View
from latentcot.data.examples import Example
from latentcot.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from latentcot.thinking.readings import Readings


RESERVED = {"kind", "update", "stage", "total", "learning_rate", "examples_per_second"}
"""What a row of metrics.jsonl says besides the terms."""


@dataclass(frozen=True, slots=True)
class Module:
    """Weights that a method learns beside the model.

    Attributes:
        make: model → the module, in its dtype; random numbers are seeded by the run.
        is_kept: Whether answers need it; else it is in the training state alone.
    """

    make: "Callable[[PreTrainedModel], nn.Module]"
    is_kept: bool = True


@dataclass(frozen=True, slots=True)
class Term:
    """A summand of the loss, or something that is only measured.

    The loss is the sum over terms of weight × total ÷ count, both over the whole update and all
    processes. Where a term has several entries, their mean over those that count anything.

    Attributes:
        name: In metrics.jsonl.
        total: readings → () or (K,), nats or what else is summed; differentiable.
        count: one example → by how much its part of each entry is divided in the end.
        weight: None for what is measured and never trained on.
        anchored: The views in which it reads the states of all layers at the answer's anchor.
        targets: (example, its layouts, rules) → token ids for each group of latent positions.
    """

    name: str
    total: "Callable[[Readings], Tensor]"
    count: Callable[[LaidOut], tuple[int, ...]]
    weight: float | None = 1.0
    anchored: tuple[str, ...] = ()
    targets: Callable[[EncodedExample, Mapping[str, Layout], LayoutRules], Rows] | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A training regime.

    Attributes:
        name: In lower case with hyphens.
        views: How each example is read, by name.
        terms: What is trained, and what is measured.
        modules: What is learned beside the model, by name.
        answers: The view that answers, whose stages the curriculum goes through.
        chain: example → the steps that are learned from, where they are not its own; it raises a
            DataError where an example does not carry what they are made of.
        summary: One line for `latentcot list methods`.
        settings: Its own numbers, as plain values; with the name, all that a checkpoint says.
    """

    name: str
    views: Mapping[str, View]
    terms: tuple[Term, ...]
    modules: Mapping[str, Module] = field(default_factory=dict)
    answers: str = "answer"
    chain: Callable[[Example], tuple[str, ...]] | None = None
    summary: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no training could use."""
        names = [term.name for term in self.terms]
        wrong = ""
        if self.answers not in self.views:
            wrong = f"answers: must be one of its views {list(self.views)}, got {self.answers!r}."
        elif not any(term.weight for term in self.terms):
            wrong = "terms: one of them must have a weight, or nothing is trained."
        elif len(set(names)) < len(names) or RESERVED & set(names):
            wrong = f"terms: each needs a name of its own, none of {sorted(RESERVED)}, got {names}."
        if wrong:
            raise MethodError(f"method {self.name!r}: {wrong}")

    @property
    def view(self) -> View:
        """The view that answers."""
        return self.views[self.answers]

    @property
    def choice(self) -> str | dict[str, Any]:
        """What a recipe says to get this method."""
        return {"name": self.name, **self.settings} if self.settings else self.name

    @property
    def is_anchored(self) -> bool:
        """Whether a term asks where the answer proper begins."""
        return any(term.anchored for term in self.terms)

    def kept_of(self, modules: "Mapping[str, nn.Module]") -> "dict[str, nn.Module]":
        """Return those of these modules of the method that answers need."""
        kept = {name for name, one in self.modules.items() if one.is_kept}
        return {name: one for name, one in modules.items() if name in kept}

    def with_chains(self, examples: Iterable[Example]) -> list[Example]:
        """Return examples with the steps that this method learns from."""
        chain = self.chain
        return [e if chain is None else replace(e, steps=chain(e)) for e in examples]

    def stages(self, plan: Plan) -> range:
        """Return the stages that this method goes through."""
        return self.view.schedule.stages(plan)

    def reads_steps(self, plan: Plan) -> bool:
        """Return whether the words of a step are ever read."""
        views = any(view.leaves_steps(plan) for view in self.views.values())
        return views or any(term.targets is not None for term in self.terms)

    def drawn(self, rules: LayoutRules, seed: str) -> LayoutRules:
        """Return rules with what is random in an update, the same for the same seed."""
        compression = self.view.compression
        rate = None if compression is None else Random(seed).choice(compression.rates)
        return replace(rules, rate=rate, seed=seed)

    def with_targets(
        self, layouts: Mapping[str, Layout], example: EncodedExample, rules: LayoutRules
    ) -> LaidOut:
        """Add what the terms ask of an example to its layouts."""
        targets = {
            term.name: term.targets(example, layouts, rules)
            for term in self.terms
            if term.targets is not None
        }
        return LaidOut(layouts, targets)

    def with_(
        self,
        *,
        terms: tuple[Term, ...] = (),
        modules: Mapping[str, Module] | None = None,
        **other: Any,
    ) -> "Method":
        """Return this method with more terms and modules, and other fields where they are given.

        Raises:
            MethodError: One of the names is taken.
        """
        modules = modules or {}
        taken = [name for name in modules if name in self.modules]
        if taken:
            raise MethodError(f"method {self.name!r}: has a module {taken[0]!r} already.")
        return replace(
            self, terms=(*self.terms, *terms), modules={**self.modules, **modules}, **other
        )
