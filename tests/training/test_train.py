"""The training loop on tiny runs: what it learns from, what it writes, what it refuses."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from interrupts import NUM_STAGES, in_update, press_ctrl_c
from latentcot import (
    METHODS,
    DataError,
    RunError,
    TrainingError,
    evaluate,
    load,
    read_examples,
    train,
    write_examples,
)
from latentcot.curriculum.layout import NO_LABEL, lay_out
from latentcot.curriculum.stages import Phase
from latentcot.data.formats import source_hash
from latentcot.models.special_tokens import special_tokens_of
from latentcot.recipes.recipe import read_recipe
from latentcot.runs.checkpoint import load_training_state
from latentcot.runs.checkpoint_folders import best_checkpoint, checkpoint_folders
from latentcot.runs.folder import open_run
from latentcot.training.build import build
from latentcot.training.optimizer import learning_rate
from latentcot.training.train import Trainer
from latentcot.training.validations import not_learned
from losses import train_step_of
from marks import mostly_slow
from tiny_runs import rows_of

THOUGHTS = {"coconut": NUM_STAGES, "coconut-no-curriculum": NUM_STAGES, "simcot": NUM_STAGES,
            "codi": 6, "pccot": 24, "kava": 24, "lotus": NUM_STAGES, "mux": 6}  # fmt: skip
PASSES = THOUGHTS | {"pause-multipass": NUM_STAGES, "pccot": 3, "kava": 3, "lotus": 6}


@pytest.mark.parametrize(
    "name",
    mostly_slow(METHODS, "cot", "icot", "coconut", "pause-multipass", "codi", "kava", "lotus"),
)
def test_every_method_learns_and_answers(name, make_recipe, data, tmp_path):
    recipe = make_recipe(name, curriculum={"tokens_until_all": 3})
    assert train(recipe, tmp_path / "run", is_quiet=True)
    losses = [row["loss"] for row in rows_of(tmp_path / "run", "train")]
    assert len(losses) == 12
    assert losses[-1] < losses[0]

    method, reasoner = recipe.bound_method, load(tmp_path / "run")
    assert (reasoner.info.method, reasoner.info.update) == (recipe.method, 12)
    assert reasoner.info.method_name == name
    assert reasoner.info.stage == method.stages(recipe.curriculum.plan)[-1]
    result = evaluate(reasoner, read_examples(data / "test.jsonl"))
    assert result.accuracy.n == 8
    is_open = method.view.compression is not None  # how many thoughts an answer takes
    if not is_open:
        assert result.thoughts_per_question == THOUGHTS.get(name, 0)
    for record in result.records:
        num_passes = record.num_thoughts if is_open else PASSES.get(name, 0)
        words = record.num_tokens - record.num_thoughts
        assert record.num_passes == num_passes + words + record.is_finished


def test_the_final_stage_without_text(make_recipe, data, tmp_path):
    """Chains of 2 steps, one stage: at stage 1 a step is left, and the last stage removes it."""
    changes = {"num_stages": 1, "final_stage_without_text": True, "thoughts_per_step": 2}
    assert train(make_recipe(curriculum=changes), tmp_path / "run", is_quiet=True)
    stages = [row["stage"] for row in rows_of(tmp_path / "run", "train")]
    assert stages == [0] * 4 + [1] * 4 + [2] * 4
    reasoner = load(tmp_path / "run")
    assert (reasoner.info.stage, reasoner.info.num_thoughts) == (2, 2)
    result = evaluate(reasoner, read_examples(data / "test.jsonl"))
    assert {record.num_thoughts for record in result.records} == {2}


class TestUpdate:
    """What one update does, in float64, where rounding hides nothing."""

    BATCHES = (range(8), range(8, 16), range(16, 24))

    def start(self, recipe, stage):
        """Return the model and layouts with different numbers of steps, thus of labels."""
        run = build(recipe)
        rules = recipe.layout_rules(special_tokens_of(run.tokenizer))
        examples = [replace(e, steps=e.steps[: i % 3]) for i, e in enumerate(run.data.train)]
        model = run.objective.model.double()
        return model, [lay_out(e, run.method.view, stage, rules) for e in examples]

    def learned(self, model, layouts, training):
        train_step = train_step_of(model, training)
        return [train_step.learn([layouts[i] for i in batch], rate=1e-2) for batch in self.BATCHES]

    @pytest.mark.parametrize("max_grad_norm", [None, 0.1])
    def test_is_adamw_on_the_mean_over_all_labelled_tokens(self, make_recipe, max_grad_norm):
        """Held to a plain language model: method cot has no thoughts."""
        changes = {"micro_batch_size": 3, "max_grad_norm": max_grad_norm, "betas": [0.8, 0.9]}
        recipe = make_recipe("cot", training=changes)
        model, layouts = self.start(recipe, stage=0)
        plain = copy.deepcopy(model)
        found = self.learned(model, layouts, recipe.training)

        optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, betas=(0.8, 0.9))
        for batch, parts in zip(self.BATCHES, found, strict=True):
            nll, next_nll, num_labels, num_right = torch.zeros(()), 0.0, 0, 0
            for layout in (layouts[i] for i in batch):
                logits = plain(torch.tensor([layout.prefix + layout.suffix])).logits[0, :-1]
                labels = torch.tensor((NO_LABEL,) * len(layout.prefix) + layout.labels)[1:]
                nlls = cross_entropy(logits, labels, reduction="none")
                nll = nll + nlls.sum()
                next_nll += nlls[labels != NO_LABEL][: layout.num_next].sum().item()
                num_labels += len(labels[labels != NO_LABEL])
                num_right += int((logits.argmax(-1) == labels).sum())
            (nll / num_labels).backward()
            if max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(plain.parameters(), max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            num_next = sum(layouts[i].num_next for i in batch)
            assert parts["token_accuracy"] == pytest.approx(num_right / num_labels)
            assert parts["loss"] == pytest.approx(nll.item() / num_labels, rel=1e-5)
            assert parts["next_step_loss"] == pytest.approx(next_nll / num_next, rel=1e-5)
        torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("size", [1, 3, 8])
    def test_does_not_depend_on_the_micro_batches(self, make_recipe, size):
        models, sums = [], []
        for micro_batch_size in (None, size):
            recipe = make_recipe(training={"micro_batch_size": micro_batch_size})
            model, layouts = self.start(recipe, stage=1)
            sums.append(self.learned(model, layouts, recipe.training))
            models.append(model.state_dict())
        torch.testing.assert_close(*models, rtol=1e-7, atol=1e-9)
        for whole, parts in zip(*sums, strict=True):
            assert parts == pytest.approx(whole, rel=1e-5)


def test_the_learning_rate_is_that_of_the_recipe(make_recipe, tmp_path):
    recipe = make_recipe("cot", training={"warmup_updates": 2, "decay_share": 0.5})
    train(recipe, tmp_path / "run", is_quiet=True)
    rates = [row["learning_rate"] for row in rows_of(tmp_path / "run", "train")]
    assert rates == pytest.approx([learning_rate(recipe.training, u, 12, 0) for u in range(12)])
    assert (rates[0], rates[-1]) == pytest.approx((3e-3 / 3, 3e-3 / 6))


@pytest.mark.parametrize("is_reset", [True, False])
def test_the_optimizer_restarts_with_the_stage_if_told(is_reset, make_recipe, tmp_path):
    recipe = make_recipe(curriculum={"reset_optimizer": is_reset}, training={"warmup_updates": 1})
    train(recipe, tmp_path / "run", is_quiet=True)
    changes = [row["update"] for row in rows_of(tmp_path / "run", "stage")]
    assert len(changes) == NUM_STAGES
    state = load_training_state(checkpoint_folders(tmp_path / "run")[-1])
    num_seen = {int(moments["step"]) for moments in state["optimizer"]["state"].values()}
    assert num_seen == {12 - changes[-1] if is_reset else 12}
    rates = {row["update"]: row["learning_rate"] for row in rows_of(tmp_path / "run", "train")}
    for change in changes:  # with the optimizer, its warm-up starts anew
        assert rates[change + 1] == (1.5e-3 if is_reset else 3e-3)


@pytest.mark.parametrize(
    ("phase", "loss", "accuracy", "others", "words"),
    [
        (Phase(0, "none", 5), 0.1, 0.95, {}, None),
        (Phase(0, "none", 5), 0.6, 0.95, {}, None),  # answers tell more than the loss
        (Phase(0, "none", 5), 0.6, 0.6, {}, "stage 0 ended before it was learned: 60.0 % of"),
        (Phase(1, "bot", 5, learned_below=0.4), 0.6, 0.95, {}, "stage 1 ended before it was"),
        (Phase(1, "bot", 5, learned_below=0.4), None, 0.95, {}, None),
        (Phase(0, "none", 5, learned_below=0.4), 0.1, 0.14, {}, "are known by heart"),
        (Phase(2, "bot", 5), 0.1, 0.8, {"words": 0.95, "is_last": True}, "worse than words did"),
        (Phase(2, "bot", 5), 0.1, 0.9, {"words": 0.95, "is_last": True}, None),
        (Phase(0, "none", 5), 0.6, 0.5, {"is_last": True}, "training ended before its last stage"),
    ],
)
def test_a_stage_that_was_not_learned_is_told(phase, loss, accuracy, others, words):
    found = not_learned(phase, loss, 0.4, accuracy, **others)
    assert (found is None) if words is None else (words in found)


class TestFiles:
    def test_metrics(self, tiny_run):
        trained = rows_of(tiny_run, "train")
        assert [row["update"] for row in trained] == list(range(1, 13))
        assert [row["stage"] for row in trained] == sorted(row["stage"] for row in trained)
        assert {row["stage"] for row in trained} == {0, 1, 2}
        for row in trained:
            assert row.keys() == {
                "kind", "update", "stage", "loss", "next_step_loss", "token_accuracy",
                "learning_rate", "examples_per_second",
            }  # fmt: skip
            assert 0 < row["loss"] < 5
            assert 0 <= row["token_accuracy"] <= 1
        ends = {row["stage"]: row["update"] for row in trained}  # the last update of each stage
        assert rows_of(tiny_run, "stage") == [
            {"kind": "stage", "update": ends[stage - 1], "stage": stage} for stage in (1, 2)
        ]
        valid = rows_of(tiny_run, "valid")
        assert [(row["stage"], row["update"]) for row in valid] == sorted(ends.items())
        assert all(0 <= row["accuracy"] <= 1 for row in valid)

    def test_the_end_of_each_stage_is_noted(self, tiny_run):
        valid, found = rows_of(tiny_run, "valid"), rows_of(tiny_run, "stage_end")
        assert [row["accuracy"] for row in found] == [row["accuracy"] for row in valid]
        assert [(row["update"], row["stage"]) for row in found] == [(4, 0), (8, 1), (12, 2)]
        for row in found:  # some tens of examples teach nothing
            assert row["loss"] > row["learned_below"] == 0.4
            assert f"the loss of the next step is {row['loss']:.2f}" in row["warning"]

    def test_without_a_terminal_each_validation_is_a_line(self, make_recipe, tmp_path, capfd):
        train(make_recipe(), tmp_path / "run")
        lines = [line for line in capfd.readouterr().err.splitlines() if "valid" in line]
        told = [line for line in lines if line.startswith("update ")]
        assert [line.split(" · ")[:3] for line in told] == [
            [f"update {4 * (stage + 1)} of 12", "coconut", f"stage {stage}/2"] for stage in range(3)
        ]
        warned = [line for line in lines if line.startswith("Warning: ")]
        for line, how in zip(warned, ("stage 0", "stage 1", "training"), strict=True):
            assert line.startswith(f"Warning: {how} ended before it")  # it, or its last stage

    def test_rows_are_as_far_apart_as_the_recipe_says(self, make_recipe, tmp_path):
        changes = {"log_every": 5, "validate_every": 3, "save_every": 5}
        train(make_recipe("cot", training=changes), tmp_path / "run", is_quiet=True)
        assert [row["update"] for row in rows_of(tmp_path / "run", "train")] == [5, 10]
        assert [row["update"] for row in rows_of(tmp_path / "run", "valid")] == [3, 6, 9, 12]

    def test_recipe_and_provenance(self, tiny_run, data, make_recipe):
        provenance = json.loads((tiny_run / "provenance.json").read_text())
        settled = make_recipe(training={"precision": "float32"})
        assert read_recipe(tiny_run / "recipe.yaml") == settled, "written in full"
        assert provenance["seed"] == 0
        assert provenance["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
        files = [str(data / f"{split}.jsonl") for split in ("train", "valid", "test")]
        assert provenance["data"] == {file: source_hash(file) for file in files}
        assert provenance["versions"]["torch"] == torch.__version__
        assert provenance.keys() >= {
            "time", "command", "commit", "is_tree_dirty", "python", "machine", "cores_used",
        }  # fmt: skip

    def test_the_newest_two_checkpoints_and_the_best_are_kept(self, make_recipe, tmp_path):
        train(make_recipe("cot", training={"save_every": 1}), tmp_path / "run", is_quiet=True)
        names = [folder.name for folder in checkpoint_folders(tmp_path / "run")]
        assert names == ["update-00000011", "update-00000012"]


class TestBest:
    """The best checkpoint, on a run that learns the one answer there is, then forgets it for good.

    In update 25 its embeddings become noise, so large that no update changes it.
    """

    @pytest.fixture
    def recipe(self, make_recipe, data, tmp_path):
        for split in ("train", "valid"):
            examples = read_examples(data / f"{split}.jsonl")
            write_examples(tmp_path / f"{split}.jsonl", [replace(e, answer="1") for e in examples])
        return make_recipe(
            "no-cot",
            data={split: str(tmp_path / f"{split}.jsonl") for split in ("train", "valid")},
            training={
                "max_updates": 40, "validate_every": 2, "save_every": 7, "learning_rate": 2e-2,
            },
        )  # fmt: skip

    @staticmethod
    def forget(model):
        with torch.no_grad():
            noise = torch.Generator().manual_seed(0)
            model.transformer.wte.weight.normal_(std=1e4, generator=noise)

    @pytest.mark.parametrize("is_resumed", mostly_slow([False, True], True))
    def test_is_found_kept_and_remembered(self, is_resumed, recipe, tmp_path):
        run = tmp_path / "run"
        with in_update(25, self.forget), in_update(31 if is_resumed else 99, press_ctrl_c):
            assert train(recipe, run, is_quiet=True) != is_resumed
        assert train(recipe, run, resume=True, is_quiet=True)
        valid = rows_of(run, "valid")
        accuracies = [row["accuracy"] for row in valid]
        assert accuracies[0] < max(accuracies) > accuracies[-1]
        best = max(valid, key=lambda row: (row["accuracy"], row["update"]))  # of equals the newest
        pointer = json.loads((run / "checkpoints" / "best.json").read_text())
        assert pointer["checkpoint"] == f"update-{best['update']:08d}"
        assert pointer["accuracy"] == best["accuracy"]
        kept = [folder.name for folder in checkpoint_folders(run)]
        assert kept == [pointer["checkpoint"], "update-00000035", "update-00000040"]
        reasoner = load(run)
        assert reasoner.info.update == best["update"]
        result = evaluate(reasoner, read_examples(recipe.data.valid))
        assert result.accuracy.value == best["accuracy"]

    def test_is_none_before_the_last_stage(self, make_recipe, tmp_path):
        """Earlier stages answer after words, which is another thing to be good at."""
        run = tmp_path / "run"
        train(make_recipe(training={"max_updates": 6, "validate_every": 1}), run, is_quiet=True)
        assert {row["stage"] for row in rows_of(run, "valid")} == {0, 1}
        assert not (run / "checkpoints" / "best.json").exists()
        assert load(run).info.update == 6  # the newest


class TestLossThatIsNoNumber:
    def test_ends_the_run_and_leaves_the_batch(self, make_recipe, data, tmp_path):
        """A run that is stopped after 3 updates, and resumed with an infinite weight."""
        recipe, run = make_recipe(), tmp_path / "run"
        with in_update(3, press_ctrl_c):
            assert not train(recipe, run, is_quiet=True)
        trainer = Trainer(build(recipe), run)
        trainer.restore()
        with torch.no_grad():
            trainer.train_step.model.transformer.ln_f.weight[0] = math.inf
        with pytest.raises(TrainingError, match="update 4.* is not a finite number") as failed:
            trainer.run_to_end(is_quiet=True)
        assert str(run / "nan-batch.json") in str(failed.value)
        note = json.loads((run / "nan-batch.json").read_text())
        assert (note["update"], note["stage"]) == (4, 0)
        ids = {one["id"] for one in note["batch"]}
        assert len(ids) == 8
        assert ids < {example.id for example in read_examples(data / "train.jsonl")}
        assert {one["stage"] for one in note["batch"]} == {0}
        reasoner = load(run)  # the last checkpoint is whole
        assert reasoner.info.update == 3
        assert all(p.isfinite().all() for p in reasoner.model.parameters())
        assert [row["update"] for row in rows_of(run, "train")] == [1, 2, 3]

    @pytest.mark.parametrize("save_every", [None, 10])
    def test_the_weights_of_before_are_kept(self, save_every, make_recipe, tmp_path):
        """The weights are numbers; what is computed from them is none."""
        recipe, run = make_recipe(training={"save_every": save_every}), tmp_path / "run"

        def spoil(model):
            model.transformer.ln_f.register_forward_hook(lambda _, __, out: out * math.nan)

        with in_update(5, spoil), pytest.raises(TrainingError) as failed:
            train(recipe, run, is_quiet=True)
        [kept] = checkpoint_folders(run)
        assert f"the weights of before are in {kept}" in str(failed.value)
        assert load(run).info.update == 4
        assert train(recipe, run, resume=True, is_quiet=True)

    def test_weights_that_are_no_numbers_are_never_saved(self, make_recipe, tmp_path):
        recipe = make_recipe("cot", training={"learning_rate": 1e39, "save_every": 1})
        with pytest.raises(TrainingError):
            train(recipe, tmp_path / "run", is_quiet=True)
        for folder in checkpoint_folders(tmp_path / "run"):
            assert all(p.isfinite().all() for p in load(folder).model.parameters())


class TestRunFolder:
    def test_a_run_that_is_there_is_left_alone(self, tiny_run, make_recipe):
        before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
        with pytest.raises(RunError, match=r"exists already.*--resume.*--overwrite"):
            train(make_recipe(), tiny_run, is_quiet=True)
        assert before == {path: path.read_bytes() for path in before}

    def test_overwrite_starts_anew(self, make_recipe, tmp_path):
        run = tmp_path / "run"
        train(make_recipe("cot"), run, is_quiet=True)
        (run / "evals").mkdir()
        short = make_recipe("no-cot", training={"max_updates": 2})
        assert train(short, run, overwrite=True, is_quiet=True)
        assert [row["update"] for row in rows_of(run, "train")] == [1, 2]
        assert load(run).info.method == "no-cot"
        assert not (run / "evals").exists()

    def test_overwrite_deletes_nothing_but_runs(self, make_recipe, tmp_path):
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(RunError, match="is no run folder.*will not delete"):
            train(make_recipe(), tmp_path, overwrite=True, is_quiet=True)
        assert (tmp_path / "thesis.txt").read_text() == "mine"

    def test_nothing_is_written_when_the_data_is_wrong(self, make_recipe, tmp_path):
        recipe = make_recipe(data={"train": str(tmp_path / "nowhere.jsonl")})
        with pytest.raises(DataError, match="no such file"):
            train(recipe, tmp_path / "run", is_quiet=True)
        assert not (tmp_path / "run").exists()

    def test_an_empty_folder_is_taken(self, make_recipe, tmp_path):
        with pytest.raises(RunError, match="exclude each other"):
            open_run(tmp_path, resume=True, overwrite=True)
        assert train(make_recipe(training={"max_updates": 1}), tmp_path, is_quiet=True)


class TestData:
    def changed(self, data, tmp_path, split, **changes):
        """Return a file like that of `split`, with the last of its examples changed."""
        examples = read_examples(data / f"{split}.jsonl")
        examples[-1] = replace(examples[-1], **changes)
        write_examples(tmp_path / "changed.jsonl", examples)
        return {split: str(tmp_path / "changed.jsonl")}

    def refusal(self, recipe, tmp_path):
        with pytest.raises(DataError) as refused:
            train(recipe, tmp_path / "run", is_quiet=True)
        assert not (tmp_path / "run").exists()
        return str(refused.value)

    def test_a_question_longer_than_the_models_positions(self, make_recipe, data, tmp_path):
        question = "1 2 " * 45 + read_examples(data / "train.jsonl")[-1].question
        changes = self.changed(data, tmp_path, "train", question=question)
        message = self.refusal(make_recipe(data=changes), tmp_path)
        assert "'train-31'" in message
        assert "the model has 96" in message

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"curriculum": {"thoughts_per_step": 40}}, "80 latent positions"),
            ({"generation": {"max_new_tokens": 90}}, "the model has 96"),
        ],
    )
    def test_thoughts_and_the_words_of_an_answer_count(self, make_recipe, tmp_path, changes, words):
        assert words in self.refusal(make_recipe(**changes), tmp_path)

    def test_a_sequence_may_be_longest_in_a_stage_between(self, make_recipe, data, tmp_path):
        """A short first step gives way to many thoughts, and a long one is still there."""
        changes = self.changed(data, tmp_path, "train", steps=("1", "2 " * 60))
        recipe = make_recipe(data=changes, curriculum={"thoughts_per_step": 30})
        assert "the model has 96" in self.refusal(recipe, tmp_path)

    def test_an_answer_outside_the_vocabulary(self, make_recipe, data, tmp_path):
        changes = self.changed(data, tmp_path, "valid", answer="zebra")
        message = self.refusal(make_recipe(data=changes), tmp_path)
        assert "'valid-5': its answer" in message
        assert "'zebra'" in message

    def test_an_answer_with_a_word_that_training_lacks(self, make_recipe, data, tmp_path):
        changes = self.changed(data, tmp_path, "valid", answer="zebra")
        message = self.refusal(make_recipe(data=changes), tmp_path)
        assert "A word of it stands in no training example" in message

    def test_texts_that_are_longer_than_answers_may_be(self, make_recipe, tmp_path, capsys):
        recipe = make_recipe("cot", generation={"max_new_tokens": 2}, training={"max_updates": 1})
        train(recipe, tmp_path / "run", is_quiet=True)
        assert "tokens to write, but generation.max_new_tokens is 2" in capsys.readouterr().err

    def test_test_data_that_is_not_there(self, make_recipe, tmp_path, capsys):
        recipe = make_recipe(data={"test": "nowhere.jsonl"}, training={"max_updates": 1})
        train(recipe, tmp_path / "run", is_quiet=True)
        assert "Note: data.test cannot be read" in capsys.readouterr().err

    def test_a_checkpoint_that_has_read_other_texts(self, make_recipe, tmp_path, tiny_run, capsys):
        checkpoint = str(best_checkpoint(tiny_run))
        template = {"question_end": "", "step_end": " ", "answer_start": "[Q] "}
        recipe = make_recipe(model=checkpoint, template=template, training={"max_updates": 1})
        train(recipe, tmp_path / "run", is_quiet=True)
        told = capsys.readouterr().err
        assert "was trained with texts of another form" in told
        assert "template.answer_start: '[A] ' there, '[Q] ' here" in told

    @pytest.fixture
    def without_steps(self, data, tmp_path):
        examples = [replace(e, steps=()) for e in read_examples(data / "train.jsonl")]
        write_examples(tmp_path / "without.jsonl", examples)
        return {"train": str(tmp_path / "without.jsonl")}

    @pytest.mark.parametrize("name", ["cot", "icot", "coconut", "pause-multipass"])
    def test_a_file_without_steps(self, name, make_recipe, without_steps, tmp_path):
        message = self.refusal(make_recipe(name, data=without_steps), tmp_path)
        assert message.startswith(f"{without_steps['train']}: no example has steps, but {name} ")

    def test_a_method_that_makes_its_own_chains_needs_none(
        self, make_recipe, without_steps, tmp_path
    ):
        recipe = make_recipe("cot-bfs", data=without_steps, training={"max_updates": 2})
        assert train(recipe, tmp_path / "run", is_quiet=True)

    @pytest.mark.parametrize("name", ["no-cot", "pause", "coconut-no-curriculum"])
    def test_a_method_of_answers_alone_needs_none(self, name, make_recipe, without_steps, tmp_path):
        recipe = make_recipe(name, data=without_steps, training={"max_updates": 2})
        assert train(recipe, tmp_path / "run", is_quiet=True)

    def test_some_examples_may_have_none(self, make_recipe, data, tmp_path):
        """Of 500 examples of GSM8k-Aug a few are like that."""
        changes = self.changed(data, tmp_path, "train", steps=())
        assert train(make_recipe(data=changes), tmp_path / "run", is_quiet=True)

    def test_limits_cut_the_files(self, make_recipe, tmp_path):
        recipe = make_recipe("cot", data={"max_train": 3, "max_valid": 2})
        trainer = Trainer(build(recipe), tmp_path)
        assert [example.id for example in trainer.run.data.train] == [
            f"train-{i}" for i in range(3)
        ]
        assert len(trainer.run.data.valid) == 2
        assert trainer.loader.batch_size == 3


def test_bfloat16(tiny_run, make_recipe, tmp_path):
    """Runs on the CPU too, and gives nearly the losses of the same run in float32."""
    recipe = make_recipe(training={"precision": "bfloat16"})
    assert train(recipe, tmp_path / "run", is_quiet=True)
    losses = [row["loss"] for row in rows_of(tmp_path / "run", "train")]
    exact = [row["loss"] for row in rows_of(tiny_run, "train")]
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.05)
    weights = load(tmp_path / "run").model.state_dict().values()
    assert {weight.dtype for weight in weights} == {torch.float32}
    # Precision is that of the recipe, and not of the run before.
    assert train(make_recipe(), tmp_path / "run", overwrite=True, is_quiet=True)
    assert [row["loss"] for row in rows_of(tmp_path / "run", "train")] == exact


@pytest.mark.parametrize(("num_updates", "is_said"), [(8, True), (9, False)])
def test_a_last_stage_out_of_reach_is_said_beforehand(
    num_updates, is_said, make_recipe, tmp_path, capsys
):
    recipe = make_recipe(training={"max_updates": num_updates})
    train(recipe, tmp_path / "run")
    assert (
        "the last stage begins after 8" in capsys.readouterr().err.replace("\n", " ")
    ) == is_said


def test_steps_that_nobody_reads_may_hold_any_words(make_recipe, data, tmp_path):
    """Training on answers alone reads no step, and no method reads those of validation."""
    rows = [json.loads(line) for line in (data / "valid.jsonl").read_text().splitlines()]
    odd = tmp_path / "odd.jsonl"
    odd.write_text("\n".join(json.dumps(row | {"steps": ["zebra", "crossing"]}) for row in rows))
    short = {"max_updates": 1}
    files = {"valid": str(odd)}
    for name in ("no-cot", "coconut"):
        recipe = make_recipe(name, data=files, training=short)
        assert train(recipe, tmp_path / name, is_quiet=True)
