"""How many bytes of tensors are alive: exact, and the same on every machine.

What an allocator keeps for later, and what a kernel takes while it runs, is not in it.
"""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class LiveBytes(TorchDispatchMode):
    """Within it, counts the tensors that are made, each storage once.

    Attributes:
        now: Bytes of those that are alive.
        peak: The most there were.
        limit: Bytes beyond which there is no memory, as a device has them.

    Raises:
        torch.OutOfMemoryError: More than `limit` are asked for.
    """

    def __init__(self, limit: float | None = None) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.limit = limit
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do what was asked, and count what it made."""
        for tensor in tree_leaves((args, kwargs)):  # weights, and what else was there before
            self._note(tensor, is_made=False)
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            self._note(tensor, is_made=True)
        return result

    def _note(self, tensor: Any, *, is_made: bool) -> None:
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        if not is_made:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, size).atexit = False
        if self.limit is not None and self.now > self.limit:
            raise torch.OutOfMemoryError(f"{self.now:,} bytes, where {self.limit:,.0f} are there.")

    def _forget(self, size: int) -> None:
        self.now -= size
