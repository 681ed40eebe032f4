"""ProntoQA as data: fictional ontologies to examples, splits without a common ontology.

The shape of an ontology is that of the official 5-hop file, the same in all of its 60 examples:
- a chain of concepts, each of which is the next and one other concept (a distractor); the last is
  two others. One of these has no property, every other one has one;
- one other concept for the individual, with a property and one concept above it;
- a decoy: the property asked about on one more concept, negated where the chain's is not. No other
  sentence names that concept, **so the property's holder that is named elsewhere gives the answer
  away**, without following the chain. `decoy="twin"` removes that shortcut: see `ProntoqaOptions`.

`meta` carries the texts under the keys of `official_json`. docs/data-format.md shows them. The
answers are checked by `prover.py`, which shares nothing with this file.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NamedTuple

from latentcot.data.examples import Example
from latentcot.data.formats import HELP
from latentcot.errors import DataError
from latentcot.tasks.generators import New, Progress, Range, Splits, check, fill_splits, refuse
from latentcot.tasks.prosqa.generator import SPECIES
from latentcot.utils.files import write_json
from latentcot.utils.parsing import shown

Decoy = Literal["lone", "twin"]
Order = Literal["random", "forward"]
Wording = Literal["official", "short"]

# The names that occur in the official file.
PERSONS = ("Alex", "Fae", "Max", "Polly", "Rex", "Sally", "Sam", "Stella", "Wren")
_OFFICIAL = """
    brimpus dumpus gorpus grimpus impus jompus lempus lorpus numpus rompus shumpus sterpus tumpus
    vumpus wumpus yumpus zumpus
"""
CONCEPTS = (*_OFFICIAL.split(), *(name for name in SPECIES if name not in _OFFICIAL.split()))
"""More of the kind are from ProsQA's files."""
_NUM_OFFICIAL = len(_OFFICIAL.split())

# No two properties of an official example come from one line, but for the one asked about.
_PROPERTIES = """
    blue red brown orange
    small large
    metallic wooden luminous liquid
    transparent opaque
    nervous happy feisty shy
    bright dull
    sweet sour spicy bitter
    floral fruity earthy
    hot cold temperate
    kind mean angry amenable aggressive
    melodic muffled discordant loud
    slow moderate fast
    windy sunny overcast rainy snowy
"""
PROPERTY_FAMILIES = tuple(tuple(line.split()) for line in _PROPERTIES.strip().splitlines())

NEGATED_SHARE = 0.3
"""How often a property that is not asked about is negated: 181 of 600 in the official file."""


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
            learns late (docs/dev/log.md).
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
        if needed > len(CONCEPTS):
            problems.append(
                f"there are {len(CONCEPTS)} names for concepts, but an example would need "
                f"{needed}. Lower hops or distractors, or use decoy lone."
            )
        elif self.num_concepts is not None and not needed <= self.num_concepts <= len(CONCEPTS):
            problems.append(
                f"num_concepts must be from {needed}, the largest example, to {len(CONCEPTS)}, "
                f"got {self.num_concepts}."
            )
        refuse("ProntoQA", problems)

    @property
    def concepts_drawn_from(self) -> int:
        """How many names concepts are drawn from."""
        return self.num_concepts or max(_NUM_OFFICIAL, self.num_concepts_needed(self.hops))

    def num_concepts_needed(self, hops: int) -> int:
        """Return how many concepts an example with this number of hops has (official: 14)."""
        a_chain = hops + hops * self.distractors + (self.distractors > 0)
        return a_chain + 3 if self.decoy == "lone" else 2 * a_chain + 2

    def num_properties_needed(self, hops: int) -> int:
        """Return how many different properties an example has (official: 11).

        There are always enough of them: every property is on a concept, and concepts run out first.
        """
        a_chain = hops - 1 + hops * self.distractors
        return (2 if self.decoy == "twin" else 1) * a_chain + 2


