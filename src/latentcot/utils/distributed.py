"""Several processes that do one job: which one this is, and what they tell each other.

`torchrun` and `accelerate launch` start the processes and name them in the environment; accelerate
joins them. Without a launcher there is one process, and nothing here costs anything.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from latentcot.errors import UsageError

T = TypeVar("T")


def is_main() -> bool:
    """Return whether this is the process that speaks and writes for all."""
    return os.environ.get("RANK", "0") == "0"


def num_started() -> int:
    """Return how many processes a launcher has started, joined or not.

    Raises:
        UsageError: The environment names no number.
    """
    number = os.environ.get("WORLD_SIZE", "1")
    if not number.isdecimal() or int(number) < 1:
        raise UsageError(
            f"WORLD_SIZE: must be the number of processes that a launcher has started, got "
            f"{number!r}. torchrun and accelerate launch set it; for one process alone unset it."
        )
    return int(number)


_shares_work = False
"""Whether the processes of this job do one job of ours. In a program of somebody else each asks
what it likes, and gets its own answers."""


def prepare_to_join() -> None:
    """Make ready for accelerate to join the processes that a launcher has started, to share work.

    Raises:
        UsageError: No launcher has started them, though the environment speaks of several.
    """
    global _shares_work

    _shares_work = True
    if own_device() == "cpu":  # accelerate would look for devices in a way of its own
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    if num_started() == 1:
        return
    if "LOCAL_RANK" not in os.environ:  # accelerate would take each for the only one
        raise UsageError(
            f"WORLD_SIZE is {num_started()}, but no launcher has started these processes "
            "(LOCAL_RANK is not set). Use torchrun or accelerate launch; for one process alone "
            "unset WORLD_SIZE."
        )


def join() -> None:
    """Join the processes that a launcher has started, for work that accelerate does not prepare.

    Raises:
        UsageError: As `prepare_to_join`.
    """
    prepare_to_join()
    if num_started() == 1:
        return
    from accelerate import PartialState

    PartialState()


def own_device() -> str:
    """Return the device of this process: its own accelerator (CUDA, MPS, XPU), if there are any.

    Training and answering are both told by this.
    """
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    kind = "cpu" if found is None else found.type
    several = num_started() > 1 and kind != "cpu"
    return f"{kind}:{os.environ.get('LOCAL_RANK', '0')}" if several else kind


def every_nth(items: Sequence[T]) -> Sequence[T]:
    """Return every n-th item, for the n processes that have joined; all of them for one."""
    rank, num_ranks = _rank_and_size()
    return items[rank::num_ranks]


def gathered(mine: list[T]) -> list[T]:
    """Put what came of the shares of `every_nth` into one list, in the order of the items.

    All processes must come here; each gets the whole list.
    """
    _, num_ranks = _rank_and_size()
    if num_ranks == 1:
        return mine
    from torch import distributed

    shares: list[list[T]] = [[] for _ in range(num_ranks)]
    distributed.all_gather_object(shares, mine)
    longest = max(map(len, shares))
    return [share[i] for i in range(longest) for share in shares if i < len(share)]


def from_main(make: Callable[[], T]) -> T:
    """Return what the main process makes of something that can be read only once."""
    _, num_ranks = _rank_and_size()
    if num_ranks == 1:
        return make()
    from torch import distributed

    made: list[Any] = [make() if is_main() else None]
    distributed.broadcast_object_list(made)
    return cast(T, made[0])


def take_shard_request(is_asked: bool) -> bool:
    """Return whether weights are to be shared out among processes (FSDP2).

    Args:
        is_asked: Whether the command says so; a config of accelerate may say so too.

    Raises:
        UsageError: That config asks for FSDP1, accelerate's own default.
    """
    # Taken out of the environment: accelerate would shard as well, but not on a CPU.
    if os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return is_asked
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise UsageError(
            f"the config of accelerate asks for FSDP {version}, and latentcot shards by FSDP2. Set "
            "fsdp_config.fsdp_version: 2, or take configs/fsdp2.yaml of the repository."
        )
    return True


def frees_between_passes() -> bool:
    """Return whether a config of accelerate wants gathered weights to be let go after each pass."""
    return os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "false").lower() == "true"


def is_of_others(error: Exception) -> bool:
    """Return whether an error may say no more than that another process is gone."""
    import torch

    if isinstance(error, torch.distributed.DistError):
        return True
    words = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _rank_and_size() -> tuple[int, int]:
    """Return the number of this process among those that share work, and how many they are."""
    if num_started() == 1 or not _shares_work:
        return 0, 1
    from torch import distributed

    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
