"""Weights that CODI, SIM-CoT, PCCoT, LOTUS and CoLaR save: made here in their shapes, by peft.

What a converted checkpoint thinks and says is held to the slow reference on the model that was
saved, with its adapters where they were and its special tokens under its own ids.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from base_tokenizers import base_tokenizer
from latentcot import CheckpointError, UsageError, load
from latentcot.data.examples import Example, write_examples
from latentcot.runs.convert import Conversion, Request, convert
from latentcot.runs.origins import beside
from reference import embed, last_hidden, reference_generate, reference_states

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

QUESTION = "Tom has 3 apples. How many are left?"
TOKENIZER = base_tokenizer()
SIZE, WIDTH = len(TOKENIZER), 16
IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
CODI = Request("codi", "gsm8k", max_new_tokens=12, settings={"num_latents": 3}, lora_alpha=4)
TARGETS = {
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"],
}


def made(family: str, num_rows: int = SIZE) -> Any:
    if family == "gpt2":
        sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 96}
        return GPT2LMHeadModel(GPT2Config(vocab_size=num_rows, **sizes, **IDS))
    sizes = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96}
    return LlamaForCausalLM(LlamaConfig(vocab_size=num_rows, **sizes, **heads, **IDS))


def stirred(model: Any) -> Any:
    """Large uneven weights, adapters and rows too: what is said depends on all of them."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            scale = 0.5 if parameter.dim() == 2 else 0.2
            is_norm = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(scale * noise + is_norm)
    return model.eval()


def with_projection(kind: str) -> nn.Sequential:
    """As CODI and PCCoT build it."""
    linear = [nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)]
    if kind == "pccot":
        return nn.Sequential(*linear, nn.LayerNorm(WIDTH))
    layers = nn.Sequential(nn.Dropout(0.0), *linear)
    layers.add_module("ln", nn.LayerNorm(WIDTH))
    return layers


class Codi(nn.Module):
    """Its parts, under its names; with `decoder` as SIM-CoT's on CODI."""

    def __init__(self, family: str, has_decoder: bool) -> None:
        super().__init__()
        model = made(family, SIZE + 3)
        is_gpt2 = family == "gpt2"
        lora = peft.LoraConfig(
            r=2, lora_alpha=4, target_modules=TARGETS[family], fan_in_fan_out=is_gpt2
        )
        self.codi = peft.get_peft_model(model, lora)
        self.prj = with_projection("codi")
        if has_decoder:
            self.decoder, self.pj_in = made(family), nn.Linear(WIDTH, WIDTH)

    def project(self, model: nn.Module, number: int, thought: Tensor) -> Tensor:
        return self.prj(thought)


