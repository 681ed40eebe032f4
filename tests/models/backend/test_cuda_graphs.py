"""Updates that are recorded and replayed make what updates make; and they can be recorded."""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from latentcot.methods import method_named
from latentcot.methods.stopping import StopHead
from latentcot.models.backend import cuda_graphs as replay
from latentcot.models.backend.cuda_graphs import Captured, Recording
from latentcot.thinking.batch import ROUNDED, Batches, collate, collate_views
from losses import laid, train_step_of
from reference import HIDDEN_SIZE, tiny_model
from rollouts import RAGGED, UPDATES, layouts_of, training


class StandIn:
    """What a CUDA graph does, without one: the same inputs, the same output, run again.

    Like a graph, it runs the function before it is asked to.
    """

    def __init__(self) -> None:
        self.made: list[Recording] = []

    def __call__(self, function, inputs) -> Recording:
        kept = tuple(tensor.clone() for tensor in inputs)
        function(*kept)
        output = function(*kept)
        self.made.append(Recording(kept, lambda: output.copy_(function(*kept)), output))
        return self.made[-1]


class TestReplayed:
    @pytest.fixture
    def captured(self) -> Captured:
        return Captured(StandIn(), sights=1)

    @staticmethod
    def double(tensor: Tensor) -> Tensor:
        return 2 * tensor

    def call(self, captured, *inputs: Tensor, kind=0, function: Callable | None = None):
        return captured(kind, function or self.double, inputs)

    def test_gives_what_the_function_gives(self, captured):
        for value in (1.0, 2.0, 3.0):
            assert self.call(captured, torch.full((3,), value)).tolist() == [2 * value] * 3
        assert captured.num_recordings == len(captured.record.made) == 1

    def test_other_shapes_kinds_and_types_are_recorded_anew(self, captured):
        one, two = torch.zeros(3), torch.zeros(3, 1)
        calls = [(0, one), (0, two), (1, one), ((0, "x"), one), (0, one.double()), (0, one.bool())]
        for _ in range(2):
            for kind, tensor in calls:
                assert self.call(captured, tensor, kind=kind).shape == tensor.shape
        assert captured.num_recordings == len(calls)

    def test_every_input_counts(self, captured):
        def add(a, b):
            return a + b

        for second in (torch.ones(3), torch.ones(1), torch.ones(3)):
            found = self.call(captured, torch.ones(3), second, function=add)
            assert found.tolist() == [2.0] * 3
        assert captured.num_recordings == 2

    def test_a_kind_keeps_its_first_function(self, captured):
        self.call(captured, torch.ones(1))
        found = self.call(captured, torch.ones(1), function=lambda t: 3 * t)
        assert found.tolist() == [2.0]
        assert self.call(captured, torch.ones(1), kind=1, function=lambda t: 3 * t).tolist() == [3]

    def test_inputs_are_copied_and_the_output_is_overwritten_by_the_next_call(self, captured):
        given = torch.ones(2)
        first = self.call(captured, given)
        assert captured.record.made[0].inputs[0].data_ptr() != given.data_ptr()
        given.fill_(5)
        assert self.call(captured, torch.full((2,), 3.0)).tolist() == [6.0, 6.0]
        assert given.tolist() == [5.0, 5.0]
        assert self.call(captured, torch.zeros(2)) is first

    def test_the_one_unused_for_longest_goes(self, captured, monkeypatch):
        monkeypatch.setattr(replay, "MOST", 3)
        for kind in (0, 1, 2, 0, 3, 0, 2, 3):  # with 3, the 1 goes
            self.call(captured, torch.ones(1), kind=kind)
        assert captured.num_recordings == 4
        self.call(captured, torch.ones(1), kind=1)  # and now the 0
        assert captured.num_recordings == 5
        for kind, made in ((1, 5), (2, 5), (3, 5), (0, 6)):
            self.call(captured, torch.ones(1), kind=kind)
            assert captured.num_recordings == made

    def test_an_error_while_recording_leaves_nothing(self, captured):
        def fail(tensor):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            self.call(captured, torch.ones(1), function=fail)
        assert captured.num_recordings == 0
        assert self.call(captured, torch.ones(1)).tolist() == [2.0]


