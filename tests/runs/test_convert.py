"""Weights of others: state dicts of the official shape, made here by hand, and plain folders.

What a converted checkpoint thinks and says is held to the slow reference on the original model,
with the official ids.
"""

import json
import os
import pickle
import re
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


def slow_case(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


class Desk:
    """Where what others have saved lies, and what becomes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"

    def base(self, family: str = "gpt2", num_rows: int = SIZE, **options: Any) -> str:
        """A folder with configuration and tokenizer alone."""
        folder = self.folder / f"base-{family}-{num_rows}"
        FAMILIES[family][1](num_rows, **options).save_pretrained(folder)
        TOKENIZER.save_pretrained(folder)
        return str(folder)

    def saved(self, what: Any) -> Path:
        """A file that `torch.save` wrote, named as the official code does; of a path that path."""
        if isinstance(what, Path):
            return what
        torch.save(what, self.folder / "checkpoint_33")
        return self.folder / "checkpoint_33"

    def convert(
        self, what: Any, request: Request = COCONUT, base: str | None = "", **options: Any
    ) -> Conversion:
        """Convert weights, or what lies at a path; the base is that of GPT-2 if none is said."""
        base = self.base() if base == "" else base
        return convert(self.saved(what), self.out, request, base=base, **options)

    def refusal(
        self,
        what: Any,
        request: Request = COCONUT,
        base: str | None = "",
        kind: type[Exception] = CheckpointError,
    ) -> str:
        """The message of `convert`; nothing may have been written."""
        base, what = self.base() if base == "" else base, self.saved(what)
        before = sorted(self.folder.rglob("*"))
        with pytest.raises(kind) as caught:
            self.convert(what, request, base)
        assert sorted(self.folder.rglob("*")) == before
        return str(caught.value)

    def says(self) -> str:
        return load(self.out).generate([QUESTION])[0].text


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def prompt(num_thoughts: int) -> tuple[list[int], int, list[int]]:
    """The question as the official code lays it out: prefix, thoughts, suffix."""
    start, end = SIZE, SIZE + 1
    question = TOKENIZER(QUESTION + "\n", add_special_tokens=False)["input_ids"]
    return [*question, start], num_thoughts, [end]


def ids_of(special_tokens: SpecialTokens) -> tuple[int, int, int]:
    return special_tokens.bot, special_tokens.eot, special_tokens.pause


def words_without_thoughts(model: PreTrainedModel) -> list[int]:
    question = prompt(0)[0][:-1]
    return reference_generate(model, question[:-1], 0, question[-1:], 12, 0)


# --- weights of the official code ---------------------------------------------------------------


@pytest.mark.parametrize(("family", "before"), [("gpt2", ""), ("llama", "module.")])
def test_an_official_checkpoint_thinks_and_says_the_same(family, before, desk):
    model = trained(family)
    source = desk.saved(official(model, before))
    was = source.read_bytes()
    done = desk.convert(source, base=desk.base(family))
    assert source.read_bytes() == was
    assert ids_of(done.special_tokens) == (SIZE, SIZE + 1, SIZE + 2)
    assert done.num_rows == SIZE + 3

    reasoner = load(desk.out)
    info = reasoner.info
    assert (info.method, info.stage, info.num_thoughts) == ("coconut", 3, 6)
    prefix, count, suffix = prompt(6)
    states, thoughts = reference_states(model, prefix, count, suffix)
    thinking = reasoner.think([QUESTION])
    torch.testing.assert_close(thinking.thoughts[0], thoughts, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(thinking.last_states[0], states[0], rtol=1e-3, atol=1e-4)
    words = reference_generate(model, prefix, count, suffix, 12, 0)
    said = reasoner.generate([QUESTION])[0]
    assert said.text == reasoner.tokenizer.decode(words)
    assert said.num_thoughts == 6
    assert len(words) > 5


def test_pause_tokens_are_the_official_latent_token(desk):
    model = trained()
    desk.convert(official(model), replace(COCONUT, method="coconut-pause-as-thought"))
    prefix, count, suffix = prompt(6)
    words = reference_generate(model, prefix, 0, [*[SIZE + 2] * count, *suffix], 12, 0)
    reasoner = load(desk.out)
    said = reasoner.generate([QUESTION])[0]
    assert (said.text, said.num_thoughts) == (reasoner.tokenizer.decode(words), 0)


@pytest.mark.parametrize(("family", "num_added"), [("gpt2", 0), ("gpt2", 3), ("llama", 0)])
def test_a_chain_of_thought_checkpoint_says_the_same(family, num_added, desk):
    """Saved without the wrapper, with or without the three rows, which it never reads."""
    model = trained(family, SIZE + num_added)
    done = desk.convert(model.state_dict(), COT, desk.base(family))
    assert ids_of(done.special_tokens) == (SIZE, SIZE + 1, SIZE + 2)
    reasoner = load(desk.out)
    said = reasoner.generate([QUESTION])[0]
    assert said.text == reasoner.tokenizer.decode(words_without_thoughts(model))
    assert (said.num_thoughts, reasoner.info.stage) == (0, 0)
    table = reasoner.model.get_input_embeddings().weight
    assert torch.equal(table[: SIZE + num_added], model.get_input_embeddings().weight)
    if not num_added:
        copied = table[TOKENIZER.convert_tokens_to_ids("<<")]
        assert all(torch.equal(row, copied) for row in table[SIZE:])


def test_what_an_example_becomes_is_the_official_layout(desk):
    desk.convert(official(trained()))
    reasoner = load(desk.out)
    example = Example("1", QUESTION, ("<<3+4=7>>", "<<7-2=5>>"), "5")
    [layout] = reasoner.prompts(reasoner.encode([example]))
    prefix, count, suffix = prompt(6)
    assert (list(layout.prefix), layout.num_latents, list(layout.suffix)) == (prefix, count, suffix)
    [encoded] = encode([example], reasoner.tokenizer, reasoner.info.template)
    whole = [*encoded.question, *(t for step in encoded.steps or () for t in step)]
    text = TOKENIZER.decode([*whole, *encoded.answer])
    assert text == f"{QUESTION}\n<<3+4=7>>\n<<7-2=5>>\n### 5"


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
def test_the_stage_tells_the_number_of_thoughts(request_, stage, num_thoughts, desk):
    info = desk.convert(official(trained()), request_).info
    assert (info.stage, info.num_thoughts) == (stage, num_thoughts)
    assert info.plan.final_stage_without_text == (stage == 4)
    assert (info.update, info.zero_thoughts, info.template) == (0, "both", Template())


# --- plain fine-tuning --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["whole", "shards", "bin", slow_case("bin-shards"), "safetensors-file"]
)
def test_a_plain_folder_or_file(form, desk):
    model = trained(num_rows=SIZE)
    folder = desk.folder / "tuned"
    model.save_pretrained(folder, max_shard_size="20KB" if "shards" in form else "1GB")
    TOKENIZER.save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) == (3 if "shards" in form else 1)
    if form.startswith("bin"):
        as_torch_files(folder)
    is_file = form == "safetensors-file"
    source = folder / "model.safetensors" if is_file else folder
    done = desk.convert(source, COT, "" if is_file else None)
    assert done.notes == ("The special tokens were added, each a copy of '<<'; cot uses none.",)
    assert desk.says() == TOKENIZER.decode(words_without_thoughts(model))


def as_torch_files(folder):
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


def with_tokens(*tokens):
    tokenizer = base_tokenizer()
    for token in tokens:
        tokenizer.add_tokens(token)
    return tokenizer


def test_a_folder_whose_tokenizer_has_the_official_special_tokens(desk):
    """Its table is padded too: only the names show which rows are special tokens."""
    model = trained("llama", SIZE + 8)
    model.save_pretrained(desk.folder / "tuned")
    with_tokens(*OFFICIAL).save_pretrained(desk.folder / "tuned")
    done = desk.convert(desk.folder / "tuned", COCONUT, None)
    assert ids_of(done.special_tokens) == (SIZE, SIZE + 1, SIZE + 2)
    assert done.notes == ("The tokenizer has the special tokens.",)
    reasoner = load(desk.out)
    assert desk.says() == reasoner.tokenizer.decode(reference_generate(model, *prompt(6), 12, 0))


def test_renaming_special_tokens_changes_nothing_else(tmp_path):
    theirs = with_tokens(*OFFICIAL)
    ours = rename_official(theirs)
    renamed = {OFFICIAL.get(token, token): i for token, i in theirs.get_vocab().items()}
    assert ours.get_vocab() == renamed
    for text in [*TEXTS, QUESTION, "  Ünïcode \t<<>>", END, "a<|latent|b", "<bo t>"]:
        ids = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == ids
        assert ours.decode(ids) == theirs.decode(ids)
    marked = theirs("x<|start-latent|> <|latent|><|end-latent|>\n")["input_ids"]
    assert ours("x<bot> <pause><eot>\n")["input_ids"] == marked
    assert (ours.eos_token, ours.name_or_path) == (theirs.eos_token, theirs.name_or_path)
    ours.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == renamed


def test_some_of_the_official_special_tokens_or_both_kinds_are_refused():
    tokenizer = base_tokenizer()
    assert rename_official(tokenizer) is tokenizer
    with pytest.raises(CheckpointError, match=r"all of <\|start-latent\|>"):
        rename_official(with_tokens("<|latent|>"))
    with pytest.raises(CheckpointError, match="none of <bot>"):
        rename_official(with_tokens(*OFFICIAL, "<bot>"))


# --- rows that are no tokens --------------------------------------------------------------------


@pytest.mark.parametrize("num_padding", [slow_case(1), 3, slow_case(8)])
def test_padding_is_not_taken_for_special_tokens(num_padding, desk):
    """Three rows of padding look like three special tokens: only the base's own table tells."""
    source = desk.saved(trained("llama", SIZE + num_padding).state_dict())
    padded = desk.base("llama", SIZE + num_padding)
    assert "needs special tokens that were trained" in desk.refusal(source, COCONUT, padded)
    done = desk.convert(source, COT, padded)
    assert done.notes[-1].startswith("The special tokens were added")
    assert done.num_rows == max(SIZE + num_padding, SIZE + 3)


def test_the_official_code_cuts_padding_off(desk):
    """It sets the number of rows to that of the tokens, special tokens included."""
    source = desk.saved(official(trained("llama")))
    for padding in (3, 8):
        done = desk.convert(source, base=desk.base("llama", SIZE + padding), overwrite=True)
        assert ids_of(done.special_tokens) == (SIZE, SIZE + 1, SIZE + 2)
        assert done.num_rows == SIZE + 3


@pytest.mark.parametrize(
    ("family", "num_added", "is_wrapped", "num_padding"),
    [
        slow_case("gpt2", -2, True, 0),
        ("gpt2", 1, False, 0),
        ("gpt2", 4, True, 0),
        slow_case("gpt2", 4, False, 0),
        # As many rows as the base has; but the official wrapper leaves no padding,
        ("llama", 8, True, 8),
        # and a token without a row is never right.
        ("llama", -2, False, -2),
    ],
)
def test_another_number_of_rows_is_refused(family, num_added, is_wrapped, num_padding, desk):
    model = trained(family, SIZE + num_added)
    source = desk.saved(official(model) if is_wrapped else model.state_dict())
    base = desk.base(family, SIZE + num_padding)
    for request in (COCONUT, COT):
        message = desk.refusal(source, request, base)
        assert f"has {SIZE + num_added} rows, but the tokenizer has {SIZE} tokens" in message


@pytest.mark.parametrize(
    ("tokens", "is_wrapped"), [(["<pause>"], True), (OFFICIAL, True), (OFFICIAL, False)]
)
def test_a_base_with_special_tokens_and_three_more_rows_is_ambiguous(tokens, is_wrapped, desk):
    """Which of them would be the special tokens?"""
    base = desk.base(num_rows=SIZE + len(tokens))
    with_tokens(*tokens).save_pretrained(base)
    model = trained(num_rows=SIZE + len(tokens) + 3)
    message = desk.refusal(official(model) if is_wrapped else model.state_dict(), COCONUT, base)
    assert f"has {SIZE + len(tokens) + 3} rows, but the tokenizer has" in message


@pytest.mark.parametrize("method", ["coconut", "pause", "coconut-pause-as-thought"])
def test_untrained_special_tokens_are_no_latent_run(method, desk):
    message = desk.refusal(trained(num_rows=SIZE).state_dict(), replace(COCONUT, method=method))
    assert f"{method} needs special tokens that were trained" in message


def test_the_token_that_special_tokens_start_from_must_be_one(desk):
    source = desk.saved(trained(num_rows=SIZE).state_dict())
    request = replace(COT, special_tokens_start_from="hello world")
    assert "which is" in desk.refusal(source, request, kind=RecipeError)
    done = desk.convert(source, replace(COT, special_tokens_start_from=END))
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
def test_what_does_not_fit_is_named(changes, words, desk):
    weights = {**official(trained()), **changes}
    left = {name: value for name, value in weights.items() if value is not None}
    assert words in desk.refusal(left)


def test_another_base_is_named(desk):
    message = desk.refusal(official(trained()), base=desk.base("llama"))
    for words in ("its tensors are not those of llama as", "base-llama", "Give the --base that"):
        assert words in message


def test_masks_of_older_versions_are_left_out(desk):
    weights = official(trained())
    weights["base_causallm.transformer.h.0.attn.bias"] = torch.ones(96, 96).tril() > 0
    weights["base_causallm.transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    done = desk.convert(weights)
    assert done.notes[0].startswith("2 tensors are masks or frequencies")


# --- tied heads, other kinds of numbers ---------------------------------------------------------


def test_a_tied_head_may_be_absent_or_twice(desk):
    weights, said = official(trained()), []
    assert "base_causallm.lm_head.weight" in weights
    for _ in range(2):
        desk.convert(weights, overwrite=True)
        assert load(desk.out).model.config.tie_word_embeddings
        said.append(desk.says())
        weights.pop("base_causallm.lm_head.weight", None)
    assert said[0] == said[1]


def test_a_head_that_differs_is_kept_and_untied(desk):
    model = trained(tie_word_embeddings=False)
    done = desk.convert(official(model))
    assert "the model is no longer tied" in done.notes[0]
    reasoner = load(desk.out)
    assert reasoner.model.config.tie_word_embeddings is False
    for table in ("get_input_embeddings", "get_output_embeddings"):
        assert torch.equal(getattr(reasoner.model, table)().weight, getattr(model, table)().weight)
    assert desk.says() == reasoner.tokenizer.decode(reference_generate(model, *prompt(6), 12, 0))


def test_an_untied_head_must_be_there(desk):
    weights = official(trained("llama"))
    del weights["base_causallm.lm_head.weight"]
    assert "1 missing: lm_head.weight" in desk.refusal(weights, base=desk.base("llama"))


@pytest.mark.parametrize("kind", [torch.bfloat16, slow_case(torch.float16), torch.float64])
def test_other_kinds_of_numbers_become_float32(kind, desk):
    weights = {name: value.to(kind) for name, value in official(trained("llama")).items()}
    done = desk.convert(weights, base=desk.base("llama"))
    name = str(kind).removeprefix("torch.")
    how = "rounded" if kind == torch.float64 else "which changes no number"
    assert done.notes[0] == f"{len(weights) - 1} tensors are {name}: written as float32, {how}."
    model = load(desk.out).model
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
def test_code_in_a_file_is_never_run(is_zip, name, monkeypatch, desk):
    """Even if the environment asks torch to run it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace, folder = desk.folder / "trace", desk.folder / "theirs"
    folder.mkdir()
    weights = {**official(trained()), "base_causallm.extra": Malicious(trace)}
    torch.save(weights, folder / name, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(folder / name, weights_only=True)
    message = desk.refusal(folder if name.endswith(".bin") else folder / name)
    assert "Nothing of it was run" in message and "system" in message
    assert not trace.exists()
    torch.load(folder / name, weights_only=False)  # it would have
    assert trace.exists()


def test_files_of_something_else(desk):
    base, folder = desk.base(), desk.folder
    whole = desk.saved(weights := trained().state_dict()).read_bytes()
    (folder / "torn").write_bytes(whole[: len(whole) // 2])
    (folder / "junk").write_bytes(b"PK\x03\x04 not a checkpoint at all")
    (folder / "junk.safetensors").write_bytes(b"junk")
    for what, words in (
        ({"model": weights, "epoch": 3}, "got OrderedDict under 'model'"),
        (torch.ones(3), "got a Tensor"),
        ({}, "got nothing"),
        ({3: torch.ones(3)}, "got Tensor under 3"),
        (folder / "junk", "torch file"),
        (folder / "junk.safetensors", "cannot be read as safetensors"),
        (folder / "torn", "torch file"),
        (folder / "nowhere", "no such file or folder"),
    ):
        assert words in desk.refusal(what, COT, base)


def test_folders_of_something_else(desk, tiny_run):
    base, folder = desk.base(), desk.folder / "tuned"
    folder.mkdir()
    assert "holds no weights" in desk.refusal(folder, COT, base)
    (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    assert "must be plain LoRA to be merged" in desk.refusal(folder, COT, base)
    for key, value in (("init_lora_weights", "pissa"), ("lora_bias", True)):  # more than B·A
        told = {"peft_type": "LORA", "lora_alpha": 8, key: value}
        (folder / "adapter_config.json").write_text(json.dumps(told))
        assert key in desk.refusal(folder, COT, base)
    (folder / "adapter_config.json").unlink()
    index = folder / "model.safetensors.index.json"
    for text in ("[]", "{", "[" * 10_000, '{"weight_map": {"a": 3}}', '{"weight_map": {}}'):
        index.write_text(text)
        assert str(index) in desk.refusal(folder, COT, base)
    for name in ("../elsewhere.safetensors", "/etc/passwd", "..", "", "a\0.bin", "x.pickle"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        assert "must name files next to it" in desk.refusal(folder, COT, base)
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    for number in (1, 2):
        save_file({"a": torch.ones(2)}, folder / f"{number}.safetensors")
    assert "which another shard holds as well" in desk.refusal(folder, COT, base)
    for own in (tiny_run, tiny_run / "checkpoints" / "update-00000012"):
        assert "is latentcot's own already" in desk.refusal(own, COT, None)


@pytest.mark.slow
def test_bases_of_something_else(desk):
    source, t5, bare = desk.saved(official(trained())), desk.folder / "t5", desk.folder / "bare"
    T5Config().save_pretrained(t5)
    TOKENIZER.save_pretrained(t5)
    gpt2().save_pretrained(bare)
    quantized = {"quant_method": "gptq", "bits": 4}
    for base, words in (
        (desk.folder / "no", "its configuration cannot be loaded"),
        (t5, "no causal language model"),
        (bare, "its tokenizer cannot be loaded"),
        (desk.base(num_rows=SIZE + 1, quantization_config=quantized), "is a quantized model"),
    ):
        assert words in desk.refusal(source, base=str(base))
    (t5 / "config.json").write_text('{"model_type": "gemma3"}')
    assert "has no vocab_size" in desk.refusal(source, base=str(t5))


def test_code_of_a_base_is_never_run(desk):
    folder, trace = desk.folder / "remote", desk.folder / "trace"
    TOKENIZER.save_pretrained(folder)
    code = f"from pathlib import Path\nPath({str(trace)!r}).touch()\nclass C: ...\n"
    (folder / "theirs.py").write_text(code)
    config = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert "is never run" in desk.refusal(official(trained()), base=str(folder))
    assert not trace.exists()


def test_a_tokenizer_without_an_end_of_text(desk):
    folder = desk.folder / "tuned"
    trained(num_rows=SIZE).save_pretrained(folder)
    endless = PreTrainedTokenizerFast(tokenizer_object=base_tokenizer().backend_tokenizer)
    endless.save_pretrained(folder)
    assert "no end of text" in desk.refusal(folder, COT, None, RecipeError)


# --- what must be said --------------------------------------------------------------------------


def asked(message):
    return re.findall(r"^  (--[\w-]+)", message, re.M)


OF_THOUGHTS = ["--thoughts-per-step", "--num-stages", "--pad-to-num-stages"]


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (Request("coconut"), ["--base", "--task", *OF_THOUGHTS, "--stage"]),
        (Request("pause", "gsm8k"), ["--base", *OF_THOUGHTS]),
        (Request("coconut-no-curriculum", "gsm8k", 2), ["--base", *OF_THOUGHTS[1:]]),
        (Request("cot"), ["--base", "--task"]),
        (Request("icot", "gsm8k"), ["--base"]),
        (COCONUT, ["--base"]),
    ],
)
def test_all_that_is_missing_is_asked_for_at_once(request_, options, desk):
    message = desk.refusal(official(trained()), request_, None, UsageError)
    assert asked(message) == options


def test_a_folder_is_asked_only_for_what_it_lacks(desk):
    model, folder = trained(num_rows=SIZE), desk.folder / "tuned"
    model.save_pretrained(folder)
    message = desk.refusal(folder, COT, None, UsageError)
    assert asked(message) == ["--base"]
    assert "(tokenizer.json cannot be told" in message
    desk.convert(folder, COT)
    said = desk.says()
    TOKENIZER.save_pretrained(folder)
    desk.convert(folder, COT, None, overwrite=True)
    assert desk.says() == said
    with pytest.raises(UsageError, match="nothing would be taken"):
        desk.convert(folder, COT)


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
        (
            replace(COCONUT, method="codi", thoughts_per_step=None),
            "beside the model, but there is nothing",
            CheckpointError,
        ),
        (replace(COCONUT, thoughts_per_step=0), "--thoughts-per-step: must be at", UsageError),
        (replace(COCONUT, num_stages=-1), "--num-stages: must be at least 0", UsageError),
        (replace(COCONUT, max_new_tokens=0), "--max-new-tokens: must be at", UsageError),
    ],
)
def test_values_that_cannot_be(request_, words, kind, desk):
    assert words in desk.refusal(official(trained()), request_, kind=kind)


# --- where it goes ------------------------------------------------------------------------------


def test_what_is_there_is_not_lost(desk):
    source, out = desk.saved(official(trained())), desk.out
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="is no checkpoint of latentcot"):
            desk.convert(source, overwrite=overwrite)
    assert (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()
    desk.convert(source)  # an empty folder is in nobody's way
    with pytest.raises(RunError, match="Give --overwrite"):
        desk.convert(source)
    (out / "modules.safetensors").touch()
    desk.convert(source, overwrite=True)
    assert not (out / "modules.safetensors").exists()
    assert load(out).info.method == "coconut"
    source = source.rename(out / "checkpoint_33")
    with pytest.raises(RunError, match="is read from there"):
        desk.convert(source, overwrite=True)
    assert source.exists()


def test_a_failure_leaves_nothing_behind(desk, monkeypatch):
    def full(*args: Any, **options: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(GPT2LMHeadModel, "save_pretrained", full)
    assert "No space left" in desk.refusal(official(trained()), kind=RunError)


def test_a_converted_checkpoint_can_be_trained_on(desk, make_recipe):
    """As the official code starts Coconut from a chain-of-thought checkpoint."""
    desk.convert(trained(num_rows=SIZE).state_dict(), COT)
    recipe = make_recipe(
        model=str(desk.out), training={"max_updates": 1}, data={"max_train": 8}, seed=1
    )
    assert train(recipe, desk.folder / "run", is_quiet=True)
    assert load(desk.folder / "run").tokenizer.get_vocab()["<bot>"] == SIZE


# --- the command line ---------------------------------------------------------------------------


def test_the_command_and_what_comes_after_it(latentcot, desk, monkeypatch):
    monkeypatch.chdir(desk.folder)
    desk.saved(official(trained()))
    desk.base()
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
    result = json.loads(latentcot("eval", "out", "--data", "data.jsonl", "--json").out)
    assert (result["method"], result["thoughts_per_question"]) == ("coconut", 6)
    assert result["records"][0]["text"] == desk.says()


def test_the_command_asks(latentcot, desk):
    done = latentcot("convert", desk.saved(official(trained())), "--out", desk.out)
    assert done.code == 2
    assert asked(done.err) == ["--base", "--method", "--task", *OF_THOUGHTS, "--stage"]


def test_the_command_takes_another_template_and_rule(latentcot, desk):
    source = desk.saved(trained(num_rows=SIZE).state_dict())
    words = ("convert", source, "--out", desk.out, "--base", desk.base(), "--method", "cot")
    sets = ("--set", r'template.answer_start="So: "', "--set", r'template.step_end="\n\n"')
    assert latentcot(*words, *sets, "--task", "regex:[a-z]+").code == 0
    info = load(desk.out).info
    assert info.template == Template("\n", "\n\n", "So: ")
    assert info.task == AnswerMatch("regex", "[a-z]+")
    for wrong in ("template.answer_start=### ", "template.start=x", "step_end=3", "step_end"):
        done = latentcot(*words, "--task", "number", "--set", wrong)
        assert (done.code, "must be KEY=TEXT" in done.err) == (2, True)
