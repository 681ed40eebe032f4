"""What can be chosen about ProntoQA data: one dataclass, all problems in one message."""

from dataclasses import dataclass
from typing import Annotated, Literal

from latentcot.tasks.generators import Range, check, refuse

Decoy = Literal["lone", "twin"]
Order = Literal["random", "forward"]
Wording = Literal["official", "short"]

NUM_CONCEPTS = 38
"""Names that there are for concepts; `prontoqa.CONCEPTS` lists them."""

NUM_OFFICIAL_CONCEPTS = 17
"""As many of them, the first ones, occur in the official file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProntoqaOptions:
    """How ProntoQA data is made. The defaults are the official 5-hop data.

    Attributes:
        hops: Rules to apply one after the other; the last of them is about a property.
        min_hops: If given, each example has min_hops … hops of them, each number equally likely.
        distractors: Further concepts that each concept of the chain belongs to (official: 1). With
            any, the last one belongs to one more, about which nothing is said.
        decoy: Which concept has the opposite of the property asked about. `lone` is official: one
            that no other sentence names, which gives the answer away. `twin`: the end of a second
            chain of the same shape, told from the first only by where the individual stands.
        negation: Whether properties that are not asked about may be negated, too (officially three
            in ten are). The one asked about always is, on one of its two concepts.
        negated_queries: Whether half of the queries say "not" (official). Without, the answer is
            what the last step says; with, it is that or its opposite, which a model from scratch
            learns late (docs/log.md).
        order: `random`, or `forward`: the rules of a chain stand in the order of their use, at
            random places. The two facts about the individual come last in both.
        wording: `official` ("Each X is a Y.", "Every X is a Y.", "Xs are Ys."), or `short`
            ("x y.", "x not cold.", "Max x.") for small models trained from scratch.
        num_concepts: How many names concepts are drawn from; None for the official 17, or as many
            as the largest example needs.

    Raises:
        RecipeError: With all problems at once.
    """

    hops: Annotated[int, Range(1)] = 5
    min_hops: Annotated[int | None, Range(1)] = None
    distractors: Annotated[int, Range(0)] = 1
    decoy: Decoy = "lone"
    negation: bool = True
    negated_queries: bool = True
    order: Order = "random"
    wording: Wording = "official"
    num_concepts: Annotated[int | None, Range(1)] = None

    def __post_init__(self) -> None:
        check("ProntoQA", self)
        problems, needed = [], self.num_concepts_needed(self.hops)
        if self.min_hops is not None and self.min_hops > self.hops:
            problems.append(
                f"min_hops must not be above hops, got {self.min_hops} and {self.hops}."
            )
        if needed > NUM_CONCEPTS:
            problems.append(
                f"there are {NUM_CONCEPTS} names for concepts, but an example would need {needed}. "
                "Lower hops or distractors, or use decoy lone."
            )
        elif self.num_concepts is not None and not needed <= self.num_concepts <= NUM_CONCEPTS:
            problems.append(
                f"num_concepts must be from {needed}, the largest example, to {NUM_CONCEPTS}, "
                f"got {self.num_concepts}."
            )
        refuse("ProntoQA", problems)

    @property
    def num_chains(self) -> int:
        """Chains of one example: the individual's, and that of a twin decoy."""
        return 2 if self.decoy == "twin" else 1

    @property
    def concepts_drawn_from(self) -> int:
        """How many names concepts are drawn from."""
        return self.num_concepts or max(NUM_OFFICIAL_CONCEPTS, self.num_concepts_needed(self.hops))

    def num_concepts_needed(self, hops: int) -> int:
        """Return how many concepts an example with this number of hops has (official: 14)."""
        a_chain = hops + hops * self.distractors + (self.distractors > 0)
        return self.num_chains * a_chain + 2 + (self.decoy == "lone")

    def num_properties_needed(self, hops: int) -> int:
        """Return how many different properties an example has (official: 11).

        There are always enough of them: every property is on a concept, and concepts run out first.
        """
        a_chain = hops - 1 + hops * self.distractors
        return self.num_chains * a_chain + 2
