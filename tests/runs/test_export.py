"""Plain transformers, with the file that lies in a checkpoint, writes what latentcot writes."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    pipeline,
)

from families import VOCAB_SIZE, tiny_family
from latentcot import METHODS, CheckpointError, Reasoner, Sampling, load
from latentcot.curriculum.layout import Template, count_latents, encode_questions
from latentcot.curriculum.views import Sequential
from latentcot.methods import ALL_AT_ONCE, Method, Module, Plan, View, method_named
from latentcot.methods.stopping import STOP
from latentcot.methods.terms import language
from latentcot.models.loading import FromScratch, make_from_scratch
from latentcot.models.special_tokens import install_special_tokens, word_tokenizer
from latentcot.runs import export
from latentcot.runs.checkpoint import CheckpointInfo, save_checkpoint
from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE
from latentcot.thinking.batch import collate
from latentcot.thinking.decoding import Generation
from latentcot.thinking.think import think
from marks import mostly_slow

TOKENIZER = word_tokenizer(["0 1 2 3 4 5 6 7 8 9 [Q] ?"])
QUESTIONS = [
    " ".join(str((i * i + k * i + k) % 10) for k in range(1 + 3 * i % 11)) + " [Q]"
    for i in range(24)
]
"""Of 2 to 12 tokens."""


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """transformers copies code that it trusts to where it imports it from."""
    with pytest.MonkeyPatch.context() as patched:
        folder = str(tmp_path_factory.mktemp("modules"))
        patched.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", folder)
        patched.setattr("sys.path", [*sys.path])
        yield


def shaken(module: nn.Module, std: float = 0.6) -> Any:
    """Large random weights: what such a model says depends on every token that it reads."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=std, generator=random)
            elif name.endswith("bias"):
                parameter.normal_(std=0.2, generator=random)
    return module.eval()


def saved(
    folder: Path,
    method: Any = "coconut",
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase = TOKENIZER,
    architecture: Any = "gpt2",
    num_positions: int = 64,
    **changes: Any,
) -> Reasoner:
    """Write a checkpoint of a model that was never trained, and load it by latentcot."""
    if model is None:
        sizes = FromScratch(
            architecture=architecture, hidden_size=16, num_heads=2, num_positions=num_positions
        )
        model = shaken(make_from_scratch(sizes, tokenizer, seed=0))
    plan, stage = changes.pop("plan", Plan(num_stages=3)), changes.pop("stage", None)
    stages = method_named(method).stages(plan)
    stage = stages[-1] if stage is None else stage
    values: dict[str, Any] = {
        "method": method, "task": "prosqa", "stage": stage, "plan": plan,
        "num_thoughts": count_latents(method_named(method).view, stage, None, plan),
        "zero_thoughts": "both", "template": Template("", "", "?"), "max_new_tokens": 10,
        "update": 0, "seed": 0,
    }  # fmt: skip
    info = CheckpointInfo(**values | changes)
    made = {k: one.make(model) for k, one in info.bound_method.modules.items() if one.is_kept}
    save_checkpoint(
        folder, model, tokenizer, info, modules=shaken(nn.ModuleDict(made), 1.0).state_dict()
    )
    reasoner = load(folder, device="cpu")
    reasoner.model.double()  # so that no two words are equally likely within rounding
    for name, module in reasoner.modules.items():
        module.to(torch.float32 if name == STOP else torch.float64)
    return reasoner


def trusting(folder: Path) -> Any:
    """The checkpoint in plain transformers, which runs its generate."""
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float64)


def asked(reasoner: Reasoner, questions: Sequence[str], side: str = "left") -> dict[str, Any]:
    """Questions as transformers reads them."""
    tokenizer: Any = AutoTokenizer.from_pretrained(reasoner.model.name_or_path)
    tokenizer.pad_token = tokenizer.eos_token
    return dict(tokenizer(questions, padding=True, padding_side=side, return_tensors="pt"))