def learn(model: nn.Module, record, updates=UPDATES, *, stop_head=None, **changes):
    """Make updates; return the learner, its weights, and what it said of each update.

    Batches are padded as where updates are recorded, also where they are not: Adam makes much of a
    gradient that is nothing but rounding, such as that of GPT-2's key biases.
    """
    model, head = copy.deepcopy((model, stop_head))
    train_step = train_step_of(
        model, training(**changes), stop_head=head, stop_weight=0.7, record=record
    )
    size = changes.get("micro_batch_size") or 8
    said = []
    for number, layouts in enumerate(updates):
        shard = train_step.part_of(layouts)
        cut = [layouts[i : i + size] for i in range(0, len(layouts), size)]
        micro_batches = [collate_views(laid(some), columns=ROUNDED) for some in cut]
        shard = replace(shard, micro_batches=micro_batches)
        train_step.seed_dropout(f"{number}")
        said.append(train_step.step(shard, rate=1e-2))
    return train_step, dict(train_step.wrapped.named_parameters()), said


def check_alike(model: nn.Module, tolerance: float, updates=UPDATES, **options) -> StandIn:
    record = StandIn()
    _, weights, said = learn(model, record, updates, **options)
    _, expected, expected_said = learn(model, None, updates, **options)
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=tolerance, atol=tolerance)
    for one, other in zip(said, expected_said, strict=True):
        for name, value in other.items():
            assert one[name] == (value if value is None else pytest.approx(value, rel=1e-6))
    return record


class TestLearner:
    """With recorded updates, exactly the same training."""

    @pytest.mark.parametrize("has_head", [False, True])
    @pytest.mark.parametrize(
        ("name", "micro_batch_size"),
        [
            ("gpt2", None),
            ("llama", 3),
            pytest.param("gpt2", 3, marks=pytest.mark.slow),
            pytest.param("llama", None, marks=pytest.mark.slow),
        ],
    )
    def test_makes_the_same_updates(self, name, micro_batch_size, has_head):
        """At stage 0 a stop classifier has nothing to learn, and gets a gradient of zeros."""
        head = StopHead(HIDDEN_SIZE).double()
        nn.init.normal_(head.linear.weight, generator=torch.Generator().manual_seed(0))
        options = {"stop_head": head if has_head else None, "micro_batch_size": micro_batch_size}
        assert check_alike(tiny_model(name), 1e-12, **options).made

    def test_makes_the_same_updates_in_float32(self):
        check_alike(tiny_model("gpt2", torch.float32), 1e-6, UPDATES[:4], max_grad_norm=1.0)

    def test_with_dropout(self):
        """Recording runs the update more than once, and must not use up what is drawn at random."""
        model = tiny_model("gpt2", resid_pdrop=0.2, embd_pdrop=0.2).train()
        wide = [layouts_of([(32, 2, 8), (30, 1, 7)], seed=seed) for seed in range(3)]
        check_alike(model, 1e-12, wide, micro_batch_size=1)

    def test_of_like_shapes_are_recorded_once(self):
        record = StandIn()
        train_step, _, _ = learn(tiny_model("gpt2"), record, UPDATES[2:4])
        assert train_step._captured.num_recordings == len(record.made) == 1
        # And those with other numbers of thoughts apart.
        learn(tiny_model("gpt2"), record, [layouts_of([(5, n, 6)]) for n in (1, 2, 0, 1, 2)])
        assert len(record.made) == 1 + 3

    def test_gradients_that_stood_there_are_kept(self):
        """Of a micro-batch before it, when a recording is made in the middle of an update."""
        model = tiny_model("gpt2")
        train_step = train_step_of(model, training(micro_batch_size=1), record=StandIn())
        plain = train_step_of(copy.deepcopy(model), training(micro_batch_size=1))
        for one in (train_step, plain):
            shard = one.part_of(layouts_of([(5, 2, 6), (40, 3, 9), (4, 0, 3)]))
            coefficients = torch.tensor(shard.counts.coefficients(), dtype=torch.float64)
            for batch in shard.micro_batches:
                one._gradients(batch, coefficients)
        for weight, other in zip(
            train_step.wrapped.parameters(), plain.wrapped.parameters(), strict=True
        ):
            torch.testing.assert_close(weight.grad, other.grad, rtol=1e-9, atol=1e-12)

    def test_gradients_stay_where_a_recording_finds_them(self):
        model = tiny_model("gpt2")
        train_step = train_step_of(model, training(), record=StandIn())
        places = []
        for layouts in UPDATES[:3]:
            train_step.learn(layouts, rate=1e-2)
            assert all(not weight.grad.any() for weight in model.parameters())
            places.append([weight.grad.data_ptr() for weight in model.parameters()])
            if len(places) == 2:  # taken away, they come back: a recording adds to them
                model.zero_grad()
        assert places[0] == places[1] == places[2]

    def test_an_error_while_recording_keeps_the_gradients(self):
        model = tiny_model("gpt2")

        def record(function, inputs):
            function(*inputs)
            raise ZeroDivisionError

        train_step = train_step_of(model, training(), record=record)
        for weight, grad in train_step._grads:
            weight.grad = grad.fill_(3.0)
        with pytest.raises(ZeroDivisionError):
            train_step.learn(UPDATES[2], rate=1e-2)
        assert all(bool((weight.grad == 3).all()) for weight in model.parameters())

    def test_frozen_weights_have_no_gradients(self):
        model = tiny_model("gpt2")
        model.transformer.wpe.weight.requires_grad_(False)
        check_alike(model, 1e-12, UPDATES[:3])
        train_step, _, _ = learn(model, StandIn(), UPDATES[:1])
        assert train_step.model.transformer.wpe.weight.grad is None

    def test_without_recordings_gradients_are_let_go(self):
        """They would take memory that the next update's states need."""
        train_step, weights, _ = learn(tiny_model("gpt2"), None, UPDATES[:1])
        assert train_step._captured is None, "nothing is recorded without a GPU"
        assert all(weight.grad is None for weight in weights.values())