class Desk:
    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"

    def base(self, family: str, model: Any = None) -> str:
        """The model that a run started from, with its tokenizer."""
        folder = self.folder / f"base-{family}"
        (model or made(family)).save_pretrained(folder)
        TOKENIZER.save_pretrained(folder)
        return str(folder)

    def convert(self, saved: Any, request: Request, base: str | None) -> Conversion:
        source = saved
        if not isinstance(saved, Path):
            source = self.folder / "pytorch_model.bin"
            torch.save(saved, source)
        return convert(source, self.out, request, base=base)

    def thinks_and_says(self) -> tuple[Tensor, str, Any]:
        reasoner = load(self.out)
        thoughts = reasoner.think([QUESTION]).thoughts[0]
        return thoughts, reasoner.generate([QUESTION])[0].text, reasoner


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def question(ends: str = "") -> list[int]:
    return TOKENIZER(QUESTION + ends, add_special_tokens=False)["input_ids"]


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "has_decoder", "before"),
    [
        ("gpt2", False, ""),
        pytest.param("llama", True, "module.", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_codi_and_simcot_on_it(
    family: str, has_decoder: bool, before: str, desk: Desk, latentcot: Callable[..., Any]
) -> None:
    """Adapters are merged, the projection comes along, the decoder is left out; analyses work."""
    trained = stirred(Codi(family, has_decoder))
    saved = {before + name: value.clone() for name, value in trained.state_dict().items()}
    done = desk.convert(saved, CODI, desk.base(family))
    tokens = done.special_tokens  # behind the vocabulary: padding, <bot>, <eot>
    assert (tokens.pause, tokens.bot, tokens.eot) == (SIZE, SIZE + 1, SIZE + 2)
    assert any("adapters of rank 2 were merged, alpha 4" in note for note in done.notes)
    assert any("only training needs" in note for note in done.notes) == has_decoder
    assert done.info.template.answer_start == "The answer is: "

    model, prefix = trained.codi.get_base_model(), [*question(), SIZE + 1]
    _, expected = reference_states(model, prefix, 3, [SIZE + 2], fill=trained.project)
    words = reference_generate(model, prefix, 3, [SIZE + 2], 12, 0, fill=trained.project)
    thoughts, text, reasoner = desk.thinks_and_says()
    assert_near(thoughts, expected)
    assert text == reasoner.tokenizer.decode(words) and len(words) > 5

    file = desk.folder / "questions.jsonl"
    write_examples(file, [Example(str(i), f"{QUESTION} {i}", ("1",), str(i)) for i in range(4)])
    only = ["--only", "decoding"] if family == "gpt2" else []
    words = ["--data", file, "--out", desk.folder / "page.html", *only]
    analyzed = latentcot("analyze", desk.out, *words)
    assert analyzed.code == 0, analyzed.err


@pytest.mark.parametrize("decoder", ["expainable_llm.", "ia_decoder.model."])
@torch.no_grad()
def test_simcot_on_coconut_and_lotus(decoder: str, desk: Desk) -> None:
    """The official wrapper with a decoder beside it, whose table lacks the special tokens."""
    trained = stirred(made("gpt2", SIZE + 3))
    saved = {f"base_causallm.{name}": value for name, value in trained.state_dict().items()}
    saved |= {f"{decoder}{name}": value for name, value in made("gpt2").state_dict().items()}
    saved["embedding.weight"] = trained.get_input_embeddings().weight
    request = Request("simcot", "gsm8k", 2, 2, 2, True, max_new_tokens=12)
    done = desk.convert(saved, request, desk.base("gpt2"))
    assert any(decoder in note and "left out" in note for note in done.notes)
    _, expected = reference_states(trained, [*question("\n"), SIZE], 4, [SIZE + 1])
    thoughts, _, reasoner = desk.thinks_and_says()
    assert_near(thoughts, expected)
    assert reasoner.info.method["host"] == "coconut"


def pccot_folder(desk: Desk) -> tuple[Path, Any, dict[str, int]]:
    """What PCCoT's trainer writes: adapters, trained rows, projection, settings, tokenizer."""
    names = ("<pccot.bot>", "<pccot.eot>", "<pccot.latent>", "[PAD]")
    tokenizer = base_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(names[:3])})
    tokenizer.add_special_tokens({"pad_token": names[3]})
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(list(names)), strict=True))
    model = made("gpt2")
    torch.manual_seed(0)
    base = desk.base("gpt2", stirred(model))
    model.resize_token_embeddings(len(tokenizer))
    model.prj = with_projection("pccot")
    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules=TARGETS["gpt2"], fan_in_fan_out=True,
        trainable_token_indices={"wte": [*ids.values(), 0]}, modules_to_save=["prj"],
    )  # fmt: skip
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    trained = peft.get_peft_model(model, config)
    trained = stirred(trained)
    with torch.no_grad():  # the frozen weights are those of the base
        for name, value in trained.named_parameters():
            plain = name.removeprefix("base_model.model.").replace("token_adapter.", "")
            plain = plain.replace("base_layer.", "")
            if not value.requires_grad and plain in frozen:
                value.copy_(frozen[plain])
    folder = desk.folder / "pccot"
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    told = {"num_latent_tokens": 4, "answer_prompt": "The answer is:", "use_peft": True}
    told |= {f"{key}_token_id": ids[f"<pccot.{key}>"] for key in ("bot", "eot", "latent")}
    (folder / "pccot_args.json").write_text(json.dumps(told))
    config = {"model_type": "pccot-gpt2", "num_iterations": 2}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, (trained, base), ids


@torch.no_grad()
def test_pccot(desk: Desk) -> None:
    """Its own settings are read; the base gives the frozen weights."""
    folder, (trained, base), ids = pccot_folder(desk)
    request = Request("pccot", "gsm8k", max_new_tokens=12)
    with pytest.raises(UsageError, match=r"--base: .*the weights beside adapters"):
        convert(folder, desk.out, request)
    done = desk.convert(folder, request, base)
    tokens, settings = done.special_tokens, done.info.method
    bot, eot, latent = (ids[f"<pccot.{name}>"] for name in ("bot", "eot", "latent"))
    assert (tokens.bot, tokens.eot, tokens.pause) == (bot, eot, latent)
    assert (settings["num_latents"], settings["iterations"]) == (4, 2)
    assert done.info.template.answer_start == "The answer is:"

    model = trained.get_base_model()
    inputs = embed(model, [*question(), bot])
    first, project = len(inputs), model.prj
    read = last_hidden(model, torch.cat([inputs, embed(model, [latent] * 4)]))
    new = project(read[first - 1 : -1])
    for _ in range(2):
        slots = new
        read = last_hidden(model, torch.cat([inputs, slots]))
        new = torch.cat([slots[:1], project(read[first:-1])])
    words: list[int] = []
    while len(words) < 12:
        read = last_hidden(model, torch.cat([inputs, slots, embed(model, [eot, *words])]))
        word = int(model.get_output_embeddings()(read[-1]).argmax())
        if word == 0:
            break
        words.append(word)
    thoughts, text, reasoner = desk.thinks_and_says()
    assert_near(thoughts, slots)
    assert text == reasoner.tokenizer.decode(words)
    assert len(words) > 3


