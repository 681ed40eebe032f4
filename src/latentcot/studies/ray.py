"""Studies on a Ray cluster: one task of Ray for each run. Only this module knows Ray.

A run whose process or machine dies is handed out again, and resumes from its newest checkpoint. How
far each one is, and whether all of them are to stop, stands on a board, an actor of Ray.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcot.errors import LatentcotError, UsageError
from latentcot.studies.jobs import NUM_LINES, Job, Training, num_cores
from latentcot.studies.worker import Order, Outcome, work
from latentcot.utils.display import say

if TYPE_CHECKING:  # workers read this file too, and need no tensors
    from latentcot.studies.remote import StudyFolder
    from latentcot.studies.study import Cell, Study

# Whoever imports this module where Ray is not installed gets the error that the command line shows.
try:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise UsageError(
        "--backend ray: Ray is not installed. `pip install 'latentcot[ray]'` does that; without it "
        "--backend local runs the study on this machine."
    ) from None

SECONDS_BETWEEN_READS = 0.5
SECONDS_TO_CONNECT = 10.0
OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster of our own: nothing large goes through it."""


class Board:
    """How far each run is, and whether all are to stop."""

    def __init__(self) -> None:
        self.reports: dict[str, tuple[int, int, str]] = {}
        self.is_stopping = False

    def report(self, name: str, number: int, done: int, text: str) -> bool:
        """Take what the `number`-th try of a run tells; return whether it is to stop."""
        self.reports[name] = number, done, text
        return self.is_stopping

    def read(self) -> dict[str, tuple[int, int, str]]:
        """Return name → number of the try, steps done, text in front of its bar."""
        return self.reports

    def stop(self) -> None:
        """Let every run write a checkpoint and end."""
        self.is_stopping = True


def do_order(order: Order, number: int, board: Any) -> Outcome:
    """Work in a task of Ray: `board` is the actor that is told."""

    def report(done: int, text: str) -> bool:
        return bool(ray.get(board.report.remote(order.name, number, done, text)))

    return work(order, report)


class Cluster:
    """The cluster that this process has joined.

    Attributes:
        board: The actor.
        is_own: Whether it was started for this study, so that no machine will join it.
    """

    def __init__(self, *, is_own: bool) -> None:
        self.is_own = is_own
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.board: Any = (
            ray.remote(Board)
            .options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
            .remote()
        )
        self._task: Any = ray.remote(do_order)
        self._reports: dict[str, tuple[int, int, str]] = {}
        self._last_read = 0.0

    def start(self, order: Order, number: int, needs: Mapping[str, float]) -> Any:
        """Hand out an order; return what will hold its outcome."""
        task = self._task.options(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            memory=needs.get("memory"),
            max_retries=0,  # we try again ourselves, and say so
        )
        return task.remote(order, number, self.board)

    def report_of(self, name: str, number: int) -> tuple[int, str] | None:
        """Return steps done and text of a try; None if it has not begun."""
        now = time.monotonic()
        if now - self._last_read > SECONDS_BETWEEN_READS:
            self._reports, self._last_read = ray.get(self.board.read.remote()), now
        found = self._reports.get(name)
        return found[1:] if found is not None and found[0] == number else None


@contextmanager
def joined(address: str | None, *, is_quiet: bool = False) -> Iterator[Cluster]:
    """Join a cluster, or start one on this machine for as long as this lasts.

    Args:
        address: `auto` for the one that this machine belongs to, or HOST:PORT; None starts one.
        is_quiet: Do not say which cluster of others was joined.

    Raises:
        UsageError: There is none.
    """
    # Without these Ray changes what a run sees if it wants no GPU, and tells its makers of itself.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with suppress(AttributeError):  # its daemons' reports would tear the bars: no setting stops it
        ray._private.worker.print_to_stdstream = lambda *arguments, **names: None
    if address is not None:
        refuse_unreachable(address)
    own = {"num_cpus": num_cores(), "object_store_memory": OBJECT_STORE_BYTES,
           "include_dashboard": False}  # fmt: skip
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **(own if address is None else {}),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        needs_token = isinstance(error, ConnectionError)  # it answers, and yet there is none
        hint = " If it asks for a token, set RAY_AUTH_MODE=token." if needs_token else ""
        raise _no_cluster(address, f"{_last_line(error)}.{hint}") from None
    if address is not None and not is_quiet:  # `auto` may find one that nobody thought of
        count = sum(node["Alive"] for node in ray.nodes())
        has = ray.cluster_resources()
        numbers = {"machine": count, "CPU": has.get("CPU", 0), "GPU": has.get("GPU", 0)}
        told = ", ".join(f"{n:g} {name}{'s' * (n != 1)}" for name, n in numbers.items())
        say(f"Joined the cluster at {ray.get_runtime_context().gcs_address}: {told}")
    try:
        yield Cluster(is_own=address is None)
    finally:
        ray.shutdown()


