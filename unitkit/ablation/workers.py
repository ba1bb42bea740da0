"""Running an ablation's cells: in processes of this machine with its devices shared out, or on a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ..recipe_file import IMPORTED
from ..runs.folder import RunFolder
from ..runs.options import RunOptions
from ..system.errors import TrainingError, UserError
from ..system.output import printable, steady_output

POLL = 0.2  # seconds
LOST = 255  # what multiprocessing gives as a status where its server of processes was ended as well
Train: TypeAlias = "Callable[[Job], None]"  # a function of a module, which trains and evaluates a cell


@dataclass(frozen=True)
class Job:
    """A cell to run: the path of the recipe file and the ablation's copy of it, its knobs, and how it is run."""

    recipe: str
    kept: Path
    knobs: dict[str, Any]
    options: RunOptions

    @property
    def out(self) -> Path:
        """The run folder."""
        return Path(self.options.out)

    @property
    def file(self) -> Path:
        """The recipe file; the copy where it, or what it imports, was edited since or is not on this machine."""
        path = Path(self.recipe)
        same = all(
            any(there.is_file() and there.read_bytes() == copy.read_bytes() for there in places)
            for copy in (self.kept, *self.kept.parent.glob(f"{IMPORTED}/*.py"))
            for places in [(path.parent / copy.name, path.parent / IMPORTED / copy.name)]
        )
        return path if same else self.kept


@dataclass(frozen=True)
class Ended:
    """A job that has ended, and why it failed, if it did; `stopped` where a signal ended it with a checkpoint."""

    job: Job
    failed: str | None
    stopped: bool = False


@steady_output()
def run_job(job: Job, train: Train, threads: int = 0) -> str | None:
    """Train and measure one cell in this process; what it prints goes to its `log.txt`. Returns why it failed."""
    job.out.mkdir(parents=True, exist_ok=True)
    log = os.open(job.out / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if threads:
        torch.set_num_threads(threads)
    try:
        _wait_for(job.out)
        train(job)
    except (UserError, TrainingError) as error:
        print(f"error: {printable(str(error))}", flush=True)
        return str(error)
    except Exception as error:
        import traceback

        traceback.print_exc()
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in enumerate(kept, start=1):
            os.dup2(before, number)
            os.close(before)
        os.close(log)
    return None


def _wait_for(folder: Path, seconds: float = 60) -> None:
    """Wait while a worker of an ablation that was killed still writes its last checkpoint into this folder."""
    end = time.monotonic() + seconds
    while True:
        try:
            os.close(RunFolder(folder).lock())
            return
        except UserError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL)


def default_workers() -> int:
    """A worker for each CUDA device, or one where there is none."""
    return max(1, torch.cuda.device_count())


