"""A function on a GPU as one CUDA graph: launched at once, where its thousands of kernels would wait for Python."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture: libraries set themselves up in them, which cannot be captured


def captured(function: Callable[[], object], touched: Sequence[Tensor]) -> Callable[[], object] | None:
    """What does on a GPU what `function` does there, which reads and writes tensors that stay where they are.

    `touched` are some of them, those that it changes among them, which are then as before. None where one is not on a
    GPU, and where the function cannot be captured, because it waits for a number, say. Raises OutOfMemoryError.
    """
    if not all(map(on_gpu, touched)):  # a graph of what a CPU does is empty
        return None
    before = [tensor.clone() for tensor in touched]
    try:
        return record(function)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return None
    finally:
        for tensor, value in zip(touched, before, strict=True):
            tensor.copy_(value)


def on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def record(function: Callable[[], object]) -> Callable[[], object]:
    """The replay of a graph; as in the notes on CUDA graphs in PyTorch's manual, "Whole-network capture"."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def of_batches(function: Callable[..., Tensor], batches: Iterable[tuple[Tensor, ...]]) -> list[Tensor]:
    """``[function(*batch) for batch in batches]``, on a GPU by a graph for those that have the shape of the first.

    The first and a last one that is shorter are done without: a graph is not worth its making for one batch.
    """
    results: list[Tensor] = []
    room: list[Tensor] = []  # what the graph reads, like the first batch
    found: dict[str, Tensor] = {}
    replay = None
    for batch in batches:
        if [part.shape for part in batch] != [part.shape for part in room]:
            room = room or [part.clone() for part in batch]
            results.append(function(*batch))
            continue
        for part, value in zip(room, batch, strict=True):
            part.copy_(value)
        if len(results) == 1:
            replay = captured(partial(keep, found, function, room), room)
        if replay is None:
            results.append(function(*batch))
        else:
            replay()
            results.append(found["here"].clone())
    return results


def keep(found: dict[str, Tensor], function: Callable[..., Tensor], room: Sequence[Tensor]) -> None:
    found["here"] = function(*room)