class TestRounding:
    def test_more_columns_of_padding_change_nothing(self):
        train_step = train_step_of(tiny_model("llama"), training())
        found = []
        for columns in ((1, 1), ROUNDED):
            batches = Batches({"answer": collate(UPDATES[0], pad_id=5, columns=columns)}, {})
            train_step.optimizer.zero_grad()
            values = train_step._backward(batches, torch.tensor([1 / 20, 0.0, 0.0]))
            weights = train_step.wrapped.parameters()
            found.append((values, [weight.grad.clone() for weight in weights]))
        torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)

    def test_of_batches_where_updates_are_recorded(self):
        train_step = train_step_of(tiny_model("gpt2"), training(), record=StandIn())
        for layouts in UPDATES:
            for batches in train_step.part_of(layouts).micro_batches:
                batch = batches.views["answer"]
                assert (batch.prefix.shape[1] % 32, batch.suffix.shape[1] % 8) == (0, 0)
        plain_step = train_step_of(tiny_model("gpt2"), training())
        (batches,) = plain_step.part_of(UPDATES[0]).micro_batches
        plain = batches.views["answer"]
        assert (plain.prefix.shape[1], plain.suffix.shape[1]) == (9, 7)

    @pytest.mark.parametrize(("width", "rounded"), [(31, 32), (32, 32), (33, 64)])
    def test_goes_up_to_the_next_multiple(self, width, rounded):
        batch = collate(layouts_of([(width, 1, 8)]), columns=ROUNDED)
        assert (batch.prefix.shape[1], batch.suffix.shape[1]) == (rounded, 8)


class NothingIsAsked(TorchDispatchMode):
    """Raises where a GPU's host would wait for it, or copy to it: no graph can be recorded there.

    `lift_fresh` is what `torch.tensor(…)` does to bring its values to a device.
    """

    FORBIDDEN = (
        "_local_scalar_dense", "item", "nonzero", "masked_select", "equal", "is_nonzero",
        "unique", "unique2", "_unique", "_unique2", "unique_dim", "unique_consecutive",
        "lift_fresh", "lift_fresh_copy", "bincount", "repeat_interleave", "isin",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __enter__(self):
        """Forbid also what never gets to a dispatch mode on a CPU."""
        self.patches = ExitStack()
        for name in ("tolist", "numpy", "cpu"):
            self.patches.enter_context(mock.patch.object(Tensor, name, side_effect=AssertionError))
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.close()
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.names.add(name)
        assert name not in self.FORBIDDEN, name
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            indices = [index for index in args[1] if index is not None]
            assert not any(index.dtype in (torch.bool, torch.uint8) for index in indices), name
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in (*args, result) if isinstance(t, Tensor)]
        assert len({tensor.device for tensor in tensors}) <= 1, name
        return result


