"""The theory as weights: breadth-first search over continuous thoughts, built by hand.

Two blocks of two heads, filled so that feeding the last hidden state back searches a graph (after
arXiv 2505.12514, section 4, with equations of our own): thought i holds, in equal parts, every node
within i edges of the root, and the answer is the candidate that the last thought holds. The model
is an ordinary GPT-2 or Llama of transformers, and what is written an ordinary checkpoint, which
every command reads. There was no training behind it.

    a b | c d | … [Q] c1 c2 [R] root <bot> thought 1 … thought D <eot> [A] answer <eos>

Features of the residual stream: `held`, `first` and `second`, each with a coordinate a node; `one`,
a constant far larger than the rest, so that a norm does little but divide by a known number; a flag
for each kind of token. GPT-2 has sines and cosines of the position besides.

Without bars the second node of a pair does what is said of `|` here, and knows itself.

- Block 1 copies by position. `|`, `[R]` and `<bot>` take into `first` the node one position before
  them; `|`, `[R]` and `[A]` into `second` what is two positions before. So `|` knows its edge, [R]
  both candidates and [A] the last thought. All others look at [Q], which holds nothing.
- Block 2 searches. A thought looks at the `|` of every edge that begins in a node that it holds,
  and takes the nodes where they end; [A] takes the candidates from [R]. The feed-forward part sets
  each node that came, or was there, to one amplitude; at [A] it adds up candidate and thought.
- The last norm drops scratch and positions: what comes out is the next thought.

`<eot>` searches once more, as `<bot>` does: after k thoughts the nodes within k + 1 edges have a
value, and `[A]` a little more.

Shapes: F features, N nodes, J frequencies of positions, U units of the feed-forward part.
"""

from dataclasses import dataclass
from math import ceil, exp, log
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from latentcot.curriculum.layout import Template
from latentcot.curriculum.views import Plan
from latentcot.models.special_tokens import BOT, END, EOT, word_tokenizer
from latentcot.runs.checkpoint import Checkpoint, CheckpointInfo, save_checkpoint
from latentcot.runs.checkpoint_folders import refuse_taken
from latentcot.tasks.generators import Range, check

FLAGS = {"|": "edge", "[Q]": "question", "[R]": "root", "[A]": "answer", BOT: "search", EOT: "end"}
"""Token → its flag; a name of a node has the flag `node`."""
AMPLITUDE = 2.0
"""Of a node in a thought."""
LOGIT = 8.0
"""Of a node that is held."""
GAP = 40.0
"""By how much an attention logit that is meant stands above all others."""
STEEPNESS = 100.0
"""The smooth activations of GPT-2 and Llama, so much steeper, are ramps with corners."""
ROOM = 64
"""Positions beside those of the largest question with its thoughts."""


@dataclass(frozen=True, slots=True)
class Superposition:
    """What is built.

    Attributes:
        architecture: A family of transformers.
        separator: Whether "|" stands after each edge, as in `data make prosqa`. Bare pairs are told
            apart by odd and even positions, which only GPT-2 knows.
        num_nodes: It knows the nodes 0 … num_nodes - 1: `data make prosqa --num-symbols`.
        num_edges: The most edges of a question; 3 a node if left out.
        num_thoughts: Thoughts before an answer, unless told otherwise: how far it searches.
        holds: Thought i holds the nodes within i edges of the root, or those at the end of a walk
            of exactly i edges: in graphs of layers the frontier alone.
        sharpness: Attention logit of an edge that begins in a node that is held. Exact from about
            ln(8 · num_edges²) on; below, edges from elsewhere leak in.
        basis: Seed of a random orthogonal basis for the nodes; a coordinate a node if left out.

    Raises:
        RecipeError: With all problems at once.
    """

    architecture: Literal["gpt2", "llama"] = "gpt2"
    separator: bool = True
    num_nodes: Annotated[int, Range(3, 500)] = 32
    num_edges: Annotated[int | None, Range(1, 5_000)] = None
    num_thoughts: Annotated[int, Range(1, 1_000)] = 4
    holds: Literal["within", "exactly"] = "within"
    sharpness: Annotated[float, Range(4, 60)] = 30.0
    basis: Annotated[int | None, Range(0)] = None

    def __post_init__(self) -> None:
        problem = "separator must be true for a Llama: without bars only a GPT-2 can tell edges."
        is_possible = self.separator or self.architecture == "gpt2"
        check("superposition", self, [] if is_possible else [problem])

    @property
    def most_edges(self) -> int:
        """The most edges of a question."""
        return 3 * self.num_nodes if self.num_edges is None else self.num_edges

    @property
    def num_positions(self) -> int:
        """The longest sequence."""
        return (
            3 * self.most_edges
            + 10  # [Q] c1 c2 [R] root <bot> <eot> [A] answer <eos>
            + self.num_thoughts
            + ROOM
        )


