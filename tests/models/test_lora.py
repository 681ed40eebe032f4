"""Adapters: what they compute and learn, held to weights put together by hand and the reference."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from base_tokenizers import base_tokenizer
from interrupts import in_update
from latentcot import load, train
from latentcot.cli.show_run import model_of
from latentcot.errors import CheckpointError, DamagedError, RecipeError
from latentcot.models.loading import load_pretrained
from latentcot.models.lora import (
    Adapters,
    adapters_of,
    add_adapters,
    fingerprint,
    hold_lightly,
    merge_adapters,
    trained_names,
)
from latentcot.models.lora_files import load_adapted, save_adapters
from latentcot.models.settings import Lora
from latentcot.recipes.recipe import Training
from latentcot.runs.checkpoint import load_checkpoint
from latentcot.runs.checkpoint_folders import best_checkpoint, checkpoint_folders
from latentcot.thinking.batch import collate
from losses import LanguageLoss, train_step_of
from reference import VOCAB_SIZE, reference_generate, reference_loss, reference_states, tiny_model
from rollouts import EXACT, RAGGED, make_rows, relative_errors, run_think
from tiny_runs import results_of

Make = Callable[..., Any]
"""A fixture that is a function."""

pytest.importorskip("peft")

NAMES = ["gpt2", "llama", "qwen3"]
SPECIAL_TOKENS = (36, 38, 37)
LORA = Lora(rank=3, alpha=12.0)
SCALE = 4.0
ROWS = make_rows(RAGGED, seed=3)
BATCH = collate([row.as_layout for row in ROWS])
NEAR = {"rtol": 1e-5, "atol": 1e-5}
IDS = torch.arange(VOCAB_SIZE)[None]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def adapted(name: str, lora: Lora = LORA, **options: Any) -> Any:
    """A tiny model whose adapters do something: no B is zero, no special token where it was."""
    model: Any = tiny_model(name, **options)
    add_adapters(model, Adapters("base", fingerprint(model), lora), SPECIAL_TOKENS)
    move(model)
    return model


def move(model: nn.Module) -> None:
    """Change all that is trained, and nothing else."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
                parameter.add_(0.2 * noise)


