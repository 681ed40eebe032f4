"""`think()` and the loss on top of it, held to the slow reference (`reference.py`)."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from latentcot.methods import method_named
from latentcot.thinking.batch import collate
from losses import LanguageLoss
from reference import (
    ARCHITECTURES,
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


PAUSE_ID = 17
PAUSE = method_named("pause-multipass").view.latents.update
KINDS = {  # what stands in latent positions: the product's, the reference's
    "thought": (None, None),
    "coconut": (method_named("coconut").view.latents.update, None),
    "pause": (PAUSE, pause(PAUSE_ID)),
    "half": (lambda latent: latent.state / (latent.number + 2), half),
}
OTHERS = ["pause", "half"]
KIND_CASES = [
    *(("thought", case) for case in CASES),
    *((kind, case) for kind in OTHERS for case in ("n=0", "n=1", "n=3", *list(CASES)[-2:])),
]
EDGES = {
    "no suffix, no thoughts": [(4, 0, 0), (1, 0, 0), (7, 0, 0)],
    "no suffix": [(4, 2, 0), (1, 2, 0), (7, 2, 0)],
    "no suffix, ragged": [(4, 0, 0), (1, 3, 0), (7, 1, 0)],
    "some without suffix": [(4, 2, 0), (1, 0, 3), (7, 4, 1), (3, 0, 0)],
    "one position": [(1, 0, 0)],
}


def ends(states: Tensor) -> Tensor:
    """A stop rule that looks at the state alone: (…, D) → (…)."""
    direction = torch.randn(HIDDEN_SIZE, generator=torch.Generator().manual_seed(3))
    return (states @ direction.to(states.dtype)) > 2.0


def with_counts(rows: Sequence[Row], counts: Sequence[int]) -> list[Row]:
    pairs = zip(rows, counts, strict=True)
    return [dataclasses.replace(row, num_thoughts=count) for row, count in pairs]


@torch.no_grad()
def taken(model: nn.Module, rows: Sequence[Row], fill=None) -> list[Row]:
    """The same rows, each with as many latent positions as the reference takes until `ends`."""
    counts = [reference_count(model, row.prefix, row.num_thoughts, ends, fill=fill) for row in rows]
    return with_counts(rows, counts)


@torch.no_grad()
def check_latent_states(model, rows, rollout, fill=None) -> None:
    """What comes of reading each latent position: the next thought, and behind the last one."""
    assert rollout.latent_states.shape == rollout.latent_inputs.shape
    assert rollout.num_latents_B.tolist() == [row.num_thoughts for row in rows]
    for b, row in enumerate(rows):
        count = row.num_thoughts
        expected = reference_latent_states(model, row.prefix, count, fill=fill)
        torch.testing.assert_close(rollout.latent_states[b, :count], expected, **EXACT)


@torch.no_grad()
def check_own(first, second, rows, turned) -> None:
    """Row b is row `turned[b]` of the second roll-out, whatever stands next to it."""
    for b, row in enumerate(rows):
        width, count, other = len(row.suffix) + 1, int(first.num_latents_B[b]), turned[b]
        for values in ("num_latents_B", "num_passes_B"):
            assert int(getattr(first, values)[b]) == int(getattr(second, values)[other])
        torch.testing.assert_close(second.states[other, :width], first.states[b, :width], **EXACT)
        torch.testing.assert_close(
            second.latent_inputs[other, :count], first.latent_inputs[b, :count], **EXACT
        )


def tokens_reached(model: nn.Module, values: Tensor) -> list[int]:
    """The tokens whose embeddings get a gradient."""
    table = model.get_input_embeddings().weight
    (gradient,) = torch.autograd.grad(values.square().sum(), [table])
    return gradient.abs().sum(-1).nonzero().flatten().tolist()


STOP_SHAPES = (
    *((5, 6, 3), (1, 5, 2), (8, 6, 1), (3, 1, 4)),
    *((4, 6, 0), (7, 6, 2), (2, 4, 5), (6, 0, 2)),
)


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
    @torch.no_grad()
    @pytest.mark.parametrize(
        ("kind", "case"), [*KIND_CASES, ("coconut", "ragged"), *(("thought", e) for e in EDGES)]
    )
    def test_equal_the_reference(self, model, kind, case):
        (feed, fill), rows = KINDS[kind], make_rows((CASES | EDGES)[case])
        check_states(model, rows, run_think(model, rows, feed=feed), EXACT, fill)

    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_equal_the_reference_in_float32(self, name, attention):
        model = tiny_model(name, torch.float32, attention=attention)
        rows = make_rows(RAGGED)
        with torch.no_grad():
            rollout = run_think(model, rows)
            assert rollout.states.dtype == rollout.latent_inputs.dtype == torch.float32
            check_states(model, rows, rollout, CLOSE)

    def test_in_training_mode(self, model):
        rows = make_rows(RAGGED)
        check_states(model, rows, run_think(model.train(), rows), EXACT)

    @pytest.mark.slow
    @settings(max_examples=90, deadline=None, derandomize=True)
    @given(
        shapes=st.lists(
            st.tuples(st.integers(1, 12), st.integers(0, 6), st.integers(0, 8)),
            min_size=1,
            max_size=5,
        ),
        seed=st.integers(0, 1000),
        pad_id=st.integers(0, VOCAB_SIZE - 1),
        extra=st.integers(0, 3),
        kind=st.sampled_from(["thought", *OTHERS]),
        stop=st.sampled_from([None, ends]),
        name=st.sampled_from(list(ARCHITECTURES)),
    )
    def test_equal_it_for_any_lengths(self, shapes, seed, pad_id, extra, kind, stop, name):
        model, (feed, fill) = tiny_model(name, seed=seed), KINDS[kind]
        rows = make_rows(shapes, seed)
        with torch.no_grad():
            rollout = run_think(model, rows, pad_id, extra, feed=feed, stop=stop)
        rows = rows if stop is None else taken(model, rows, fill)
        check_states(model, rows, rollout, EXACT, fill)
        check_latent_states(model, rows, rollout, fill)


class TestIndependence:
    """A row's numbers are its own."""

    @torch.no_grad()
    @pytest.mark.parametrize("stop", [None, ends])
    def test_of_padding_neighbours_and_order(self, model, stop):
        rows = make_rows([*RAGGED, *STOP_SHAPES])
        together = run_think(model, rows, stop=stop)
        padded = run_think(model, rows, pad_id=VOCAB_SIZE - 1, extra=5, stop=stop)
        check_own(together, padded, rows, range(len(rows)))
        reverse = run_think(model, rows[::-1], pad_id=9, extra=2, stop=stop)
        check_own(together, reverse, rows, range(len(rows))[::-1])
        for b, row in enumerate(rows):
            alone = run_think(model, [row], stop=stop)
            assert alone.states.shape == (1, len(row.suffix) + 1, HIDDEN_SIZE)
            torch.testing.assert_close(
                alone.states[0], together.states[b, : len(row.suffix) + 1], **EXACT
            )
            assert int(alone.num_latents_B[0]) == int(together.num_latents_B[b])
            assert int(alone.num_passes_B[0]) == int(together.num_passes_B[b])

    def test_gradient_stays_in_the_row(self, model):
        """No gradient reaches tokens of a neighbour, nor the pads."""
        rows = [
            Row((1, 2, 3), 3, (4, 5), (NO_LABEL, 5)),
            Row((11, 12, 13, 14, 15, 16), 5, (17, 18, 19, 20), (NO_LABEL,) * 4),
            Row((21,), 0, (22,), (NO_LABEL,)),
        ]
        state = run_think(model, rows, pad_id=39).states[0, 1]  # predicts the 5 of row 0
        assert tokens_reached(model, state) == [1, 2, 3, 4]

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
            Row(tuple(t % 39 for t in r.prefix), n, tuple(t % 39 for t in r.suffix), r.labels)
            for r, (_, n, _) in zip(make_rows(RAGGED), RAGGED, strict=True)
        ]
        with torch.no_grad():
            model.get_input_embeddings().weight[39] = 1e6
            check_states(model, rows, run_think(model, rows, pad_id=39, extra=2), EXACT)


