"""THE TABLE: the paper's regimes as one row each, schedule × latents × special tokens.

A later method is a file of its own, and one entry below. No code of the package branches on the
name of a method.
Sources: arXiv 2412.06769, table 1 and section 4.3; arXiv 2405.14838 for icot.
"""

from latentcot.curriculum.views import (
    ALL_AT_ONCE,
    KEEP_ALL,
    NOTHING,
    PAUSE,
    PAUSE_MULTIPASS,
    STEP_PER_STAGE,
    THOUGHT,
    TOKEN_BY_TOKEN,
    Latents,
    Schedule,
    View,
)
from latentcot.methods.method import Method
from latentcot.methods.registry import Registered, register
from latentcot.methods.terms import language, measures


def row(
    name: str, schedule: Schedule, latents: Latents, has_special_tokens: bool, summary: str
) -> Registered:
    """Make a method that reads each example once and learns the language in it."""
    view = View(schedule, latents, has_special_tokens)

    def make(settings: object) -> Method:
        return Method(name, {"answer": view}, (language("answer"), *measures("answer")))

    return Registered(name, summary, make)


_ROWS = (
    row("cot", KEEP_ALL, NOTHING, False,
        "the full reasoning chain, in training and at inference"),
    row("no-cot", ALL_AT_ONCE, NOTHING, False,
        "the answer only"),
    row("icot", TOKEN_BY_TOKEN, NOTHING, False,
        "the chain's tokens are removed a few at a time (arXiv 2405.14838)"),
    row("pause", ALL_AT_ONCE, PAUSE, True,
        "the answer only, after as many <pause> tokens as Coconut has thoughts"),
    row("coconut", STEP_PER_STAGE, THOUGHT, True,
        "one more step becomes continuous thoughts at each stage"),
    row("coconut-no-curriculum", ALL_AT_ONCE, THOUGHT, True,
        "Coconut's last stage from the start"),
    row("coconut-no-thought", STEP_PER_STAGE, NOTHING, False,
        "Coconut's curriculum, but nothing stands in place of the removed steps"),
    row("coconut-pause-as-thought", STEP_PER_STAGE, PAUSE, True,
        "Coconut's curriculum, with <pause> in place of each thought"),
    row("pause-multipass", STEP_PER_STAGE, PAUSE_MULTIPASS, True,
        "<pause> in place of each thought, in as many passes as Coconut's thoughts"),
)  # fmt: skip
PAPER_METHODS = tuple(row.name for row in _ROWS if row.name != "pause-multipass")
"""The eight rows of the paper's main table."""

_LATER = (
    Registered(
        "cot-bfs", "writes the whole frontier of a graph, layer by layer, in place of one path",
        "latentcot.methods.bfs:cot_bfs",
    ),
    Registered(
        "codi", "thoughts that are pulled to the states of a chain in words (arXiv 2502.21074)",
        "latentcot.methods.codi:codi", "latentcot.methods.codi:CodiSettings",
    ),
    Registered(
        "pccot", "CODI's thoughts, all at once and refined some times (arXiv 2506.18582)",
        "latentcot.methods.pccot:pccot", "latentcot.methods.pccot:PccotSettings",
    ),
    Registered(
        "kava", "PCCoT's thoughts, pulled to a compressed cache of the chain (arXiv 2510.02312)",
        "latentcot.methods.kava:kava", "latentcot.methods.kava:KavaSettings",
    ),
    Registered(
        "simcot", "a host method whose thoughts must spell the steps (arXiv 2509.20317)",
        "latentcot.methods.simcot:simcot", "latentcot.methods.simcot:SimcotSettings",
    ),
    Registered(
        "lotus", "looped blocks, each of which says its step itself (arXiv 2606.31779)",
        "latentcot.methods.lotus:lotus", "latentcot.methods.lotus:LotusSettings",
    ),
    Registered(
        "mux", "a host method whose thoughts say a bag of a span's tokens (arXiv 2607.18264)",
        "latentcot.methods.mux:mux", "latentcot.methods.mux:MuxSettings",
    ),
    Registered(
        "colar", "thoughts that stand for some tokens of the chain each (arXiv 2505.16552)",
        "latentcot.methods.colar:colar", "latentcot.methods.colar:ColarSettings",
    ),
)  # fmt: skip
"""Methods of a file each, which is imported when one is asked for: it may need torch."""

for _method in (*_ROWS, *_LATER):
    register(_method)