def write_superposition(
    options: Superposition, out: Path, *, overwrite: bool = False
) -> Checkpoint:
    """Build the search and write it as a checkpoint folder.

    Raises:
        RunError: `out` is taken or cannot be written.
    """
    refuse_taken(out, [], overwrite=overwrite)
    made = superposition(options)
    save_checkpoint(out, made.model, made.tokenizer, made.info)
    return made


def superposition(options: Superposition) -> Checkpoint:
    """Build the search: model, tokenizer, and what a checkpoint says of them."""
    names = [str(node) for node in range(options.num_nodes)]
    # Without bars a question that has some is refused, as one with unknown words.
    tokenizer = word_tokenizer([*names, *list(FLAGS)[not options.separator :]])
    ids, size = tokenizer.get_vocab(), len(tokenizer)
    space = Space(options)
    words, said = torch.zeros(2, size, space.size, dtype=torch.double)
    for token, flag in FLAGS.items():
        if token in ids:
            words[ids[token]] = space.flags(**{flag: 1})
    words[ids[EOT]] += space.flags(search=1)
    nodes = [ids[name] for name in names]
    words[nodes] = AMPLITUDE * space.nodes(held=1) + space.flags(node=1)
    said[nodes] = LOGIT / AMPLITUDE * space.nodes(held=1)
    said[ids["[A]"]] = space.flags(end=LOGIT + 0.5)
    said[ids[END]] = space.flags(node=2 * LOGIT)
    fill = gpt2_that_searches if options.architecture == "gpt2" else llama_that_searches
    info = CheckpointInfo(
        method="coconut",
        task="prosqa",
        stage=options.num_thoughts,
        plan=Plan(options.num_thoughts),
        num_thoughts=options.num_thoughts,
        zero_thoughts="both",
        template=Template(question_end="", step_end="", answer_start="[A] "),
        max_new_tokens=8,
        update=0,
        seed=0,
    )
    model = fill(options, space, words, said, ids[END])
    return Checkpoint(model.eval(), tokenizer, info, torch.nn.ModuleDict())


class Space:
    """The features of the residual stream.

    Attributes:
        size: How many there are: F.
        constant: What stands in `one`.
    """

    def __init__(self, options: Superposition) -> None:
        num = options.num_nodes
        self.basis = torch.eye(num, dtype=torch.double)
        if options.basis is not None:
            drawn = torch.Generator().manual_seed(options.basis)
            self.basis = torch.linalg.qr(torch.randn(num, num, generator=drawn).double())[0]
        self._start = {"held": 0, "first": num, "second": 2 * num}
        self._flag = {
            flag: 3 * num + i for i, flag in enumerate(("one", "node", "odd", *FLAGS.values()))
        }
        self.size = 3 * num + len(self._flag)
        self.size += self.size % 2  # transformers wants a multiple of the heads of a Llama
        self.constant = 64 * num**0.5

    def nodes(self, **weights: float) -> Tensor:
        """Return what reads the nodes of these parts, weighted, or writes them if transposed."""
        rows = torch.zeros(len(self.basis), self.size, dtype=torch.double)
        for part, weight in weights.items():
            first = self._start[part]
            rows[:, first : first + len(self.basis)] = weight * self.basis
        return rows

    def flags(self, constant: float = 0.0, **weights: float) -> Tensor:
        """Return what reads these flags, weighted, and adds a constant: (F,)."""
        row = torch.zeros(self.size, dtype=torch.double)
        row[self._flag["one"]] = constant / self.constant
        for flag, weight in weights.items():
            row[self._flag[flag]] = weight
        return row


