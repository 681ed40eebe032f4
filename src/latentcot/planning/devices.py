"""How fast devices are, and how long a counted amount of work takes on them.

    seconds = Σ products / rate + bytes / bandwidth + kernels × time to start one

Three figures a device. Those of GPUs are their data sheets times an efficiency that is assumed;
`calibrate` of `plan_calibration.py` measures all three on the machine at hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from latentcot.errors import UsageError, did_you_mean
from latentcot.planning.work import Work

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One device."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """As it is shown."""
    flops: dict[str, Positive]
    """Products a second that a large update reaches, by precision; a multiply-add counts two."""
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

    def seconds(self, work: Work) -> float:
        """Return how long work takes."""
        busy = work.moved / self.bandwidth + sum(
            flops / self.flops[kind] for kind, flops in work.flops.items()
        )
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
_ADAPTER = TypeAdapter(Device)


def device_named(name: str) -> Device:
    """Return a device of the table, or what a calibration file says of one.

    Raises:
        UsageError: There is no such device, or the file is none of a calibration.
    """
    if name.lower() in DEVICES:
        return DEVICES[name.lower()]
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"--device: {name!r} is neither a device nor a file.{did_you_mean(name, DEVICES)} "
            f"There are: {', '.join(DEVICES)}; `latentcot plan --calibrate FILE` measures "
            "this machine."
        )
    found = _calibrated(path)
    if found is None:
        # Not with this name: whoever gave a recipe by mistake must not be told to write over it.
        raise UsageError(
            f"--device: {path}: is not a calibration. `latentcot plan --calibrate cal.json` makes "
            "one, for `--device cal.json`."
        )
    return found


def _calibrated(path: Path) -> Device | None:
    """Return the device of a calibration file; None if it is none."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def refuse_other_files(path: Path) -> None:
    """Make sure that a calibration would be written over nothing but an older one.

    Raises:
        UsageError: There is something else already.
    """
    if path.exists() and _calibrated(path) is None:
        raise UsageError(
            f"--calibrate: {path}: is there already, and is not a calibration: nothing was written "
            "over it. Give a file that is not there yet, such as cal.json."
        )


def dumped(device: Device) -> Any:
    """Return a device as what JSON holds."""
    return _ADAPTER.dump_python(device, mode="json")
