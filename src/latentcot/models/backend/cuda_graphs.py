"""One function of tensors of few shapes, again and again: on a GPU as a CUDA graph for each.

Thoughts are many small kernels one after the other, and launching them takes a GPU's host longer
than they run. A CUDA graph records the launches of a whole update once and repeats them at once.
What a recorded function may do is little: nothing may depend on the values in its tensors but other
values, so it must not ask the device for any.

The environment variable LATENTCOT_CUDA_GRAPHS=0 turns it off.
"""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from latentcot.errors import TrainingError
from latentcot.utils.display import say
from latentcot.utils.parsing import one_line

Function = Callable[..., Any]
"""Of tensors to a tensor, or to a tuple of them."""
Record = Callable[[Function, tuple[Tensor, ...]], "Recording"]
ALONE = Lock()
"""Held while a recorded text is written and read: graphs share memory, threads a Reasoner."""
MOST = 16
"""Shapes that are kept, a graph of some thousand kernels each; the least used lately goes."""
SIGHTS = 3
"""A shape is recorded when it is seen for this time: recording takes as long as a few runs."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What runs a function again: fill `inputs`, `run`, read `output` before the next one runs."""

    inputs: tuple[Tensor, ...]
    run: Callable[[], object]
    output: Any


class Captured:
    """A function that is recorded once for each shape of its inputs.

    Args:
        record: (function, inputs) → Recording. It may run the function several times.
        sights: Record a shape when it is seen for this time; run the function until then.

    Attributes:
        num_recordings: Recordings made so far.
    """

    def __init__(self, record: Record, *, sights: int = SIGHTS) -> None:
        self.record, self.sights = record, sights
        self.num_recordings = 0
        self._has_failed = False
        self._seen: Counter[Hashable] = Counter()
        self._known: OrderedDict[Hashable, Recording] = OrderedDict()

    def __call__(self, kind: Hashable, function: Function, inputs: tuple[Tensor, ...]) -> Any:
        """Return function(*inputs); what it holds is overwritten by the next call.

        Args:
            kind: Tells apart functions, and whatever else they depend on than their inputs.
            function: Run only if nothing was recorded for this kind and these shapes.
            inputs: Copied, never kept.
        """
        key = kind, tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._known and not self._records(key, function, inputs):
            return function(*inputs)
        self._known.move_to_end(key)
        recording = self._known[key]
        for kept, given in zip(recording.inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        recording.run()
        return recording.output

    def _records(self, key: Hashable, function: Function, inputs: tuple[Tensor, ...]) -> bool:
        """Record a function if it is time, and return whether that was done."""
        self._seen[key] += 1
        if self._has_failed or self._seen[key] < self.sights:
            return False
        while len(self._known) >= MOST:
            self._known.popitem(last=False)
        try:
            self._known[key] = self.record(function, inputs)
        except torch.OutOfMemoryError:
            self._known.clear()
            torch.cuda.empty_cache()
            self._give_up("there is too little memory for them")
        except RuntimeError as error:
            self._give_up(f"one could not be recorded: {one_line(str(error))}")
        else:
            self.num_recordings += 1
        return not self._has_failed

    def _give_up(self, reason: str) -> None:
        self._has_failed = True
        say(f"Goes on without CUDA graphs, since {reason}.")


class CudaGraphs:
    """Records functions as CUDA graphs, on one stream, in memory that all of them share.

    So what one graph gives is overwritten when the next one runs.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        # The shared memory is given up with its last graph, and must not be asked for again then.
        self._keeper = self._captured(lambda: torch.zeros(1, device="cuda"), ())

    def __call__(self, function: Function, inputs: tuple[Tensor, ...]) -> Recording:
        """Run a function once, then record it.

        Raises:
            RuntimeError: It asks the device for a value.
            TrainingError: It could not be recorded, and the device may be in no state to go on.
        """
        kept = tuple(tensor.clone() for tensor in inputs)
        self._try(function, kept)
        graph, output = self._captured(function, kept)
        return Recording(kept, graph.replay, output)

    def _try(self, function: Function, kept: tuple[Tensor, ...]) -> None:
        """Run a function as it will be recorded, so that what cannot be comes up before."""
        before = torch.cuda.get_sync_debug_mode()
        self._stream.wait_stream(torch.cuda.current_stream())
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.cuda.stream(self._stream):
                function(*kept)
        finally:
            torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream().wait_stream(self._stream)

    def _captured(
        self, function: Function, kept: tuple[Tensor, ...]
    ) -> tuple[torch.cuda.CUDAGraph, Any]:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                output = function(*kept)
        except RuntimeError as error:
            raise TrainingError(
                f"a CUDA graph could not be recorded: {one_line(str(error))}. Set the environment "
                "variable LATENTCOT_CUDA_GRAPHS=0 and start again (a run with --resume)."
            ) from error
        return graph, output


def cuda_graphs(device: torch.device) -> CudaGraphs | None:
    """Return what records functions on a device: None unless it is a GPU, and graphs are wanted."""
    if device.type != "cuda" or os.environ.get("LATENTCOT_CUDA_GRAPHS") == "0":
        return None
    with torch.cuda.device(device):
        return _of_device(torch.cuda.current_device())


@cache
def _of_device(number: int) -> CudaGraphs:
    return CudaGraphs()
