"""A function on a GPU as one CUDA graph: launched at once, where its thousands of kernels would wait for Python."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture: libraries set themselves up in them, which cannot be captured


def captured(function: Callable[[], object], state: Sequence[Tensor] = ()) -> Callable[[], object] | None:
    """What does on a GPU what `function` does there, which reads and writes tensors that stay where they are.

    `state` are those that it changes and that are to be as before. None where there is no GPU, and where the function
    cannot be captured, because it waits for a number, say. Raises OutOfMemoryError.
    """
    if not torch.cuda.is_available():
        return None
    before = [tensor.clone() for tensor in state]
    try:
        return record(function)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return None
    finally:
        for tensor, value in zip(state, before, strict=True):
            tensor.data.copy_(value)


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
