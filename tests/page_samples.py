"""Data for the page of an analysis. All numbers are made up; none is a result."""

import random
from itertools import pairwise

from latentcot.pages.analysis import (
    OUTCOMES,
    ChangedAnswer,
    DepthMass,
    Effect,
    ForcedAnswer,
    MethodResults,
    OutcomeShares,
    PageData,
    Provenance,
    Question,
    Readings,
)

NUM_THOUGHTS = 3
NUM_QUESTIONS = 4
LAYERS = [[0], [1, 2], [3, 4], [5, 6]]
INTERVENTIONS = ("zero", "noise", "swap")


def sample_question(number: int) -> Question:
    """Two families of a root and three layers of two nodes."""
    rng = random.Random(number)
    names = [str(name) for name in rng.sample(range(10, 100), 14)]
    edges = [
        (family + above[k % len(above)], family + child)
        for family in (0, 7)
        for above, below in pairwise(LAYERS)
        for k, child in enumerate(below)
    ]
    return Question(
        id=f"test-{number}",
        text=f"A question with the number {number} [Q]",
        nodes=names,
        edges=edges,
        root=0,
        target=5,
        neg_target=12,
        path=[0, 1, 3, 5],
    )


def sample_readings(question: int, method: int) -> Readings:
    """Shares of which every row differs from the one before, so that a change is seen."""
    rng = random.Random(10 * question + method)

    def row(depth: int) -> list[float]:
        weights = [rng.uniform(0.01, 0.02) for _ in range(14)]
        for node in LAYERS[min(depth, 3)]:
            weights[node] = rng.uniform(0.2, 0.9)
        return [weight / sum(weights) for weight in weights]

    return Readings(
        thoughts=[row(i) for i in range(1, NUM_THOUGHTS + 1)],
        values=[row(k + 1) for k in range(NUM_THOUGHTS + 1)],
        answers=[
            ForcedAnswer(
                k=k,
                text=f"text {question} {method} {k}",
                answer=f"answer {question} {method} {k}",
                outcome=OUTCOMES[k % len(OUTCOMES)],
                is_correct=k > method and not (question == 2 and method == 0),
            )
            for k in range(7)
        ],
        interventions=[
            ChangedAnswer(name, thought, f"{name} {thought} of {question} {method}", thought == 2)
            for name in INTERVENTIONS
            for thought in (1, 2, 3, None)
        ],
    )


def sample_effects(method: int) -> list[Effect]:
    """The unchanged model, and each intervention at each thought and at all."""
    effects = [Effect("none", None, 0.9, 0.88, 0.92, 500)]
    for number, name in enumerate(INTERVENTIONS):
        for thought in (1, 2, 3, None):
            share = 0.3 + 0.1 * number + 0.02 * (thought or 0) + 0.2 * method
            effects.append(Effect(name, thought, share, share - 0.03, share + 0.03, 500, 0.01))
    return effects


def sample_method(name: str = "coconut", method: int = 0) -> MethodResults:
    """Everything that can be measured."""
    return MethodResults(
        name=name,
        summary="made up",
        accuracy=0.9 - 0.2 * method,
        low=0.87 - 0.2 * method,
        high=0.92 - 0.2 * method,
        num_questions=500,
        num_thoughts=NUM_THOUGHTS,
        outcomes=[
            OutcomeShares(k, 500, 0.1 * k, 0.1 * k, 0.1 * k + 0.03, dict.fromkeys(OUTCOMES, 1 / 6))
            for k in range(7)
        ],
        mass=[DepthMass(i, i, 0.9, 0.14, 0.88, 0.92) for i in range(1, NUM_THOUGHTS + 1)],
        interventions=sample_effects(method),
        questions=[sample_readings(k, method) for k in range(NUM_QUESTIONS)],
    )


def sample_page(num_methods: int = 2) -> PageData:
    """One method or two, four questions; the third is answered wrongly by the first method."""
    names = ("coconut", "coconut-pause-as-thought")
    return PageData(
        title="Sample of a page",
        caption="All of this is made up.",
        provenance=Provenance("0123abc", "no machine", "2025-01-31", "latentcot analyze RUN"),
        form="symbols",
        questions=[sample_question(k) for k in range(NUM_QUESTIONS)],
        methods=[sample_method(names[k], k) for k in range(num_methods)],
    )
