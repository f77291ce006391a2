"""CUDA graphs without a GPU: nothing is captured; and what is around a capture, with a stand-in for that."""

import pytest
import torch

from flowlib.kernels import graphs
from flowlib.kernels.graphs import captured, of_batches

BATCHES = [(torch.full((n, 2), float(n + at)), torch.arange(n)) for at, n in enumerate((4, 4, 4, 3, 4))]


def of_two(x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
    return x.sum(1) * i


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """A capture that calls the function once, as a recording does not but a warm-up does, and replays it by calling."""
    recorded = []

    def record(function):
        recorded.append(function)
        function()
        return function

    monkeypatch.setattr(graphs, "on_gpu", lambda tensor: True)
    monkeypatch.setattr(graphs, "record", record)
    return recorded


def test_what_is_on_a_cpu_is_not_captured_where_there_is_a_gpu_either(monkeypatch: pytest.MonkeyPatch):
    """The graph of it would be empty, and its replay do nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    calls = []
    assert captured(lambda: calls.append(1), [torch.zeros(2)]) is None
    assert calls == []
    expected = [of_two(*batch) for batch in BATCHES]
    assert all(torch.equal(*pair) for pair in zip(of_batches(of_two, BATCHES), expected, strict=True))


def test_warming_up_leaves_no_trace(gpu):
    total = torch.zeros(2)
    replay = captured(lambda: total.add_(1), [total])
    assert total.tolist() == [0, 0]
    replay()
    assert total.tolist() == [1, 1]


def test_what_cannot_be_captured_is_none_and_leaves_no_trace(gpu):
    total = torch.zeros(2)

    def waits() -> None:
        total.add_(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    assert captured(waits, [total]) is None
    assert total.tolist() == [0, 0]


def test_too_little_memory_is_said(gpu):
    def large() -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        captured(large, [torch.zeros(2)])


def test_batches_by_a_graph_are_the_batches(gpu):
    expected = [of_two(*batch) for batch in BATCHES]
    found = of_batches(of_two, BATCHES)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len(gpu) == 1
    of_batches(of_two, BATCHES[:1])
    assert len(gpu) == 1  # not for one batch


def test_batches_that_cannot_be_captured_are_the_batches(gpu, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graphs, "captured", lambda function, touched: None)
    expected = [of_two(*batch) for batch in BATCHES]
    assert all(torch.equal(*pair) for pair in zip(of_batches(of_two, BATCHES), expected, strict=True))
