"""`think()` and the loss on top of it, held to the slow reference (`reference.py`)."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from latentcot.methods import METHODS
from latentcot.thinking.batch import collate
from losses import LanguageLoss
from reference import (
    ARCHITECTURES,
    EACH,
    HIDDEN_SIZE,
    NO_LABEL,
    VOCAB_SIZE,
    embed,
    half,
    last_hidden,
    pause,
    reference_count,
    reference_latent_states,
    reference_loss,
    reference_states,
    tiny_model,
)
from rollouts import (
    CASES,
    CLOSE,
    EXACT,
    GRADIENT_TOLERANCE,
    GRADIENT_TOLERANCE_32,
    RAGGED,
    Row,
    check_loss,
    check_states,
    make_row,
    make_rows,
    product_loss,
    relative_errors,
    run_think,
    take_gradients,
)


def update(model: nn.Module, gradients: dict[str, Tensor]) -> None:
    """One AdamW update, large enough to change the thoughts."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.01)
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name]
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture(params=EACH)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return tiny_model(name)


class TestReference:
    """The reference itself, checked by means that share nothing with it."""

    def test_without_thoughts_it_is_the_language_model(self, model):
        row = make_row(5, 0, 4, seed=1)
        ids = torch.tensor([[*row.prefix, *row.suffix]])
        states, thoughts = reference_states(model, row.prefix, 0, row.suffix)
        expected = model(ids).logits[0, len(row.prefix) - 1 :]
        torch.testing.assert_close(model.get_output_embeddings()(states), expected, **EXACT)
        assert thoughts.shape == (0, HIDDEN_SIZE)

    def test_thoughts_are_the_hidden_states_one_column_to_the_left(self, model):
        row = make_row(5, 4, 3, seed=2)
        states, thoughts = reference_states(model, row.prefix, 4, row.suffix)
        inputs = torch.cat([embed(model, row.prefix), thoughts, embed(model, row.suffix)])
        hidden = last_hidden(model, inputs)
        torch.testing.assert_close(thoughts, hidden[4:8], **EXACT)
        torch.testing.assert_close(states, hidden[8:], **EXACT)

    def test_thoughts_matter(self, model):
        row = make_row(5, 4, 3, seed=3)
        states, thoughts = reference_states(model, row.prefix, 4, row.suffix)
        changed = thoughts.roll(1, dims=0)
        inputs = torch.cat([embed(model, row.prefix), changed, embed(model, row.suffix)])
        logits = model.get_output_embeddings()(states)
        other = model.get_output_embeddings()(last_hidden(model, inputs)[8:])
        assert (logits - other).abs().mean() > 0.1

    def test_gradient_is_the_slope_of_the_loss(self, model):
        batch = [row.as_tuple for row in make_rows([(4, 3, 4), (2, 1, 3)])]
        gradients = take_gradients(model, reference_loss(model, batch))
        generator = torch.Generator().manual_seed(0)
        direction = {
            key: torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
            for key, gradient in gradients.items()
        }
        slope = sum(float((gradients[key] * direction[key]).sum()) for key in gradients)
        start = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
        values, step = [], 1e-6
        with torch.no_grad():
            for sign in (1, -1):
                for key, parameter in model.named_parameters():
                    parameter.copy_(start[key] + sign * step * direction[key])
                values.append(float(reference_loss(model, batch)))
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-4)


