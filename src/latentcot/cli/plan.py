"""`latentcot plan`: what a training will cost, before anything starts."""

import json
import os
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from latentcot.errors import UsageError
from latentcot.utils.display import put

if TYPE_CHECKING:
    from latentcot.planning.plan import Plan

UNMEASURED = "h100"


def plan(
    recipe: Path | None = None,
    /,
    *changes: str,
    gpus: int = 1,
    device: str | None = None,
    shard: Annotated[bool, Parameter(negative="")] = False,
    set_: Annotated[tuple[str, ...], Parameter("--set")] = (),
    calibrate: Path | None = None,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Show what a training will cost: tokens, passes, FLOPs, hours, memory, and what would not fit.

    Nothing is downloaded or trained. Data that are not here are taken to be of typical length.

    Args:
        recipe: A YAML file, or the name of a recipe of `latentcot list recipes`.
        changes: KEY=VALUE, as behind --set.
        gpus: Devices, on one host.
        device: h100, h200, a100 (data sheets, not measured), or a file of --calibrate; if left out
            that of --calibrate, or h100.
        shard: Share weights and optimizer out among the devices (FSDP2), as `train --shard` does.
        set_: Change a key of the recipe, for example --set training.micro_batch_size=4.
        calibrate: Measure this machine for some two minutes, and write its figures to this file.
        as_json: Print it as JSON.
    """
    from latentcot.recipes.recipe import read_recipe

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nobody waits for a network here
    asked = None if recipe is None else read_recipe(recipe, [*set_, *changes])
    if calibrate is not None:
        from latentcot.planning.devices import calibrate as measure
        from latentcot.planning.devices import write_device
        from latentcot.utils.display import say

        write_device(calibrate, lambda: measure(say))
    if asked is None:
        if calibrate is None:
            raise UsageError("plan: needs a recipe, or --calibrate FILE to measure this machine.")
        return
    from latentcot.planning.devices import device_named  # after what is wrong at once: loads torch
    from latentcot.planning.plan import make_plan

    on = device_named(device or (str(calibrate) if calibrate else UNMEASURED))
    made = make_plan(asked, on, gpus=gpus, sharded=shard)
    if as_json:
        found = {name: getattr(made, name) for name in ("hours", "memory_total", "fits")}
        stages = [{**asdict(one), "seconds": one.seconds} for one in made.stages]
        put(json.dumps({**asdict(made), "stages": stages, **found}, indent=1))
    else:
        _print(made)


def _print(plan: "Plan") -> None:
    from rich import box
    from rich.table import Table

    from latentcot.cli.shared.tables import print_table
    from latentcot.planning.plan import StagePlan

    put(
        f"{plan.method}: {scaled(plan.num_weights, COUNTS)} weights, "
        f"{scaled(plan.num_trained, COUNTS)} trained, on {plan.gpus} × {plan.device.name}"
        f"{', sharded' if plan.sharded else ''}, "
        f"{plan.worst.rows} example{'' if plan.worst.rows == 1 else 's'} at once"
    )
    table = Table(box=box.SIMPLE)
    for name in ("stage", "updates", "tokens", "passes", "FLOPs", "an update", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in (*plan.stages, reduce(StagePlan.plus, plan.stages)):
        name, seconds = "–".join(map(str, dict.fromkeys(one.stages))), scaled(one.seconds, TIMES)
        if len(table.rows) == len(plan.stages):
            table.add_section()
            name, seconds = "all", ""
        tokens, hours = scaled(one.tokens, COUNTS), scaled(3600 * one.hours, TIMES)
        row = (name, f"{one.updates:,}", tokens, f"{one.passes:,.0f}", f"{one.flops:.2e}")
        table.add_row(*row, seconds, hours)
    print_table(table)

    memory = {key: scaled(value, SIZES) for key, value in plan.memory.items()}
    put(
        f"{scaled(plan.memory_total, SIZES)} of {scaled(plan.device.memory, SIZES)} on each "
        f"device: weights {memory['weights']}, gradients {memory['gradients']}, optimizer "
        f"{memory['optimizer']}, for other devices {memory['copies']}, activations "
        f"{memory['activations']} ({plan.worst}), driver and gaps {memory['reserved']}"
    )
    table = Table(box=box.SIMPLE)
    for name in ("weights", "save_memory", "memory", "largest micro_batch_size"):
        table.add_column(name, no_wrap=True)
    fitting = []
    for way in plan.ways:
        largest = f"{way.largest}{', all of an update' if way.largest == plan.most else ''}"
        table.add_row(
            "sharded" if way.sharded else "whole",
            str(way.save_memory).lower(),
            scaled(way.bytes, SIZES),
            largest if way.largest else "none fits",
        )
        if way.largest:
            fitting.append(
                f"{'--shard, ' if way.sharded else ''}training.micro_batch_size={way.largest} with "
                f"training.save_memory={str(way.save_memory).lower()}"
            )
    print_table(table)
    if not plan.fits and fitting:
        put(f"Does not fit. Fits: {'; '.join(fitting)}.")
    elif not plan.fits:
        put(
            "Does not fit. Nor does any micro-batch: take `lora:`, more or larger devices with "
            "--shard, or a smaller model."
        )
    for note in plan.notes:
        put(f"- {note}")


COUNTS = {"B": 1e9, "M": 1e6, "k": 1e3, "": 1.0}
TIMES = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3}
SIZES = {"GiB": 2.0**30, "MiB": 2.0**20}


def scaled(value: float, units: dict[str, float]) -> str:
    """Write a value in the largest of the units of which there is one at least, or in the last."""
    if not value:
        return "0"
    name = next((name for name, unit in units.items() if value >= unit), [*units][-1])
    return f"{value / units[name]:,.{1 if name else 0}f} {name}".rstrip()
