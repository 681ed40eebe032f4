"""Terms of a loss that several methods share: the language, and what is measured of it."""

from collections.abc import Callable

from latentcot.curriculum.layout import NO_LABEL, LaidOut
from latentcot.methods.method import Term


def language(view: str, weight: float = 1.0, name: str = "loss") -> Term:
    """Return the loss on remaining steps, answer and end of text (arXiv 2412.06769, section 3).

    Args:
        view: Where it is read.
        weight: Beside other terms.
        name: In metrics.jsonl; `loss` is that of the view that answers.

    The total is in nats, over labelled tokens; the count is their number.
    """
    return Term(name, lambda readings: readings[view].nll.sum(), num_labels(view), weight)


def measures(view: str) -> tuple[Term, Term]:
    """Return what is measured of the language: the next step's loss, and tokens that are right."""
    return (
        Term(
            "next_step_loss",
            lambda readings: (
                readings[view].nll.detach().where(readings[view].batch.is_next, 0.0).sum()
            ),
            lambda laid: (laid.layouts[view].num_next,),
            weight=None,
        ),
        Term(
            "token_accuracy",
            lambda readings: readings[view].is_correct.sum(),
            num_labels(view),
            weight=None,
        ),
    )


def num_labels(view: str) -> Callable[[LaidOut], tuple[int, ...]]:
    """Return what counts the labelled tokens of an example in a view."""
    return lambda laid: (sum(label != NO_LABEL for label in laid.layouts[view].labels),)