class TestStates:
    @pytest.mark.parametrize("case", CASES)
    def test_equal_the_reference(self, model, case):
        rows = make_rows(CASES[case])
        with torch.no_grad():
            check_states(model, rows, run_think(model, rows), EXACT)

    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_equal_the_reference_in_float32(self, name, attention):
        model = tiny_model(name, torch.float32, attention=attention)
        rows = make_rows(RAGGED)
        with torch.no_grad():
            rollout = run_think(model, rows)
            assert rollout.states.dtype == rollout.latent_inputs.dtype == torch.float32
            check_states(model, rows, rollout, CLOSE)

    @pytest.mark.parametrize("num_thoughts", [(0, 0, 0), (2, 2, 2), (0, 3, 1)])
    def test_without_suffix(self, model, num_thoughts):
        rows = make_rows([(k, n, 0) for k, n in zip((4, 1, 7), num_thoughts, strict=True)])
        with torch.no_grad():
            rollout = run_think(model, rows)
            assert rollout.states.shape == (3, 1, HIDDEN_SIZE)
            check_states(model, rows, rollout, EXACT)

    def test_some_rows_without_suffix(self, model):
        rows = make_rows([(4, 2, 0), (1, 0, 3), (7, 4, 1), (3, 0, 0)])
        with torch.no_grad():
            check_states(model, rows, run_think(model, rows), EXACT)

    def test_one_column(self, model):
        """The smallest batch there is: one token, nothing else."""
        rows = make_rows([(1, 0, 0)])
        with torch.no_grad():
            check_states(model, rows, run_think(model, rows), EXACT)

    def test_in_training_mode(self, model):
        rows = make_rows(RAGGED)
        check_states(model, rows, run_think(model.train(), rows), EXACT)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        shapes=st.lists(
            st.tuples(st.integers(1, 12), st.integers(0, 6), st.integers(0, 8)),
            min_size=1,
            max_size=5,
        ),
        seed=st.integers(0, 1000),
        pad_id=st.integers(0, VOCAB_SIZE - 1),
        extra=st.integers(0, 3),
        name=st.sampled_from(list(ARCHITECTURES)),
    )
    def test_equal_the_reference_for_any_lengths(self, shapes, seed, pad_id, extra, name):
        model = tiny_model(name, seed=seed)
        rows = make_rows(shapes, seed)
        with torch.no_grad():
            check_states(model, rows, run_think(model, rows, pad_id, extra), EXACT)


class TestIndependence:
    """A row's numbers are its own."""

    def test_of_pad_id_and_amount_of_padding(self, model):
        rows = make_rows(RAGGED)
        with torch.no_grad():
            first = run_think(model, rows)
            second = run_think(model, rows, pad_id=VOCAB_SIZE - 1, extra=5)
        for b, row in enumerate(rows):
            width = len(row.suffix) + 1
            torch.testing.assert_close(second.states[b, :width], first.states[b, :width], **EXACT)
        torch.testing.assert_close(second.latent_inputs, first.latent_inputs, **EXACT)

    def test_of_neighbours_and_order(self, model):
        rows = make_rows(RAGGED)
        with torch.no_grad():
            together = run_think(model, rows)
            reverse = run_think(model, rows[::-1])
            for b, row in enumerate(rows):
                width, count = len(row.suffix) + 1, row.num_thoughts
                alone = run_think(model, [row])
                assert alone.states.shape == (1, width, HIDDEN_SIZE)
                turned = reverse.states[len(rows) - 1 - b]
                for states in (alone.states[0], turned[:width]):
                    torch.testing.assert_close(states, together.states[b, :width], **EXACT)
                torch.testing.assert_close(
                    alone.latent_inputs[0], together.latent_inputs[b, :count], **EXACT
                )

    def test_gradient_stays_in_the_row(self, model):
        """No gradient reaches tokens of a neighbour, nor the pads."""
        rows = [
            Row((1, 2, 3), 3, (4, 5), (NO_LABEL, 5)),
            Row((11, 12, 13, 14, 15, 16), 5, (17, 18, 19, 20), (NO_LABEL,) * 4),
            Row((21,), 0, (22,), (NO_LABEL,)),
        ]
        embedding = model.get_input_embeddings().weight
        states = run_think(model, rows, pad_id=39).states[0, 1:2]  # predicts the 5 of row 0
        (gradient,) = torch.autograd.grad(states.square().sum(), [embedding])
        assert gradient.abs().sum(-1).nonzero().flatten().tolist() == [1, 2, 3, 4]

    def test_of_the_call_before(self, model):
        """No cache, mask or position is left behind in the model."""
        rows = make_rows(RAGGED)
        with torch.no_grad():
            first = run_think(model, rows).states
            run_think(model, make_rows([(11, 4, 3), (2, 6, 1)], seed=5))
            assert torch.equal(run_think(model, rows).states, first)