class Rule(NamedTuple):
    """What every member of a concept is, or is not: another concept, or a property."""

    concept: str
    said: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Ontology:
    """Rules, and what is asked about an individual.

    Attributes:
        rules: All rules, those of `chains` among them.
        chains: Rules that lead from a concept to the property asked about: first those to apply,
            then those of a twin decoy.
        person: The individual.
        other: What else it is, besides the concept at the beginning of the first chain.
        is_query_negated: Whether the query says "not".
    """

    rules: tuple[Rule, ...]
    chains: tuple[tuple[Rule, ...], ...]
    person: str
    other: str
    is_query_negated: bool

    @property
    def root(self) -> str:
        """The concept from which the chain starts."""
        return self.chains[0][0].concept

    @property
    def answer(self) -> bool:
        """Whether what the query says holds."""
        return self.chains[0][-1].is_negated == self.is_query_negated


# --- splits -----------------------------------------------------------------------------------


def make_splits(
    options: ProntoqaOptions,
    sizes: Mapping[str, int],
    seed: int,
    on_progress: Progress | None = None,
) -> Splits:
    """Make examples for each split (see `Task.make`), none of them twice and none in two splits.

    Two examples are the same if they agree in rules, facts and the property asked about, in
    whatever words and order. Of two examples one after the other one is true and one false, in an
    order drawn by a fair coin, so that a guess gets exactly half of an even split.

    Raises:
        DataError: There are too few different ontologies under these options.
    """
    answer = False

    def key(ontology: Ontology) -> Hashable:  # whether the query says "not" makes no other example
        return frozenset(ontology.rules), ontology.person, ontology.root, ontology.other

    def draw(rng: Random, split: str, number: int, new: New) -> Example:
        nonlocal answer
        answer = not answer if number % 2 else rng.random() < 0.5
        ontology = new(lambda: draw_ontology(rng, options, answer), key)
        return render(rng, ontology, options, id=f"{split}-{number}")

    advice = "or raise hops, distractors or num_concepts"
    return fill_splits(
        "prontoqa", sizes, seed, draw, on_progress, things="ontologies", advice=advice
    )


# --- making -----------------------------------------------------------------------------------


def draw_ontology(rng: Random, options: ProntoqaOptions, answer: bool) -> Ontology:
    """Draw rules and a query whose answer is `answer`.

    With a twin decoy the answer only decides which of the two chains the individual is put at: all
    else is drawn alike, so that rules and query alone say nothing about it.
    """
    hops = rng.randint(options.min_hops or options.hops, options.hops)
    names = CONCEPTS[: options.concepts_drawn_from]
    concepts = iter(rng.sample(names, options.num_concepts_needed(hops)))
    # Different properties, from each family once before from any twice.
    families = [rng.sample(family, len(family)) for family in PROPERTY_FAMILIES]
    drawn: list[str] = []
    while len(drawn) < options.num_properties_needed(hops):
        rng.shuffle(families)
        drawn += [family.pop() for family in families if family]
    properties = iter(drawn)

    def trait(concept: str) -> Rule:
        share = NEGATED_SHARE if options.negation else 0.0
        return Rule(concept, next(properties), rng.random() < share)

    person = rng.choice(PERSONS)
    is_query_negated = rng.random() < 0.5 and options.negated_queries
    asked, other = next(properties), next(concepts)
    is_negated = is_query_negated == answer
    rules = [Rule(other, next(concepts)), trait(other)]
    ends = [Rule("", asked, False), Rule("", asked, True)]
    if options.decoy == "lone":
        rules.append(Rule(next(concepts), asked, not is_negated))
        ends = [Rule("", asked, is_negated)]
    chains = []
    for end in ends:
        members = [next(concepts) for _ in range(hops)]
        chain = [Rule(below, above) for below, above in pairwise(members)]
        chain.append(end._replace(concept=members[-1]))
        rules += chain
        rules += [trait(concept) for concept in members[:-1]]
        for concept in members:
            for _ in range(options.distractors):
                side = next(concepts)
                rules += [Rule(concept, side), trait(side)]
        if options.distractors:
            rules.append(Rule(members[-1], next(concepts)))
        chains.append(tuple(chain))
    if is_negated and options.decoy == "twin":
        chains.reverse()
    return Ontology(tuple(rules), tuple(chains), person, other, is_query_negated)


# --- wording ----------------------------------------------------------------------------------


