"""What the scripts of the page that thinks read (`latentcot.pages` writes it).

model.js        weights, a forward pass over a cache
reasoner.js     question → thoughts → words, by one model
puzzle.js       a graph and the question about it; what training has not shown
board.js        drawing and changing it
thoughts.js     looking into the thoughts, and changing them
answers.js      what each model answers
link.js         the state of the page as a link
"""

from typing import Literal, TypedDict


class Shape(TypedDict):
    """What the forward pass depends on beside the weights."""

    num_layers: int
    num_heads: int
    num_kv_heads: int  # heads of keys and values
    head_size: int
    width: int
    num_positions: int  # of the longest sequence
    norm: Literal["layer", "rms"]
    epsilon: float  # of the norms
    activation: Literal["gelu_tanh", "silu"]
    theta: float | None  # base of the rotary positions; None where a table is added


class Weights(TypedDict):
    """All tensors one behind the other, row by row; those of linear layers as (out, in)."""

    dtype: Literal["float32", "float16"]
    index: list[tuple[str, int]]  # name and how many numbers, in order
    base64: str  # little-endian


class Check(TypedDict):
    """What PyTorch gave, so that each browser can compare itself with it."""

    question: str
    num_thoughts: int
    words: list[int]  # token ids, the end of text too
    logits: list[list[float]]  # before each of these words, one a token of the vocabulary


class Model(TypedDict):
    """One model that answers."""

    name: str  # of its method, which decides its colour
    summary: str  # what the method is, in a few words
    num_weights: int
    shape: Shape
    weights: Weights
    vocabulary: list[str]  # by token id
    special_tokens: dict[str, int]  # bot, eot, pause, eos
    unknown: int  # the token of words that are not in the vocabulary
    latents: Literal["thoughts", "pauses", "nothing"]  # in place of the steps that are not written
    has_special_tokens: bool  # whether <bot> and <eot> stand around them
    zero_thoughts: str  # what stands there where there are none: both, bot, none
    question_end: str  # text behind a question
    answer_start: str  # text before an answer
    thoughts_per_step: int
    num_stages: int  # steps at most that became thoughts
    pads: bool  # whether short chains got as many thoughts as long ones
    max_new_tokens: int
    check: Check


class Puzzle(TypedDict):
    """A graph and the question about it; a node is its index in `nodes`."""

    nodes: list[str]
    edges: list[list[int]]  # from parent to child, in the order of the question
    root: int
    candidates: list[int]  # two, in the order of the question


class Trained(TypedDict):
    """What the questions of the training were like: each value that occurred."""

    nodes: list[int]  # how many
    edges: list[int]
    hops: list[int]  # from the root to the candidate that it reaches
    parents: int  # most parents of a node


class PlayData(TypedDict):
    """Everything that the page holds."""

    title: str  # heading of the page
    caption: str  # what it is, in a sentence or two
    names: list[str]  # that a node can have
    edge: str  # how an edge is told: two times {}
    trained: Trained
    puzzles: list[Puzzle]  # some questions to begin with, at least one
    models: list[Model]  # the first one thinks; the others answer next to it
    provenance: dict[str, str]  # where the models come from, in the order of the page