class TestEdges:
    def test_pads_need_no_position_of_their_own(self):
        """Rows that fit the model's positions one by one also fit them side by side."""
        model = tiny_model("gpt2", n_positions=11)
        rows = make_rows([(10, 0, 1), (1, 4, 6), (5, 6, 0)])
        with torch.no_grad():
            check_states(model, rows, run_think(model, rows), EXACT)
            rows = make_rows([(10, 0, 1), (3, 0, 8)])
            check_states(model, rows, run_think(model, rows), EXACT)

    def test_cannot_be_fooled_by_numbers_at_the_pads(self):
        """A pad with a huge embedding does no harm: nothing reads it."""
        model = tiny_model("llama")
        rows = [
            Row(
                tuple(t % 39 for t in r.prefix),
                r.num_thoughts,
                tuple(t % 39 for t in r.suffix),
                r.labels,
            )
            for r in make_rows(RAGGED)
        ]
        with torch.no_grad():
            model.get_input_embeddings().weight[39] = 1e6
            check_states(model, rows, run_think(model, rows, pad_id=39, extra=2), EXACT)


class TestLoss:
    @pytest.mark.parametrize("case", CASES)
    def test_and_every_gradient_equal_the_reference(self, model, case):
        check_loss(model, make_rows(CASES[case]), GRADIENT_TOLERANCE)

    def test_still_after_an_update(self, model):
        rows = make_rows(RAGGED)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        gradients = check_loss(model, rows, GRADIENT_TOLERANCE)
        update(model, gradients)
        assert all(
            not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)
        )
        check_loss(model, rows, GRADIENT_TOLERANCE)
        check_loss(model, make_rows(RAGGED[::-1], seed=1), GRADIENT_TOLERANCE)

    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_in_float32(self, name, attention):
        model = tiny_model(name, torch.float32, attention=attention)
        rows = make_rows(RAGGED)
        update(model, check_loss(model, rows, GRADIENT_TOLERANCE_32))
        check_loss(model, rows, GRADIENT_TOLERANCE_32)

    def test_in_training_mode(self, model):
        check_loss(model.train(), make_rows(RAGGED), GRADIENT_TOLERANCE)

    def test_does_not_depend_on_the_pad_id(self, model):
        rows = make_rows(RAGGED)
        losses = [product_loss(model, rows, pad_id) for pad_id in (0, 7, VOCAB_SIZE - 1)]
        for loss in losses[1:]:
            torch.testing.assert_close(loss, losses[0], **EXACT)

    def test_is_the_sum_over_rows(self, model):
        rows = make_rows(RAGGED)
        loss = LanguageLoss(model)
        together = loss(collate([row.as_layout for row in rows]))
        alone = [loss(collate([row.as_layout])) for row in rows]
        torch.testing.assert_close(
            together.nll_sum, torch.stack([parts.nll_sum for parts in alone]).sum(), **EXACT
        )
        assert int(together.num_labels) == sum(int(parts.num_labels) for parts in alone)

    def test_a_row_without_labels_changes_nothing(self, model):
        rows = make_rows(RAGGED)
        silent = Row((1, 2, 3, 4), 4, (5, 6), (NO_LABEL, NO_LABEL))
        torch.testing.assert_close(
            product_loss(model, [silent, *rows]), product_loss(model, rows), **EXACT
        )

    @pytest.mark.parametrize("place", [0, 1, 4])
    def test_one_label_is_the_log_probability_of_that_token(self, model, place):
        """Each label is read one column to its left: nothing is shifted twice or not at all."""
        row = make_row(4, 2, 5, seed=7)
        labels = tuple(token if j == place else NO_LABEL for j, token in enumerate(row.suffix))
        rows = [dataclasses.replace(row, labels=labels), make_row(6, 3, 2, seed=8)]
        rows[1] = dataclasses.replace(rows[1], labels=(NO_LABEL, NO_LABEL))
        states, _ = reference_states(model, row.prefix, 2, row.suffix)
        log_probs = model.get_output_embeddings()(states[place]).log_softmax(-1)
        torch.testing.assert_close(
            product_loss(model, rows), -log_probs[row.suffix[place]], **EXACT
        )

    @pytest.mark.parametrize("num_thoughts", [1, 2, 6])
    def test_gradient_flows_through_the_thoughts(self, model, num_thoughts):
        """The reference without that gradient is far away; the product is not."""
        rows = make_rows([(5, num_thoughts, 4), (3, num_thoughts, 2)])
        batch = [row.as_tuple for row in rows]
        detached = take_gradients(model, reference_loss(model, batch, detach_thoughts=True))
        actual = take_gradients(model, product_loss(model, rows))
        errors = relative_errors(actual, detached)
        head = next(k for k, p in model.named_parameters() if p is model_head(model))
        inner = [error for key, error in errors.items() if key != head]
        assert min(inner) > 0.01, errors

    def test_gradient_reaches_every_thought(self, model):
        rows = make_rows([(5, 4, 3), (3, 2, 2)])
        rollout = run_think(model, rows)
        (gradient,) = torch.autograd.grad(
            rollout.latent_inputs[0, 3].square().sum(), [model.get_input_embeddings().weight]
        )
        touched = gradient.abs().sum(-1).nonzero().flatten().tolist()
        assert touched == sorted(set(rows[0].prefix))