@torch.no_grad()
def test_adapters_of_plain_fine_tuning(desk: Desk) -> None:
    model = stirred(made("llama"))
    base = desk.base("llama", model)
    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"], use_rslora=True
    )
    trained = peft.get_peft_model(model, config)
    for name, value in trained.named_parameters():
        if "lora_" in name:
            value.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    trained.save_pretrained(desk.folder / "tuned")
    desk.convert(desk.folder / "tuned", Request("cot", "gsm8k", max_new_tokens=12), base)
    ids = question("\n")
    words = reference_generate(trained.get_base_model(), ids[:-1], 0, ids[-1:], 12, 0)
    _, text, reasoner = desk.thinks_and_says()
    assert text == reasoner.tokenizer.decode(words)


@torch.no_grad()
def test_what_cannot_be_taken_over_is_told(desk: Desk) -> None:
    base, trained = desk.base("gpt2"), Codi("gpt2", False)
    saved = {name: value.clone() for name, value in trained.state_dict().items()}
    plain = made("gpt2").state_dict()
    told = {
        "alpha stands nowhere. Give --lora-alpha": (saved, Request("codi", "gsm8k")),
        "projection.4 of theirs.weight": (
            {name.replace("prj.ln.", "prj.4."): value for name, value in saved.items()}, CODI,
        ),
        "coconut-no-curriculum answers with nothing beside the model, but there is projection": (
            saved, Request("coconut-no-curriculum", "gsm8k", 1, 1, None, True, lora_alpha=4),
        ),
        "was saved by CoLaR: latent_policy.* draws each thought": (
            {"state_dict": {"llm.base_model.model.lm_head.weight": torch.ones(2, 2),
                            "latent_policy.mean.weight": torch.ones(2, 2)}},
            Request("cot", "gsm8k"),
        ),
        "Its names begin with backbone.* (": (
            {f"backbone.{name}": value for name, value in plain.items()}, Request("cot", "gsm8k"),
        ),
        "What is known, by the names: base_causallm.: Coconut, LOTUS": (
            {f"backbone.{name}": value for name, value in plain.items()}, Request("cot", "gsm8k"),
        ),
        "must hold names that begin with codi. and": (saved | {"extra.w": torch.ones(2)}, CODI),
    }  # fmt: skip
    for words, (weights, request) in told.items():
        with pytest.raises(CheckpointError) as caught:
            desk.convert(weights, request, base)
        assert words in str(caught.value), caught.value
    assert not desk.out.exists()


def test_adapters_of_a_kind_that_acts_elsewhere(tmp_path: Path) -> None:
    """And rows of the embeddings, which peft names by their table or not at all."""
    plain = {"peft_type": "LORA", "lora_alpha": 3, "trainable_token_indices": [4, 5]}
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(plain))
    assert list(beside(tmp_path).rows.values()) == [[4, 5]]
    file.write_text(json.dumps(plain | {"alora_invocation_tokens": [7, 8]}))
    with pytest.raises(CheckpointError, match="must be plain LoRA .* alora_invocation_tokens"):
        beside(tmp_path)


def test_the_command_takes_settings(desk: Desk, latentcot: Callable[..., Any]) -> None:
    file = desk.folder / "model.bin"
    torch.save(Codi("gpt2", False).state_dict(), file)
    words = ["convert", file, "--out", desk.out, "--method", "codi", "--task", "gsm8k"]
    words += ["--base", desk.base("gpt2"), "--overwrite"]
    done = latentcot(*words, "--lora-alpha", 32, "--set", "method.num_latents=2")
    assert done.code == 0, done.err
    assert "codi, stage 0 of 0, 2 latent positions" in done.out
    for wrong, told in (
        (["--lora-alpha", 0], "--lora-alpha: must be above 0, got 0.0"),
        (["--set", "method.num_thoughts=2"], "num_thoughts: is not a key"),
        ([], "alpha stands nowhere. Give --lora-alpha"),
        (["--thoughts-per-step", 7], "thoughts of codi do not stand for steps"),
    ):
        ended = latentcot(*words, *wrong)
        assert ended.code == 2 and told in ended.err
