"""Weights of others: state dicts of the official shape, made here by hand, and plain folders.

What a converted checkpoint thinks and says is held to the slow reference on the original model,
with the official ids.
"""

import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
)

from base_tokenizers import END, TEXTS, base_tokenizer
from latentcot import CheckpointError, MethodError, RecipeError, RunError, UsageError, load
from latentcot.curriculum.layout import SpecialTokens, Template, encode
from latentcot.data.examples import Example
from latentcot.runs.convert import Conversion, Request, convert
from latentcot.runs.external import OFFICIAL, rename_official
from latentcot.tasks import AnswerMatch
from latentcot.training.train import train
from reference import reference_generate, reference_states

Make = Callable[..., Any]
"""A fixture that is a function."""
QUESTION = "Tom has 3 apples. How many are left?"
COCONUT = Request("coconut", "gsm8k", 2, 3, 3, True, max_new_tokens=12)
COT = Request("cot", "gsm8k", max_new_tokens=12)


# --- what others have ---------------------------------------------------------------------------


TOKENIZER = base_tokenizer()
SIZE = len(TOKENIZER)
IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))


def gpt2(num_rows: int = SIZE, **options: Any) -> GPT2Config:
    return GPT2Config(
        vocab_size=num_rows, n_embd=16, n_layer=2, n_head=2, n_positions=96, **IDS, **options
    )


def llama(num_rows: int = SIZE, **options: Any) -> LlamaConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaConfig(
        vocab_size=num_rows, **sizes, **heads, max_position_embeddings=96, **IDS, **options
    )


FAMILIES = {"gpt2": (GPT2LMHeadModel, gpt2), "llama": (LlamaForCausalLM, llama)}


def trained(family: str = "gpt2", num_rows: int = SIZE + 3, **options: Any) -> PreTrainedModel:
    """A model with large weights: what it says depends on every token that it reads."""
    kind, make_config = FAMILIES[family]
    model = kind(make_config(num_rows, **options))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            is_table = parameter.dim() == 2
            parameter.copy_(0.5 * noise if is_table else is_norm(name) + 0.2 * noise)
    return model.eval()


def is_norm(name: str) -> float:
    return float("norm" in name or re.search(r"ln_\w+\.weight", name) is not None)


def official(model: PreTrainedModel, before: str = "") -> dict[str, Tensor]:
    """What the official wrapper saves: every name behind a prefix, the embeddings once more."""
    names = {f"base_causallm.{name}": value for name, value in model.state_dict().items()}
    names["embedding.weight"] = model.get_input_embeddings().weight.detach()
    return {before + name: value for name, value in names.items()}


@pytest.fixture
def base(tmp_path: Path) -> Make:
    """A function (family, rows of its table) → a folder with configuration and tokenizer alone."""

    def make(family: str = "gpt2", num_rows: int = SIZE, **options: Any) -> str:
        folder = tmp_path / f"base-{family}-{num_rows}"
        FAMILIES[family][1](num_rows, **options).save_pretrained(folder)
        TOKENIZER.save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture
def saved(tmp_path: Path) -> Make:
    """A function (anything) → a file that `torch.save` wrote, named as the official code does."""

    def save(what: Any) -> Path:
        torch.save(what, tmp_path / "checkpoint_33")
        return tmp_path / "checkpoint_33"

    return save


@pytest.fixture
def refusal(tmp_path: Path) -> Make:
    """A function (source, request, base) → the message; nothing may have been written."""

    def refuse(
        source: Path,
        request: Request = COCONUT,
        base: str | None = None,
        kind: type[Exception] = CheckpointError,
    ) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(kind) as caught:
            convert(source, tmp_path / "out", request, base=base)
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    return refuse


def prompt(num_thoughts: int) -> tuple[list[int], int, list[int]]:
    """The question as the official code lays it out: prefix, thoughts, suffix."""
    start, end = SIZE, SIZE + 1
    question = TOKENIZER(QUESTION + "\n", add_special_tokens=False)["input_ids"]
    return [*question, start], num_thoughts, [end]


def ids_of(special_tokens: SpecialTokens) -> tuple[int, int, int]:
    return special_tokens.bot, special_tokens.eot, special_tokens.pause


def says(out: Path) -> str:
    return load(out).generate([QUESTION])[0].text


