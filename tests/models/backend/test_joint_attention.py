"""Attention over fixed and further keys, held to one softmax over joined keys, and autograd."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from latentcot.models.backend.dropout import drop
from latentcot.models.backend.joint_attention import Fixed, attend_causally, attend_jointly

EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64
BATCH, WIDTH = 2, 4


def draw(*shape: int, seed: int, requires_grad: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator, dtype=torch.float64)
    return tensor.requires_grad_(requires_grad)


@dataclasses.dataclass
class Case:
    """Leaves of several calls with one fixed part; `masks` and `queries` have one entry a call."""

    fixed: tuple[Tensor, Tensor]
    queries: list[Tensor]
    rests: list[tuple[Tensor, Tensor]]
    masks: list[Tensor]

    @property
    def leaves(self) -> list[Tensor]:
        rests = [tensor for rest in self.rests for tensor in rest]
        return [t for t in (*self.fixed, *self.queries, *rests) if t.requires_grad]

    def jointly(self, dropout: float = 0.0) -> list[Tensor]:
        fixed = Fixed(*self.fixed)
        calls = zip(self.queries, self.rests, self.masks, strict=True)
        return [attend_jointly(q, fixed, *rest, mask, dropout) for q, rest, mask in calls]

    def plainly(self, kept: list[Tensor] | None = None) -> list[Tensor]:
        calls = zip(self.queries, self.rests, self.masks, strict=True)
        return [
            plain_attention(q, self.fixed, rest, mask, 1.0 if kept is None else kept[i])
            for i, (q, rest, mask) in enumerate(calls)
        ]


def plain_attention(query, fixed, rest, mask, kept=1.0) -> Tensor:
    """Heads that share keys are consecutive, as everywhere in transformers."""
    keys, values = (torch.cat(both, dim=2) for both in zip(fixed, rest, strict=True))
    shared = query.shape[1] // keys.shape[1]
    keys, values = (tensor.repeat_interleave(shared, dim=1) for tensor in (keys, values))
    return ((query @ keys.mT + mask).softmax(-1) * kept) @ values


def make_case(
    calls: list[tuple[int, int]], *, heads: int = 2, shared: int = 1, num_fixed: int = 5, seed=0
) -> Case:
    """`calls`: (columns C, further keys M) of each."""
    queries, rests, masks = [], [], []
    for number, (columns, further) in enumerate(calls):
        base = 1000 * seed + 10 * number
        queries.append(draw(BATCH, heads * shared, columns, WIDTH, seed=base + 1))
        shape = BATCH, heads, further, WIDTH
        rests.append((draw(*shape, seed=base + 2), draw(*shape, seed=base + 3)))
        hidden = draw(BATCH, 1, columns, num_fixed + further, seed=base + 4, requires_grad=False)
        hidden[..., -1] = 1.0  # each row sees something
        masks.append(torch.zeros_like(hidden).masked_fill(hidden < -0.3, -torch.inf))
    shape = BATCH, heads, num_fixed, WIDTH
    fixed = draw(*shape, seed=1000 * seed + 998), draw(*shape, seed=1000 * seed + 999)
    return Case(fixed, queries, rests, masks)


def score(outputs: list[Tensor]) -> Tensor:
    """A scalar in which each number has a weight of its own."""
    total = torch.zeros((), dtype=torch.float64)
    for number, output in enumerate(outputs):
        weights = draw(*output.shape, seed=77 + number, requires_grad=False)
        total = total + (output * weights).sum() + output.square().sum()
    return total


def check(found: list[Tensor], expected: list[Tensor], leaves: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, **EXACT)
    actual = torch.autograd.grad(score(found), leaves)
    torch.testing.assert_close(actual, torch.autograd.grad(score(expected), leaves), **EXACT)


CALLS = {
    "one": [(1, 1)],
    "thoughts": [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)],
    "thoughts and words": [(1, 1), (1, 2), (4, 5)],
    "words": [(3, 3), (2, 5)],
}


@pytest.mark.parametrize("shared", [1, 3])
@pytest.mark.parametrize("calls", CALLS)
def test_output_and_every_gradient(calls: str, shared: int) -> None:
    case = make_case(CALLS[calls], shared=shared)
    assert any(mask.isinf().any() for mask in case.masks)
    check(case.jointly(), case.plainly(), case.leaves)


@pytest.mark.parametrize("num_fixed", [1, 7])
def test_of_any_number_of_fixed_columns(num_fixed: int) -> None:
    case = make_case(CALLS["thoughts"], num_fixed=num_fixed, seed=1)
    check(case.jointly(), case.plainly(), case.leaves)


def test_by_finite_differences() -> None:
    """Without autograd's opinion on softmax."""
    case = make_case([(1, 1), (2, 3)], heads=1, shared=2, num_fixed=2)

    def run(*leaves: Tensor) -> Tensor:
        keys, values, first, second, *rest = leaves
        rests = [(rest[0], rest[1]), (rest[2], rest[3])]
        again = Case((keys, values), [first, second], rests, case.masks)
        return score(again.jointly())

    assert torch.autograd.gradcheck(run, case.leaves)