def model_head(model: nn.Module) -> Tensor:
    return model.get_output_embeddings().weight


class TestPasses:
    @pytest.mark.parametrize(
        ("counts", "expected"),
        [((0,), 1), ((0, 0), 1), ((1,), 2), ((3, 0, 1), 4), ((6, 6), 7), ((2, 5), 6)],
    )
    def test_are_the_most_thoughts_and_one(self, model, counts, expected):
        calls = []
        hook = model.base_model.register_forward_hook(lambda *_: calls.append(1))
        rows = make_rows([(3 + i, n, 2 + i) for i, n in enumerate(counts)])
        with torch.no_grad():
            rollout = run_think(model, rows)
        hook.remove()
        assert len(calls) == rollout.passes.num_passes == expected

    def test_feed_each_column_once(self, model):
        """A growing cache, not n + 1 readings of the question."""
        widths = []
        rows = make_rows([(9, 4, 3), (6, 4, 2)])
        layer = next(m for n, m in model.base_model.named_modules() if n in ("h.0", "layers.0"))
        hook = layer.register_forward_pre_hook(
            lambda _, args, kwargs: widths.append((args or (kwargs["hidden_states"],))[0].shape[1]),
            with_kwargs=True,
        )
        with torch.no_grad():
            run_think(model, rows)
        hook.remove()
        assert widths[0] == 9
        assert sum(widths) == 9 + 4 + 3


PAUSE_ID = 17
PAUSE_FEED = METHODS["pause-multipass"].view.latents.update
FEEDS = {  # the product's, the reference's
    "pause": (PAUSE_FEED, pause(PAUSE_ID)),
    "half": (lambda latent: latent.state / (latent.number + 2), half),
}
FED_CASES = ["n=0", "n=1", "n=3", "ragged", "ragged without zero"]