def trained_parts(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


class ByHand(nn.Module):
    """A plain model whose weights are put together from frozen and trained ones, by the formula."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        self.model = tiny_model(name, **options)
        self.is_transposed = name == "gpt2"  # Conv1D holds its weight as (in, out)

    def weights(self, trained: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = {name: tensor.detach() for name, tensor in self.model.named_parameters()}
        for name, tensor in trained.items():
            if name.endswith("trained_rows"):
                table = name.replace("trained_rows", "weight")
                weights[table] = weights[table].index_copy(0, torch.tensor(SPECIAL_TOKENS), tensor)
            elif ".lora_A." in name:
                change = SCALE * trained[name.replace("lora_A", "lora_B")] @ tensor
                layer = name.split(".lora_A.")[0] + ".weight"
                weights[layer] = weights[layer] + (change.T if self.is_transposed else change)
        return weights

    def run(self, function: Make, trained: dict[str, Tensor], *args: Any) -> Any:
        self.function = function
        weights = {f"model.{name}": tensor for name, tensor in self.weights(trained).items()}
        return torch.func.functional_call(self, weights, args, tie_weights=True)

    def forward(self, *args: Any) -> Any:
        return self.function(self.model, *args)


# --- what they compute --------------------------------------------------------------------------


def test_at_first_they_change_nothing(name: str) -> None:
    model, plain = tiny_model(name), tiny_model(name)
    add_adapters(model, Adapters("base", "", LORA), SPECIAL_TOKENS)
    # Logits of special tokens come from a product of their own, which may add up in another order.
    torch.testing.assert_close(model(IDS).logits, plain(IDS).logits, **EXACT)


@pytest.mark.parametrize("saves_memory", [False, True])
def test_thoughts_are_those_of_the_reference(name: str, saves_memory: bool) -> None:
    model, by_hand = adapted(name), ByHand(name)
    rollout = run_think(model, ROWS, saves_memory=saves_memory)
    trained = trained_parts(model)
    for b, row in enumerate(ROWS):
        states, thoughts = by_hand.run(reference_states, trained, *row.as_tuple[:3])
        actual = rollout.states[b, : len(row.suffix) + 1]
        torch.testing.assert_close(actual, states, **EXACT)
        torch.testing.assert_close(rollout.latent_inputs[b, : row.num_thoughts], thoughts, **EXACT)


@pytest.mark.parametrize("saves_memory", [False, True])
def test_loss_and_gradients_are_those_of_the_reference(name: str, saves_memory: bool) -> None:
    model, by_hand = adapted(name), ByHand(name)
    loss_of = LanguageLoss(model.train(), saves_memory=saves_memory)
    parts = loss_of(BATCH)
    loss = parts.nll_sum / parts.num_labels
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    trained = {n: t.requires_grad_() for n, t in trained_parts(model).items()}
    expected = by_hand.run(reference_loss, trained, [row.as_tuple for row in ROWS])
    gradients = torch.autograd.grad(expected, list(trained.values()))
    torch.testing.assert_close(loss, expected, **EXACT)
    # Of all tensors, exactly these: nothing that is frozen has a gradient.
    errors = relative_errors(found, dict(zip(trained, gradients, strict=True)))
    assert max(errors.values()) < 1e-7, errors


def test_what_is_trained(name: str) -> None:
    model = adapted(name)
    names = trained_names(model)
    assert set(names) == {n for n, p in model.named_parameters() if p.requires_grad}
    assert sum("trained_rows" in n for n in names) == (
        2 if name == "llama" else 1
    )  # an untied head
    per_block = 4 if name == "gpt2" else 7
    assert sum("lora_A" in n for n in names) == 2 * per_block


def test_an_output_head_may_have_a_bias() -> None:
    model: Any = tiny_model("llama")
    head = nn.Linear(32, VOCAB_SIZE, dtype=torch.float64)
    model.set_output_embeddings(head)
    plain = copy.deepcopy(head)
    states = torch.randn(2, 3, 32, dtype=torch.float64)
    add_adapters(model, Adapters("base", "", LORA), SPECIAL_TOKENS)
    torch.testing.assert_close(model.get_output_embeddings()(states), plain(states), **EXACT)


def test_targets_by_name() -> None:
    model = adapted("gpt2", Lora(rank=2, targets=("c_attn", "mlp.c_proj")))
    adapters = {n.split(".lora_")[0].split(".", 3)[3] for n in trained_names(model) if "lora" in n}
    assert adapters == {"attn.c_attn", "mlp.c_proj"}
    model = adapted("llama", Lora(rank=2, targets=("q_proj",)))
    assert sum("lora_A" in n for n in trained_names(model)) == 2


@pytest.mark.parametrize("target", ["query", "lm_head", "proj", "attn"])
def test_a_target_that_is_none(target: str) -> None:
    with pytest.raises(
        RecipeError, match=f"lora.targets: .*{target}.* There are: c_attn, c_fc, c_"
    ):
        adapted("gpt2", Lora(targets=("c_attn", target)))


def test_they_are_drawn_from_the_seed_alone() -> None:
    def drawn(seed: int) -> Tensor:
        model: Any = tiny_model("gpt2")
        before = torch.random.get_rng_state()
        add_adapters(model, Adapters("base", "", LORA), SPECIAL_TOKENS, seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        return torch.cat([p.flatten() for n, p in model.named_parameters() if "lora_A" in n])

    first = drawn(1)
    torch.manual_seed(9)
    assert torch.equal(first, drawn(1))
    assert not torch.equal(first, drawn(2))


# --- what an update changes ---------------------------------------------------------------------


def test_updates_leave_the_base_as_it_was(name: str) -> None:
    model = adapted(name, dtype=torch.float32)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    train_step = train_step_of(
        model, Training(learning_rate=1e-2, weight_decay=0.1, save_memory=True)
    )
    for _ in range(5):
        train_step.learn([row.as_layout for row in ROWS], 1e-2)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    tied = set() if name == "llama" else {"lm_head.trained_rows"}
    assert changed == set(trained_names(model)) | tied


# --- less memory --------------------------------------------------------------------------------


def light(*, is_held: bool) -> Any:
    """A Llama whose weights are numbers that bfloat16 has, but for those of one layer."""
    model: Any = tiny_model("llama", torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layers.1.mlp.up_proj" not in name:
                parameter.copy_(parameter.bfloat16())
    add_adapters(model, Adapters("base", "", LORA), SPECIAL_TOKENS)
    move(model)
    if is_held:
        hold_lightly(model)
    return model.train()


def kept_bytes(model: Any, num_thoughts: int) -> tuple[int, Tensor, list[Tensor]]:
    """Bytes that a backward pass under autocast keeps besides weights; loss and gradients."""
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    rows = make_rows([(8, num_thoughts, 3)])
    through = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with through, torch.autocast("cpu", torch.bfloat16):
        loss = LanguageLoss(model)(collate([row.as_layout for row in rows])).nll_sum
    loss.backward()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    num_bytes = sum(s.nbytes() for place, s in kept.items() if place not in weights)
    return num_bytes, loss, [p.grad for p in model.parameters() if p.grad is not None]


def test_held_lightly_a_model_computes_the_same() -> None:
    held, plain = light(is_held=True), light(is_held=False)
    num_held = sum(p.dtype == torch.bfloat16 for p in held.parameters())
    assert num_held == 2 * 7 - 1  # what bfloat16 would round stays
    (_, loss, grads), (_, loss_2, grads_2) = kept_bytes(held, 3), kept_bytes(plain, 3)
    assert torch.equal(loss, loss_2)
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_2, strict=True))
    assert torch.equal(held(IDS).logits, plain(IDS).logits)


@pytest.mark.parametrize(("is_exact", "held"), [(True, 2 * 7), (False, 0)])
def test_what_bfloat16_holds_may_be_known(is_exact: bool, held: int) -> None:
    model = light(is_held=False).to("meta")  # no numbers to compare
    hold_lightly(model, is_exact=is_exact)
    assert sum(p.dtype == torch.bfloat16 for p in model.parameters()) == held


def test_held_lightly_no_pass_keeps_copies_of_the_weights() -> None:
    weights = sum(
        p.numel() * 2 for p in light(is_held=True).parameters() if p.dtype == torch.bfloat16
    )
    few, many = (kept_bytes(light(is_held=True), n)[0] for n in (1, 4))
    assert many - few < weights
    few, many = (kept_bytes(light(is_held=False), n)[0] for n in (1, 4))
    assert many - few > 3 * weights


# --- merging, and plain peft --------------------------------------------------------------------


def test_merged_weights_are_plain_and_give_the_same(name: str) -> None:
    model = adapted(name)
    trained = trained_parts(model)
    before = model(IDS).logits
    merge_adapters(model)
    torch.testing.assert_close(model(IDS).logits, before, **EXACT)
    plain = tiny_model(name)
    assert [(n, type(m)) for n, m in model.named_modules()] == [
        (n, type(m)) for n, m in plain.named_modules()
    ]
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert adapters_of(model) is None and not hasattr(model, "peft_config")
    for weight, expected in ByHand(name).weights(trained).items():
        torch.testing.assert_close(model.get_parameter(weight), expected, **EXACT)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_plain_peft_loads_the_files(name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = adapted(name, dtype=torch.float32)
    save_adapters(tmp_path, model)
    theirs = PeftModel.from_pretrained(tiny_model(name, dtype=torch.float32), str(tmp_path))
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, **NEAR)


def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    """With rows that the base lacks, and from a copy of the weights that holds no frozen ones."""
    tokenizer = base_tokenizer()
    num_tokens = len(tokenizer)
    base: Any = tiny_model(name, torch.float32)
    base.resize_token_embeddings(num_tokens, mean_resizing=False)
    base.save_pretrained(tmp_path / "base")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<bot>", "<eot>", "<pause>"]})
    adapters = Adapters(str(tmp_path / "base"), fingerprint(base), LORA)
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    add_adapters(base, adapters, range(num_tokens, num_tokens + 3))
    move(base)
    weights = trained_parts(base)
    (tmp_path / "saved").mkdir()
    save_adapters(tmp_path / "saved", base, weights)
    names = "adapters.json", "adapter_model.safetensors"
    settings, file = (tmp_path / "saved" / one for one in names)
    assert set(load_file(file)) == set(trained_names(base).values())
    loaded: Any = load_adapted("it", settings, file, tokenizer)
    assert adapters_of(loaded) == adapters
    ids = torch.arange(len(tokenizer))[None, -40:]
    # What is loaded computes GPT-2's GELU by another kernel than what was made here.
    torch.testing.assert_close(loaded(ids).logits, base.eval()(ids).logits, rtol=1e-5, atol=1e-5)
    rows = loaded.get_input_embeddings()
    assert torch.equal(rows.weight[-3:], rows.trained_rows)  # for who reads the table itself


# --- runs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained model: folder with plain weights and tokenizer."""
    folder = tmp_path_factory.mktemp("base") / "model"
    best = best_checkpoint(tiny_run)
    assert best is not None
    shutil.copytree(best, folder, ignore=shutil.ignore_patterns("latentcot.json", "*.pt", "ch*"))
    return folder


@pytest.fixture(scope="module")
def recipe(make_recipe: Make, base: Path) -> Any:
    training = {"max_updates": 14, "validate_every": 3, "save_every": 5, "learning_rate": 1e-2}
    lora = {"rank": 2, "dropout": 0.2}
    return make_recipe(model=str(base), lora=lora, markers_start_from="0", training=training)


@pytest.fixture(scope="module")
def run(recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Tests only read it."""
    folder = tmp_path_factory.mktemp("adapted") / "run"
    assert train(recipe, folder, is_quiet=True)
    return folder


def newest(run: Path) -> Path:
    return checkpoint_folders(run)[-1]


QUESTIONS = ["3 9 5 7 5 0 [Q] 0 1 [R] 3", "1 2 2 3 [Q] 3 4 [R] 1", "4 5 [Q] 5 6 [R] 4"]


def test_a_checkpoint_holds_the_adapters_alone(run: Path, base: Path) -> None:
    files = {path.name for path in newest(run).iterdir()}
    assert files == {
        "adapter_config.json", "adapter_model.safetensors", "adapters.json", "checksums.json",
        "config.json", "latentcot.json", "tokenizer.json", "tokenizer_config.json",
        "training_state.pt",
    }  # fmt: skip
    settings = json.loads((newest(run) / "adapters.json").read_text())
    assert settings["base"] == str(base)
    assert settings["lora"] == {"rank": 2, "alpha": 32.0, "dropout": 0.2, "targets": []}
    assert json.loads((newest(run) / "adapter_config.json").read_text())["r"] == 2
    assert all(".default" not in name for name in load_file(newest(run) / WEIGHTS))


WEIGHTS = "adapter_model.safetensors"


@pytest.mark.slow
def test_a_resumed_run_gives_the_same_bits(run: Path, recipe: Any, tmp_path: Path) -> None:
    def stop(model: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), in_update(8, stop):
        train(recipe, tmp_path / "run", is_quiet=True)
    assert train(recipe, tmp_path / "run", resume=True, is_quiet=True)
    files = (WEIGHTS, "adapter_config.json", "adapters.json")
    assert results_of(tmp_path / "run", files) == results_of(run, files)


def test_it_answers_as_the_reference_does(run: Path) -> None:
    reasoner = load(run)
    assert adapters_of(reasoner.model) is not None
    for question in QUESTIONS:
        output = reasoner.generate([question])[0]
        special, ids = reasoner.rules.special_tokens, reasoner.tokenizer(question)["input_ids"]
        expected = reference_generate(
            reasoner.model, [*ids, special.bot], 2, [special.eot], 8, special.eos
        )
        assert output.text == reasoner.tokenizer.decode(expected)


def test_merged_it_answers_the_same(run: Path, tmp_path: Path, latentcot: Make) -> None:
    ended = latentcot("convert", run, "--out", tmp_path / "merged")
    assert ended.code == 0, ended.err
    assert "Adapters of rank 2 were merged with" in ended.out
    before, after = load(run), load(tmp_path / "merged")
    assert adapters_of(after.model) is None
    assert after.info == before.info
    assert after.generate(QUESTIONS) == before.generate(QUESTIONS)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.arange(len(before.tokenizer))[None]
    torch.testing.assert_close(plain(ids).logits, before.model(ids).logits, **NEAR)
    torch.testing.assert_close(
        after.think(QUESTIONS).thoughts, before.think(QUESTIONS).thoughts, **NEAR
    )
    assert not (newest(run) / "custom_generate").exists()  # transformers asks the base for it
    assert (tmp_path / "merged" / "custom_generate" / "generate.py").is_file()
    again = latentcot("convert", tmp_path / "merged", "--out", tmp_path / "twice")
    assert again.code == 2 and "is latentcot's own already" in again.err
    ended = latentcot("convert", run, "--out", tmp_path / "as-cot", "--method", "cot")
    assert ended.code == 2 and "tells of itself all that --method" in ended.err


def test_what_was_learned_beside_the_model_comes_along(
    recipe: Any, tmp_path: Path, latentcot: Make
) -> None:
    training = replace(recipe.training, max_updates=2)
    codi = replace(recipe, method={"name": "codi", "num_latents": 2}, training=training)
    assert train(codi, tmp_path / "run", is_quiet=True)
    ended = latentcot("convert", tmp_path / "run", "--out", tmp_path / "merged")
    assert ended.code == 0, ended.err
    before, after = load(tmp_path / "run"), load(tmp_path / "merged")
    for name, weight in before.modules["projection"].state_dict().items():
        assert torch.equal(after.modules["projection"].state_dict()[name], weight)
    assert after.generate(QUESTIONS) == before.generate(QUESTIONS)


def test_show_and_eval_take_it(run: Path, latentcot: Make, tmp_path: Path) -> None:
    ended = latentcot("eval", run, "--out", tmp_path / "result.json")
    assert ended.code == 0, ended.err
    num = sum(tensor.numel() for tensor in load_file(newest(run) / WEIGHTS).values())
    model = model_of(newest(run))
    assert (model.architecture, model.num_parameters) == ("GPT2LMHeadModel", None)
    assert model.num_adapted == num
    assert f"GPT2LMHeadModel, {num:,} parameters of adapters, begun" in latentcot("show", run).out


# --- what can be missing or wrong ---------------------------------------------------------------


@pytest.fixture
def moved(run: Path, base: Path) -> Iterator[Path]:
    """The base lies elsewhere."""
    elsewhere = base.with_name("elsewhere")
    base.rename(elsewhere)
    yield elsewhere
    elsewhere.rename(base)


def test_a_base_that_is_gone(
    run: Path, recipe: Any, moved: Path, tmp_path: Path, latentcot: Make
) -> None:
    with pytest.raises(
        CheckpointError, match="holds adapters alone.*no such folder. Bring"
    ) as caught:
        load(run)
    assert not isinstance(caught.value, DamagedError)  # or --resume would set it aside
    assert f"{best_checkpoint(run)} --base FOLDER --out MERGED" in str(caught.value)
    ended = latentcot("convert", run, "--base", moved, "--out", tmp_path / "merged")
    assert ended.code == 0, ended.err
    assert load(tmp_path / "merged").generate(QUESTIONS)


def test_a_base_that_has_changed(run: Path, base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.add_(1e-4)
    model.save_pretrained(other)
    load_checkpoint(run, base=str(base))
    with pytest.raises(CheckpointError, match="trained on other weights than those that"):
        load_checkpoint(run, base=str(other))


def test_without_peft(
    run: Path, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentcot.models.lora.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"lora: .*pip install 'latentcot\[lora\]'"):
        train(recipe, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"update-\d+: .*pip install 'latentcot\[lora\]'"):
        load(run)


def test_a_model_from_scratch_has_nothing_to_keep(make_recipe: Make) -> None:
    with pytest.raises(RecipeError, match="lora: adapters change little of what a model can do"):
        make_recipe(lora={})
    with pytest.raises(RecipeError, match="lora.rnk: is not a key .* Did you mean 'rank'"):
        make_recipe(model="some/where", lora={"rnk": 3})


def test_adapters_are_no_model_to_start_from(make_recipe: Make, run: Path) -> None:
    recipe = make_recipe(model=str(newest(run)))
    with pytest.raises(RecipeError, match="it holds adapters. Merge them with their base first"):
        train(recipe, run.parent / "second")


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """The newest checkpoint, which nobody has written checksums for."""
    folder = shutil.copytree(newest(run), tmp_path / "checkpoint")
    (folder / "checksums.json").unlink()
    return Path(folder)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("adapters.json", '{"base": "x"}'),
        ("adapters.json", "{"),
        ("adapters.json", '{"base": "x", "fingerprint": "", "lora": {"rank": 0}}'),
        (WEIGHTS, "no tensors"),
    ],
)
def test_a_damaged_checkpoint(copied: Path, file: str, text: str) -> None:
    (copied / file).write_text(text)
    with pytest.raises(DamagedError, match="cannot be read"):
        load(copied)


def test_weights_of_other_adapters(copied: Path) -> None:
    settings = json.loads((copied / "adapters.json").read_text())
    settings["lora"]["targets"] = ["c_attn"]
    (copied / "adapters.json").write_text(json.dumps(settings))
    with pytest.raises(DamagedError, match="of its tensors are missing or unknown"):
        load(copied)


def test_what_peft_would_be_told_to_import_is_not_read(run: Path, copied: Path) -> None:
    (copied / "adapter_config.json").write_text('{"megatron_core": "antigravity"}')
    assert load(copied).generate(QUESTIONS) == load(newest(run)).generate(QUESTIONS)


def test_weights_next_to_external_adapters_are_refused(base: Path, tmp_path: Path) -> None:
    """transformers would hand the settings to peft, which imports what they name."""
    shutil.copytree(base, tmp_path / "model")
    (tmp_path / "model" / "adapter_config.json").write_text('{"megatron_core": "antigravity"}')
    with pytest.raises(RecipeError, match="cannot be loaded: it holds adapters"):
        load_pretrained(str(tmp_path / "model"))