def render(rng: Random, ontology: Ontology, options: ProntoqaOptions, id: str) -> Example:
    """Return the example of an ontology; the order of sentences and their forms are drawn."""
    wording, person, chain = options.wording, ontology.person, ontology.chains[0]
    rules = list(ontology.rules)
    rng.shuffle(rules)
    if options.order == "forward":
        for one in ontology.chains:
            places = sorted(map(rules.index, one))
            for place, rule in zip(places, one, strict=True):
                rules[place] = rule
    sentence = {}
    for rule in rules:
        form = rule.concept
        if wording == "official":
            form = rng.choice(("Each", "Every", "plural", "plural"))  # 351, 376, 653 officially
            form = form if form == "plural" else f"{form} {rule.concept}"
        sentence[rule] = _conclusion(form, rule, wording)
        if form == "plural":
            said = f"{rule.said}es" if rule.said in CONCEPTS else rule.said
            about = f"{rule.concept.capitalize()}es are"
            sentence[rule] = f"{about} {'not ' * rule.is_negated}{said}."
    kinds = [ontology.root, ontology.other]
    rng.shuffle(kinds)
    told = [_conclusion(person, Rule("", kind), wording) for kind in kinds]
    facts = " ".join([*(sentence[rule] for rule in rules), *told])
    asked = _conclusion(person, chain[-1]._replace(is_negated=ontology.is_query_negated), wording)
    query = f"True or false: {asked}" if wording == "official" else f"{asked[:-1]}?"
    first = _conclusion(person, Rule("", ontology.root), wording)
    pairs = [(sentence[rule], _conclusion(person, rule, wording)) for rule in chain]
    meta = {
        "facts": facts,
        "query": query,
        "chain_of_thought": [first, *(part for pair in pairs for part in pair)],
        "num_hops": len(chain),
    }
    steps = (first, *(" ".join(pair) for pair in pairs))
    return Example(id, f"{facts} {query}", steps, str(ontology.answer), meta)


def _conclusion(subject: str, rule: Rule, wording: Wording) -> str:
    """Return that what a rule says of its concept holds for `subject`, such as an individual."""
    if wording == "short":
        return f"{subject} {'not ' * rule.is_negated}{rule.said}."
    article = ""
    if rule.said in CONCEPTS:
        article = "an " if rule.said[0] in "aeiou" else "a "
    return f"{subject} is {'not ' * rule.is_negated}{article}{rule.said}."


# --- the official file ------------------------------------------------------------------------


def official_json(examples: Iterable[Example]) -> dict[str, Any]:
    """Return examples as the official generator writes them, under "example1", "example2", …

    Raises:
        DataError: An example has no 'facts', 'query' or 'chain_of_thought' in its `meta`.
    """
    found = {}
    for number, example in enumerate(examples, start=1):
        facts, query = facts_and_query(example)
        chain = example.meta.get("chain_of_thought")
        if not isinstance(chain, list) or not all(isinstance(part, str) for part in chain):
            raise DataError(
                f"example {example.id}: 'chain_of_thought' must be a list of sentences, got "
                f"{shown(chain)}. {HELP}"
            )
        record = {"question": facts, "query": query, "chain_of_thought": chain}
        found[f"example{number}"] = {"test_example": record | {"answer": example.answer}}
    return found


def write_official(path: Path | str, examples: Iterable[Example]) -> None:
    """Write examples as a file of the official format, whole or not at all.

    Raises:
        DataError: An example is not ProntoQA.
        RunError: The file cannot be written.
    """
    write_json(path, official_json(examples))


def facts_and_query(example: Example) -> tuple[str, str]:
    """Return the two parts of a ProntoQA question, from our files or the official ones.

    Raises:
        DataError: `meta` lacks one of them.
    """
    facts, query = example.meta.get("facts"), example.meta.get("query")
    if not isinstance(facts, str) or not isinstance(query, str):
        raise DataError(
            f"example {example.id}: is not ProntoQA: it must have the texts 'facts' and 'query', "
            f"got {type(facts).__name__} and {type(query).__name__}. {HELP}"
        )
    return facts, query
