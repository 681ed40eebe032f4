"""One function of tensors of few shapes, again and again: on a GPU as a CUDA graph for each.

Thoughts are many small kernels one after the other, and launching them takes a GPU's host longer
than they run. A CUDA graph records the launches of a whole update once and repeats them at once.
What a recorded function may do is little: nothing may depend on the values in its tensors but other
values, so it must not ask the device for any.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentcot.display import say
from latentcot.parsing import one_line

Function = Callable[..., Any]
"""Of tensors to a tensor, or to a tuple of them."""
Record = Callable[[Function, tuple[Tensor, ...]], "Recording"]
MOST = 64
"""Shapes that are kept; the one that was not used for longest goes."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What runs a function again: fill `inputs`, `run`, read `output` before the next one runs."""

    inputs: tuple[Tensor, ...]
    run: Callable[[], object]
    output: Any


class Replayed:
    """A function that is recorded once for each shape of its inputs.

    Args:
        record: (function, inputs) → Recording. It may run the function several times.

    Attributes:
        num_recordings: Recordings made so far.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.num_recordings = 0
        self._has_failed = False
        self._known: OrderedDict[Hashable, Recording] = OrderedDict()

    def __call__(self, kind: Hashable, function: Function, inputs: tuple[Tensor, ...]) -> Any:
        """Return function(*inputs); what it holds is overwritten by the next call.

        Args:
            kind: Tells apart functions, and whatever else they depend on than their inputs.
            function: Run only if nothing was recorded for this kind and these shapes.
            inputs: Copied, never kept.
        """
        key = kind, tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._known:
            while len(self._known) >= MOST:
                self._known.popitem(last=False)
            recording = self._recorded(function, inputs)
            if recording is None:
                return function(*inputs)
            self._known[key] = recording
            self.num_recordings += 1
        self._known.move_to_end(key)
        recording = self._known[key]
        for kept, given in zip(recording.inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        recording.run()
        return recording.output

    def _recorded(self, function: Function, inputs: tuple[Tensor, ...]) -> Recording | None:
        """Record a function, or say why it cannot be done and never try again."""
        if self._has_failed:
            return None
        try:
            return self.record(function, inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._has_failed = True
            reason = one_line(str(error))
            say(f"Goes on without CUDA graphs, since one could not be recorded: {reason}")
            return None


class CudaGraphs:
    """Records a function as a CUDA graph; all graphs of one such object share their memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Function, inputs: tuple[Tensor, ...]) -> Recording:
        """Run a function twice, then record it."""
        kept = tuple(tensor.clone() for tensor in inputs)
        # Libraries set themselves up when they are first called, which cannot be recorded; and on
        # a stream of its own, as torch.cuda.graph asks for.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                function(*kept)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = function(*kept)
        return Recording(kept, graph.replay, output)