class TestFeed:
    """Something else than the thought stands in the latent positions, under the same passes."""

    def test_coconut_reads_the_thought_itself(self, model):
        rows = make_rows(RAGGED)
        feed = METHODS["coconut"].view.latents.update
        with torch.no_grad():
            check_states(model, rows, run_think(model, rows, feed=feed), EXACT)

    @pytest.mark.parametrize("case", FED_CASES)
    @pytest.mark.parametrize("kind", FEEDS)
    def test_states_equal_the_reference(self, model, kind, case):
        feed, fill = FEEDS[kind]
        rows = make_rows(CASES[case])
        with torch.no_grad():
            check_states(model, rows, run_think(model, rows, feed=feed), EXACT, fill)

    @pytest.mark.parametrize("case", FED_CASES)
    @pytest.mark.parametrize("kind", FEEDS)
    def test_loss_and_every_gradient_equal_the_reference(self, model, kind, case):
        feed, fill = FEEDS[kind]
        check_loss(model, make_rows(CASES[case]), GRADIENT_TOLERANCE, fill, feed)

    @pytest.mark.parametrize("kind", FEEDS)
    def test_it_is_not_the_thought(self, model, kind):
        """The tests above can tell a feed that is forgotten."""
        _, fill = FEEDS[kind]
        rows = make_rows(RAGGED)
        batch = [row.as_tuple for row in rows]
        latent_inputs = reference_loss(model, batch, fill=fill).item()
        assert abs(latent_inputs / reference_loss(model, batch).item() - 1) > 1e-3

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(
        shapes=st.lists(
            st.tuples(st.integers(1, 9), st.integers(0, 5), st.integers(0, 6)),
            min_size=1,
            max_size=4,
        ),
        seed=st.integers(0, 1000),
        pad_id=st.integers(0, VOCAB_SIZE - 1),
        kind=st.sampled_from(list(FEEDS)),
        name=st.sampled_from(["gpt2", "llama", "qwen3"]),
    )
    def test_equal_the_reference_for_any_lengths(self, shapes, seed, pad_id, kind, name):
        model, (feed, fill) = tiny_model(name, seed=seed), FEEDS[kind]
        rows = make_rows(shapes, seed)
        with torch.no_grad():
            check_states(model, rows, run_think(model, rows, pad_id, feed=feed), EXACT, fill)

    def test_the_gradient_reaches_the_pause(self, model):
        rows = make_rows([(5, 4, 3), (3, 2, 2)])
        rollout = run_think(model, rows, feed=PAUSE_FEED)
        (gradient,) = torch.autograd.grad(
            rollout.latent_inputs[0].square().sum(), [model.get_input_embeddings().weight]
        )
        assert gradient.abs().sum(-1).nonzero().flatten().tolist() == [PAUSE_ID]

    @pytest.mark.parametrize("case", ["n=0", "n=4", "ragged"])
    def test_pauses_one_by_one_are_pauses_at_once(self, model, case):
        """A learned embedding depends on nothing: passes change nothing but the time."""
        rows = make_rows(CASES[case])
        at_once = [
            Row(
                row.prefix,
                0,
                (PAUSE_ID,) * row.num_thoughts + row.suffix,
                (NO_LABEL,) * row.num_thoughts + row.labels,
            )
            for row in rows
        ]
        one_by_one = product_loss(model, rows, feed=PAUSE_FEED)
        torch.testing.assert_close(one_by_one, product_loss(model, at_once), **EXACT)
        errors = relative_errors(
            take_gradients(model, one_by_one),
            take_gradients(model, product_loss(model, at_once)),
        )
        assert max(errors.values()) < GRADIENT_TOLERANCE, errors
        with torch.no_grad():
            rollout = run_think(model, rows, feed=PAUSE_FEED)
            assert rollout.passes.num_passes == max(row.num_thoughts for row in rows) + 1
            assert run_think(model, at_once).passes.num_passes == 1


class TestLatentStates:
    """What comes of reading each latent position."""

    @pytest.mark.parametrize("kind", ["thought", *FEEDS])
    def test_equal_the_reference(self, model, kind):
        feed, fill = FEEDS.get(kind, (None, None))
        rows = make_rows(RAGGED)
        with torch.no_grad():
            rollout = run_think(model, rows, feed=feed)
            assert rollout.latent_states.shape == rollout.latent_inputs.shape
            for b, row in enumerate(rows):
                count = row.num_thoughts
                expected = reference_latent_states(model, row.prefix, count, fill=fill)
                torch.testing.assert_close(rollout.latent_states[b, :count], expected, **EXACT)
                if count:
                    last = rollout.latent_states[b, count - 1]
                    torch.testing.assert_close(rollout.states[b, 0], last, **EXACT)

    def test_are_the_thoughts_of_the_latents_behind_them(self, model):
        rows = make_rows(RAGGED)
        with torch.no_grad():
            rollout = run_think(model, rows)
        for b, row in enumerate(rows):
            inner = rollout.latent_states[b, : max(0, row.num_thoughts - 1)]
            fed = rollout.latent_inputs[b, 1 : row.num_thoughts]
            torch.testing.assert_close(inner, fed, **EXACT)

    @pytest.mark.parametrize("extra", [0, 3])
    def test_of_no_latents(self, model, extra):
        rows = make_rows([(4, 0, 2), (1, 0, 3)])
        with torch.no_grad():
            rollout = run_think(model, rows, extra=extra)
        assert rollout.latent_states.shape == rollout.latent_inputs.shape == (2, 0, HIDDEN_SIZE)
        assert rollout.num_latents_B.tolist() == [0, 0]

    def test_the_numbers_of_latents_and_passes_are_each_rows_own(self, model):
        rows = make_rows(RAGGED)
        counts = [row.num_thoughts for row in rows]
        with torch.no_grad():
            rollout = run_think(model, rows)
        assert rollout.num_latents_B.tolist() == counts
        assert rollout.num_passes_B.tolist() == [count + 1 for count in counts]
        assert rollout.passes.num_passes == max(counts) + 1