def text_of(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids))


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- weights of the official code ---------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "module."])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_official_checkpoint_thinks_and_says_the_same(
    family: str, before: str, base: Make, saved: Make, tmp_path: Path
) -> None:
    model = trained(family)
    source = saved(official(model, before))
    was = file_hash(source)
    done = convert(source, tmp_path / "out", COCONUT, base=base(family))
    assert file_hash(source) == was
    assert ids_of(done.special_tokens) == (SIZE, SIZE + 1, SIZE + 2)
    assert done.num_rows == SIZE + 3

    reasoner = load(tmp_path / "out")
    assert (reasoner.info.method, reasoner.info.stage, reasoner.info.num_thoughts) == (
        "coconut",
        3,
        6,
    )
    prefix, count, suffix = prompt(6)
    states, thoughts = reference_states(model, prefix, count, suffix)
    thinking = reasoner.think([QUESTION])
    torch.testing.assert_close(thinking.thoughts[0], thoughts, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(thinking.last_states[0], states[0], rtol=1e-3, atol=1e-4)
    eos = TOKENIZER.convert_tokens_to_ids(END)
    words = reference_generate(model, prefix, count, suffix, 12, eos)
    said = reasoner.generate([QUESTION])[0]
    assert said.text == reasoner.tokenizer.decode(words)
    assert said.num_thoughts == 6
    assert len(words) > 5


def test_pause_tokens_are_the_official_latent_token(
    base: Make, saved: Make, tmp_path: Path
) -> None:
    model = trained()
    request = replace(COCONUT, method="coconut-pause-as-thought")
    convert(saved(official(model)), tmp_path / "out", request, base=base())
    prefix, count, suffix = prompt(6)
    pauses = [SIZE + 2] * count
    words = reference_generate(model, prefix, 0, [*pauses, *suffix], 12, 0)
    reasoner = load(tmp_path / "out")
    said = reasoner.generate([QUESTION])[0]
    assert said.text == reasoner.tokenizer.decode(words)
    assert said.num_thoughts == 0


@pytest.mark.parametrize("num_added", [0, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_chain_of_thought_checkpoint_says_the_same(
    family: str, num_added: int, base: Make, saved: Make, tmp_path: Path
) -> None:
    """Saved without the wrapper, with or without the three rows, which it never reads."""
    model = trained(family, SIZE + num_added)
    source = saved(model.state_dict())
    done = convert(source, tmp_path / "out", COT, base=base(family))
    assert ids_of(done.special_tokens) == (SIZE, SIZE + 1, SIZE + 2)
    question = prompt(0)[0][:-1]
    words = reference_generate(model, question[:-1], 0, question[-1:], 12, 0)
    reasoner = load(tmp_path / "out")
    said = reasoner.generate([QUESTION])[0]
    assert said.text == reasoner.tokenizer.decode(words)
    assert (said.num_thoughts, reasoner.info.stage) == (0, 0)
    table = reasoner.model.get_input_embeddings().weight.detach()
    torch.testing.assert_close(table[: SIZE + num_added], trained_table(model), rtol=0, atol=0)
    if not num_added:
        copied = table[TOKENIZER.convert_tokens_to_ids("<<")]
        assert all(torch.equal(row, copied) for row in table[SIZE:])


def trained_table(model: PreTrainedModel) -> Tensor:
    return model.get_input_embeddings().weight.detach()


def test_what_an_example_becomes_is_the_official_layout(
    base: Make, saved: Make, tmp_path: Path
) -> None:
    convert(saved(official(trained())), tmp_path / "out", COCONUT, base=base())
    reasoner = load(tmp_path / "out")
    example = Example("1", QUESTION, ("<<3+4=7>>", "<<7-2=5>>"), "5")
    [layout] = reasoner.prompts(reasoner.encode([example]))
    prefix, count, suffix = prompt(6)
    assert (list(layout.prefix), layout.num_latents, list(layout.suffix)) == (prefix, count, suffix)
    [encoded] = encode([example], reasoner.tokenizer, reasoner.info.template)
    whole = [*encoded.question, *(t for step in encoded.steps or () for t in step)]
    assert text_of([*whole, *encoded.answer]) == f"{QUESTION}\n<<3+4=7>>\n<<7-2=5>>\n### 5"


@pytest.mark.parametrize(
    ("request_", "stage", "num_thoughts"),
    [
        (replace(COCONUT, stage=0), 0, 0),
        (replace(COCONUT, stage=1), 1, 2),
        (replace(COCONUT, stage=4), 4, 6),
        (replace(COCONUT, method="pause", stage=None), 3, 6),
        (replace(COCONUT, method="coconut-no-thought", stage=2), 2, 0),
        (replace(COT, method="coconut-no-thought"), 0, 0),
        (replace(COT, method="no-cot"), 0, 0),
        (replace(COT, method="icot"), 39, 0),
    ],
)
def test_the_stage_tells_the_number_of_thoughts(
    request_: Request, stage: int, num_thoughts: int, base: Make, saved: Make, tmp_path: Path
) -> None:
    convert(saved(official(trained())), tmp_path / "out", request_, base=base())
    info = load(tmp_path / "out").info
    assert (info.stage, info.num_thoughts) == (stage, num_thoughts)
    assert info.plan.final_stage_without_text == (stage == 4)
    assert (info.update, info.zero_thoughts, info.template) == (0, "both", Template())


# --- plain fine-tuning --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["whole", "shards", "bin", "bin-shards", "safetensors-file"])
def test_a_plain_folder_or_file(form: str, base: Make, saved: Make, tmp_path: Path) -> None:
    model = trained(num_rows=SIZE)
    folder = tmp_path / "tuned"
    model.save_pretrained(folder, max_shard_size="20KB" if "shards" in form else "1GB")
    TOKENIZER.save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) == (1 if "shards" not in form else 3)
    source, given = folder, None
    if form.startswith("bin"):
        as_torch_files(folder)
    if form == "safetensors-file":
        source, given = folder / "model.safetensors", base()
    done = convert(source, tmp_path / "out", COT, base=given)
    assert done.notes == ("The special tokens were added, each a copy of '<<'; cot uses none.",)
    question = prompt(0)[0][:-1]
    words = reference_generate(model, question[:-1], 0, question[-1:], 12, 0)
    assert load(tmp_path / "out").generate([QUESTION])[0].text == text_of(words)


def as_torch_files(folder: Path) -> None:
    """Rewrite the weights of a folder as older transformers did."""
    names = {}
    for path in sorted(folder.glob("*.safetensors")):
        names[path.name] = path.name.replace("model", "pytorch_model").replace("safetensors", "bin")
        torch.save(load_file(path), folder / names[path.name])
        path.unlink()
    for index in folder.glob("*.index.json"):
        values = json.loads(index.read_text())
        values["weight_map"] = {k: names[v] for k, v in values["weight_map"].items()}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(values))
        index.unlink()


def with_official_tokens() -> PreTrainedTokenizerBase:
    tokenizer = base_tokenizer()
    for token in OFFICIAL:
        tokenizer.add_tokens(token)
    return tokenizer


def test_a_folder_whose_tokenizer_has_the_official_special_tokens(tmp_path: Path) -> None:
    """Its table is padded too: only the names show which rows are special tokens."""
    model = trained("llama", SIZE + 8)
    model.save_pretrained(tmp_path / "tuned")
    with_official_tokens().save_pretrained(tmp_path / "tuned")
    done = convert(tmp_path / "tuned", tmp_path / "out", COCONUT)
    assert ids_of(done.special_tokens) == (SIZE, SIZE + 1, SIZE + 2)
    assert done.notes == ("The tokenizer has the special tokens.",)
    words = reference_generate(model, *prompt(6), 12, 0)
    reasoner = load(tmp_path / "out")
    assert reasoner.generate([QUESTION])[0].text == reasoner.tokenizer.decode(words)


def test_renaming_special_tokens_changes_nothing_else() -> None:
    theirs = with_official_tokens()
    ours = rename_official(theirs)
    assert {OFFICIAL.get(token, token): i for token, i in theirs.get_vocab().items()} == (
        ours.get_vocab()
    )
    assert len(ours) == len(theirs)
    texts = [*TEXTS, QUESTION, "  Ünïcode \t<<>>", END, "a<|latent|b", "<bo t>"]
    for text in texts:
        ids = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == ids
        assert ours.decode(ids) == theirs.decode(ids)
    marked = "x<|start-latent|> <|latent|><|end-latent|>\n"
    renamed = marked
    for official_name, name in OFFICIAL.items():
        renamed = renamed.replace(official_name, name)
    assert ours(renamed)["input_ids"] == theirs(marked)["input_ids"]
    assert (ours.eos_token, ours.name_or_path) == (theirs.eos_token, theirs.name_or_path)


def test_renamed_special_tokens_last(tmp_path: Path) -> None:
    rename_official(with_official_tokens()).save_pretrained(tmp_path)
    vocabulary = AutoTokenizer.from_pretrained(tmp_path).get_vocab()
    assert [vocabulary[name] for name in OFFICIAL.values()] == [SIZE, SIZE + 1, SIZE + 2]
    assert not OFFICIAL.keys() & vocabulary.keys()


def test_some_of_the_official_special_tokens_or_both_kinds_are_refused() -> None:
    tokenizer = base_tokenizer()
    assert rename_official(tokenizer) is tokenizer
    tokenizer.add_tokens("<|latent|>")
    with pytest.raises(CheckpointError, match=r"all of <\|start-latent\|>"):
        rename_official(tokenizer)
    both = with_official_tokens()
    both.add_tokens("<bot>")
    with pytest.raises(CheckpointError, match="none of <bot>"):
        rename_official(both)


# --- rows that are no tokens --------------------------------------------------------------------


@pytest.mark.parametrize("num_padding", [1, 3, 8])
def test_padding_is_not_taken_for_special_tokens(
    num_padding: int, base: Make, saved: Make, tmp_path: Path, refusal: Make
) -> None:
    """Three rows of padding look like three special tokens: only the base's own table tells."""
    source = saved(trained("llama", SIZE + num_padding).state_dict())
    padded = base("llama", SIZE + num_padding)
    message = refusal(source, COCONUT, padded)
    assert "needs special tokens that were trained" in message
    done = convert(source, tmp_path / "out", COT, base=padded)
    assert done.notes[-1].startswith("The special tokens were added")
    assert done.num_rows == max(SIZE + num_padding, SIZE + 3)


def test_the_official_code_cuts_padding_off(base: Make, saved: Make, tmp_path: Path) -> None:
    """It sets the number of rows to that of the tokens, special tokens included."""
    source = saved(official(trained("llama")))
    for number, padding in enumerate((3, 8)):
        out = tmp_path / f"out-{number}"
        done = convert(source, out, COCONUT, base=base("llama", SIZE + padding))
        assert ids_of(done.special_tokens) == (SIZE, SIZE + 1, SIZE + 2)
        assert done.num_rows == SIZE + 3


@pytest.mark.parametrize("num_added", [-2, 1, 4])
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_another_number_of_rows_is_refused(
    is_wrapped: bool, num_added: int, base: Make, saved: Make, refusal: Make
) -> None:
    model = trained(num_rows=SIZE + num_added)
    source = saved(official(model) if is_wrapped else model.state_dict())
    for request in (COCONUT, COT):
        message = refusal(source, request, base())
        assert f"has {SIZE + num_added} rows, but the tokenizer has {SIZE} tokens" in message


def test_rows_that_do_not_fit_the_tokenizer_are_refused_although_the_base_has_as_many(
    base: Make, saved: Make, refusal: Make
) -> None:
    """The official wrapper leaves no padding; and a token without a row is never right."""
    wrapped = saved(official(trained("llama", SIZE + 8)))
    for request in (COCONUT, COT):
        assert f"has {SIZE + 8} rows, but" in refusal(wrapped, request, base("llama", SIZE + 8))
    few = saved(trained("llama", SIZE - 2).state_dict())
    assert f"has {SIZE - 2} rows, but" in refusal(few, COT, base("llama", SIZE - 2))


def test_some_of_our_special_tokens_in_a_base_and_three_more_rows(
    saved: Make, tmp_path: Path, refusal: Make
) -> None:
    gpt2(SIZE + 1).save_pretrained(tmp_path / "base")
    tokenizer = base_tokenizer()
    tokenizer.add_tokens("<pause>")
    tokenizer.save_pretrained(tmp_path / "base")
    source = saved(official(trained(num_rows=SIZE + 4)))
    assert f"has {SIZE + 4} rows, but" in refusal(source, COCONUT, str(tmp_path / "base"))


def test_untrained_special_tokens_are_no_latent_run(base: Make, saved: Make, refusal: Make) -> None:
    for method in ("coconut", "pause", "coconut-pause-as-thought"):
        message = refusal(
            saved(trained(num_rows=SIZE).state_dict()), replace(COCONUT, method=method), base()
        )
        assert f"{method} needs special tokens that were trained" in message


def test_a_base_with_special_tokens_and_three_more_rows_is_ambiguous(
    saved: Make, tmp_path: Path, refusal: Make
) -> None:
    """Which of the six would be the special tokens?"""
    gpt2(SIZE + 3).save_pretrained(tmp_path / "base")
    with_official_tokens().save_pretrained(tmp_path / "base")
    model = trained(num_rows=SIZE + 6)
    for weights in (official(model), model.state_dict()):
        message = refusal(saved(weights), COCONUT, str(tmp_path / "base"))
        assert f"{SIZE + 6} rows, but the tokenizer has {SIZE + 3} tokens" in message


def test_the_token_that_special_tokens_start_from_must_be_one(
    base: Make, saved: Make, tmp_path: Path, refusal: Make
) -> None:
    source = saved(trained(num_rows=SIZE).state_dict())
    request = replace(COT, special_tokens_start_from="hello world")
    assert "which is" in refusal(source, request, base(), RecipeError)
    done = convert(
        source, tmp_path / "out", replace(COT, special_tokens_start_from=END), base=base()
    )
    assert done.notes == (f"The special tokens were added, each a copy of {END!r}; cot uses none.",)


# --- every tensor is accounted for --------------------------------------------------------------


IN_WRAPPER = "base_causallm.transformer."
BIAS = IN_WRAPPER + "ln_f.bias"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            dict.fromkeys(f"{IN_WRAPPER}h.1.mlp.c_fc.{part}" for part in ("weight", "bias")),
            "2 missing: transformer.h.1.mlp.c_fc.weight, transformer.h.1.mlp.c_fc.bias",
        ),
        (
            {f"{IN_WRAPPER}h.7.attn.c_attn.weight": torch.ones(2)},
            "1 that it does not have: transformer.h.7.attn.c_attn.weight",
        ),
        (
            {f"{IN_WRAPPER}wpe.weight": torch.ones(99, 16)},
            "1 of another shape: transformer.wpe.weight (99, 16) and not (96, 16)",
        ),
        ({f"{IN_WRAPPER}wte.weight": None}, "1 missing: transformer.wte.weight"),
        ({"transformer.ln_f.bias": torch.ones(16)}, "transformer.ln_f.bias too"),
        (
            {"embedding.weight": torch.ones(SIZE + 3, 16)},
            "embedding.weight must be the input embeddings once more",
        ),
        (
            {BIAS: torch.full((16,), torch.nan)},
            "1 tensors hold numbers that are not finite (in float32): transformer.ln_f.bias",
        ),
        ({BIAS: torch.full((16,), 1e300, dtype=torch.float64)}, "not finite"),
        (
            {BIAS: torch.ones(16, dtype=torch.int8)},
            "transformer.ln_f.bias: must hold real numbers, got torch.int8",
        ),
        ({BIAS: torch.ones(16).to_sparse()}, "must be a plain dense tensor, got torch.sparse_coo"),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, Tensor | None], words: str, base: Make, saved: Make, refusal: Make
) -> None:
    weights = {**official(trained()), **changes}
    left = {name: value for name, value in weights.items() if value is not None}
    assert words in refusal(saved(left), COCONUT, base())