def words_of(found: torch.Tensor, inputs: dict[str, Any], eos: int) -> list[tuple[int, ...]]:
    """What stands behind the prompts, up to the end of text."""
    assert torch.equal(
        found[:: len(found) // len(inputs["input_ids"]), : inputs["input_ids"].shape[1]],
        inputs["input_ids"],
    )
    rows = found[:, inputs["input_ids"].shape[1] :].tolist()
    return [tuple(row[: row.index(eos)] if eos in row else row) for row in rows]


def wanted(
    reasoner: Reasoner, questions: Sequence[str] = QUESTIONS, **options: Any
) -> list[Generation]:
    generations: list[Generation] = []
    reasoner.generate(questions, generations=generations, **options)
    return generations


def encoded(reasoner: Reasoner, questions: Sequence[str]) -> Any:
    return encode_questions(questions, reasoner.tokenizer, reasoner.info.template)


def same(folder: Path, reasoner: Reasoner, side: str = "left", **options: Any) -> None:
    """Hold all questions at once to latentcot."""
    inputs, eos = asked(reasoner, QUESTIONS, side), reasoner.rules.special_tokens.eos
    expected = [one.token_ids for one in wanted(reasoner, **options)]
    assert len(set(expected)) > 5, "it says the same whatever is asked"
    assert words_of(trusting(folder).generate(**inputs, **options), inputs, eos) == expected


# --- the same words ---

PARALLEL = {"num_latents": 3, "iterations": 2}
KINDS: dict[str, Any] = {
    **{name: name for name in METHODS if name != "colar"},
    "codi": {"name": "codi", "num_latents": 3},
    "codi-identity": {"name": "codi", "num_latents": 3, "projection": "identity"},
    "pccot": {"name": "pccot", **PARALLEL},
    "pccot-identity": {"name": "pccot", **PARALLEL, "projection": "identity"},
    "pccot-pauses": {"name": "pccot", "num_latents": 3, "iterations": 0},
    "kava": {"name": "kava", **PARALLEL},
    "lotus": {"name": "lotus", "iterations": 2},
    "simcot-on-codi": {"name": "simcot", "host": {"name": "codi", "num_latents": 2}},
}


@pytest.mark.parametrize("kind", mostly_slow(KINDS, "coconut", "codi", "lotus"))
def test_each_method(kind: str, tmp_path: Path) -> None:
    same(tmp_path / "c", saved(tmp_path / "c", KINDS[kind]))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("kind", ["coconut", "codi", "pccot", "lotus", "pause", "cot"])
def test_each_method_with_rotary_positions(kind: str, architecture: str, tmp_path: Path) -> None:
    same(tmp_path / "c", saved(tmp_path / "c", KINDS[kind], architecture=architecture))


@pytest.mark.parametrize("share", [0.5, *mostly_slow([0.1, 0.9, 0, 1])])
def test_a_stop_classifier(share: float, tmp_path: Path) -> None:
    """Rows think for different times; at the ends all stop at once, or none does."""
    plan = Plan(num_stages=6)
    reasoner = saved(tmp_path / "c", plan=plan, stop_threshold=0.5, max_thoughts=6)
    likely = reasoner.stop_probabilities(encoded(reasoner, QUESTIONS), 100)
    threshold = {0: 0.0, 1: 1.0}.get(share, float(likely.quantile(share)))
    reasoner = saved(tmp_path / "c", plan=plan, stop_threshold=threshold, max_thoughts=6)
    lengths = {one.num_latents for one in wanted(reasoner)}
    assert len(lengths) > 1 or share in (0, 1)
    same(tmp_path / "c", reasoner)


@pytest.mark.slow
def test_a_stop_classifier_beside_a_projection(tmp_path: Path) -> None:
    method = {"name": "codi", "num_latents": 4}
    same(tmp_path / "c", saved(tmp_path / "c", method, stop_threshold=0.5, max_thoughts=4))


@pytest.mark.parametrize("zero", mostly_slow(["both", "bot", "none"], "bot"))
def test_no_thoughts(zero: Any, tmp_path: Path) -> None:
    options = {"stop_threshold": 0.5, "max_thoughts": 0}
    same(tmp_path / "c", saved(tmp_path / "c", stage=0, zero_thoughts=zero, **options))


@pytest.mark.slow
def test_several_thoughts_a_step(tmp_path: Path) -> None:
    for method in ("lotus", "coconut"):
        same(tmp_path / "c", saved(tmp_path / "c", method, plan=Plan(2, thoughts_per_step=3)))


def test_words_end_at_the_last_position(tmp_path: Path) -> None:
    """Each row at its own; rows that end early are padded."""
    reasoner = saved(tmp_path / "c", num_positions=22, max_new_tokens=30)
    assert len({len(o.token_ids) for o in wanted(reasoner) if not o.is_finished}) > 1
    same(tmp_path / "c", reasoner)
    inputs = asked(reasoner, [" ".join("1" * 20)])
    with pytest.raises(ValueError, match="needs 26 positions .* but the model has 22"):
        trusting(tmp_path / "c").generate(**inputs)


# --- other families ---

BATCHED = ["gpt_neox", "opt", "bloom", "gemma3_text", "phi3", "olmo"]


@pytest.mark.parametrize("kind", mostly_slow(["coconut", "pccot"]))
@pytest.mark.parametrize("family", mostly_slow(["mistral", *BATCHED], "mistral"))
def test_families_that_may_not_see_pads(family: str, kind: str, tmp_path: Path) -> None:
    """Mistral's and Gemma's windows here are 8 positions wide."""
    reasoner = saved_family(tmp_path / "c", family, KINDS[kind])
    if kind == "pccot" and family in ("mistral", "gemma3_text"):
        with pytest.raises(ValueError, match="sliding windows"):
            trusting(tmp_path / "c").generate(**asked(reasoner, QUESTIONS))
    else:
        same(tmp_path / "c", reasoner)


def saved_family(folder: Path, family: str, method: Any = "coconut") -> Reasoner:
    model = shaken(tiny_family(family), 0.05 if family == "gemma3_text" else 0.3)
    assert len(TOKENIZER) <= VOCAB_SIZE
    return saved(folder, method, model=model)


@pytest.mark.slow
def test_models_without_a_cache_of_columns_refuse(tmp_path: Path) -> None:
    from latentcot.thinking.capability import choose_way

    model = shaken(tiny_family("mamba"), 0.3)
    assert choose_way(model) == "rows"
    reasoner = saved(tmp_path / "c", model=model)
    with pytest.raises(ValueError, match="keeps no cache in which thoughts could stand"):
        trusting(tmp_path / "c").generate(**asked(reasoner, QUESTIONS))


@pytest.mark.slow
def test_rotary_positions_that_change_are_not_reached(tmp_path: Path) -> None:
    halves = [1.0] * 4
    rope = {"rope_type": "longrope", "short_factor": halves, "long_factor": halves}
    model = tiny_family("phi3")
    config = model.config.to_dict() | {
        "rope_parameters": {**rope, "rope_theta": 1e4}, "max_position_embeddings": 64,
        "original_max_position_embeddings": 24, "sliding_window": None,
    }  # fmt: skip
    reasoner = saved(tmp_path / "c", model=shaken(type(model)(type(model.config)(**config)), 0.3))
    same(tmp_path / "c", reasoner, max_new_tokens=4)
    inputs = asked(reasoner, QUESTIONS[:1])
    with pytest.raises(ValueError, match=r"beyond 24 this model turns to other rotary positions"):
        trusting(tmp_path / "c").generate(**inputs, max_new_tokens=30)


# --- prompts ---


@pytest.mark.slow
def test_pads_may_stand_on_either_side(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c")
    same(tmp_path / "c", reasoner, "right")
    model, inputs = trusting(tmp_path / "c"), asked(reasoner, QUESTIONS)
    first = model.generate(**inputs)
    assert torch.equal(model.generate(inputs["input_ids"]), first)  # those in front are pads
    types = torch.zeros_like(inputs["input_ids"])
    assert torch.equal(model.generate(**inputs, token_type_ids=types), first)


def joining_tokenizer(**options: Any) -> PreTrainedTokenizerBase:
    """It joins the end of a line with what stands before it, and puts tokens around a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<s>", "</s>", "<<"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(["1 + 2?\n", "Why?\n", "how many?\n", "a?\n"] * 9, trainer)
    from tokenizers.processors import TemplateProcessing

    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def test_the_text_behind_a_question(tmp_path: Path) -> None:
    """A prompt may have it already; then nothing is put behind."""
    tokenizer = joining_tokenizer()
    assert tokenizer("a?")["input_ids"][1:-1] != tokenizer("a?\n")["input_ids"][1:-2]
    model = make_from_scratch(FromScratch(hidden_size=16, num_heads=2), tokenizer, seed=0)
    install_special_tokens(tokenizer, model)
    folder = tmp_path / "c"
    reasoner = saved(folder, model=shaken(model), tokenizer=tokenizer, template=Template())
    questions = ["How many?", "1 + 2?", "Why not", "a?"]
    expected = [one.token_ids for one in wanted(reasoner, questions)]
    for end in ("", "\n"):
        inputs = asked(reasoner, [question + end for question in questions])
        assert words_of(trusting(folder).generate(**inputs), inputs, 1) == expected
    bare = tokenizer(questions[:1], add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert words_of(trusting(folder).generate(bare), {"input_ids": bare}, 1) == expected[:1]


@pytest.mark.slow
def test_a_word_as_text_behind_a_question(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c", template=Template(" ?", "", "?"))
    same(tmp_path / "c", reasoner)
    inputs = asked(reasoner, [f"{question} ?" for question in QUESTIONS])
    expected = [one.token_ids for one in wanted(reasoner)]
    assert words_of(trusting(tmp_path / "c").generate(**inputs), inputs, 1) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [("5 <bot> 6", "special token 2"), ("5 zoo", "vocabulary lacks"), ("", "give their token ids")],
)
def test_prompts_that_latentcot_refuses(text: str, words: str, tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c")
    with pytest.raises(ValueError, match=words):
        trusting(tmp_path / "c").generate(asked(reasoner, [text])["input_ids"].long())


# --- what transformers does is its own ---


class Shown:
    """Keeps what it is shown, and stops each row once it has written a token."""

    def __init__(self, token: int) -> None:
        self.token, self.seen = token, list[Any]()

    def __call__(self, seen: torch.Tensor, scores: torch.Tensor, **more: Any) -> torch.Tensor:
        self.seen.append(seen)
        return seen[:, -1] == self.token

    def forbid(self, seen: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.seen.append(seen)
        scores[:, self.token] = -torch.inf
        return scores


def test_criteria_processors_and_streamers_see_no_latent_positions(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c")
    model, inputs = trusting(tmp_path / "c"), asked(reasoner, QUESTIONS[5:6])
    length = inputs["input_ids"].shape[1]
    first = model.generate(**inputs)[0, length:].tolist()
    last = first[min(2, len(first) - 1)]  # weights are drawn otherwise by another transformers
    stop, forbid = Shown(last), Shown(first[0])
    ended = model.generate(**inputs, stopping_criteria=[stop])[0, length:].tolist()
    assert ended == first[: first.index(last) + 1]
    other = model.generate(**inputs, logits_processor=[forbid.forbid])[0, length:].tolist()
    assert first[0] not in other
    allowed = model.generate(**inputs, prefix_allowed_tokens_fn=lambda i, seen: [6 + len(seen) % 3])
    assert allowed[0, length:].tolist() == [6 + (length + i) % 3 for i in range(10)]
    by_question = set[int]()  # also where there is no room to write them next to each other
    model.generate(
        **asked(reasoner, QUESTIONS[4:6]),
        max_new_tokens=10_000,
        prefix_allowed_tokens_fn=lambda i, seen: by_question.add(i) or [6],
    )
    assert by_question == {0, 1}
    streamed = Shown(0)
    streamed.put, streamed.end = streamed.seen.append, lambda: streamed.seen.append("end")
    model.generate(**inputs, streamer=streamed)
    assert streamed.seen.pop() == "end"
    assert torch.equal(streamed.seen.pop(0), inputs["input_ids"])
    assert torch.cat(streamed.seen).tolist() == first
    for one in (*stop.seen, *forbid.seen):
        assert torch.equal(one[:, :length], inputs["input_ids"])


@pytest.mark.slow
def test_lengths(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c", template=Template(" ?", "", "?"))
    model, inputs = trusting(tmp_path / "c"), asked(reasoner, QUESTIONS[:4])
    length = inputs["input_ids"].shape[1]
    shorter = model.generate(**inputs, max_new_tokens=3)
    assert torch.equal(model.generate(**inputs, max_length=length + 3), shorter)
    expected = [one.token_ids for one in wanted(reasoner, QUESTIONS[:4], max_new_tokens=3)]
    assert words_of(shorter, inputs, 1) == expected
    for least in ({"min_new_tokens": 9}, {"min_length": length + 9}):
        words = model.generate(**inputs, **least)[:, length:]
        assert words.shape[1] >= 9 and not bool((words[:, :9] == 1).any())
    config = model.generation_config
    assert config.max_new_tokens == 10 and isinstance(config.sequence_bias, str)  # as it was


@pytest.mark.slow
def test_words_are_drawn_from_the_same_distribution(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c")
    model, inputs = trusting(tmp_path / "c"), asked(reasoner, QUESTIONS)
    options = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    found = model.generate(**inputs, **options)
    for row, one in enumerate(wanted(reasoner)):
        words = [*one.token_ids, *([1] if one.is_finished else [])]
        chosen = [found.logits[i][row].log_softmax(-1)[word] for i, word in enumerate(words)]
        assert float(torch.stack(chosen).mean()) == pytest.approx(one.log_prob, abs=1e-4)
    torch.manual_seed(0)
    warm = {"do_sample": True, "temperature": 2.5, "top_k": 4, "num_return_sequences": 200}
    inputs = asked(reasoner, QUESTIONS[:3])
    drawn = model.generate(**inputs, **options, **warm, max_new_tokens=2)
    likely = drawn.scores[0][::200].softmax(-1)
    kept = (found.logits[0][:3] / 2.5).topk(4)
    assert torch.allclose(likely.gather(1, kept.indices), kept.values.softmax(-1), atol=1e-4)
    ours = reasoner.generate(
        QUESTIONS[:3], num_samples=200, sampling=Sampling(2.5, top_k=4), max_new_tokens=1
    )
    for row, (probabilities, question) in enumerate(zip(likely, QUESTIONS, strict=False)):
        texts = [one.text for one in ours[200 * row : 200 * row + 200]]
        words = drawn.sequences[200 * row : 200 * row + 200, inputs["input_ids"].shape[1]]
        for token in kept.indices[row].tolist():
            expected = float(probabilities[token])
            text = "" if token == 1 else reasoner.tokenizer.decode([token])
            for share in (texts.count(text) / 200, float((words == token).float().mean())):
                assert share == pytest.approx(expected, abs=0.15), question


@pytest.mark.slow
def test_beams_think_too(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c")
    inputs = asked(reasoner, QUESTIONS[:4])
    beams = {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.0}
    found = trusting(tmp_path / "c").generate(
        **inputs, **beams, max_new_tokens=4, return_dict_in_generate=True, output_scores=True
    )
    start = inputs["input_ids"].shape[1]
    head = reasoner.model.get_output_embeddings()
    prompts = reasoner.prompts(encoded(reasoner, QUESTIONS[:4]))
    for row, (words, score) in enumerate(zip(found.sequences, found.sequences_scores, strict=True)):
        words = words[start:].tolist()
        words = words[: words.index(1) + 1] if 1 in words else words
        layout = prompts[row // 3]
        whole = type(layout)(
            layout.prefix, layout.num_latents, (*layout.suffix, *words), (*layout.labels, *words)
        )
        with torch.no_grad():
            states = think(reasoner.model, collate([whole])).states[0, len(layout.suffix) : -1]
            log_probs = head(states).log_softmax(-1)
        total = sum(float(log_probs[i, word]) for i, word in enumerate(words))
        assert total == pytest.approx(float(score), abs=1e-3)


@pytest.mark.parametrize("name", ["inputs_embeds", "past_key_values", "assistant_model"])
def test_what_goes_round_the_thoughts_is_refused(name: str, tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c")
    with pytest.raises(ValueError, match=f"{name}: does not go with"):
        trusting(tmp_path / "c").generate(**asked(reasoner, QUESTIONS), **{name: object()})


def test_a_chat_takes_any_character(tmp_path: Path) -> None:
    saved(tmp_path / "c", template=Template('\n🙂 "A": ', "", "?"))
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "c")
    text = tokenizer.apply_chat_template([{"role": "user", "content": "1"}], tokenize=False)
    assert text == '1\n🙂 "A": '


def test_pipelines_and_chats(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c", template=Template(" ?", "", "?"))
    pipe: Any = pipeline(
        "text-generation", str(tmp_path / "c"), trust_remote_code=True, dtype="float64"
    )
    expected = [
        reasoner.tokenizer.decode(one.token_ids, skip_special_tokens=True)
        for one in wanted(reasoner, QUESTIONS[:6])
    ]
    texts = pipe(QUESTIONS[:6], return_full_text=False)
    assert [one["generated_text"] for (one,) in texts] == expected
    chats = [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "1"},
         {"role": "assistant", "content": "2"}, {"role": "user", "content": question}]
        for question in QUESTIONS[:6]
    ]  # fmt: skip
    answers = [pipe(chat)[0]["generated_text"][-1]["content"] for chat in chats]
    assert answers == expected
    with pytest.raises(Exception, match="give a message of the user"):
        pipe([{"role": "system", "content": "Be kind."}])


# --- who may not, and who is told ---


def test_without_trust_a_note_is_shown(tmp_path: Path) -> None:
    """Only where thoughts would be left out; and the model itself is that of the checkpoint."""
    reasoner = saved(tmp_path / "c")
    inputs = asked(reasoner, QUESTIONS)
    plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "c", dtype=torch.float64)
    with pytest.raises(ValueError, match="plain generate.. leaves its thoughts out"):
        plain.generate(**inputs)
    plain.generation_config.sequence_bias = None
    words = words_of(plain.generate(**inputs), inputs, 1)
    assert words != [one.token_ids for one in wanted(reasoner)]
    plain.save_pretrained(tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cot", "no-cot", "icot"])
def test_no_note_where_nothing_is_left_out(method: str, tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c", method)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "c", dtype=torch.float64)
    inputs = asked(reasoner, QUESTIONS)
    words = words_of(plain.generate(**inputs), inputs, 1)
    assert words == [one.token_ids for one in wanted(reasoner)]


@pytest.mark.slow
def test_what_was_moved_says_so(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c")
    model, inputs = trusting(tmp_path / "c"), asked(reasoner, QUESTIONS)
    (tmp_path / "c").rename(tmp_path / "d")
    with pytest.raises(ValueError, match="has been moved since it was loaded"):
        model.generate(**inputs)


def of_outside(**parts: Any) -> Callable[[Any], Any]:
    """A method that somebody else has made."""
    latents = parts.pop("latents", Sequential(lambda latent: latent.state * 2, "twice the state"))
    view = View(ALL_AT_ONCE, latents, parts.pop("has_special_tokens", True))
    return Method("of-outside", {"answer": view}, (language("answer"),), **parts)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (of_outside(), "in a way of its own .twice the state"),
        (of_outside(latents=Sequential(method_named("coconut").view.latents.update),
                    modules={"gate": Module(lambda model: nn.Linear(1, 1))}), "answers with gate"),
        (of_outside(latents=method_named("coconut").view.latents, has_special_tokens=False),
         "has no token between"),
    ],
)  # fmt: skip
def test_methods_from_outside_refuse_in_words(
    method: Method, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentcot.methods.registry.METHODS", dict(METHODS))
    from latentcot import register

    register(method)
    reasoner = saved(tmp_path / "c", "of-outside")
    with pytest.raises(ValueError, match=words):
        trusting(tmp_path / "c").generate(**asked(reasoner, QUESTIONS))
    with pytest.raises(ValueError, match="plain generate.. leaves its thoughts out"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "c").generate(**asked(reasoner, QUESTIONS))


@pytest.mark.slow
def test_compressed_thoughts_refuse_in_words(tmp_path: Path) -> None:
    """CoLaR tells its rate in the prompt, and words end its thoughts: latentcot alone knows how."""
    reasoner = saved(tmp_path / "c", {"name": "colar", "max_thoughts": 4})
    with pytest.raises(ValueError, match="colar answers with head beside the model"):
        trusting(tmp_path / "c").generate(**asked(reasoner, QUESTIONS))


@pytest.mark.slow
def test_a_method_from_outside_with_plain_thoughts_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentcot.methods.registry.METHODS", dict(METHODS))
    from latentcot import register

    register(of_outside(latents=method_named("coconut").view.latents))
    same(tmp_path / "c", saved(tmp_path / "c", "of-outside"))


@pytest.mark.slow
def test_adapters_refuse(tmp_path: Path) -> None:
    from peft import LoraConfig

    reasoner = saved(tmp_path / "c")
    model = trusting(tmp_path / "c")
    model.add_adapter(LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    with pytest.raises(ValueError, match="latentcot convert RUN --out FOLDER"):
        model.generate(**asked(reasoner, QUESTIONS))


def test_latentcot_never_runs_it_and_finds_it_damaged(tmp_path: Path) -> None:
    reasoner = saved(tmp_path / "c")
    sums = json.loads((tmp_path / "c" / CHECKSUMS_FILE).read_text())["sha256"]
    assert {export.GENERATE_FILE, export.THINKING_FILE, "chat_template.jinja"} <= sums.keys()
    before = [one.token_ids for one in wanted(reasoner)]
    (tmp_path / "c" / export.GENERATE_FILE).write_text("raise SystemExit")
    with pytest.raises(CheckpointError, match=r"custom_generate/generate\.py is not what was"):
        load(tmp_path / "c")
    (tmp_path / "c" / CHECKSUMS_FILE).unlink()
    again = load(tmp_path / "c", device="cpu")
    again.model.double()
    assert [one.token_ids for one in wanted(again)] == before


def test_older_checkpoints_load_and_get_it(tmp_path: Path, latentcot: Callable[..., Any]) -> None:
    reasoner = saved(tmp_path / "c")
    for name in ("custom_generate", "chat_template.jinja", CHECKSUMS_FILE):
        path = tmp_path / "c" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ended = latentcot("convert", tmp_path / "c", "--out", tmp_path / "new", "--base", "gpt2")
    assert ended.code == 2 and "--base: is of adapters, and" in ended.err
    ended = latentcot("convert", tmp_path / "c", "--out", tmp_path / "new")
    assert ended.code == 0, ended.err
    assert "needs to think was added" in ended.out
    same(tmp_path / "new", reasoner)
    again = latentcot("convert", tmp_path / "new", "--out", tmp_path / "twice")
    assert again.code == 2 and "is latentcot's own already" in again.err
