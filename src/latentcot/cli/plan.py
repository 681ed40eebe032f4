"""`latentcot plan`: what a training will cost, before anything starts."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from latentcot.errors import UsageError

if TYPE_CHECKING:
    from latentcot.planning.plan import Plan, Way

UNMEASURED = "h100"


def plan(
    recipe: Path | None = None,
    *,
    gpus: int = 1,
    device: str = UNMEASURED,
    shard: Annotated[bool, Parameter(negative="")] = False,
    set_: Annotated[tuple[str, ...], Parameter("--set", negative="")] = (),
    calibrate: Path | None = None,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Show what a training will cost: tokens, passes, FLOPs, hours, memory, and what would not fit.

    Nothing is downloaded or trained. Data that are not here are taken to be of typical length.

    Args:
        recipe: A YAML file, or the name of a recipe of `latentcot list recipes`.
        gpus: Devices, on one host.
        device: h100, h200, a100 (data sheets, not measured), or a file of --calibrate.
        shard: Share weights and optimizer out among the devices (FSDP2), as `train --shard` does.
        set_: Change a key of the recipe, for example --set training.micro_batch_size=4.
        calibrate: Measure this machine for some two minutes, and write its figures to this file.
        as_json: Print it as JSON.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nobody waits for a network here
    if calibrate is not None:
        _calibrate(calibrate)
    if recipe is None:
        if calibrate is None:
            raise UsageError("plan: needs a recipe, or --calibrate FILE to measure this machine.")
        return
    from latentcot.planning.devices import device_named
    from latentcot.planning.plan import make_plan
    from latentcot.recipes.recipe import read_recipe

    on = device_named(str(calibrate) if calibrate and device == UNMEASURED else device)
    made = make_plan(read_recipe(recipe, set_), on, gpus=gpus, sharded=shard)
    if as_json:
        print(json.dumps(_values(made), indent=1))
    else:
        _print(made)


def _calibrate(file: Path) -> None:
    from latentcot.planning.calibration import calibrate
    from latentcot.planning.devices import dumped, refuse_other_files
    from latentcot.utils.display import say
    from latentcot.utils.files import refuse_unwritable, write_json

    refuse_unwritable(file)
    refuse_other_files(file)
    write_json(file, dumped(calibrate(say)))


def _values(plan: "Plan") -> dict[str, object]:
    from dataclasses import asdict

    return {
        **asdict(plan),
        "hours": plan.hours,
        "memory_total": plan.memory.total,
        "fits": plan.fits,
    }


def _print(plan: "Plan") -> None:
    from rich import box
    from rich.table import Table

    from latentcot.cli.tables import print_table
    from latentcot.planning.plan import COUNTS, TIMES, scaled

    print(
        f"{plan.method}: {scaled(plan.num_weights, COUNTS)} weights, "
        f"{scaled(plan.num_trained, COUNTS)} trained, on {plan.gpus} × {plan.device.name}"
        f"{', sharded' if plan.sharded else ''}, "
        f"{plan.micro_batch} example{'' if plan.micro_batch == 1 else 's'} at once"
    )
    table = Table(box=box.SIMPLE)
    for name in ("stage", "updates", "tokens", "passes", "FLOPs", "an update", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in plan.stages:
        table.add_row(
            "–".join(map(str, dict.fromkeys(one.stages))),
            f"{one.updates:,}",
            scaled(one.tokens, COUNTS),
            f"{one.passes:,.0f}",
            f"{one.flops:.2e}",
            scaled(one.seconds, TIMES),
            scaled(3600 * one.hours, TIMES),
        )
    table.add_section()
    table.add_row(
        "all",
        f"{sum(one.updates for one in plan.stages):,}",
        scaled(sum(one.tokens for one in plan.stages), COUNTS),
        f"{sum(one.passes for one in plan.stages):,.0f}",
        f"{sum(one.flops for one in plan.stages):.2e}",
        "",
        scaled(3600 * plan.hours, TIMES),
    )
    print_table(table)
    _print_memory(plan)
    for note in plan.notes:
        print(f"- {note}")


def _print_memory(plan: "Plan") -> None:
    from rich import box
    from rich.table import Table

    from latentcot.cli.tables import print_table
    from latentcot.planning.plan import SIZES, scaled

    def size(value: float) -> str:
        return scaled(value, SIZES)

    memory = plan.memory
    print(
        f"{size(memory.total)} of {size(plan.device.memory)} on each device: weights "
        f"{size(memory.weights)}, gradients {size(memory.gradients)}, optimizer "
        f"{size(memory.optimizer)}, for other devices {size(memory.copies)}, activations "
        f"{size(memory.activations)} ({plan.worst}), driver and gaps {size(memory.reserved)}"
    )
    table = Table(box=box.SIMPLE)
    for name in ("weights", "save_memory", "memory", "largest micro_batch_size"):
        table.add_column(name, no_wrap=True)
    for way in plan.ways:
        table.add_row(
            "sharded" if way.sharded else "whole",
            "true" if way.save_memory else "false",
            size(way.bytes),
            (str(way.largest) if way.largest else "none fits")
            + (", all of an update" if way.needs_one else ""),
        )
    print_table(table)
    if not plan.fits:
        print(f"Does not fit. {_advice(plan)}")


def _advice(plan: "Plan") -> str:
    fitting = [way for way in plan.ways if way.largest]
    if not fitting:
        return (
            "Nor does any micro-batch: take `lora:`, more or larger devices with --shard, or a "
            "smaller model."
        )
    why = ""
    if any(way.needs_one for way in fitting):
        why = " With one micro-batch an update no gradients wait in memory."
    return "Fits: " + "; ".join(_words(way) for way in fitting) + "." + why


def _words(way: "Way") -> str:
    sharded = "--shard, " if way.sharded else ""
    saves = str(way.save_memory).lower()
    return f"{sharded}training.micro_batch_size={way.largest} with training.save_memory={saves}"