def test_another_base_is_named(base: Make, saved: Make, refusal: Make) -> None:
    message = refusal(saved(official(trained())), COCONUT, base("llama"))
    assert "its tensors are not those of llama as" in message
    assert "base-llama" in message
    assert "Give the --base that the run started from" in message


def test_masks_of_older_versions_are_left_out(base: Make, saved: Make, tmp_path: Path) -> None:
    weights = official(trained())
    weights["base_causallm.transformer.h.0.attn.bias"] = torch.ones(96, 96).tril() > 0
    weights["base_causallm.transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    done = convert(saved(weights), tmp_path / "out", COCONUT, base=base())
    assert done.notes[0].startswith("2 tensors are masks or frequencies")


# --- tied heads, other kinds of numbers ---------------------------------------------------------


def test_a_tied_head_may_be_absent_or_twice(base: Make, saved: Make, tmp_path: Path) -> None:
    weights = official(trained())
    assert "base_causallm.lm_head.weight" in weights
    convert(saved(weights), tmp_path / "a", COCONUT, base=base())
    del weights["base_causallm.lm_head.weight"]
    convert(saved(weights), tmp_path / "b", COCONUT, base=base())
    assert says(tmp_path / "a") == says(tmp_path / "b")
    for name in "ab":
        assert load(tmp_path / name).model.config.tie_word_embeddings


def test_a_head_that_differs_is_kept_and_untied(base: Make, saved: Make, tmp_path: Path) -> None:
    model = trained(tie_word_embeddings=False)
    done = convert(saved(official(model)), tmp_path / "out", COCONUT, base=base())
    assert "the model is no longer tied" in done.notes[0]
    reasoner = load(tmp_path / "out")
    assert reasoner.model.config.tie_word_embeddings is False
    for table in ("get_input_embeddings", "get_output_embeddings"):
        torch.testing.assert_close(
            getattr(reasoner.model, table)().weight, getattr(model, table)().weight, rtol=0, atol=0
        )
    words = reference_generate(model, *prompt(6), 12, 0)
    assert reasoner.generate([QUESTION])[0].text == reasoner.tokenizer.decode(words)


def test_an_untied_head_must_be_there(base: Make, saved: Make, refusal: Make) -> None:
    weights = official(trained("llama"))
    del weights["base_causallm.lm_head.weight"]
    assert "1 missing: lm_head.weight" in refusal(saved(weights), COCONUT, base("llama"))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_kinds_of_numbers_become_float32(
    kind: torch.dtype, base: Make, saved: Make, tmp_path: Path
) -> None:
    weights = {name: value.to(kind) for name, value in official(trained("llama")).items()}
    done = convert(saved(weights), tmp_path / "out", COCONUT, base=base("llama"))
    name = str(kind).removeprefix("torch.")
    how = "rounded" if kind == torch.float64 else "which changes no number"
    assert done.notes[0] == f"{len(weights) - 1} tensors are {name}: written as float32, {how}."
    model = load(tmp_path / "out").model
    assert model.dtype == torch.float32
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[f"base_causallm.{key}"].float())


