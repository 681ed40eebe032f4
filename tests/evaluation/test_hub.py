"""To the hub: what is packed, what the card says, and the way there and back."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

import latentcot as package
from hub_server import TOKEN, hub_server
from latentcot import CheckpointError, UsageError
from latentcot.evaluation.hub import CARD, pack
from latentcot.evaluation.reasoner import Reasoner
from latentcot.runs.checkpoint_folders import best_checkpoint, write_best
from latentcot.runs.export import GENERATE_FILE, THINKING_FILE


@pytest.fixture(scope="module")
def evaluated(tiny_run, tmp_path_factory):
    """A copy of the tiny run with one evaluation of its best checkpoint, and one of another."""
    from latentcot.cli import app

    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(tiny_run, run)
    oldest = sorted((run / "checkpoints").glob("update-*"))[0]
    for one in (run, oldest):
        app(["eval", str(one), "--quiet"], exit_on_error=False, result_action="return_value")
    assert len(list((run / "evals").glob("*.json"))) == 2
    return run


def test_the_parcel_is_what_a_user_needs(evaluated):
    parcel = pack(evaluated, "me/toy")
    best = best_checkpoint(evaluated)
    there = {p.relative_to(best).as_posix() for p in best.rglob("*") if p.is_file()}
    assert set(parcel.files) == there - {"training_state.pt"}
    assert (best / "training_state.pt").exists()
    assert not (best / CARD).exists(), "packing writes nothing"


def test_the_card_has_the_figures_of_the_run_and_no_others(evaluated):
    card = pack(evaluated, "me/toy", "apache-2.0").card
    result = package.Evaluation.read(evaluated / "evals" / "test.json")
    _, head, text = card.split("---\n", 2)
    data = yaml.safe_load(head)
    (metric,) = data["model-index"][0]["results"][0]["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", round(result.accuracy.value, 4))
    assert len(data["model-index"][0]["results"]) == 1, "that of another checkpoint is not in it"
    assert (data["license"], "base_model" in data) == ("apache-2.0", False)
    row = next(line for line in text.splitlines() if line.startswith("| test |"))
    low, high = (f"{100 * end:.1f}" for end in (result.accuracy.low, result.accuracy.high))
    assert f"| {result.accuracy.n} |" in row and f"| {low} – {high} % |" in row
    assert "train.jsonl (SHA-256 " in text and str(evaluated.parent) not in text
    assert 'latentcot.load("me/toy")' in text and "pretrained=me/toy" in text


def test_without_an_evaluation_there_is_no_figure():
    card = pack("quickstart", "me/toy").card
    assert "No evaluation of this checkpoint" in card
    assert "model-index" not in card and "%" not in card


def test_the_card_says_how_plain_transformers_thinks(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(pack("quickstart", "me/toy").files["config.json"].parent, folder)
    (folder / "checksums.json").unlink()
    settings = json.loads((folder / THINKING_FILE).read_text())
    (folder / THINKING_FILE).write_text(json.dumps(settings | {"refused": "it is too wise."}))
    refused = pack(folder, "me/toy").card
    shutil.rmtree((folder / GENERATE_FILE).parent)
    without = pack(folder, "me/toy").card
    for card, reason in ((refused, "it is too wise."), (without, "there is no custom_generate")):
        assert f"cannot answer with its thoughts**: {reason}" in card
        assert "trust_remote_code" not in card and "- custom_generate" not in card
    parcel = pack("quickstart", "me/toy")
    assert GENERATE_FILE in parcel.files and "- custom_generate" in parcel.card
    assert re.search(r"Without `trust_remote_code=True`.*without its\s+thoughts", parcel.card)


def test_a_card_of_ones_own_is_sent_as_it_is(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(pack("quickstart", "me/toy").files["config.json"].parent, folder)
    (folder / CARD).write_text("mine")
    parcel = pack(folder, "me/toy")
    assert (parcel.card, parcel.is_own_card, CARD in parcel.files) == ("mine", True, False)


@pytest.mark.parametrize("name", ["toy", "a/b/c", "me/to y", "me/toy.git", "me/a--b"])
def test_a_wrong_name(name):
    with pytest.raises(UsageError, match="the name must be OWNER/NAME"):
        pack("quickstart", name)


def test_a_run_without_a_checkpoint(tmp_path):
    (tmp_path / "recipe.yaml").write_text("{}")
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        pack(tmp_path, "me/toy")


def test_a_reasoner_that_was_not_loaded(babbler):
    made = Reasoner(babbler.model, babbler.tokenizer, babbler.info)
    with pytest.raises(UsageError, match="this one was not loaded"):
        made.push_to_hub("me/toy")


def test_what_was_loaded_is_sent(evaluated, tmp_path, monkeypatch):
    """Though validation has chosen another checkpoint since, and the folder is another one."""
    from latentcot.evaluation import hub

    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    monkeypatch.chdir(tmp_path)
    loaded, best = package.load("run"), best_checkpoint(run)
    other = next(one for one in (run / "checkpoints").glob("update-*") if one != best)
    write_best(run, int(other.name.removeprefix("update-")), 1.0)
    monkeypatch.chdir(run)
    sent = []
    monkeypatch.setattr(hub, "push", lambda parcel, private: sent.append(parcel))
    loaded.push_to_hub("me/toy")
    assert {best in file.parents for file in sent[0].files.values()} == {True}


def test_a_folder_is_no_model_of_the_hub(evaluated, tmp_path, monkeypatch):
    """Its name may be one of the hub's, where it is packed from another folder."""
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "model": "models/toy"}))
    assert "base_model: models/toy" in pack(run, "me/toy").card
    origin = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps({**origin, "is_base_local": True}))
    card = pack(run, "me/toy").card
    assert "base_model" not in card and "| base model | toy |" in card