def test_each_call_may_depend_on_the_one_before() -> None:
    """As with thoughts: the sum over the fixed part waits for all of them."""

    def chained(case: Case, calls) -> list[Tensor]:
        outputs = [calls(case.queries[0], 0)]
        for number in range(1, len(case.queries)):
            outputs.append(calls(case.queries[number] + outputs[-1].tanh(), number))
        return outputs[-1:]

    case = make_case(CALLS["thoughts"], seed=2)
    fixed = Fixed(*case.fixed)
    jointly = chained(
        case, lambda q, i: attend_jointly(q, fixed, *case.rests[i], case.masks[i], 0.0)
    )
    plainly = chained(
        case, lambda q, i: plain_attention(q, case.fixed, case.rests[i], case.masks[i])
    )
    check(jointly, plainly, case.leaves)


def test_the_fixed_part_may_come_of_something() -> None:
    """Not a leaf, and seen by others besides."""
    case = make_case(CALLS["thoughts"], seed=3)
    sources = case.fixed
    case.fixed = sources[0].sin(), sources[1] * sources[0]
    leaves = [*sources, *case.leaves[2:]]
    extra = case.fixed[0].sum() * case.fixed[1].square().sum()
    actual = torch.autograd.grad(score(case.jointly()) + extra, leaves, retain_graph=True)
    expected = torch.autograd.grad(score(case.plainly()) + extra, leaves)
    torch.testing.assert_close(actual, expected, **EXACT)


def attend_once(case: Case) -> Fixed:
    """Forward and backward of the first call; what is noted for the fixed part."""
    fixed = Fixed(*case.fixed)
    output = attend_jointly(case.queries[0], fixed, *case.rests[0], case.masks[0], 0.0)
    score([output]).backward()
    return fixed


class TestWhatNeedsAGradient:
    def test_nothing(self) -> None:
        case = make_case(CALLS["thoughts"])
        expected = case.plainly()
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                torch.testing.assert_close(case.jointly(), expected, **EXACT)
                assert not any(output.requires_grad for output in case.jointly())

    @pytest.mark.parametrize("frozen", [(0,), (1,), (0, 1), range(2, 99)], ids=str)
    def test_only_some_of_keys_values_and_others(self, frozen: Sequence[int]) -> None:
        """Keys, values or both of the fixed part, for which nothing is noted; all but it."""
        case = make_case(CALLS["thoughts and words"])
        for number, tensor in enumerate(case.leaves):
            tensor.requires_grad_(number not in frozen)
        check(case.jointly(), case.plainly(), case.leaves)
        if frozen == (0, 1):
            fixed = attend_once(case)
            assert fixed.token is None and not fixed.notes

    def test_a_fixed_part_from_without_gradients(self) -> None:
        """Made under no_grad, used with gradients: a constant."""
        case = make_case([(1, 1)])
        with torch.no_grad():
            fixed = Fixed(*case.fixed)
        output = attend_jointly(case.queries[0], fixed, *case.rests[0], case.masks[0], 0.0)
        score([output]).backward()
        assert case.fixed[0].grad is None and case.queries[0].grad is not None
        assert not fixed.notes


