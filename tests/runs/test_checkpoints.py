"""Checkpoints: what goes in comes out, and whatever is damaged is refused in words."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from latentcot.curriculum.layout import LayoutRules, Template
from latentcot.errors import CheckpointError, DamagedError, RunError
from latentcot.methods import Plan
from latentcot.methods.stopping import StopHead
from latentcot.models.loading import make_from_scratch
from latentcot.models.settings import FromScratch
from latentcot.models.special_tokens import special_tokens_of, word_tokenizer
from latentcot.runs.checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    load_training_state,
    save_checkpoint,
)
from latentcot.runs.checkpoint_folders import (
    CHECKSUMS_FILE,
    best_checkpoint,
    checkpoint_folders,
    prune_checkpoints,
    verify,
    write_best,
)
from latentcot.tasks import AnswerMatch
from latentcot.utils.files import hash_of
from latentcot.utils.versions import CHECKPOINT_VERSION

TOKENIZER = word_tokenizer(["[Q] 5 6 [R] 1 [A]"])
SIZES = FromScratch(
    hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8, num_positions=16, dropout=0.5
)
MODEL = make_from_scratch(SIZES, TOKENIZER, seed=0)
INFO = CheckpointInfo(
    method="coconut",
    task="prosqa",
    stage=2,
    plan=Plan(
        num_stages=3,
        thoughts_per_step=2,
        pad_to_num_stages=False,
        final_stage_without_text=True,
        tokens_until_all=17,
    ),
    num_thoughts=4,
    zero_thoughts="bot",
    template=Template(question_end="\n\n", step_end=" é ", answer_start="[A] "),
    max_new_tokens=8,
    update=120,
    seed=5,
)
IDS = torch.tensor([[5, 6, 7]])


def assert_same_model(actual: Any, expected: Any) -> None:
    """The same weights, to the bit, and the same logits; the attention kernel may differ."""
    assert actual.state_dict().keys() == expected.state_dict().keys()
    for name, weight in expected.state_dict().items():
        assert torch.equal(actual.state_dict()[name], weight), name
    with torch.no_grad():
        torch.testing.assert_close(actual.eval()(IDS).logits, expected.eval()(IDS).logits)


def message_of(action: Callable[[Any], Any], *args: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        action(*args)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint as it is written."""
    save_checkpoint(tmp_path / "checkpoint", MODEL, TOKENIZER, INFO, {"update": 120})
    return tmp_path / "checkpoint"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One whose files may be changed: what stands behind the checksums has to hold by itself."""
    save_checkpoint(tmp_path / "checkpoint", MODEL, TOKENIZER, INFO)
    (tmp_path / "checkpoint" / CHECKSUMS_FILE).unlink()
    return tmp_path / "checkpoint"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def add(run: Path, *updates: int) -> list[Path]:
    folders = [run / "checkpoints" / f"update-{update:08d}" for update in updates]
    for folder, update in zip(folders, updates, strict=True):
        save_checkpoint(folder, MODEL, TOKENIZER, replace(INFO, update=update))
    return folders


def weights_of(head: StopHead) -> dict[str, torch.Tensor]:
    return {f"stop.{name}": weight for name, weight in head.state_dict().items()}


# --- round trip ---


def test_round_trip(folder: Path) -> None:
    assert list(folder.parent.iterdir()) == [folder]  # nothing is left next to it
    assert (
        json.loads((folder / "latentcot.json").read_text())["format_version"] == CHECKPOINT_VERSION
    )
    found = load_checkpoint(str(folder))
    model, tokenizer = found.model, found.tokenizer
    assert (model.training, model.dtype) == (False, torch.float32)
    assert found.info == INFO
    assert found.info.bound_method.name == "coconut"
    assert found.info.layout_rules(TOKENIZER) == LayoutRules(
        special_tokens=special_tokens_of(TOKENIZER), plan=INFO.plan, zero_thoughts="bot"
    )
    assert not found.modules
    assert_same_model(model, MODEL)
    assert tokenizer("[Q] 5 <bot>")["input_ids"] == TOKENIZER("[Q] 5 <bot>")["input_ids"]
    assert special_tokens_of(tokenizer) == special_tokens_of(TOKENIZER)
    # plain transformers loads it
    assert_same_model(AutoModelForCausalLM.from_pretrained(folder), MODEL)
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == TOKENIZER.get_vocab()


@pytest.mark.parametrize(
    "change",
    [
        {"task": AnswerMatch(match="regex", pattern=r"(\d+) é")},
        {"stop_threshold": 0.37, "max_thoughts": 6},
        {"method": "icot", "stage": 39, "num_thoughts": 0},
        {"plan": Plan(num_stages=5, thoughts_per_step=1)},
    ],
)
def test_every_setting_comes_back(tmp_path: Path, change: dict[str, Any]) -> None:
    info = replace(INFO, **change)
    modules = weights_of(StopHead(8)) if info.stop_threshold is not None else None
    save_checkpoint(tmp_path / "c", MODEL, TOKENIZER, info, modules=modules)
    assert load_checkpoint(tmp_path / "c").info == info


@pytest.mark.parametrize("is_of_version_3", [False, True])
def test_a_stop_classifier_comes_back_to_the_bit(tmp_path: Path, is_of_version_3: bool) -> None:
    head = StopHead(8)
    with torch.no_grad():
        head.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
        head.linear.bias.fill_(0.1)
    info = replace(INFO, stop_threshold=0.5, max_thoughts=6)
    save_checkpoint(tmp_path / "c", MODEL, TOKENIZER, info, modules=weights_of(head))
    if is_of_version_3:  # it held the classifier alone, in a file of that name
        (tmp_path / "c" / "modules.safetensors").unlink()
        save_file(head.state_dict(), tmp_path / "c" / "stop_head.safetensors")
        change_info(tmp_path / "c", format_version=3)
        (tmp_path / "c" / CHECKSUMS_FILE).unlink()  # of what was saved above
    found = load_checkpoint(tmp_path / "c")
    for name, weight in head.state_dict().items():
        assert torch.equal(found.modules["stop"].state_dict()[name], weight)
    assert_same_model(AutoModelForCausalLM.from_pretrained(tmp_path / "c"), MODEL)


def test_a_checkpoint_of_version_1_still_loads(folder: Path) -> None:
    """Its plan stood next to the rest, and knew neither of the last two numbers nor of a stop."""
    old = {"num_stages": 3, "thoughts_per_step": 2, "pad_to_num_stages": False}
    new = ("plan", "stop_threshold", "max_thoughts")
    change_info(folder, format_version=1, **old, **dict.fromkeys(new, ...))
    found = load_checkpoint(folder)
    assert found.info == replace(INFO, plan=Plan(**old))
    assert (found.info.stop_threshold, found.info.max_thoughts) == (None, None)
    assert not found.modules
    assert found.info.layout_rules(found.tokenizer).plan == Plan(**old)


def test_a_checkpoint_of_version_2_still_loads(folder: Path) -> None:
    """It had the same fields, and no checksums."""
    change_info(folder, format_version=2)
    assert load_checkpoint(folder).info == INFO


def test_saving_again_replaces_the_whole_folder(folder: Path) -> None:
    (folder / "leftover").write_text("old")
    save_checkpoint(folder, MODEL, TOKENIZER, replace(INFO, update=121))
    assert load_checkpoint(folder).info.update == 121
    assert not (folder / "leftover").exists()


def test_what_a_killed_process_left_does_not_block_the_next_one(folder: Path) -> None:
    """It was killed while it deleted what had been there before."""
    left = folder.with_name(f".{folder.name}.before.partial")
    left.mkdir()
    (left / "weights").write_text("old")
    save_checkpoint(folder, MODEL, TOKENIZER, replace(INFO, update=121))
    assert load_checkpoint(folder).info.update == 121
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failed_save_leaves_the_old_checkpoint_and_nothing_else(folder: Path) -> None:
    cannot_be_saved = {"function": lambda: None}
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(folder, MODEL, TOKENIZER, replace(INFO, update=121), cannot_be_saved)
    assert load_checkpoint(folder).info.update == 120
    assert list(folder.parent.iterdir()) == [folder]


# --- training state ---


TORCH = RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 576 vs 470")
RUST = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("error", "free", "is_full"),
    [
        (TORCH, 0, True),
        (TORCH, 10**9, False),
        (RUST, 10**9, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 10**9, True),
        (OSError(errno.EACCES, "Permission denied"), 10**9, False),
    ],
    ids=str,
)
def test_a_full_disk_is_called_so(
    error: Exception, free: int, is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the libraries call it; torch writes of positions in its archive."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("torch.save", fail)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(RunError) as caught:
        save_checkpoint(tmp_path / "update-00000001", MODEL, TOKENIZER, INFO, {})
    assert ("the disk is full, or its quota is used up (" in str(caught.value)) == is_full
    assert str(error) in str(caught.value) and "the last checkpoint is whole" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_training_state_round_trip_without_running_code(tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW(MODEL.parameters())
    state = {
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "clock": {"stage": 1, "losses": [0.5, 0.25]},
        "best": None,
    }
    save_checkpoint(tmp_path / "c", MODEL, TOKENIZER, INFO, state)
    loaded = load_training_state(tmp_path / "c")
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["torch"], state["torch"])
    assert (loaded["clock"], loaded["best"]) == (state["clock"], None)
    assert loaded["optimizer"] == state["optimizer"]
    torch.load(tmp_path / "c" / "training_state.pt", weights_only=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no training_state.pt"),
        (b"", "training_state.pt: cannot be read: "),
        (b"\x00\x01", "training_state.pt: cannot be read: "),
        ("torn", "training_state.pt: cannot be read: "),
        (
            {"path": Path("x")},
            "training_state.pt: cannot be read: ",
        ),  # needs code, which is not run
        ([1], "must hold a dict, got list"),
    ],
)
def test_a_training_state_that_is_missing_or_damaged(
    folder: Path, content: Any, words: str
) -> None:
    path = folder / "training_state.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "torn":
        torch.save({"a": torch.ones(1000)}, path)
        path.write_bytes(path.read_bytes()[:1500])
    elif content is not None:
        torch.save(content, path)
    assert words in message_of(load_training_state, folder)


# --- checksums ---


def test_every_file_has_its_checksum(saved: Path) -> None:
    assert verify(saved)
    assert load_training_state(saved) == {"update": 120}
    sums = json.loads((saved / CHECKSUMS_FILE).read_text())["sha256"]
    files = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    assert sums.keys() == files - {CHECKSUMS_FILE} and "custom_generate/generate.py" in sums
    weights = (saved / "model.safetensors").read_bytes()
    assert sums["model.safetensors"] == hashlib.sha256(weights).hexdigest()


NAMES = ["config.json", "model.safetensors", "tokenizer.json", "latentcot.json"]


@pytest.mark.parametrize("name", [*NAMES, "training_state.pt"])
def test_one_changed_bit_is_found(saved: Path, name: str) -> None:
    path = saved / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert f"damaged: {name} is not what was written" in message_of(load_training_state, saved)
    if name in NAMES:
        assert f"{name} is not what was written" in message_of(load_checkpoint, saved)
    else:  # answers need no training state
        load_checkpoint(saved)


def test_all_that_is_wrong_is_told_at_once(saved: Path) -> None:
    (saved / "config.json").unlink()
    (saved / "tokenizer.json").write_text("{}")
    message = message_of(load_checkpoint, saved)
    assert "config.json is missing, tokenizer.json is not what was written" in message
    assert f"delete {saved / CHECKSUMS_FILE}" in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"sha256": 3}', '{"sha256": {"../x": "00"}}', '{"sha256": {"": "00"}}',
     '{"sha256": {"a\\u0000": "00"}}', '{"sha256": {".": "00"}}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_list_of_checksums(saved: Path, text: str) -> None:
    (saved / CHECKSUMS_FILE).write_text(text)
    message = message_of(verify, saved)
    assert "damaged" in message
    assert ("other than files" in message) == ('": "00"' in text)


def test_without_a_list_there_is_nothing_to_compare_with(folder: Path) -> None:
    assert not verify(folder)
    (folder / "latentcot.json").unlink()  # a folder that says nothing at all is damaged
    with pytest.raises(DamagedError, match=r"latentcot\.json is missing"):
        verify(folder)


# --- which checkpoint of a run ---


def test_the_one_that_validation_chose_or_the_newest(run: Path) -> None:
    folders = add(run, 9, 100, 1000)
    assert checkpoint_folders(run) == folders
    assert best_checkpoint(run) == folders[-1]
    assert load_checkpoint(run).info.update == 1000
    write_best(run, 9, accuracy=0.5)
    assert best_checkpoint(run) == folders[0]
    assert load_checkpoint(run).info.update == 9
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    assert best.items() >= {"checkpoint": "update-00000009", "accuracy": 0.5}.items()


def test_a_run_without_checkpoints(run: Path) -> None:
    assert checkpoint_folders(run) == []
    assert best_checkpoint(run) is None
    (run / "checkpoints").mkdir(parents=True)
    assert message_of(load_checkpoint, run) == f"{run}: this run has no checkpoint yet."


def test_folders_that_were_not_finished_are_ignored(run: Path) -> None:
    (whole,) = add(run, 9)
    torn = whole.with_name(".update-00000100.4711.partial")
    whole.with_name("damaged-update-00000300").mkdir()
    torn.mkdir()
    (torn / "latentcot.json").write_bytes((whole / "latentcot.json").read_bytes())
    assert checkpoint_folders(run) == [whole]
    assert best_checkpoint(run) == whole
    assert load_checkpoint(run).info.update == 9


BEST = {"checkpoint": "update-00000009", "accuracy": 0.5}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        '{"checkpoint": ["update-00000009"]}',
        '{"checkpoint": "update-00000008"}',  # one bit: no such folder
        json.dumps(BEST | {"checkpoint": "update-00000010", "sha256": hash_of(BEST)}),  # there is
    ],
)
def test_a_damaged_pointer(run: Path, text: str) -> None:
    """Neither the newest nor another one is taken for the best in silence."""
    folders = add(run, 9, 10, 11, 12)
    pointer = run / "checkpoints" / "best.json"
    pointer.write_text(text)
    message = message_of(load_checkpoint, run)
    assert message.startswith(f"{pointer}: does not name a checkpoint: ") and "\n" not in message
    assert "There are: update-00000009, update-00000010, " in message
    assert f"such as {folders[-1]}; `latentcot train … --resume` writes the file" in message
    assert load_checkpoint(folders[0]).info.update == 9
    prune_checkpoints(run, 1)
    assert checkpoint_folders(run) == folders  # any may be the best


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo])
def test_a_pointer_that_is_no_file(run: Path, make: Callable[[Path], object]) -> None:
    add(run, 9)
    make(run / "checkpoints" / "best.json")
    assert "does not name a checkpoint: it is no file" in message_of(load_checkpoint, run)


@pytest.mark.parametrize(
    ("updates", "best", "kept"),
    [((1, 2, 3, 4, 5), 2, (2, 4, 5)), ((1, 2, 3), None, (2, 3)), ((1, 2), None, (1, 2))],
)
def test_prune_keeps_the_best_and_the_newest_two(
    run: Path, updates: tuple[int, ...], best: int | None, kept: tuple[int, ...]
) -> None:
    folders = dict(zip(updates, add(run, *updates), strict=True))
    if best is not None:
        write_best(run, best, accuracy=0.5)
    prune_checkpoints(run, 2)
    assert checkpoint_folders(run) == [folders[update] for update in kept]
    assert best_checkpoint(run) == folders[best or updates[-1]]


# --- what is refused ---


def change_info(folder: Path, **changes: Any) -> None:
    path = folder / "latentcot.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def test_a_newer_format_is_refused_in_words(folder: Path) -> None:
    newer = CHECKPOINT_VERSION + 1
    change_info(folder, format_version=newer, shape_of_things_to_come=1)
    message = message_of(load_checkpoint, folder)
    assert (
        f"latentcot.json: format_version must be 1 … {CHECKPOINT_VERSION}, got {newer}" in message
    )
    assert "upgrade" in message


@pytest.mark.parametrize("version", ["1", None, ..., 1.5, 0, -1, True])
def test_an_odd_format_version(folder: Path, version: Any) -> None:
    change_info(folder, format_version=version)
    assert "format_version must be" in message_of(load_checkpoint, folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": ...}, "stage: is missing"),
        ({"stage": "two"}, "stage: .* got 'two'"),
        (
            {"num_thougths": 3},
            "num_thougths: is not a key of latentcot.json. Did you mean 'num_thoughts'",
        ),
        ({"zero_thoughts": "eot"}, "zero_thoughts: .* got 'eot'"),
        ({"template": {"question_ends": ""}}, "template.question_ends: "),
        ({"task": {"match": "nearly"}}, "task.*match: .* got 'nearly'"),
        ({"max_thoughts": "many"}, "max_thoughts: .* got 'many'"),
    ],
)
def test_odd_info_is_refused_with_key_and_value(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    change_info(folder, **changes)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(folder)
    assert str(caught.value).startswith(f"{folder / 'latentcot.json'}: ")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff", b"[1]"])
def test_damaged_info(folder: Path, content: bytes) -> None:
    (folder / "latentcot.json").write_bytes(content)
    assert message_of(load_checkpoint, folder).startswith(f"{folder / 'latentcot.json'}: ")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    message = message_of(load_checkpoint, tmp_path)
    assert message.startswith(f"{tmp_path}: is no checkpoint of latentcot")
    assert "Give a run folder" in message


@pytest.mark.parametrize("name", ["/no/such/folder", "../x", "tests/nothing", "no such folder"])
def test_a_name_that_can_only_be_a_folder_is_not_asked_for_at_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "tests").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")  # whatever lies beside the checkout
    assert message_of(load_checkpoint, name) == f"{name}: no such folder."


def test_a_name_of_nothing() -> None:
    message = message_of(load_checkpoint, "someone/nothing")
    assert message.startswith("someone/nothing: no such folder, and the hub has no latentcot.json")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("model.safetensors", size) for size in (0, 4, 200, -1, None)),
        *((name, size) for name in ("config.json", "tokenizer.json") for size in (9, None)),
    ],
)
def test_a_torn_or_missing_file(folder: Path, name: str, size: int | None) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if size is not None:
        (folder / name).write_bytes(whole[:size])
    message = message_of(load_checkpoint, folder)
    assert message.startswith(f"{folder}: its weights or tokenizer cannot be read: ")
    assert "take another one of the same run" in message


def test_weights_of_which_some_are_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.0.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "transformer.h.0.mlp.c_fc.weight" in message_of(load_checkpoint, folder)