class TestLoss:
    @pytest.mark.parametrize(("kind", "case"), KIND_CASES)
    def test_and_every_gradient_equal_the_reference(self, model, kind, case):
        feed, fill = KINDS[kind]
        check_loss(model, make_rows(CASES[case]), GRADIENT_TOLERANCE, fill, feed)

    @pytest.mark.slow
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
        head = next(
            k for k, p in model.named_parameters() if p is model.get_output_embeddings().weight
        )
        inner = [error for key, error in errors.items() if key != head]
        assert min(inner) > 0.01, errors

    def test_gradient_reaches_every_thought(self, model):
        rows = make_rows([(5, 4, 3), (3, 2, 2)])
        rollout = run_think(model, rows)
        assert tokens_reached(model, rollout.latent_inputs[0, 3]) == sorted(set(rows[0].prefix))


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
        assert rollout.num_passes_B.tolist() == [count + 1 for count in counts]

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


class TestOtherLatentInputs:
    """Something else than the thought stands in the latent positions, under the same passes."""

    @pytest.mark.parametrize("kind", OTHERS)
    def test_are_not_the_thought(self, model, kind):
        """The tests above can tell an update that is forgotten."""
        batch = [row.as_tuple for row in make_rows(RAGGED)]
        other = reference_loss(model, batch, fill=KINDS[kind][1]).item()
        assert abs(other / reference_loss(model, batch).item() - 1) > 1e-3

    def test_the_gradient_reaches_the_pause(self, model):
        rollout = run_think(model, make_rows([(5, 4, 3), (3, 2, 2)]), feed=PAUSE)
        assert tokens_reached(model, rollout.latent_inputs[0]) == [PAUSE_ID]

    @pytest.mark.parametrize("case", ["n=0", "n=4", "ragged"])
    def test_pauses_one_by_one_are_pauses_at_once(self, model, case):
        """A learned embedding depends on nothing: passes change nothing but the time."""
        rows = make_rows(CASES[case])
        at_once = [
            Row(row.prefix, 0, (PAUSE_ID,) * n + row.suffix, (NO_LABEL,) * n + row.labels)
            for row, n in ((row, row.num_thoughts) for row in rows)
        ]
        one_by_one = product_loss(model, rows, feed=PAUSE)
        torch.testing.assert_close(one_by_one, product_loss(model, at_once), **EXACT)
        errors = relative_errors(
            take_gradients(model, one_by_one),
            take_gradients(model, product_loss(model, at_once)),
        )
        assert max(errors.values()) < GRADIENT_TOLERANCE, errors
        with torch.no_grad():
            rollout = run_think(model, rows, feed=PAUSE)
            assert rollout.passes.num_passes == max(row.num_thoughts for row in rows) + 1
            assert run_think(model, at_once).passes.num_passes == 1