class TestBackwardPasses:
    def test_of_two_graphs(self) -> None:
        """Forward one after the other, backward in the other order, and both at once."""
        cases = [make_case(CALLS["thoughts"], seed=seed) for seed in (4, 5)]
        losses = [score(case.jointly()) for case in cases]
        wanted = [torch.autograd.grad(score(case.plainly()), case.leaves) for case in cases]
        for i in (1, 0):
            actual = torch.autograd.grad(losses[i], cases[i].leaves, retain_graph=True)
            torch.testing.assert_close(actual, wanted[i], **EXACT)
        leaves = cases[0].leaves + cases[1].leaves
        both = torch.autograd.grad(losses[0] + losses[1], leaves)
        torch.testing.assert_close(both, wanted[0] + wanted[1], **EXACT)

    def test_twice_over_one_graph(self) -> None:
        case = make_case(CALLS["thoughts and words"])
        loss = score(case.jointly())
        expected = torch.autograd.grad(score(case.plainly()), case.leaves)
        for _ in range(2):
            actual = torch.autograd.grad(loss, case.leaves, retain_graph=True)
            torch.testing.assert_close(actual, expected, **EXACT)

    def test_one_for_other_gradients_leaves_nothing_behind(self) -> None:
        """Asked for the gradient of a query alone, the sum over the fixed part never comes."""
        case = make_case(CALLS["thoughts and words"])
        loss = score(case.jointly())
        torch.autograd.grad(loss, case.queries, retain_graph=True)
        expected = torch.autograd.grad(score(case.plainly()), case.leaves)
        torch.testing.assert_close(torch.autograd.grad(loss, case.leaves), expected, **EXACT)

    def test_from_some_calls_only(self) -> None:
        case = make_case(CALLS["thoughts"])
        leaves = [*case.fixed, case.queries[1], *case.rests[1]]
        jointly, plainly = case.jointly(), case.plainly()
        for chosen in (slice(1, 2), slice(1, 4)):
            actual = torch.autograd.grad(score(jointly[chosen]), leaves, retain_graph=True)
            expected = torch.autograd.grad(score(plainly[chosen]), leaves, retain_graph=True)
            torch.testing.assert_close(actual, expected, **EXACT)

    def test_nothing_is_kept_afterwards(self) -> None:
        assert not attend_once(make_case([(1, 1)])).notes


class TestDropout:
    SHARE = 0.75

    def kept(self, case: Case) -> list[Tensor]:
        """What is drawn for each call, divided by the share that stays."""
        found = []
        for query, mask in zip(case.queries, case.masks, strict=True):
            heads_of_keys = case.fixed[0].shape[1]
            rows = query.shape[0] * heads_of_keys, -1, mask.shape[-1]
            ones = torch.ones(*query.shape[:-1], mask.shape[-1], dtype=query.dtype).view(rows)
            is_kept = drop(ones, self.SHARE)[1]
            found.append(is_kept.view(*query.shape[:-1], -1) / (1 - self.SHARE))
        return found

    @pytest.mark.parametrize("shared", [1, 2])
    def test_equals_attention_with_the_weights_that_are_kept(self, shared: int) -> None:
        case = make_case(CALLS["thoughts and words"], shared=shared)
        torch.manual_seed(3)
        kept = self.kept(case)
        assert 0 < sum(int((k == 0).sum()) for k in kept) < sum(k.numel() for k in kept)
        torch.manual_seed(3)
        check(case.jointly(self.SHARE), case.plainly(kept), case.leaves)

    def test_draws_nothing_where_there_is_none(self) -> None:
        case = make_case([(1, 1)])
        state = torch.get_rng_state()
        case.jointly(0.0)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_softmax_is_in_float32(dtype: torch.dtype) -> None:
    """All values are alike, so that no query is better; thirds in bfloat16 do not sum to one."""
    keys, rest = torch.tensor([[[[100.0], [60.0]]]], dtype=dtype), torch.ones(1, 1, 1, 1).to(dtype)
    query = torch.zeros(1, 1, 1, 1, dtype=dtype, requires_grad=True)
    fixed, mask = Fixed(keys, torch.ones_like(keys)), torch.zeros(1, 1, 1, 3)
    found = attend_jointly(query, fixed, rest, rest, mask, 0.0)
    found.sum().backward()
    assert query.grad is not None
    assert found.dtype == query.grad.dtype == dtype
    assert query.grad.abs().item() < 1e-4


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
@pytest.mark.parametrize("heads", [4, 2])
def test_attention_by_stretches(rows, heads):
    """Equal to torch's, with gradients, also where heads share keys."""
    torch.manual_seed(0)
    query = torch.randn(2, 4, 7, 3, dtype=torch.float64, requires_grad=True)
    keys, values = (
        torch.randn(2, heads, 7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    weight, of = torch.randn(2, 4, 7, 3, dtype=torch.float64), (query, keys, values)
    attend = nn.functional.scaled_dot_product_attention
    expected = attend(*of, is_causal=True, scale=1.0, enable_gqa=True)
    found = attend_causally(*of, 0.0, rows=rows)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad((found * weight).sum(), of),
        torch.autograd.grad((expected * weight).sum(), of),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
