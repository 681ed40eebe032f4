"""A Reasoner as plain values, for a page that thinks by itself (`pages/play`).

The page has one forward pass, which the families made from scratch are cases of: GPT-2 (a table of
positions, layer norms, GELU), Llama and Qwen3 (rotary positions, RMS norms, gated SiLU). Whatever
else a model does is refused here, in words: the page would compute something else.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from latentcot.curriculum.layout import NO_LABEL, encode_questions
from latentcot.curriculum.views import PAUSE_MULTIPASS, THOUGHT, Nothing, Tokens
from latentcot.data.examples import Example
from latentcot.errors import DataError, MethodError, UsageError
from latentcot.evaluation.reasoner import Reasoner
from latentcot.models.special_tokens import WORD
from latentcot.pages import MOST_BYTES
from latentcot.pages.play import Check, Model, PlayData, Puzzle, Shape, Trained, Weights
from latentcot.tasks.prosqa.generator import candidates_of, edge_form_of, graph_of, rendering_of
from latentcot.tasks.prosqa.graphs import distances
from latentcot.tasks.prosqa.rendering import edges_in_order
from latentcot.thinking.decoding import Generation, roll_out
from latentcot.thinking.readings import logits_of

FULL_BYTES = 1_500_000
"""Where weights in float32 would be more text than that, the page takes float16."""
NUM_PUZZLES = 40
FAMILIES = ("gpt2", "llama", "qwen3")

DType = Literal["float32", "float16"]


def play_data(
    reasoners: Sequence[Reasoner], examples: Sequence[Example], provenance: dict[str, str]
) -> PlayData:
    """Return all that the page holds.

    Args:
        reasoners: The first one thinks; the others answer next to it.
        examples: Questions as in its training: they say what the page can draw, and what it has to
            warn of.
        provenance: Where the models come from.

    Raises:
        MethodError: A page cannot run one of them.
        DataError: The questions are not about graphs in symbols, or not in its vocabulary.
        UsageError: Together they are too large for a page.
    """
    first = reasoners[0]
    if first.method.view.latents != THOUGHT:
        raise MethodError(
            f"play: {first.info.method_name} has no continuous thoughts to watch: in place of "
            f"steps it has {first.method.view.latents.summary}. Play a run of coconut, and put "
            "this one next to it (--beside)."
        )
    sizes = [sum(p.numel() for p in one.model.parameters()) for one in reasoners]
    refuse_large(sum(sizes), "float16")
    graphs = [graph_of(example) for example in examples]
    in_words = next((one.id for one in examples if rendering_of(one) == "words"), None)
    if in_words is not None:
        raise DataError(
            f"example {in_words}: play needs questions in symbols, "
            "'3 7 … [Q] 9 12 [R] 3'; in words every step begins with 'Every', and no thought "
            "names a node. latentcot data render writes questions again."
        )
    known = first.tokenizer.get_vocab()
    names = sorted(  # numbers by what they are
        {name for graph in graphs for name in graph.names if name in known},
        key=lambda name: (int(name) if name.isdecimal() else -1, name),
    )
    readable = [
        example
        for example, graph in zip(examples, graphs, strict=True)
        if set(graph.names) <= set(names)
    ][:NUM_PUZZLES]
    if not readable:
        raise DataError(
            "play: no question has all its nodes in the vocabulary of the model; known are "
            f"{', '.join(names[:10]) or 'none'}. Give questions like those it was trained on "
            "(--data)."
        )
    asked = [example.question for example in readable]
    dtype: DType = "float32"
    if bytes_of(sum(sizes), dtype) > FULL_BYTES and all(
        bears_halving(one, asked) for one in reasoners
    ):
        dtype = "float16"
    refuse_large(sum(sizes), dtype)
    hops = [distances(graph, graph.root)[graph.target] for graph in graphs]
    return PlayData(
        title="A model that thinks inside this page",
        caption=(
            f"A trained model of {sizes[0]:,} weights thinks in your browser, in vectors instead "
            "of words. Draw a graph, ask which of two nodes can be reached, and watch the search "
            "move through its thoughts. Nothing leaves this page."
        ),
        names=names,
        edge=edge_form_of(examples[0]),
        trained=Trained(
            nodes=sorted({graph.num_nodes for graph in graphs}),
            edges=sorted({len(graph.edges) for graph in graphs}),
            hops=sorted(set(hops)),
            parents=max(len(above) for graph in graphs for above in graph.parents),
        ),
        puzzles=[puzzle_of(example) for example in readable],
        models=[playable(one, asked[0], dtype) for one in reasoners],
        provenance=provenance,
    )


def bytes_of(num_weights: int, dtype: DType) -> int:
    """Return how many bytes of a page weights take, in base 64."""
    return num_weights * (2 if dtype == "float16" else 4) * 4 // 3


def refuse_large(num_weights: int, dtype: DType) -> None:
    """Raise UsageError where so many weights are too large for a page."""
    if (num_bytes := bytes_of(num_weights, dtype)) > MOST_BYTES:
        why = "" if dtype == "float16" else " (with half of that it answers otherwise)"
        raise UsageError(
            f"play: the page would hold {num_weights:,} weights, {num_bytes / 1e6:.1f} MB in "
            f"{dtype}{why}, but a page must not have more than {MOST_BYTES / 1e6:.0f}. Play a "
            "model made from scratch, such as that of the quickstart, or fewer next to each other."
        )


def puzzle_of(example: Example) -> Puzzle:
    """Return the graph of a question, with edges and candidates in the order of its text.

    Raises:
        DataError: The text says something else than the graph.
    """
    graph = graph_of(example)
    return Puzzle(
        nodes=list(graph.names),
        edges=[list(edge) for edge in edges_in_order(example, graph)],
        root=graph.root,
        candidates=[graph.names.index(name) for name in candidates_of(example)],
    )


def bears_halving(reasoner: Reasoner, questions: Sequence[str]) -> bool:
    """Return whether answers stay what they are with weights that are rounded to float16."""
    both = reasoner, _halved(reasoner)
    texts = [[one.text for one in each.generate(questions)] for each in both]
    return texts[0] == texts[1]


def _halved(reasoner: Reasoner) -> Reasoner:
    """Return one whose weights are rounded to float16, as a page holds them."""
    rounded = deepcopy(reasoner.model)
    for parameter in rounded.parameters():
        parameter.data = parameter.data.half().float()
    return Reasoner(rounded, reasoner.tokenizer, reasoner.info, reasoner.modules)


def playable(reasoner: Reasoner, question: str, dtype: DType) -> Model:
    """Return one model as the page holds it.

    Args:
        reasoner: The model.
        question: With what PyTorch gives for it, each browser checks itself.
        dtype: Of the weights.

    Raises:
        MethodError: The page cannot run it.
    """
    info, method, tokenizer = reasoner.info, reasoner.method, reasoner.tokenizer
    name, view, tokens = info.method_name, method.view, reasoner.rules.special_tokens
    kind: Literal["thoughts", "pauses", "nothing"] | None = None
    if view.latents in (THOUGHT, PAUSE_MULTIPASS):  # one pass each or all at once: it is the same
        kind = "thoughts" if view.latents == THOUGHT else "pauses"
    elif isinstance(view.latents, Tokens) and view.latents.token == "pause":
        kind = "pauses"
    elif isinstance(view.latents, Nothing):
        kind = "nothing"
    beside = ", ".join(reasoner.modules)
    if kind is None or beside or view.num_latents is not None:
        what = f"reads {beside} too, which it learned beside the model" if beside else ""
        what = what or f"fills its latent positions in another way ({view.latents.summary})"
        raise MethodError(
            f"play: {name} {what}, and the page knows continuous thoughts, pauses and nothing, "
            "with models as they are. Play a run of coconut; latentcot analyze looks into this one."
        )
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    splits = (backend["pre_tokenizer"] or {}).get("pattern")
    if backend["model"]["type"] != "WordLevel" or splits != {"Regex": WORD}:
        raise MethodError(
            f"play: the tokenizer of {name} ({backend['model']['type']}) is not one of whole "
            "words, which is all that the page can read. Train one with model.tokenizer: words."
        )
    vocabulary = [""] * len(tokenizer)
    for token, number in tokenizer.get_vocab().items():
        vocabulary[number] = token
    exact = dict(tensors_of(reasoner.model))
    flat: Any = torch.cat([one.detach().flatten() for one in exact.values()]).numpy()
    numbers: bytes = flat.astype("<f4" if dtype == "float32" else "<f2").tobytes()
    return Model(
        name=name,
        summary=method.summary,
        num_weights=sum(p.numel() for p in reasoner.model.parameters()),
        shape=shape_of(reasoner.model),
        weights=Weights(
            dtype=dtype,
            index=[(key, one.numel()) for key, one in exact.items()],
            base64=base64.b64encode(numbers).decode(),
        ),
        vocabulary=vocabulary,
        special_tokens={key: getattr(tokens, key) for key in ("bot", "eot", "pause", "eos")},
        unknown=tokenizer.unk_token_id,
        latents=kind,
        has_special_tokens=view.has_special_tokens,
        zero_thoughts=info.zero_thoughts,
        question_end=info.template.question_end,
        answer_start=info.template.answer_start,
        thoughts_per_step=info.plan.thoughts_per_step,
        num_stages=min(info.stage, info.plan.num_stages),
        pads=info.plan.pad_to_num_stages,
        max_new_tokens=info.max_new_tokens,
        check=check_of(reasoner if dtype == "float32" else _halved(reasoner), question),
    )


def shape_of(model: PreTrainedModel) -> Shape:
    """Return the shape of a model that the page can run.

    Raises:
        MethodError: The page would compute something else than the model.
    """
    config: Any = model.config
    family = config.model_type
    is_gpt2 = family == "gpt2"
    wanted: dict[str, tuple[Any, ...]] = {
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    }
    if not is_gpt2:
        rope = getattr(config, "rope_parameters", None) or {}
        wanted = {"hidden_act": ("silu",), "attention_bias": (False,), "mlp_bias": (False, None)}
        wanted |= {"use_sliding_window": (False, None)}
        if rope.get("rope_type") != "default":
            wanted["rope_parameters"] = ({"rope_type": "default"},)
    odd = [key for key, allowed in wanted.items() if getattr(config, key, None) not in allowed]
    has_bias = getattr(model.get_output_embeddings(), "bias", None) is not None
    if family not in FAMILIES or odd or has_bias:
        what = (
            f"{odd[0]}: {getattr(config, odd[0], None)!r}" if odd else "an output head with a bias"
        )
        what = f"a {family}" if family not in FAMILIES else what
        raise MethodError(
            f"play: the page cannot run {what}. It knows {', '.join(FAMILIES)} as recipes make "
            "them from scratch (model.architecture)."
        )
    if is_gpt2:
        return Shape(
            num_layers=config.n_layer,
            num_heads=config.n_head,
            num_kv_heads=config.n_head,
            head_size=config.n_embd // config.n_head,
            width=config.n_embd,
            num_positions=config.n_positions,
            norm="layer",
            epsilon=config.layer_norm_epsilon,
            activation="gelu_tanh",
            theta=None,
        )
    return Shape(
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        width=config.hidden_size,
        num_positions=config.max_position_embeddings,
        norm="rms",
        epsilon=config.rms_norm_eps,
        activation="silu",
        theta=float(config.rope_parameters["rope_theta"]),
    )


def tensors_of(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a model under the names of the page, linear layers as (out, in)."""
    weights = dict(model.state_dict())
    if model.config.model_type == "gpt2":
        yield "embed", weights["transformer.wte.weight"]
        yield "positions", weights["transformer.wpe.weight"]
        for layer in range(model.config.n_layer):
            here = f"transformer.h.{layer}"
            for norm, name in (("ln_1", "attention_norm"), ("ln_2", "mlp_norm")):
                yield f"{layer}.{name}", weights[f"{here}.{norm}.weight"]
                yield f"{layer}.{name}_bias", weights[f"{here}.{norm}.bias"]
            parts = weights[f"{here}.attn.c_attn.weight"].T.chunk(3)
            biases = weights[f"{here}.attn.c_attn.bias"].chunk(3)
            for name, part, bias in zip(("query", "key", "value"), parts, biases, strict=True):
                yield f"{layer}.{name}", part.contiguous()
                yield f"{layer}.{name}_bias", bias
            for own, name in (("attn.c_proj", "out"), ("mlp.c_fc", "up"), ("mlp.c_proj", "down")):
                yield f"{layer}.{name}", weights[f"{here}.{own}.weight"].T.contiguous()
                yield f"{layer}.{name}_bias", weights[f"{here}.{own}.bias"]
        yield "norm", weights["transformer.ln_f.weight"]
        yield "norm_bias", weights["transformer.ln_f.bias"]
    else:
        names = {
            "input_layernorm": "attention_norm",
            "self_attn.q_proj": "query",
            "self_attn.k_proj": "key",
            "self_attn.v_proj": "value",
            "self_attn.q_norm": "query_norm",
            "self_attn.k_norm": "key_norm",
            "self_attn.o_proj": "out",
            "post_attention_layernorm": "mlp_norm",
            "mlp.gate_proj": "gate",
            "mlp.up_proj": "up",
            "mlp.down_proj": "down",
        }
        yield "embed", weights["model.embed_tokens.weight"]
        for layer in range(model.config.num_hidden_layers):
            for own, name in names.items():
                if (found := weights.get(f"model.layers.{layer}.{own}.weight")) is not None:
                    yield f"{layer}.{name}", found
        yield "norm", weights["model.norm.weight"]
    if not model.config.tie_word_embeddings:
        yield "head", weights["lm_head.weight"]


def check_of(reasoner: Reasoner, question: str) -> Check:
    """Return what PyTorch gives for a question: its words, and the logits before each of them."""
    generations: list[Generation] = []
    encoded = encode_questions([question], reasoner.tokenizer, reasoner.info.template)
    reasoner.answer(encoded, generations=generations)
    [prompt] = reasoner.prompts(encoded)
    [generation] = generations
    words = [*generation.token_ids, *[reasoner.rules.special_tokens.eos] * generation.is_finished]
    read = tuple(words[:-1])
    laid = replace(
        prompt, suffix=(*prompt.suffix, *read), labels=(*prompt.labels, *[NO_LABEL] * len(read))
    )
    rollout = roll_out(reasoner.model, [laid], reasoner.thinker)
    with torch.no_grad():
        logits = logits_of(reasoner.model, rollout.states[0, len(prompt.suffix) :])
    return Check(
        question=question,
        num_thoughts=reasoner.info.num_thoughts,
        words=words,
        logits=[[float(f"{one:.7g}") for one in row] for row in logits.tolist()],
    )