LAYOUTS = {
    "coconut": layouts_of(RAGGED),
    "pause": layouts_of(RAGGED, seed=1),
    "cot": layouts_of([(k, 0, t) for k, _, t in RAGGED], seed=2),
}


class TestNothingIsAsked:
    """Nothing in an update's forward and backward asks the device for a value."""

    @pytest.mark.parametrize(
        "ask",
        [
            lambda t: t.sum().item(),
            lambda t: bool(t.any()),
            lambda t: t[t > 0],
            lambda t: t.nonzero(),
            lambda t: t.unique(),
            lambda t: torch.equal(t, t),
            lambda t: t.masked_select(t > 0),
            lambda t: torch.tensor([1.0]) + t,
            lambda t: t.to("meta"),
            lambda t: t.tolist(),
            lambda t: t.cpu(),
            lambda t: t.numpy(),
        ],
    )
    def test_is_noticed(self, ask):
        tensor = torch.ones(3)
        with pytest.raises(AssertionError), NothingIsAsked():
            ask(tensor)

    def test_is_noticed_in_backward_too(self):
        class Asks(torch.autograd.Function):
            @staticmethod
            def forward(ctx, tensor):
                return tensor.clone()

            @staticmethod
            def backward(ctx, gradient):
                return gradient * gradient.sum().item()

        total = Asks.apply(torch.ones(3, requires_grad=True)).sum()
        with pytest.raises(AssertionError, match="_local_scalar_dense"), NothingIsAsked():
            total.backward()

    @pytest.mark.parametrize("is_bfloat16", [False, True])
    @pytest.mark.parametrize("kind", LAYOUTS)
    @pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
    def test_by_an_update(self, name, kind, is_bfloat16):
        model = tiny_model(name, torch.float32)
        train_step = train_step_of(
            model,
            training(precision="bfloat16" if is_bfloat16 else "float32"),
            update=method_named("pause-multipass").view.latents.update if kind == "pause" else None,
            stop_head=StopHead(HIDDEN_SIZE),
        )
        train_step.wrapped.train()
        shard = train_step.part_of(LAYOUTS[kind])
        (batch,) = shard.micro_batches
        sizes = torch.tensor(shard.counts.coefficients())
        with NothingIsAsked() as mode:
            train_step._backward(batch, sizes)
        assert "_softmax_backward_data" in mode.names or kind == "cot"  # backward was seen
        assert "embedding_dense_backward" in mode.names
        assert all(weight.grad is not None for weight in model.parameters())


class TestSights:
    """A shape is recorded when it has been seen often enough."""

    def test_runs_the_function_until_then(self):
        """Each shape counts for itself."""
        record = StandIn()
        captured = Captured(record, sights=3)
        for width, recorded in ((1, 0), (3, 0), (2, 0), (2, 0), (3, 0), (2, 1), (2, 1)):
            found = captured("k", lambda t: t + 1, (torch.ones(width),))
            assert torch.equal(found, torch.full((width,), 2.0))
            assert captured.num_recordings == len(record.made) == recorded

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (RuntimeError("no\nway"), "one could not be recorded: no way"),
            (torch.OutOfMemoryError("much"), "too little memory"),
        ],
    )
    def test_what_cannot_be_recorded_is_said_once_and_runs_all_the_same(
        self, capsys, monkeypatch, error, said
    ):
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

        def record(function, inputs):
            raise error

        captured = Captured(record, sights=1)
        for width in (1, 2, 1):
            found = captured("k", lambda t: t + 1, (torch.ones(width),))
            assert torch.equal(found, torch.full((width,), 2.0))
        told = " ".join(capsys.readouterr().err.split())
        assert told.count(said) == 1