class TestLatentStates:
    """What comes of reading each latent position."""

    @torch.no_grad()
    @pytest.mark.parametrize("kind", ["thought", *OTHERS])
    def test_equal_the_reference(self, model, kind):
        (feed, fill), rows = KINDS[kind], make_rows(RAGGED)
        rollout = run_think(model, rows, feed=feed)
        check_latent_states(model, rows, rollout, fill)
        for b, row in enumerate(rows):
            count = row.num_thoughts
            if count:
                last = rollout.latent_states[b, count - 1]
                torch.testing.assert_close(rollout.states[b, 0], last, **EXACT)
            if kind == "thought":  # they are the thoughts of the latent positions behind them
                torch.testing.assert_close(
                    rollout.latent_states[b, : max(0, count - 1)],
                    rollout.latent_inputs[b, 1:count],
                    **EXACT,
                )

    @pytest.mark.parametrize("extra", [0, 3])
    def test_of_no_latents(self, model, extra):
        rows = make_rows([(4, 0, 2), (1, 0, 3)])
        with torch.no_grad():
            rollout = run_think(model, rows, extra=extra)
        assert rollout.latent_states.shape == rollout.latent_inputs.shape == (2, 0, HIDDEN_SIZE)
        assert rollout.num_latents_B.tolist() == [0, 0]


class TestStop:
    """Each row thinks until a rule that sees the newest latent position says that it is enough."""

    LIMITED = make_rows(STOP_SHAPES, seed=3)

    def test_rows_stop_at_different_times(self, model):
        """And some at their limit: otherwise the tests below would tell little."""
        counts = [row.num_thoughts for row in taken(model, self.LIMITED)]
        limits = [row.num_thoughts for row in self.LIMITED]
        assert len(set(counts)) >= 4
        assert any(count == limit > 1 for count, limit in zip(counts, limits, strict=True))
        assert any(count < limit for count, limit in zip(counts, limits, strict=True))

    @torch.no_grad()
    @pytest.mark.parametrize("kind", ["thought", *OTHERS])
    def test_equals_the_reference_that_decides_row_by_row(self, model, kind):
        feed, fill = KINDS[kind]
        rows = taken(model, self.LIMITED, fill)
        rollout = run_think(model, self.LIMITED, feed=feed, stop=ends)
        check_states(model, rows, rollout, EXACT, fill)
        check_latent_states(model, rows, rollout, fill)

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

    @torch.no_grad()
    def test_at_once_where_all_have_stopped(self, model):
        """Nothing is computed for latent positions that no row takes."""
        rows = make_rows([(4, 6, 2), (2, 6, 3)])
        rollout = run_think(model, rows, stop=lambda states: states[:, 0] == states[:, 0])
        assert rollout.num_latents_B.tolist() == [1, 1]
        assert rollout.latent_inputs.shape[1] == rollout.latent_states.shape[1] == 1
        assert rollout.passes.num_passes == 3

    @torch.no_grad()
    def test_never(self, model):
        """A rule that is never content leaves the limits, and the numbers as without a rule."""
        rollout = run_think(model, self.LIMITED, stop=lambda states: states[:, 0] != states[:, 0])
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
        check_states(model, with_counts(rows, (1, 3)), rollout, EXACT)

    @pytest.mark.parametrize("num_words", [0, 2])
    def test_of_no_latents(self, model, num_words):
        rows = make_rows([(4, 0, num_words), (2, 0, num_words)])
        with torch.no_grad():
            rollout = run_think(model, rows, stop=ends)
            check_states(model, rows, rollout, EXACT)
        assert rollout.num_latents_B.tolist() == [0, 0]
        assert rollout.num_passes_B.tolist() == [1, 1]