# --- files that are not what they seem ----------------------------------------------------------


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["checkpoint_33", "pytorch_model.bin"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_code_in_a_file_is_never_run(
    is_zip: bool,
    name: str,
    base: Make,
    tmp_path: Path,
    refusal: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even if the environment asks torch to run it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "trace"
    folder = tmp_path / "theirs"
    folder.mkdir()
    weights = {**official(trained()), "base_causallm.extra": Malicious(trace)}
    torch.save(weights, folder / name, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(folder / name, weights_only=True)
    source = folder if name.endswith(".bin") else folder / name
    message = refusal(source, COCONUT, base())
    assert "Nothing of it was run" in message
    assert "system" in message
    assert not trace.exists()
    torch.load(folder / name, weights_only=False)  # it would have
    assert trace.exists()


def test_files_of_something_else(base: Make, saved: Make, tmp_path: Path, refusal: Make) -> None:
    weights = trained().state_dict()
    inner = {"model": weights, "epoch": 3}
    assert "got OrderedDict under 'model'" in refusal(saved(inner), COCONUT, base())
    assert "got a Tensor" in refusal(saved(torch.ones(3)), COCONUT, base())
    assert "got nothing" in refusal(saved({}), COCONUT, base())
    assert "got Tensor under 3" in refusal(saved({3: torch.ones(3)}), COCONUT, base())
    junk = tmp_path / "junk"
    junk.write_bytes(b"PK\x03\x04 not a checkpoint at all")
    assert "torch file" in refusal(junk, COCONUT, base())
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    assert "cannot be read as safetensors" in refusal(tmp_path / "junk.safetensors", COT, base())
    whole = saved(weights).read_bytes()
    (tmp_path / "torn").write_bytes(whole[: len(whole) // 2])
    assert "torch file" in refusal(tmp_path / "torn", COT, base())
    assert "no such file or folder" in refusal(tmp_path / "nowhere", COT, base())


def test_folders_of_something_else(
    base: Make, tmp_path: Path, refusal: Make, tiny_run: Path
) -> None:
    folder = tmp_path / "tuned"
    folder.mkdir()
    assert "holds no weights" in refusal(folder, COT, base())
    (folder / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in refusal(folder, COT, base())
    index = folder / "model.safetensors.index.json"
    for text in ("[]", "{", "[" * 10_000, '{"weight_map": {"a": 3}}', '{"weight_map": {}}'):
        index.write_text(text)
        assert str(index) in refusal(folder, COT, base())
    for name in ("../elsewhere.safetensors", "/etc/passwd", "..", "", "a\0.bin", "x.pickle"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        assert "must name files next to it" in refusal(folder, COT, base())
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    for number in (1, 2):
        save_file({"a": torch.ones(2)}, folder / f"{number}.safetensors")
    assert "which another shard holds as well" in refusal(folder, COT, base())
    for own in (tiny_run, tiny_run / "checkpoints" / "update-00000012"):
        assert "is latentcot's own already" in refusal(own, COT)


def test_bases_of_something_else(base: Make, saved: Make, tmp_path: Path, refusal: Make) -> None:
    source = saved(official(trained()))
    assert "its configuration cannot be loaded" in refusal(source, COCONUT, str(tmp_path / "no"))
    T5Config().save_pretrained(tmp_path / "t5")
    TOKENIZER.save_pretrained(tmp_path / "t5")
    assert "no causal language model" in refusal(source, COCONUT, str(tmp_path / "t5"))
    gpt2().save_pretrained(tmp_path / "bare")
    assert "its tokenizer cannot be loaded" in refusal(source, COCONUT, str(tmp_path / "bare"))
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "gemma3"}')
    assert "has no vocab_size" in refusal(source, COCONUT, str(tmp_path / "t5"))
    quantized = base(num_rows=SIZE + 1, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "is a quantized model" in refusal(source, COCONUT, quantized)


def test_code_of_a_base_is_never_run(saved: Make, tmp_path: Path, refusal: Make) -> None:
    folder, trace = tmp_path / "remote", tmp_path / "trace"
    TOKENIZER.save_pretrained(folder)
    code = f"from pathlib import Path\nPath({str(trace)!r}).touch()\nclass C: ...\n"
    (folder / "theirs.py").write_text(code)
    config = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert "is never run" in refusal(saved(official(trained())), COCONUT, str(folder))
    assert not trace.exists()


def test_a_tokenizer_without_an_end_of_text(tmp_path: Path, refusal: Make) -> None:
    trained(num_rows=SIZE).save_pretrained(tmp_path / "tuned")
    endless = PreTrainedTokenizerFast(tokenizer_object=base_tokenizer().backend_tokenizer)
    endless.save_pretrained(tmp_path / "tuned")
    assert "no end of text" in refusal(tmp_path / "tuned", COT, None, RecipeError)


# --- what must be said --------------------------------------------------------------------------


def asked(message: str) -> list[str]:
    return re.findall(r"^  (--[\w-]+)", message, re.M)


WITH_SLOTS = ["--thoughts-per-step", "--num-stages", "--pad-to-num-stages"]


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (Request(), ["--base", "--method", "--task", *WITH_SLOTS, "--stage"]),
        (Request("coconut"), ["--base", "--task", *WITH_SLOTS, "--stage"]),
        (Request("pause", "gsm8k"), ["--base", *WITH_SLOTS]),
        (Request("coconut-no-curriculum", "gsm8k", 2), ["--base", *WITH_SLOTS[1:]]),
        (Request("cot"), ["--base", "--task"]),
        (Request("icot", "gsm8k"), ["--base"]),
        (COCONUT, ["--base"]),
    ],
)
def test_all_that_is_missing_is_asked_for_at_once(
    request_: Request, options: list[str], saved: Make, refusal: Make
) -> None:
    message = refusal(saved(official(trained())), request_, None, UsageError)
    assert asked(message) == options


def test_a_folder_is_asked_only_for_what_it_lacks(
    base: Make, tmp_path: Path, refusal: Make
) -> None:
    model = trained(num_rows=SIZE)
    model.save_pretrained(tmp_path / "tuned")
    message = refusal(tmp_path / "tuned", COT, None, UsageError)
    assert asked(message) == ["--base"]
    assert "tokenizer.json" in message
    assert "config.json" not in message
    convert(tmp_path / "tuned", tmp_path / "a", COT, base=base())
    TOKENIZER.save_pretrained(tmp_path / "tuned")
    convert(tmp_path / "tuned", tmp_path / "b", COT)
    assert says(tmp_path / "a") == says(tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(UsageError, match="nothing would be taken"):
        convert(tmp_path / "tuned", tmp_path / "c", COT, base=base())


@pytest.mark.parametrize(
    ("request_", "words", "kind"),
    [
        (replace(COCONUT, method="coconutt"), "Did you mean 'coconut'", MethodError),
        (replace(COCONUT, task="gsm9k"), "Did you mean 'gsm8k'", MethodError),
        (replace(COCONUT, task=AnswerMatch("regex", "(")), "no regular expression", RecipeError),
        (replace(COCONUT, stage=5), "--stage: must be 0 … 3", UsageError),
        (replace(COCONUT, stage=-1), "--stage: must be 0 … 3", UsageError),
        (replace(COCONUT, method="pause", stage=1), "--stage: must be 3 for pause", UsageError),
        (replace(COT, stage=1), "--stage: must be 0 for cot", UsageError),
        (replace(COCONUT, method="codi"), "--method: codi answers with its projection", UsageError),
        (replace(COCONUT, thoughts_per_step=0), "--thoughts-per-step: must be at", UsageError),
        (replace(COCONUT, num_stages=-1), "--num-stages: must be at least 0", UsageError),
        (replace(COCONUT, max_new_tokens=0), "--max-new-tokens: must be at", UsageError),
    ],
)
def test_values_that_cannot_be(
    request_: Request, words: str, kind: type[Exception], base: Make, saved: Make, refusal: Make
) -> None:
    assert words in refusal(saved(official(trained())), request_, base(), kind)


# --- where it goes ------------------------------------------------------------------------------


def test_what_is_there_is_not_lost(base: Make, saved: Make, tmp_path: Path) -> None:
    source, out = saved(official(trained())), tmp_path / "out"
    given = base()

    def write(**options: Any) -> Conversion:
        return convert(source, out, COCONUT, base=given, **options)

    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="is no checkpoint of latentcot"):
            write(overwrite=overwrite)
    assert (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()
    write()  # an empty folder is in nobody's way
    with pytest.raises(RunError, match="Give --overwrite"):
        write()
    (out / "modules.safetensors").touch()
    write(overwrite=True)
    assert not (out / "modules.safetensors").exists()
    assert load(out).info.method == "coconut"


def test_inputs_are_not_overwritten(base: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = base()
    torch.save(official(trained()), tmp_path / "checkpoint_33")
    convert(tmp_path / "checkpoint_33", out, COCONUT, base=given)
    (tmp_path / "checkpoint_33").rename(out / "checkpoint_33")
    with pytest.raises(RunError, match="is read from there"):
        convert(out / "checkpoint_33", out, COCONUT, base=given, overwrite=True)
    assert (out / "checkpoint_33").exists()


def test_a_failure_leaves_nothing_behind(
    base: Make, saved: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError("No space left on device")

    source, given = saved(official(trained())), base()
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(GPT2LMHeadModel, "save_pretrained", full)
    with pytest.raises(RunError, match="No space left"):
        convert(source, tmp_path / "out", COCONUT, base=given)
    assert sorted(tmp_path.iterdir()) == before


def test_a_converted_checkpoint_can_be_trained_on(
    base: Make, saved: Make, tmp_path: Path, make_recipe: Make
) -> None:
    """As the official code starts Coconut from a chain-of-thought checkpoint."""
    convert(saved(trained(num_rows=SIZE).state_dict()), tmp_path / "cot", COT, base=base())
    recipe = make_recipe(
        model=str(tmp_path / "cot"), training={"max_updates": 1}, data={"max_train": 8}
    )
    assert train(replace(recipe, seed=1), tmp_path / "run", is_quiet=True)
    assert load(tmp_path / "run").tokenizer.get_vocab()["<bot>"] == SIZE


# --- the command line ---------------------------------------------------------------------------


def test_the_command_and_what_comes_after_it(
    latentcot: Make, base: Make, saved: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(official(trained()))
    base()
    numbers = ("--thoughts-per-step", 2, "--num-stages", 3, "--stage", 3, "--pad-to-num-stages")
    words = ("convert", "checkpoint_33", "--out", "out", "--base", f"base-gpt2-{SIZE}")
    what = ("--method", "coconut", "--task", "gsm8k", "--max-new-tokens", 12)
    done = latentcot(*words, *what, *numbers)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "checkpoint_33 → out",
        "  method    coconut, stage 3 of 3, 6 latent positions",
        f"  weights   30 tensors, {SIZE + 3} rows, float32",
        f"  special   <bot> {SIZE}, <eot> {SIZE + 1}, <pause> {SIZE + 2}",
        r'  template  question_end "\n", step_end "\n", answer_start "### "',
        "  note      The last three rows are the official special tokens.",
        "Evaluate it: latentcot eval out --data FILE",
    ]
    example = {"question": QUESTION, "steps": ["<<3+4=7>>"], "answer": "7"}
    Path("data.jsonl").write_text(json.dumps(example) + "\n")
    shown = latentcot("eval", "out", "--data", "data.jsonl", "--json")
    result = json.loads(shown.out)
    assert (result["method"], result["thoughts_per_question"]) == ("coconut", 6)
    said = latentcot("generate", "out", QUESTION)
    assert said.out.rstrip("\n") == load("out").generate([QUESTION])[0].text.rstrip("\n")
    assert result["records"][0]["text"] == load("out").generate([QUESTION])[0].text
    again = latentcot(*words, *what, *numbers)
    assert (again.code, "exists already" in again.err) == (2, True)


def test_the_command_asks(latentcot: Make, saved: Make, tmp_path: Path) -> None:
    done = latentcot("convert", saved(official(trained())), "--out", tmp_path / "out")
    assert done.code == 2
    assert asked(done.err) == ["--base", "--method", "--task", *WITH_SLOTS, "--stage"]


def test_the_command_takes_another_template_and_rule(
    latentcot: Make, base: Make, saved: Make, tmp_path: Path
) -> None:
    source = saved(trained(num_rows=SIZE).state_dict())
    words = ("convert", source, "--out", tmp_path / "out", "--base", base(), "--method", "cot")
    sets = ("--set", r'template.answer_start="So: "', "--set", r'template.step_end="\n\n"')
    assert latentcot(*words, *sets, "--task", "regex:[a-z]+").code == 0
    info = load(tmp_path / "out").info
    assert info.template == Template("\n", "\n\n", "So: ")
    assert info.task == AnswerMatch("regex", "[a-z]+")
    for wrong in ("template.answer_start=### ", "template.start=x", "step_end=3", "step_end"):
        done = latentcot(*words, "--task", "number", "--set", wrong)
        assert (done.code, "must be KEY=TEXT" in done.err) == (2, True)