def refuse_unreachable(address: str) -> None:
    """Ray would try for two minutes, and print all that it tries.

    Raises:
        UsageError: Nothing answers there.
    """
    at = address
    if address == "auto":  # what it finds may be what a cluster has left that is gone
        with suppress(AttributeError, ConnectionError, TypeError):
            at = ray._private.services.get_ray_address_from_environment(address, None)
    host, _, port = at.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return  # Ray says what is wrong with it
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, f"{at}: {error}.") from None


def _no_cluster(address: str | None, reason: str) -> UsageError:
    return UsageError(
        f"--address: no Ray cluster at {address!r}: {reason} Give HOST:PORT of one that runs, or "
        "leave it out to start one on this machine."
    )


class RayJob(Job):
    """A run of a study as a task of Ray.

    Args:
        cluster: Where.
        training: The run as it is looked at here.
        order: What the worker does.
        needs: What it asks of Ray: CPU, GPU, and perhaps memory.
        max_retries: How often it is tried again if its process or machine dies.
        fetch: Brings its results here once it has ended.
    """

    def __init__(
        self,
        cluster: Cluster,
        training: Training,
        order: Order,
        needs: Mapping[str, float],
        max_retries: int,
        fetch: Callable[[str], None],
    ) -> None:
        super().__init__(training.name, training.total)
        self.cluster, self.training, self.order, self.needs = cluster, training, order, needs
        self.max_retries, self.fetch = max_retries, fetch
        self.number = 0
        self._report = 0, training.name
        self._told = ""
        self._task: Any = None

    def is_done(self) -> bool:
        return self.training.is_done()

    def begin(self, device: str | None) -> None:  # Ray says which GPU it is to use
        self.is_at_work = False  # a try before this one may have been
        self._task = self.cluster.start(self.order, self.number, self.needs)

    def move_on(self) -> None:
        report = self.cluster.report_of(self.name, self.number)
        self.is_at_work = report is not None
        self._report = report or self._report
        if not ray.wait([self._task], timeout=0)[0]:
            return
        try:
            outcome: Outcome = ray.get(self._task)
        except RayError as error:  # the process, the machine, or what is not an error of ours
            outcome = Outcome(_last_line(error), has_died=True)
        failure = outcome.failure
        if outcome.has_died and self.number < self.max_retries:
            self.number += 1
            say(
                f"{self.name}: its worker died: {failure}\nTrying again, {self.number} of "
                f"{self.max_retries}; it resumes from its newest checkpoint."
            )
            self.begin(None)
            return
        if outcome.has_died:
            failure = f"its worker died {self.number + 1} times, at last: {failure}"
        try:
            self.fetch(self.name)
        except LatentcotError as error:
            failure = failure or str(error)
        if failure is None and not self.is_done():
            result = self.training.result.relative_to(self.training.run)
            failure = (
                f"ended well, but its result is not at {self.order.out}/{self.name}/{result}. Give "
                "an --out that all machines see."
            )
        self._told, self.has_failed, self.is_over = failure or "", failure is not None, True

    def progress(self) -> tuple[int, str]:
        done, text = self._report
        return done, text if self.is_at_work or self.is_over else f"{self.name} · waits"

    def failure(self, num_lines: int = NUM_LINES) -> str:
        return self._told

    def terminate(self) -> None:
        ray.get(self.cluster.board.stop.remote())
        if not self.is_at_work:
            ray.cancel(self._task)

    def wait(self) -> None:
        with suppress(RayError):
            ray.get(self._task)


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"


def ray_jobs(
    cluster: Cluster,
    study: "Study",
    cells: "Sequence[Cell]",
    trainings: Sequence[Training],
    place: "StudyFolder",
) -> list[RayJob]:
    """Return the runs of a study as tasks of Ray.

    Args:
        cluster: Where.
        study: What they are of.
        cells: The runs.
        trainings: The same as they are looked at here.
        place: The folder of the study.

    Raises:
        UsageError: No machine of a cluster of our own has what a run asks for.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    jobs, too_large = [], []
    for cell, training in zip(cells, trainings, strict=True):
        asked = cell.resources
        has_gpus = any(node.get("GPU", 0) > 0 for node in nodes)
        needs = {"CPU": asked.cpus, "GPU": float(has_gpus) if asked.gpus is None else asked.gpus}
        if asked.memory is not None:
            needs["memory"] = asked.memory
        order = Order(
            name=cell.name,
            out=place.name,
            folder=str(Path.cwd()),
            device=None if needs["GPU"] else "",
            batch_size=study.evaluate.batch_size,
            limit=study.evaluate.limit,
        )
        job = RayJob(cluster, training, order, needs, study.max_retries, place.fetch)
        jobs.append(job)
        has_room = any(all(node.get(k, 0) >= v for k, v in needs.items()) for node in nodes)
        if not (has_room or job.is_done()):
            too_large.append(job)
    if too_large:
        values = ", ".join(f"{name} {value:g}" for name, value in too_large[0].needs.items())
        text = f"{too_large[0].name}: asks for {values}, and no machine of the cluster has that"
        if cluster.is_own:
            raise UsageError(f"{text}. Change `resources:` of the study, or give --address.")
        # A machine may come to it yet; until then these runs wait.
        say(f"{text} now. Runs that wait for one: {len(too_large)}.")
    return jobs
