"""How fast devices are, how long a counted amount of work takes on them, and measuring one.

    seconds = products / rate + bytes / bandwidth + kernels × time to start one

Three figures a device. Those of GPUs are their data sheets times an efficiency that is assumed;
`calibrate` measures all three on the machine at hand, from real updates of small models.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from scipy.optimize import nnls
from transformers import AutoConfig

from latentcot.errors import UsageError, did_you_mean
from latentcot.methods import method_named
from latentcot.planning.work import (
    Precision,
    Shape,
    Subject,
    Work,
    examples_of,
    update_work,
    weights_of,
)
from latentcot.recipes.recipe import Positive, Training
from latentcot.thinking.batch import collate_views
from latentcot.training.objective import Counts
from latentcot.training.step import Part, TrainStep
from latentcot.utils.files import refuse_unwritable, write_json

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One device."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """As it is shown."""
    flops: Annotated[dict[Precision, Positive], Field(min_length=len(get_args(Precision)))]
    """Products a second that a large update reaches, in each precision; a multiply-add is two."""
    bandwidth: Positive
    """Bytes a second that kernels reach."""
    kernel_seconds: Annotated[float, Field(ge=0)]
    """What it takes to start a kernel."""
    memory: Positive
    """Bytes."""
    reserved: Annotated[float, Field(ge=0)] = 0.0
    """Bytes that the driver and the gaps between tensors take."""
    link: Positive | None = None
    """Bytes a second to the other devices of the host."""
    starts_ahead: bool = False
    """Whether kernels are started while earlier ones run, as on GPUs."""
    is_measured: bool = False
    """Whether the figures were measured, by calibration."""
    source: str = ""
    """Where the figures come from."""

    def seconds(self, work: Work, precision: Precision = "float32") -> float:
        """Return how long work takes whose products are in this precision."""
        busy = work.moved / self.bandwidth + work.flops / self.flops[precision]
        starting = work.kernels * self.kernel_seconds
        return max(busy, starting) if self.starts_ahead else busy + starting


_EFFICIENCY, _OF_BANDWIDTH, _START = 0.4, 0.7, 8e-6


def _gpu(
    name: str, bfloat16: float, float32: float, bandwidth: float, gib: float, link: float
) -> Device:
    return Device(
        name=name,
        flops={"bfloat16": bfloat16 * _EFFICIENCY, "float32": float32 * _EFFICIENCY},
        bandwidth=bandwidth * _OF_BANDWIDTH,
        kernel_seconds=_START,
        memory=gib * GIB,
        reserved=2 * GIB,
        link=link,
        starts_ahead=True,
        source=f"data sheet; assumed: {_EFFICIENCY:.0%} of its products, {_OF_BANDWIDTH:.0%} of "
        f"its bandwidth, {1e6 * _START:.0f} µs to start a kernel, 2 GiB for driver and gaps",
    )


DEVICES: Mapping[str, Device] = {
    # Dense products; float32 without TF32, which torch leaves off. Links: NVLink, one direction.
    "h100": _gpu("H100 SXM", 989e12, 67e12, 3.35e12, 79, 450e9),
    "h200": _gpu("H200 SXM", 989e12, 67e12, 4.8e12, 139, 450e9),
    "a100": _gpu("A100 80 GB SXM", 312e12, 19.5e12, 2.04e12, 79, 300e9),
}
_DEVICE = TypeAdapter(Device)


def device_named(name: str) -> Device:
    """Return a device of the table, or what a calibration file says of one.

    Raises:
        UsageError: There is no such device, or the file is none of a calibration.
    """
    if name.lower() in DEVICES:
        return DEVICES[name.lower()]
    if not Path(name).is_file():
        raise UsageError(
            f"--device: {name!r} is neither a device nor a file.{did_you_mean(name, DEVICES)} "
            f"There are: {', '.join(DEVICES)}; `latentcot plan --calibrate FILE` measures "
            "this machine."
        )
    found = _calibrated(Path(name))
    if found is None:
        # Not with this name: whoever gave a recipe by mistake must not be told to write over it.
        raise UsageError(
            f"--device: {name}: is not a calibration. `latentcot plan --calibrate cal.json` makes "
            "one, for `--device cal.json`."
        )
    return found


def _calibrated(path: Path) -> Device | None:
    """Return the device of a calibration file; None if it is none."""
    try:
        return _DEVICE.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_device(path: Path, measure: Callable[[], Device]) -> None:
    """Measure a device and write it to a file, over nothing but an older calibration.

    Raises:
        UsageError: There is something else already, or nothing can be written; nothing is measured.
    """
    refuse_unwritable(path)
    if path.exists() and _calibrated(path) is None:
        raise UsageError(
            f"--calibrate: {path}: is there already, and is not a calibration: nothing was written "
            "over it. Give a file that is not there yet, such as cal.json."
        )
    write_json(path, _DEVICE.dump_python(measure(), mode="json"))


# --- calibration --------------------------------------------------------------------------------

_SETTINGS: tuple[tuple[int, int, int, Shape], ...] = (
    # Width, layers and vocabulary of a GPT-2, and the shape of an update.
    (64, 4, 500, Shape(2, 32, 0, 8)),  # many kernels, each small
    (64, 4, 500, Shape(4, 48, 8, 8)),
    (256, 4, 5_000, Shape(16, 100, 0, 24)),
    (256, 4, 5_000, Shape(8, 100, 6, 24)),
    (640, 3, 20_000, Shape(1, 40, 8, 8)),  # many bytes: few positions for all weights
    (640, 3, 20_000, Shape(2, 150, 0, 40)),
    (640, 3, 20_000, Shape(12, 150, 3, 20)),  # many products
    (1024, 2, 10_000, Shape(8, 200, 0, 30)),
)


def calibrate(say: Callable[[str], None] = lambda line: None) -> Device:
    """Measure updates of small models on this machine, in float32, and find its figures."""
    works, seconds = [], []
    for width, layers, words, shape in _SETTINGS:
        sizes = {"n_embd": width, "n_layer": layers, "n_head": max(1, width // 64)}
        tokens = {"vocab_size": words, "bos_token_id": 0, "eos_token_id": 0}
        subject = Subject(AutoConfig.for_model("gpt2", **sizes, **tokens), method_named("coconut"))
        seconds.append(seconds_of(subject, shape))
        works.append(update_work(subject, [(shape, 1.0)], weights_of(subject).trained_bytes))
        say(f"width {width}, {shape}: {1000 * seconds[-1]:,.0f} ms an update")
    rate, bandwidth, start = fitted(works, seconds)
    if torch.cuda.is_available():
        memory = float(torch.cuda.get_device_properties(0).total_memory)
    else:
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Device(
        name=f"{platform.machine()}, {torch.get_num_threads()} threads",
        flops={"float32": rate, "bfloat16": rate},
        bandwidth=bandwidth,
        kernel_seconds=start,
        memory=memory,
        is_measured=True,
        source=f"updates of {len(works)} small models in float32, torch {torch.__version__}",
    )


def seconds_of(subject: Subject, shape: Shape, rounds: int = 5) -> float:
    """Return how long an update of one micro-batch takes here.

    The fastest of some rounds counts: what others do on the machine only adds.
    """
    # With one thread, its own time: on a machine that is shared, others take turns with it.
    is_alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if is_alone else time.perf_counter
    train_step, part = train_step_of(subject), part_of(subject, shape)
    train_step.step(part, 1e-5)
    seconds = []
    for _ in range(rounds):
        start = clock()
        train_step.step(part, 1e-5)
        seconds.append(clock() - start)
    return min(seconds)


def train_step_of(subject: Subject) -> TrainStep:
    """Make a train step with random weights, on the device that accelerate chooses."""
    torch.manual_seed(0)
    training = Training(save_memory=subject.saves_memory, precision=subject.precision)
    return TrainStep(subject.objective(device="cpu"), training)


def part_of(subject: Subject, shape: Shape) -> Part:
    """Make an update of one micro-batch of a shape, of random tokens."""
    vocabulary_size = subject.config.vocab_size
    generator = torch.Generator().manual_seed(0)

    def ids(number: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary_size, (number,), generator=generator).tolist())

    update = examples_of(subject.method, shape, ids)
    return Part([collate_views(update)], Counts(subject.method, update))


def fitted(works: Sequence[Work], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Find rate, bandwidth and starting time with the least squared error, as shares of each."""
    rows = np.array([[work.flops, work.moved, work.kernels] for work in works])
    rows /= np.array(seconds)[:, None]
    scale = rows.max(axis=0)
    found: Any = nnls(rows / scale, np.ones(len(works)))[0]
    # A figure that explains nothing must not divide by zero.
    rate, bandwidth, start = np.maximum(found, 1e-6) / scale
    return float(1 / rate), float(1 / bandwidth), float(start)