def test_the_dry_run_shows_files_and_card(evaluated, latentcot):
    ended = latentcot("push", evaluated, "me/toy", "--dry-run")
    parcel = pack(evaluated, "me/toy")
    assert ended.code == 0 and ended.out.strip().endswith(parcel.card.strip())
    shown = re.findall(r"^ *[\d,]+  (\S+)$", ended.out, re.M)
    assert shown == [*parcel.files, CARD]


def ask(hub, home, *words, token=TOKEN, **more):
    """A process of its own: huggingface_hub reads the environment once. No token of the machine."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSF"))}
    env = {
        **kept, "HF_HOME": str(home), "HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1", **({"HF_TOKEN": token} if token else {}), **more,
    }  # fmt: skip
    command = [sys.executable, "-m", "latentcot", *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_there_and_back(evaluated, data, tmp_path):
    question = package.read_examples(data / "test.jsonl", 1)[0].question
    with hub_server() as hub:
        sent = ask(hub.url, tmp_path, "push", evaluated, "me/toy", "--private")
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout.strip() == f"{hub.url}/me/toy"
        parcel = pack(evaluated, "me/toy")
        there = {**{name: file.read_bytes() for name, file in parcel.files.items()}}
        assert hub.repos["me/toy"] == {**there, CARD: parcel.card.encode()}
        assert hub.private == {"me/toy": True}
        # Of an earlier checkpoint, in whose place it would be read; and of somebody's own.
        hub.repos["me/toy"] |= {"adapters.json": b"{}", "notes.jsonl": b"mine"}
        again = ask(hub.url, tmp_path, "push", evaluated, "me/toy")
        assert again.returncode == 0, again.stderr
        assert hub.repos["me/toy"].keys() == {*there, CARD, "notes.jsonl"}
        here, from_hub = (
            ask(hub.url, tmp_path, "generate", name, question, "--json")
            for name in (evaluated, "me/toy")
        )
    assert from_hub.returncode == 0, from_hub.stderr
    assert from_hub.stdout == here.stdout != ""


@pytest.mark.slow
def test_what_can_go_wrong_is_told(tmp_path, monkeypatch, latentcot):
    from huggingface_hub import constants

    for name, value in {"HF_HUB_OFFLINE": False, "HF_TOKEN_PATH": str(tmp_path / "none")}.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def told(repo):
        ended = latentcot("push", "quickstart", repo)
        assert ended.code == 2
        return " ".join(ended.err.split())

    with hub_server() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        assert "there is no token" in told("me/toy")
        monkeypatch.setenv("HF_TOKEN", "hf_other")
        assert "The token is not valid" in told("me/toy")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert "take one with write access" in told("stranger/toy")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE is set" in told("me/toy")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        assert not any(hub.repos.values())
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "Is there a network" in told("me/toy")
