"""Ending latent mode by a classifier: its loss, its threshold, and a tiny model that learns it."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interrupts import in_update, press_ctrl_c
from latentcot import (
    CheckpointError,
    DataError,
    Example,
    RecipeError,
    UsageError,
    evaluate,
    load,
    read_examples,
    train,
    write_examples,
)
from latentcot.curriculum.layout import Layout
from latentcot.methods.stopping import (
    DEFAULT_THRESHOLD,
    NUM_THRESHOLDS,
    StopHead,
    choose_threshold,
    stop_loss,
    stops_at,
)
from latentcot.runs.checkpoint import MODULES_FILE, load_checkpoint
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.thinking.batch import collate
from losses import LanguageLoss, train_step_of
from reference import HIDDEN_SIZE, NO_LABEL, reference_latent_states, reference_loss, tiny_model
from tiny_runs import results_of, rows_of


def head_of(size: int, seed: int = 0) -> StopHead:
    """A head with an opinion, in float64."""
    head = StopHead(size).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.linear.weight.copy_(0.5 * torch.randn(size, generator=generator))
        head.linear.bias.fill_(-0.3)
    return head


# --- the loss ---


class TestLoss:
    STATES = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    NUM_LATENTS = torch.tensor([3, 2, 0, 3])
    STOP_AFTER = torch.tensor([2, 5, 0, -1])
    # Row, latent position, target. The second latent position of row 0 ends its chain, and so does
    # all behind it; row 1 thinks on; row 2 has none, and nothing is known of the chain of row 3.
    TARGETS = ((0, 0, 0), (0, 1, 1), (0, 2, 1), (1, 0, 0), (1, 1, 0))

    def test_equals_a_computation_by_hand(self):
        head = head_of(5)
        weight, bias = head.linear.weight[0].tolist(), head.linear.bias.item()
        expected = 0.0
        for row, latent, target in self.TARGETS:
            state = self.STATES[row, latent].tolist()
            logit = sum(w * x for w, x in zip(weight, state, strict=True)) + bias
            probability = 1 / (1 + math.exp(-logit))
            expected -= math.log(probability if target else 1 - probability)
        nll = stop_loss(head, self.STATES, self.NUM_LATENTS, self.STOP_AFTER)
        assert nll.item() == pytest.approx(expected, rel=1e-12)

    def test_its_gradient_reaches_the_states_that_count_and_no_other(self):
        head, states = head_of(5), self.STATES.clone().requires_grad_()
        stop_loss(head, states, self.NUM_LATENTS, self.STOP_AFTER).backward()
        expected = torch.zeros_like(states)
        for row, latent, target in self.TARGETS:
            probability = head(self.STATES[row, latent]).sigmoid()
            expected[row, latent] = (probability - target) * head.linear.weight[0]
        torch.testing.assert_close(states.grad, expected.detach())

    def test_before_the_last_stage_most_targets_say_go_on(self):
        """A chain of 3 steps at stage 2, c = 2: four latent positions, and none of them is the
        end."""
        head = StopHead(5).double()
        with torch.no_grad():
            head.linear.bias.fill_(-20.0)  # go on, for sure
        states = self.STATES[:1].repeat(1, 2, 1)[:, :4]
        nll = stop_loss(head, states, torch.tensor([4]), torch.tensor([6]))
        assert nll.item() == pytest.approx(0, abs=1e-6)

    def test_of_a_fresh_head_is_that_of_a_coin(self):
        nll = stop_loss(StopHead(5), self.STATES, self.NUM_LATENTS, self.STOP_AFTER)
        assert nll.item() == pytest.approx(5 * math.log(2))

    def test_of_no_latents(self):
        nothing = stop_loss(
            head_of(5), self.STATES[:, :0], torch.zeros(4), torch.tensor([2, 5, 0, -1])
        )
        assert nothing.item() == 0

    def test_is_never_computed_in_bfloat16(self):
        with torch.autocast("cpu", torch.bfloat16):
            assert StopHead(5)(self.STATES.float()).dtype == torch.float32
            assert StopHead(5)(self.STATES.bfloat16()).dtype == torch.float32


LAYOUTS = [
    Layout((1, 2, 3), 3, (9, 4, 5), (NO_LABEL, 4, 5), num_next=1, stop_after=2),
    Layout((6, 2, 7, 8, 1), 1, (9, 5), (NO_LABEL, 5), num_next=1, stop_after=4),
    Layout((3,), 0, (9, 4), (NO_LABEL, 4), num_next=1, stop_after=0),
    Layout((5, 5), 4, (9, 8, 7), (NO_LABEL, 8, 7), num_next=1, stop_after=4),
]


def reference_stop_loss(model: torch.nn.Module, head: StopHead) -> torch.Tensor:
    """Summed over rows and latent positions, each row alone and without a cache."""
    terms = []
    for layout in LAYOUTS:
        states = reference_latent_states(model, layout.prefix, layout.num_latents)
        for number, state in enumerate(states, start=1):
            logit = state @ head.linear.weight[0] + head.linear.bias[0]
            is_end = number >= layout.stop_after
            terms.append(-torch.nn.functional.logsigmoid(logit if is_end else -logit))
    return torch.stack(terms).sum()


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_the_loss_of_a_model_and_its_gradients_equal_the_reference(name):
    """The classifier is trained together with the thoughts, so its gradient goes through them."""
    model, head = tiny_model(name), head_of(HIDDEN_SIZE)
    parts = LanguageLoss(model, stop_head=head)(collate(LAYOUTS))
    plain = LanguageLoss(model)(collate(LAYOUTS))
    expected = reference_stop_loss(model, head)
    assert parts.stop_nll_sum.item() == pytest.approx(expected.item(), rel=1e-9)
    assert parts.nll_sum.item() == pytest.approx(plain.nll_sum.item(), rel=1e-12)

    weights = [*model.parameters(), *head.parameters()]
    for found, wanted in zip(
        torch.autograd.grad(parts.stop_nll_sum, weights, allow_unused=True),
        torch.autograd.grad(expected, weights, allow_unused=True),
        strict=True,
    ):
        if wanted is None or not wanted.any():
            assert found is None or not found.any()
        else:
            assert (found - wanted).norm() / wanted.norm() < 1e-5
    inner = next(p for key, p in model.named_parameters() if "mlp" in key and "weight" in key)
    again = LanguageLoss(model, stop_head=head)(collate(LAYOUTS))
    [gradient] = torch.autograd.grad(again.stop_nll_sum, [inner])
    assert gradient.any()


@pytest.mark.parametrize("micro_batch_size", [None, 1, 3])
def test_an_update_is_on_the_weighted_sum_of_both_means(make_recipe, micro_batch_size):
    """Language: the mean over labels; classifier: over the latent positions of the whole update."""
    training = make_recipe(
        training={"micro_batch_size": micro_batch_size, "weight_decay": 0.01, "batch_size": 4}
    ).training
    model, head = tiny_model("gpt2"), head_of(HIDDEN_SIZE)
    train_step = train_step_of(model, training, stop_head=head, stop_weight=0.7)
    train_step.learn(LAYOUTS, rate=1e-3)

    plain, plain_head = tiny_model("gpt2"), head_of(HIDDEN_SIZE)
    weights = [*plain.parameters(), *plain_head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)
    batch = [(x.prefix, x.num_latents, x.suffix, x.labels) for x in LAYOUTS]
    loss = reference_loss(plain, batch) + 0.7 * reference_stop_loss(plain, plain_head) / 8
    loss.backward()
    optimizer.step()
    tolerance = {"rtol": 1e-6, "atol": 1e-8}
    torch.testing.assert_close(head.state_dict(), plain_head.state_dict(), **tolerance)
    for (name, actual), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        if "c_attn.bias" not in name:  # keys' biases have no gradient but rounding
            torch.testing.assert_close(actual, expected, **tolerance)


def test_an_update_without_any_latent_changes_no_opinion(make_recipe):
    """At stage 0. All weights take part all the same: wrappers for many devices wait for them."""
    layouts = [replace(layout, num_latents=0) for layout in LAYOUTS]
    train_step = train_step_of(
        tiny_model("gpt2"), make_recipe().training, stop_head=StopHead(HIDDEN_SIZE)
    )
    seen = []
    for parameter in train_step.stop_head.parameters():
        parameter.register_hook(lambda gradient: seen.append(gradient.any().item()))
    train_step.learn(layouts, rate=1e-2)
    assert seen == [False, False]
    assert not any(parameter.any() for parameter in train_step.stop_head.parameters())


# --- where a row stops, and the threshold ---


def stops(row: list[float], threshold: float) -> int:
    """The first latent position that reaches the threshold, or the last there is."""
    for number, probability in enumerate(row, start=1):
        if probability >= threshold:
            return number
    return len(row)


shares = st.sampled_from([i / 20 for i in range(21)])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    width, height = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    rows = [[draw(shares) for _ in range(width)] for _ in range(height)]
    return rows, [draw(st.integers(0, width + 2)) for _ in range(height)]


@given(tables(), shares)
def test_stops_at_the_first_latent_that_reaches_the_threshold(table, threshold):
    rows, _ = table
    probabilities = torch.tensor(rows, dtype=torch.float64)
    kept = probabilities.clone()
    assert stops_at(probabilities, threshold).tolist() == [stops(row, threshold) for row in rows]
    assert torch.equal(probabilities, kept)


@given(tables())
def test_no_threshold_is_better_than_the_chosen_one(table):
    """By brute force; and among equals it lies in the middle."""
    rows, ends = table
    probabilities = torch.tensor(rows, dtype=torch.float64)
    chosen = choose_threshold(probabilities, torch.tensor(ends))

    def right(threshold: float) -> int:
        wanted = [min(end, len(row)) for row, end in zip(rows, ends, strict=True)]
        return sum(stops(r, threshold) == end for r, end in zip(rows, wanted, strict=True))

    grid = [(i + 1) / (NUM_THRESHOLDS + 1) for i in range(NUM_THRESHOLDS)]
    assert chosen in grid
    most = max(map(right, grid))
    equals = [t for t in grid if right(t) == most]
    assert right(chosen) == most
    assert abs(sum(t < chosen for t in equals) - sum(t > chosen for t in equals)) <= 1


@pytest.mark.parametrize(
    ("probabilities", "ends"),
    [
        # Latents behind the end say 0.8, those before it 0.2: between them all are equally good.
        ([[0.2, 0.8, 0.8], [0.2, 0.2, 0.8], [0.8, 0.8, 0.8]], [2, 3, 1]),
        ([[0.5, 0.5]] * 3, [0, 0, 0]),  # no opinion
    ],
)
def test_the_chosen_threshold_is_far_from_both_ends_of_its_range(probabilities, ends):
    chosen = choose_threshold(torch.tensor(probabilities), torch.tensor(ends))
    assert chosen == pytest.approx(0.5, abs=0.02)


# --- a model that learns when to stop ---

COUNTS = ("one", "two", "three")


def counting_examples(count: int, seed: int) -> list[Example]:
    """The first word says how long the chain is."""
    order = [(i * 7 + seed) % 3 for i in range(count)]
    return [
        Example(
            f"{seed}-{i}",
            f"{COUNTS[length]} {['a', 'b', 'c', 'd'][i % 4]} ?",
            ("step x", "step y", "step z")[: length + 1],
            "yes" if i % 2 else "no",
        )
        for i, length in enumerate(order)
    ]


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counting")
    for seed, (split, count) in enumerate({"train": 48, "valid": 12, "test": 12}.items()):
        write_examples(folder / f"{split}.jsonl", counting_examples(count, seed))
    return {split: str(folder / f"{split}.jsonl") for split in ("train", "valid", "test")}


CLASSIFIER = {
    "stop": {"rule": "classifier"},
    "curriculum": {
        "num_stages": 3,
        "thoughts_per_step": 2,
        "pad_to_num_stages": False,
        "epochs_stage_0": 1,
        "epochs_per_stage": 1,
    },
}


@pytest.fixture(scope="module")
def recipe(make_recipe, counting):
    """Straight at the last stage, until it is learned."""
    return make_recipe(
        "coconut-no-curriculum",
        data=counting,
        model={"init_std": 0.2},
        training={"max_updates": 150, "learning_rate": 2e-2, "validate_every": 50},
        stop="classifier",
        curriculum=CLASSIFIER["curriculum"] | {"thoughts_per_step": 1},
    )


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    run = tmp_path_factory.mktemp("stops") / "run"
    assert train(recipe, run, is_quiet=True)
    return run


@pytest.fixture
def examples(counting):
    return read_examples(counting["test"])


class TestLearned:
    def test_rows_stop_where_their_chains_end(self, run, examples):
        result = evaluate(load(run), examples)
        assert result.share_stopped_with_chain == 1
        assert {r.num_thoughts for r in result.records} == {1, 2, 3}
        for record, example in zip(result.records, examples, strict=True):
            assert record.num_thoughts == record.chain_thoughts == len(example.steps)
            words = record.num_tokens - record.num_thoughts
            # Question, latent positions, <eot>, then each word but the first; the end of text is
            # one.
            assert record.num_passes == 2 + record.num_thoughts + words - 1 + record.is_finished
        losses = [row["stop_loss"] for row in rows_of(run, "train")]
        assert losses[0] == pytest.approx(math.log(2))  # of a classifier without an opinion
        assert losses[-1] < 0.1

    def test_answers_do_not_depend_on_the_batch_nor_on_the_chain(self, run, examples):
        questions = [example.question for example in examples]
        reasoner = load(run)
        together = reasoner.generate(questions)
        assert reasoner.generate(questions, batch_size=5) == together
        assert [reasoner.generate([question])[0] for question in questions] == together
        records = evaluate(reasoner, examples).records
        assert [o.num_thoughts for o in together] == [r.num_thoughts for r in records]

    @pytest.mark.parametrize("num_thoughts", [0, 1, 3, 9])
    def test_with_a_number_of_thoughts_the_classifier_is_not_asked(
        self, run, examples, num_thoughts
    ):
        result = evaluate(load(run), examples, num_thoughts=num_thoughts)
        assert {r.num_thoughts for r in result.records} == {num_thoughts}
        for record in result.records:  # and <eot> rides along with the last latent position
            assert record.num_passes == record.num_tokens + record.is_finished

    def test_on_the_command_line(self, run, latentcot, tmp_path):
        for words, counts in (([], {1, 2, 3}), (["--num-thoughts", 4], {4})):
            shown = latentcot("eval", run, "--json", "--out", tmp_path / "it.json", *words)
            found = json.loads(shown.out)
            assert {record["num_thoughts"] for record in found["records"]} == counts
        assert found["share_stopped_with_chain"] == 0

    def test_thinking_alone_stops_too(self, run, examples):
        reasoner = load(run)
        questions = [example.question for example in examples]
        found, whole = reasoner.think(questions), reasoner.think(questions, num_thoughts=3)
        for b, example in enumerate(examples):
            count = len(example.steps)
            assert not found.thoughts[b, count:].any()
            torch.testing.assert_close(
                found.thoughts[b, :count], whole.thoughts[b, :count], rtol=1e-4, atol=1e-4
            )

    @pytest.mark.parametrize(
        ("changes", "counts"), [({"max_thoughts": 2}, {1, 2}), ({"stop_threshold": 0.0}, {1})]
    )
    def test_the_upper_bound_and_the_threshold_hold(self, run, examples, changes, counts):
        reasoner = load(run)
        reasoner.info = replace(reasoner.info, **changes)
        records = evaluate(reasoner, examples).records
        assert {record.num_thoughts for record in records} == counts


class TestThreshold:
    def test_is_chosen_on_validation_whatever_the_batch(self, run, counting):
        reasoner = load(run)
        encoded = reasoner.encode(read_examples(counting["valid"]))
        probabilities = reasoner.stop_probabilities(encoded, batch_size=5)
        assert probabilities.shape == (12, 3)
        for size in (1, 12):
            again = reasoner.stop_probabilities(encoded, size)
            torch.testing.assert_close(again, probabilities, rtol=1e-4, atol=1e-5)
        ends = torch.tensor([len(example.steps) for example in encoded])
        assert reasoner.info.stop_threshold == choose_threshold(probabilities, ends)
        assert reasoner.info.max_thoughts == 3

    def test_needs_a_classifier(self, tiny_run, data):
        reasoner = load(tiny_run)
        with pytest.raises(UsageError, match="has no stop classifier"):
            reasoner.stop_probabilities(reasoner.encode(read_examples(data / "test.jsonl")), 4)


class TestCheckpoint:
    def test_holds_the_classifier(self, run):
        [*_, newest] = checkpoint_folders(run)
        found = load_checkpoint(newest)
        assert (newest / MODULES_FILE).exists()
        assert found.modules["stop"].linear.weight.any()
        info = json.loads((newest / "latentcot.json").read_text())
        assert info["stop_threshold"] == found.info.stop_threshold != 0
        assert info["max_thoughts"] == 3

    @pytest.mark.parametrize("is_there", [False, True])
    def test_without_the_file_or_with_a_torn_one_it_is_damaged(self, run, tmp_path, is_there):
        folder = shutil.copytree(checkpoint_folders(run)[-1], tmp_path / "c")
        (folder / MODULES_FILE).unlink()
        if is_there:
            (folder / MODULES_FILE).write_bytes(b"\x00" * 9)
        with pytest.raises(CheckpointError, match="damaged"):
            load(folder)

    def test_a_constant_leaves_nothing_of_it(self, tiny_run):
        found = load_checkpoint(tiny_run)
        assert not found.modules
        assert found.info.stop_threshold is found.info.max_thoughts is None
        assert not list(tiny_run.rglob(MODULES_FILE))
        assert not any("stop_loss" in row for row in read_metrics(tiny_run))


class TestCurriculum:
    """Through all stages: before the last, a model goes on in words after its thoughts."""

    @pytest.fixture(scope="class")
    @classmethod
    def recipe(cls, make_recipe, counting):
        return make_recipe(
            data=counting,
            model={"dropout": 0.1},
            training={"max_updates": 24, "save_every": 5, "validate_every": 4},
            **CLASSIFIER,
        )

    @pytest.fixture(scope="class")
    @classmethod
    def folders(cls, recipe, tmp_path_factory):
        """Every checkpoint of a run that was interrupted after each stage; the run itself."""
        run = tmp_path_factory.mktemp("stages") / "run"
        copies = []
        for last in (6, 6, 6):
            with in_update(last, press_ctrl_c):
                assert not train(recipe, run, resume=bool(copies), is_quiet=True)
            copy = run.with_name(f"stage-{len(copies)}")
            copies.append(shutil.copytree(checkpoint_folders(run)[-1], copy))
        assert train(recipe, run, resume=True, is_quiet=True)
        return [*copies, run]

    def test_each_stage_thinks_no_longer_than_it_was_trained_to(self, folders, examples):
        for stage, folder in enumerate(folders):
            reasoner = load(folder)
            assert (reasoner.info.stage, reasoner.info.max_thoughts) == (stage, 2 * stage)
            records = evaluate(reasoner, examples).records
            assert max(record.num_thoughts for record in records) <= 2 * stage

    def test_resumed_it_gives_what_it_gives_in_one_go(self, recipe, folders, tmp_path):
        """Bit for bit: weights, classifier, threshold, metrics."""
        assert train(recipe, tmp_path / "run", is_quiet=True)
        files = ("model.safetensors", MODULES_FILE, "latentcot.json")
        assert results_of(tmp_path / "run", files) == results_of(folders[-1], files)

    @pytest.mark.slow
    def test_a_run_without_a_saved_threshold_goes_on(self, recipe, tmp_path):
        """As those of version 0.1."""
        run = tmp_path / "run"
        with in_update(8, press_ctrl_c):
            train(recipe, run, is_quiet=True)
        path = checkpoint_folders(run)[-1] / "training_state.pt"
        state = torch.load(path, weights_only=True)
        del state["stop_threshold"]
        torch.save(state, path)
        assert train(recipe, run, resume=True, is_quiet=True)


@pytest.mark.slow
def test_another_upper_bound(make_recipe, counting, tmp_path):
    """Of the last stage alone; until the first validation the threshold is the default."""
    changes = CLASSIFIER | {"stop": {"rule": "classifier", "max_thoughts": 9}}
    training = {"max_updates": 20, "validate_every": 100}
    recipe, run = make_recipe(data=counting, training=training, **changes), tmp_path / "run"
    for last, stop_threshold, max_thoughts in ((2, DEFAULT_THRESHOLD, 0), (6, None, 2)):
        with in_update(last, press_ctrl_c):
            train(recipe, run, resume=run.exists(), is_quiet=True)
        info = load(run).info
        assert info.max_thoughts == max_thoughts
        assert stop_threshold in (None, info.stop_threshold)
    train(recipe, run, resume=True, is_quiet=True)
    assert load(run).info.max_thoughts == 9


def test_an_upper_bound_beyond_the_models_positions_is_refused_beforehand(
    make_recipe, counting, tmp_path
):
    changes = CLASSIFIER | {"stop": {"rule": "classifier", "max_thoughts": 90}}
    with pytest.raises(DataError, match=r"90 latent positions.*the model has 96"):
        train(make_recipe(data=counting, **changes), tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_weight_of_its_loss_is_that_of_the_recipe(make_recipe, counting, tmp_path):
    weights = []
    for weight in (1.0, 5.0):
        changes = CLASSIFIER | {"stop": {"rule": "classifier", "loss_weight": weight}}
        recipe = make_recipe(
            "coconut-no-curriculum",
            data=counting,
            training={"max_updates": 3, "max_grad_norm": 1.0},
            **changes,
        )
        train(recipe, tmp_path / f"{weight}", is_quiet=True)
        weights.append(load(tmp_path / f"{weight}").model.transformer.wte.weight)
    assert not torch.equal(*weights)


def test_pauses_in_passes_of_their_own_can_be_stopped_too(make_recipe, counting, tmp_path):
    recipe = make_recipe(
        "pause-multipass", data=counting, training={"max_updates": 25}, **CLASSIFIER
    )
    assert train(recipe, tmp_path / "run", is_quiet=True)
    reasoner = load(tmp_path / "run")
    result = evaluate(reasoner, read_examples(counting["test"]))
    assert result.thoughts_per_question == 0
    assert result.share_stopped_with_chain is None  # pauses are no thoughts
    assert result.passes_per_question > 2


@pytest.mark.parametrize("name", ["cot", "no-cot", "icot", "pause", "coconut-pause-as-thought"])
def test_a_method_without_latents_in_passes_of_their_own_is_refused(make_recipe, name):
    with pytest.raises(
        RecipeError, match=f"stop: a classifier needs latent positions .* {name} does not"
    ):
        make_recipe(name, **CLASSIFIER)


def test_all_that_is_wrong_comes_in_one_message(make_recipe):
    with pytest.raises(RecipeError, match="3 problems") as refused:
        make_recipe("pause", stop="classifier", curriculum={"num_stages": 0})
    assert str(refused.value).count("stop: a classifier") == 3


@pytest.mark.parametrize(
    ("stop", "curriculum", "words"),
    [
        # From these curricula nothing could be learned.
        ("classifier", {"pad_to_num_stages": True}, "Set curriculum.pad_to_num_stages: false"),
        ("classifier", {"num_stages": 0}, "Set curriculum.num_stages above 0"),
        ("sometimes", {}, r"stop\.rule: .* got 'sometimes'"),
        ({"rule": "classifier", "max_thoughts": 0}, {}, r"stop\.max_thoughts: .* got 0"),
        ({"rule": "classifier", "loss_weight": 0}, {}, r"stop\.loss_weight: .* got 0"),
        ({"rules": "classifier"}, {}, r"stop\.rules: is not a key .* Did you mean 'rule'\?"),
    ],
)
def test_odd_settings_are_refused(make_recipe, stop, curriculum, words):
    with pytest.raises(RecipeError, match=words):
        make_recipe(stop=stop, curriculum=CLASSIFIER["curriculum"] | curriculum)


def test_the_short_form(make_recipe):
    short = make_recipe(stop="classifier", curriculum=CLASSIFIER["curriculum"])
    assert short == make_recipe(**CLASSIFIER)
    assert make_recipe(stop="constant") == make_recipe()