def ends(states: Tensor) -> Tensor:
    """A rule that looks at the state alone: (…, D) → (…)."""
    direction = torch.randn(HIDDEN_SIZE, generator=torch.Generator().manual_seed(3))
    return (states @ direction.to(states.dtype)) > 2.0


class TestStop:
    """Each row thinks until a rule that sees the newest latent position says that it is enough."""

    SHAPES = (
        (5, 6, 3),
        (1, 5, 2),
        (8, 6, 1),
        (3, 1, 4),
        (4, 6, 0),
        (7, 6, 2),
        (2, 4, 5),
        (6, 0, 2),
    )
    LIMITED = make_rows(SHAPES, seed=3)

    @staticmethod
    def taken(model: nn.Module, rows: Sequence[Row], fill=None) -> list[Row]:
        """The same rows, each with as many latent positions as the reference takes."""
        with torch.no_grad():
            return [
                dataclasses.replace(
                    row,
                    num_thoughts=reference_count(
                        model, row.prefix, row.num_thoughts, ends, fill=fill
                    ),
                )
                for row in rows
            ]

    def test_rows_stop_at_different_times(self, model):
        """And some at their limit: otherwise the tests below would tell little."""
        taken = self.taken(model, self.LIMITED)
        counts = {row.num_thoughts for row in taken}
        assert len(counts) >= 4
        pairs = [
            (row.num_thoughts, limit.num_thoughts)
            for row, limit in zip(taken, self.LIMITED, strict=True)
        ]
        assert any(count == limit > 1 for count, limit in pairs)
        assert any(count < limit for count, limit in pairs)

    @pytest.mark.parametrize("kind", ["thought", *FEEDS])
    def test_equals_the_reference_that_decides_row_by_row(self, model, kind):
        feed, fill = FEEDS.get(kind, (None, None))
        taken = self.taken(model, self.LIMITED, fill)
        with torch.no_grad():
            rollout = run_think(model, self.LIMITED, feed=feed, stop=ends)
            check_states(model, taken, rollout, EXACT, fill)
            assert rollout.num_latents_B.tolist() == [row.num_thoughts for row in taken]
            for b, row in enumerate(taken):
                count = row.num_thoughts
                expected = reference_latent_states(model, row.prefix, count, fill=fill)
                torch.testing.assert_close(rollout.latent_states[b, :count], expected, **EXACT)

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(
        shapes=st.lists(
            st.tuples(st.integers(1, 9), st.integers(0, 5), st.integers(0, 6)),
            min_size=1,
            max_size=4,
        ),
        seed=st.integers(0, 1000),
        pad_id=st.integers(0, VOCAB_SIZE - 1),
        extra=st.integers(0, 2),
        name=st.sampled_from(["gpt2", "llama", "qwen3"]),
    )
    def test_equals_it_for_any_lengths(self, shapes, seed, pad_id, extra, name):
        model = tiny_model(name, seed=seed)
        rows = make_rows(shapes, seed)
        taken = self.taken(model, rows)
        with torch.no_grad():
            rollout = run_think(model, rows, pad_id, extra, stop=ends)
        check_states(model, taken, rollout, EXACT)
        assert rollout.num_latents_B.tolist() == [row.num_thoughts for row in taken]

    def test_does_not_depend_on_neighbours_or_order(self, model):
        rows = self.LIMITED
        with torch.no_grad():
            together = run_think(model, rows, stop=ends)
            reverse = run_think(model, rows[::-1], pad_id=9, extra=2, stop=ends)
            for b, row in enumerate(rows):
                width, count = len(row.suffix) + 1, int(together.num_latents_B[b])
                alone = run_think(model, [row], stop=ends)
                turned = len(rows) - 1 - b
                assert int(alone.num_latents_B[0]) == int(reverse.num_latents_B[turned]) == count
                passes = (alone.num_passes_B[0], reverse.num_passes_B[turned])
                assert {int(p) for p in passes} == {int(together.num_passes_B[b])}
                for states in (alone.states[0], reverse.states[turned, :width]):
                    torch.testing.assert_close(states, together.states[b, :width], **EXACT)
                torch.testing.assert_close(
                    alone.latent_inputs[0], together.latent_inputs[b, :count], **EXACT
                )

    def test_passes(self, model):
        """One for the question, one a latent position, one for the language, where there is any."""
        calls = []
        hook = model.base_model.register_forward_hook(lambda *_: calls.append(1))
        with torch.no_grad():
            rollout = run_think(model, self.LIMITED, stop=ends)
        hook.remove()
        counts = rollout.num_latents_B.tolist()
        assert rollout.num_passes_B.tolist() == [
            1 + count + (row.num_thoughts > 0 and len(row.suffix) > 0)
            for count, row in zip(counts, self.LIMITED, strict=True)
        ]
        assert len(calls) == rollout.passes.num_passes == max(counts) + 2

    @pytest.mark.parametrize("num_words", [0, 3])
    def test_passes_of_one_row_are_calls_of_the_backbone(self, model, num_words):
        for limit in (0, 1, 4):
            with torch.no_grad():
                rollout = run_think(model, make_rows([(4, limit, num_words)]), stop=ends)
            assert rollout.passes.num_passes == int(rollout.num_passes_B[0])

    def test_at_once_where_all_have_stopped(self, model):
        """Nothing is computed for latent positions that no row takes."""
        rows = make_rows([(4, 6, 2), (2, 6, 3)])
        with torch.no_grad():
            rollout = run_think(
                model, rows, stop=lambda states: torch.ones(len(states), dtype=torch.bool)
            )
        assert rollout.num_latents_B.tolist() == [1, 1]
        assert rollout.latent_inputs.shape[1] == rollout.latent_states.shape[1] == 1
        assert rollout.passes.num_passes == 3

    def test_never(self, model):
        """A rule that is never content leaves the limits, and the numbers as without a rule."""
        with torch.no_grad():
            rollout = run_think(
                model, self.LIMITED, stop=lambda states: torch.zeros(len(states), dtype=torch.bool)
            )
            check_states(model, self.LIMITED, rollout, EXACT)
        assert rollout.num_latents_B.tolist() == [row.num_thoughts for row in self.LIMITED]

    def test_a_rule_is_not_asked_again_for_a_row_that_has_stopped(self, model):
        """A row that ended on its first latent position does not come back when the rule changes
        its mind."""
        rows = make_rows([(4, 5, 2), (3, 5, 1)])
        asked = []

        def only_the_first_time(states):
            asked.append(1)
            return torch.tensor([len(asked) == 1, len(asked) == 3])

        with torch.no_grad():
            rollout = run_think(model, rows, stop=only_the_first_time)
        assert rollout.num_latents_B.tolist() == [1, 3]
        taken = [
            dataclasses.replace(row, num_thoughts=n) for row, n in zip(rows, (1, 3), strict=True)
        ]
        check_states(model, taken, rollout, EXACT)

    @pytest.mark.parametrize("num_words", [0, 2])
    def test_of_no_latents(self, model, num_words):
        rows = make_rows([(4, 0, num_words), (2, 0, num_words)])
        with torch.no_grad():
            rollout = run_think(model, rows, stop=ends)
            check_states(model, rows, rollout, EXACT)
        assert rollout.num_latents_B.tolist() == [0, 0]
        assert rollout.num_passes_B.tolist() == [1, 1]
