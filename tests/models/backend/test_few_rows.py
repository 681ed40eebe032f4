"""A product in parts is the product."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from latentcot.data.examples import read_examples
from latentcot.evaluation.reasoner import load
from latentcot.models.backend import few_rows
from latentcot.models.backend.few_rows import few_rows_in_parts, multiplied


@pytest.fixture(autouse=True)
def two_threads_and_any_width(monkeypatch):
    monkeypatch.setattr(few_rows, "LARGE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(few_rows, "is_amd", lambda: True)


@pytest.fixture
def in_parts(monkeypatch):
    """The rows of each product that was made in parts."""
    made = []
    for name in ("by_outputs", "by_inputs"):
        whole = getattr(few_rows, name)
        monkeypatch.setattr(
            few_rows,
            name,
            lambda rows, weight, do=whole: made.append(len(rows)) or do(rows, weight),
        )
    return made


def layers(num_inputs: int, num_outputs: int) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(
        [
            nn.Linear(num_inputs, num_outputs),
            nn.Linear(num_inputs, num_outputs, bias=False),
            Conv1D(num_outputs, num_inputs),
        ]
    )


@pytest.mark.parametrize("shape", [(1, 1), (4,), (2, 2), (1,)], ids=str)
@pytest.mark.parametrize("sizes", [(16, 24), (19, 37), (8, 8)], ids=str)
@torch.no_grad()
def test_it_is_the_product(sizes, shape, in_parts):
    found, inputs = layers(*sizes), torch.randn(*shape, sizes[0])
    for layer in found:
        expected = layer.double()(inputs.double()).float()
        layer.float()
        with few_rows_in_parts(found, inputs.numel() // sizes[0]):
            outputs = layer(inputs)
        assert torch.equal(outputs, multiplied(layer, inputs, whole=layer))
        torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)
        assert outputs.is_contiguous()
    assert in_parts == [inputs.numel() // sizes[0]] * 6


@torch.no_grad()
def test_all_else_is_computed_as_before(in_parts):
    found, inputs = layers(16, 24), torch.randn(2, 3, 16)
    narrow = nn.Linear(4, 40)
    before = [layer(inputs) for layer in found]
    with few_rows_in_parts(nn.ModuleList([*found, narrow]), 1):
        assert all(map(torch.equal, before, [layer(inputs) for layer in found]))  # six rows
        with torch.autocast("cpu", torch.bfloat16):
            assert found[0](inputs[:1]).dtype == torch.bfloat16
        with torch.enable_grad():
            assert found[0](inputs[:1]).requires_grad
        narrow(torch.randn(1, 4))
    found[0](inputs[:1])  # behind it, too
    with few_rows_in_parts(found, 6):
        found[0](inputs[:1, 0])
    found.double()
    with few_rows_in_parts(found, 1):
        found[0](inputs[:1].double())
    assert in_parts == []


@torch.no_grad()
def test_one_thread_sums_no_parts(in_parts, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    found, inputs = layers(16, 24), torch.randn(1, 16)
    with few_rows_in_parts(found, 1):
        for layer in found:
            layer(inputs)
    assert len(in_parts) == 2  # those of nn.Linear


@torch.no_grad()
def test_no_parts_where_the_library_takes_all_cores(in_parts, monkeypatch):
    monkeypatch.setattr(few_rows, "is_amd", lambda: False)
    found = layers(16, 24)
    with few_rows_in_parts(found, 1):
        found[0](torch.randn(1, 16))
    assert in_parts == []


def test_words_are_written_so(tiny_run, data, in_parts, monkeypatch):
    questions = read_examples(data / "test.jsonl")[:2]
    reasoner = load(tiny_run)
    found = reasoner.generate([one.question for one in questions], max_new_tokens=5)
    assert 2 in in_parts  # a row for each text
    monkeypatch.setattr(few_rows, "MOST_ROWS", 0)
    again = reasoner.generate([one.question for one in questions], max_new_tokens=5)
    assert [one.text for one in found] == [one.text for one in again]