def run_here(jobs: Sequence[Job], train: Train, workers: int, stopping: Callable[[], bool]) -> Iterator[Ended | None]:
    """Run jobs in up to `workers` processes of this machine; yields each that ends, and None at least every second.

    A fresh process for every job, forked from a server that has imported torch once. When `stopping` says so, no
    more jobs begin and those that run are told to write a checkpoint and leave.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        # The last is what torch itself imports, for seconds, when a process makes its first optimizer.
        context.set_forkserver_preload([train.__module__, __name__, "torch._dynamo"])
        _start_server()
    threads = max(1, torch.get_num_threads() // workers)
    waiting, told = list(jobs), False
    running: dict[Any, tuple[Job, int, Any]] = {}
    slots = list(range(workers))
    try:
        while running or (waiting and not stopping()):
            while waiting and slots and not stopping():
                job, slot = waiting.pop(0), slots.pop(0)
                alive, ours = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(job, train, _on_device(job, slot), threads, alive))
                try:
                    process.start()
                except (EOFError, ConnectionError):  # the server of processes was ended as well
                    if not stopping():
                        raise TrainingError("the process that starts the workers has ended: run it again") from None
                    break
                finally:
                    alive.close()
                running[process] = job, slot, ours
            if stopping() and not told:
                told = True
                for process in running:
                    process.terminate()
            for process in [p for p in running if not p.is_alive()]:
                job, slot, ours = running.pop(process)
                process.join()
                ours.close()
                slots.append(slot)
                yield _ended(job, process.exitcode, told)
            yield None
            time.sleep(POLL)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()


def _start_server() -> None:
    """Start the server of processes, which Ctrl-C does not reach while it imports: it would end with a traceback."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def run_on_ray(
    jobs: Sequence[Job], train: Train, address: str, stopping: Callable[[], bool], workers: int = 0
) -> Iterator[Ended | None]:
    """Run jobs as tasks of a Ray cluster whose nodes all see the ablation's folder.

    Ray is joined by the call itself, not at the first cell: it takes the signals for itself, and who wants them must
    come after.

    Args:
        address: "local" for a Ray of this machine's own, "auto", or HOST:PORT.
        workers: tasks at once at most, 0 for what the cluster has room for.

    Raises:
        UserError: Ray is not installed, or does not answer at the address.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray: install it with pip install 'unitkit[ray]'") from None
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise UserError(f"no Ray answers at '{address}': {str(error).strip().partition(chr(10))[0]}") from error
    return _ray_tasks(jobs, train, stopping, workers)


def _ray_tasks(jobs: Sequence[Job], train: Train, stopping: Callable[[], bool], workers: int) -> Iterator[Ended | None]:
    import ray

    cluster: Any = ray
    gpus = 1 if cluster.cluster_resources().get("GPU") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_ray_task)
    waiting, told = list(jobs), False
    running: dict[Any, Job] = {}
    try:
        while running or (waiting and not stopping()):
            while waiting and not stopping() and (not workers or len(running) < workers):
                job = waiting.pop(0)
                running[task.remote(job, train, Path.cwd())] = job
            if stopping() and not told:  # once: a second signal would end a training without a checkpoint
                told = True
                for reference in running:
                    ray.cancel(reference, force=False)
            done, _ = ray.wait(list(running), timeout=1.0)
            for reference in done:
                job = running.pop(reference)
                try:
                    failed = ray.get(reference)
                    yield Ended(job, None if told else failed, stopped=told and failed is not None)
                except ray.exceptions.RayError as error:
                    first = str(error).strip().partition("\n")[0]
                    yield Ended(job, None if told else f"its Ray task died: {first}", stopped=told)
            yield None
    finally:
        ray.shutdown()


def _ray_task(job: Job, train: Train, folder: Path) -> str | None:
    if folder.is_dir():  # what relative paths, of data too, are relative to
        os.chdir(folder)
    try:
        return run_job(job, train)
    except SystemExit as end:
        return f"it ended with status {end.code}"


def _child(job: Job, train: Train, device: str, threads: int, alive: Any) -> None:
    # A parent that is killed closes its end of the pipe: the training then writes a checkpoint and leaves.
    threading.Thread(target=_leave_with_parent, args=(alive,), daemon=True).start()
    os.setsid()  # Ctrl-C at the terminal reaches the ablation alone; a second signal would end us without a checkpoint
    failed = run_job(replace(job, options=replace(job.options, device=device)), train, threads)
    sys.exit(1 if failed else 0)


def _leave_with_parent(alive: Any) -> None:
    try:
        alive.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


def _ended(job: Job, status: int | None, told: bool) -> Ended:
    if status == 0:
        return Ended(job, None)
    # A terminal that closes ends the server too; the worker sees that its ablation leaves, and writes a checkpoint.
    if status in (128 + signal.SIGTERM, -signal.SIGTERM) or (told and status == LOST):
        return Ended(job, None if told else "its process was told to stop (SIGTERM) from outside", stopped=told)
    if status is not None and status < 0:
        return Ended(job, f"its process was killed by signal {signal.Signals(-status).name}")
    lines = [line for line in _log(job) if line.strip()]
    said = lines[-1] if lines else f"status {status}"
    return Ended(job, re.sub(r"^error: ", "", said))


def _log(job: Job) -> list[str]:
    path = RunFolder(job.out).path / "log.txt"
    return path.read_text("utf-8", "replace").splitlines() if path.is_file() else []


def _on_device(job: Job, slot: int) -> str:
    """Devices are shared out over the places of workers: with two GPUs, the third worker gets the first one."""
    if job.options.device in ("auto", "cuda") and torch.cuda.device_count():
        return f"cuda:{slot % torch.cuda.device_count()}"
    return job.options.device