@dataclass(frozen=True, slots=True)
class Head:
    """An attention head: a read row of features for each of its dimensions.

    Attributes:
        query: (K, F). Logits are query · key, before positions.
        key: (K, F).
        value: (N, F).
        out: (N, F). What each dimension of the values writes.
        offset: It looks so many positions back, unless `query` sends it elsewhere; None for a head
            that looks at content alone.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    offset: int | None = None


def _heads(options: Superposition, space: Space, most: float) -> tuple[tuple[Head, Head], ...]:
    """Return the heads of both blocks; logits of positions lie within ± `most`."""
    nodes, flags, away = space.nodes, space.flags, 2 * most + GAP

    def copying(offset: int, part: str, query: Tensor) -> Head:
        key = flags(edge=1, question=2)[None]
        return Head(query[None], key, nodes(held=1 / AMPLITUDE), nodes(**{part: 1}), offset)

    # A query of nothing, or less, leaves the choice to positions.
    first = flags(2 * away, root=-2 * away, search=-2 * away)
    second = flags(2 * away, root=-2 * away, answer=-2 * away)
    if options.separator:
        first, second = first + flags(edge=-2 * away), second + flags(edge=-2 * away)
        source, target = nodes(second=1), nodes(first=1)
    else:  # the node at an odd position: its source is one before it
        first = first + flags(node=-away, odd=-away)
        source, target = nodes(first=1), nodes(held=1 / AMPLITUDE)
    sharp = options.sharpness
    others = dict.fromkeys(("node", "root", "answer", "search"), -4 * sharp)
    edge = 0 if options.separator else 4 * sharp
    search = Head(
        query=torch.cat([sharp * nodes(held=1 / AMPLITUDE, first=1), flags(1)[None]]),
        key=torch.cat([source, flags(question=sharp / 2, edge=edge, **others)[None]]),
        value=target,
        out=nodes(second=1),
    )
    answer = Head(
        query=torch.stack([flags(answer=GAP), flags(GAP, answer=-GAP)]),
        key=torch.stack([flags(root=1), flags(question=1)]),
        value=nodes(first=1, second=1),
        out=nodes(first=1),
    )
    return (copying(1, "first", first), copying(2, "second", second)), (search, answer)


def _units(options: Superposition, space: Space) -> tuple[Tensor, Tensor]:
    """Return what the units of block 2 read, and what they write behind a ramp: (U, F) each."""
    nodes, flags, most = space.nodes, space.flags, options.most_edges
    kept = {"held": 1 / AMPLITUDE, "first": 1.0} if options.holds == "within" else {}
    came = 2 * nodes(**kept, second=2.0 * most)
    not_at_answer = flags(answer=-100.0 * most)  # also for doses that nobody trained
    units = (
        (came + flags(-0.5) + not_at_answer, nodes(held=AMPLITUDE)),
        (came + flags(-1.5) + not_at_answer, nodes(held=-AMPLITUDE)),
        # The difference of the ramps at x and at -x is x: what was held goes.
        (nodes(held=1 / AMPLITUDE), nodes(held=-AMPLITUDE)),
        (nodes(held=-1 / AMPLITUDE), nodes(held=AMPLITUDE)),
        (nodes(first=4, second=1) + flags(-3.75, search=-1_000), nodes(held=LOGIT)),
    )
    read, written = (torch.cat(part) for part in zip(*units, strict=True))
    return STEEPNESS * read, written / STEEPNESS


def _frequencies(ratio: float, num: int, num_positions: int) -> tuple[Tensor, float]:
    """Return J frequencies, each `ratio` times the one before, and the weight of their cosines.

    So weighted, the sum of the cosines of the right offset is GAP above that of any other.
    """
    turns = ratio ** torch.arange(num, dtype=torch.double)
    off = torch.arange(1, num_positions, dtype=torch.double)
    below = (1 - (off[:, None] * turns).cos()).sum(1).min()
    return turns, GAP / float(below)


def gpt2_that_searches(
    options: Superposition, space: Space, words: Tensor, said: Tensor, eos: int
) -> PreTrainedModel:
    """Fill a GPT-2. Each feature stands there twice, as x and -x, so that vectors have mean 0."""
    turns, kappa = _frequencies(0.6, 12, options.num_positions)
    num, size = len(turns), space.size + 2 * len(turns)
    config = AutoConfig.for_model(
        "gpt2",
        vocab_size=len(words),
        n_embd=2 * size,
        n_layer=2,
        n_head=2,
        n_inner=5 * options.num_nodes,
        n_positions=options.num_positions,
        tie_word_embeddings=False,
        bos_token_id=eos,
        eos_token_id=eos,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    sigma = space.constant / size**0.5
    body: Any = model.base_model

    def twice(rows: Tensor) -> Tensor:
        rows = torch.cat([rows, rows.new_zeros(len(rows), size - rows.shape[1])], dim=1)
        return torch.cat([rows, -rows], dim=1)

    def reading(rows: Tensor) -> Tensor:  # as Conv1D keeps it
        return twice(rows).T / 2

    positions = torch.arange(options.num_positions)[:, None] * turns
    waves = torch.zeros(options.num_positions, size, dtype=torch.double)
    waves[:, : space.size] = space.flags() + space.constant**2 * space.flags(1)
    waves[1::2, : space.size] += space.flags(odd=1)
    waves[:, space.size :] = torch.cat([positions.cos(), positions.sin()], dim=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        body.wte.weight.copy_(twice(words))
        body.wpe.weight.copy_(twice(waves))
        model.get_output_embeddings().weight.copy_(twice(said) / 2)
        kept = space.nodes(held=1).abs().sum(0) + space.flags(node=1, end=1)
        body.ln_f.weight.copy_(sigma * twice((kept != 0).double()[None])[0].abs())
        for block, heads in zip(body.h, _heads(options, space, kappa * num), strict=True):
            block.ln_1.weight.fill_(sigma)
            block.ln_2.weight.fill_(sigma)
            for number, head in enumerate(heads):
                query, key = head.query, head.key
                if head.offset is not None:
                    # cos w(p - q - a) of positions p and q is a product of p's and q's waves.
                    cos, sin = (head.offset * turns).cos(), (head.offset * turns).sin()
                    turned = torch.zeros(2 * num, size, dtype=torch.double)
                    plain = torch.zeros_like(turned)
                    at, side = torch.arange(num), space.size + torch.arange(num)
                    turned[at, side], turned[at, side + num] = kappa * cos, kappa * sin
                    turned[at + num, side], turned[at + num, side + num] = -kappa * sin, kappa * cos
                    plain[at, side], plain[at + num, side + num] = 1, 1
                    empty = torch.zeros(1, 2 * num, dtype=torch.double)
                    query = torch.cat([torch.cat([query, empty], 1), turned])
                    key = torch.cat([torch.cat([key, empty], 1), plain])
                for part, rows in enumerate((size**0.5 * query, key, head.value)):
                    start = 2 * size * part + size * number
                    block.attn.c_attn.weight[:, start : start + len(rows)] = reading(rows)
                start = size * number
                block.attn.c_proj.weight[start : start + len(head.out)] = twice(head.out)
        if not options.separator:  # a node at an odd position ends an edge
            ends = STEEPNESS * space.flags(-1, node=1, odd=1)[None]
            body.h[0].mlp.c_fc.weight[:, :1] = reading(ends)
            body.h[0].mlp.c_proj.weight[:1] = twice(space.flags(edge=1)[None] / STEEPNESS)
        read, written = _units(options, space)
        body.h[1].mlp.c_fc.weight.copy_(reading(read))
        body.h[1].mlp.c_proj.weight.copy_(twice(written))
    return model


def llama_that_searches(
    options: Superposition, space: Space, words: Tensor, said: Tensor, eos: int
) -> PreTrainedModel:
    """Fill a Llama. `one` rides along in the thoughts; rotary positions make the cosines."""
    # The fast pairs of a head tell positions, the slow ones hardly turn and carry content. The
    # slowest one must still be a number in float32.
    num_content, num = options.num_nodes + 2, 24
    ratio = max(0.6, exp(-80 / (num_content + 80)))
    num = ceil(log(5e-6) / log(ratio))
    half = num + num_content
    turns, kappa = _frequencies(ratio, num, options.num_positions)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(words),
        hidden_size=space.size,
        intermediate_size=5 * options.num_nodes,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=2 * half,
        max_position_embeddings=options.num_positions,
        rope_parameters={"rope_type": "default", "rope_theta": ratio**-half},
        tie_word_embeddings=False,
        bos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=None,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    one, sigma = space.constant**2 * space.flags(1), space.constant / space.size**0.5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        body: Any = model.base_model
        body.embed_tokens.weight.copy_(words + one)
        model.get_output_embeddings().weight.copy_(said)
        kept = space.nodes(held=1).abs().sum(0) + space.flags(1, node=1, end=1)
        body.norm.weight.copy_(sigma * (kept != 0))
        for block, heads in zip(body.layers, _heads(options, space, kappa * num), strict=True):
            block.input_layernorm.weight.fill_(sigma)
            block.post_attention_layernorm.weight.fill_(sigma)
            for number, head in enumerate(heads):
                query, key = torch.zeros(2, 2 * half, space.size, dtype=torch.double)
                content = slice(num, num + len(head.query))
                query[content], key[content] = head.query, head.key
                if head.offset is not None:
                    always = space.flags(1)
                    query[:num] = kappa * (head.offset * turns).cos()[:, None] * always
                    query[half : half + num] = (
                        -kappa * (head.offset * turns).sin()[:, None] * always
                    )
                    key[:num] = always
                rows, attention = slice(2 * half * number, 2 * half * (number + 1)), block.self_attn
                attention.q_proj.weight[rows] = (2 * half) ** 0.5 * query
                attention.k_proj.weight[rows] = key
                values = slice(rows.start, rows.start + len(head.value))
                attention.v_proj.weight[values] = head.value
                attention.o_proj.weight[:, values] = head.out.T
        read, written = _units(options, space)
        feed_forward = body.layers[1].mlp
        feed_forward.gate_proj.weight.copy_(read)
        feed_forward.up_proj.weight.copy_(space.flags(1).expand_as(read))
        feed_forward.down_proj.weight.copy_(written.T)
    return model
