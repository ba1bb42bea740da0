"""The command line in tests: in this process, or in processes of its own that are killed, signalled, or short of disk.

The processes are real ones, forked from a server that has imported everything, which saves the ten seconds that
`python -m unitkit` takes to start.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import multiprocessing
import os
import pkgutil
import pty
import resource
import shutil
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import typer.main
from PIL import Image

from unitkit import load_recipe, templates
from unitkit.check import check
from unitkit.cli import app, main

TINY = Path(__file__).with_name("tiny.py")
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
PRELOADED = [
    "commands",
    "torch._dynamo",
    "pydantic",
    "numpy.ctypeslib",
    "rich.progress",
]  # this, and what is imported on the way
PATIENCE = 180  # seconds, of which a machine that is busy takes many

torch.set_num_threads(1)  # a sum's order, and so its last bits, depends on the number of threads
typer.main.get_command = cache(typer.main.get_command)  # made anew for each command, it takes a tenth of a training
typer.main.get_command(app)
check(load_recipe(TINY))  # what torch imports at its first meta tensor takes seconds
# What commands import and prepare when they are first used, each process that is forked would anew.
for command in "ablate", "evaluate", "train", "translate":
    importlib.import_module(f"unitkit.commands.{command}")
templates._templates(markdown=False).get_template("run.html.jinja")
Image.init()
gc.freeze()  # what the imports made stays, and collecting after each command is quick
atexit.register(gc.unfreeze)


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    status: int
    out: str
    err: str


def _ensure_server(start: Callable[[], None] = forkserver._forkserver.ensure_running) -> None:
    """Whoever needs it first, a command that runs here or a test, the server has imported what all of them need."""
    places = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    FORKED.set_forkserver_preload(PRELOADED)
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(places)):  # where the server finds this and ours
        start()


FORKED = multiprocessing.get_context("forkserver")
for each in forkserver, forkserver._forkserver:
    each.ensure_running = _ensure_server  # type: ignore[method-assign, attr-defined]


def unitkit(*words: object) -> Answer:
    """Run the command line in this process, on the CPU if nothing else is said."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["unitkit", *_on_cpu(words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    gc.collect()  # as the end of the process would, and with a trainer its lock
    return Answer(status, out.getvalue(), err.getvalue())


def one_line(answer: Answer, *words: str, status: int = 2) -> None:
    """The command was refused as a user's mistake, or with status 1 by the machine: one line on stderr, with these
    words."""
    assert answer.status == status, answer
    assert answer.err.startswith("error: "), answer.err
    assert answer.err.count("\n") == 1 and answer.err.endswith("\n"), answer.err
    for word in words:
        assert word in answer.err, answer.err


@dataclass(frozen=True)
class Moment:
    """The `at`-th call (from 1) of "unitkit.runs.checkpoint:save_file", say, where the process gets `signals`."""

    where: str
    at: int
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL,)


@dataclass(frozen=True)
class Started:
    """A command in a process of its own."""

    process: ForkServerProcess
    log: Path

    def wait(self) -> Answer:
        """Its end; the status is minus the signal's number where a signal ended it."""
        self.process.join(PATIENCE)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
            raise AssertionError(f"still running after {PATIENCE} s: {self.log.with_suffix('.err').read_text()}")
        return Answer(status, self.log.with_suffix(".out").read_text(), self.log.with_suffix(".err").read_text())


def start(
    log: Path,
    *words: object,
    moments: Sequence[Moment] = (),
    environment: Mapping[str, str] | None = None,
    file_limit: int | None = None,
    small_disk: tuple[Path, int] | None = None,
    weights: Path | None = None,
    no_reader: bool = False,
    no_room: bool = False,
    terminal: int = 0,
) -> Started:
    """Run the command line in a process of its own.

    Args:
        log: a file name without suffix for what it prints.
        moments: when it gets signals.
        environment: variables to add.
        file_limit: the largest file in bytes that it may write.
        small_disk: a folder and the bytes of the disk that is there for this process; copied back when it ends.
        weights: a folder where each rank writes its weights, and each step's losses and gradients, before it measures.
        no_reader: what it prints goes into a pipe that nobody reads.
        no_room: what it prints goes to a disk that is full.
        terminal: what it prints goes to a terminal of so many columns.
    """
    output = (no_reader, no_room, terminal)
    arguments = (log, _on_cpu(words), moments, environment or {}, file_limit, small_disk, weights, *output)
    process = FORKED.Process(target=_run, args=arguments, daemon=words[0] != "ablate")  # a daemon may have no workers
    process.start()
    return Started(process, log)


def run(log: Path, *words: object, **options: Any) -> Answer:
    """`init`, and wait for the end."""
    return start(log, *words, **options).wait()


def until(what: Any, seconds: float = 60) -> None:
    """Wait until a function gives something true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def _run(
    log: Path,
    words: list[str],
    moments: Sequence[Moment],
    environment: Mapping[str, str],
    file_limit: int | None,
    small_disk: tuple[Path, int] | None,
    weights: Path | None,
    no_reader: bool,
    no_room: bool,
    terminal: int,
) -> None:
    for each in forkserver, forkserver._forkserver:  # its workers are forked from our server; its own takes seconds
        each.ensure_running = lambda: None  # type: ignore[method-assign, attr-defined]
    for suffix, number in (".out", 1), (".err", 2):
        os.dup2(os.open(log.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if no_reader:
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
    if no_room:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    drain = _open_terminal(log.with_suffix(".out"), terminal) if terminal else contextlib.nullcontext
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # an ablation before it may have started the server
    for moment in moments:
        _arm(moment)
    if weights:
        _dump_weights(weights)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if small_disk:
        _mount(*small_disk)
    sys.argv = ["unitkit", *words]
    try:
        main()
    finally:
        drain()
        if small_disk:
            shutil.copytree(small_disk[0], small_disk[0].with_name("copied"))


def _on_cpu(words: Sequence[object]) -> list[str]:
    found = [str(word) for word in words]
    computes = found and found[0] in ("train", "translate", "evaluate", "ablate", "demo") and "--device" not in found
    return [*found, "--device", "cpu"] if computes else found


def _arm(moment: Moment) -> None:
    module, _, name = moment.where.partition(":")
    *owners, last = name.split(".")
    owner = pkgutil.resolve_name(":".join([module, ".".join(owners)]) if owners else module)
    function, calls = getattr(owner, last), iter(range(1, 10**6))

    def armed(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == moment.at:
            for number in moment.signals:
                os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    setattr(owner, last, armed)


def _open_terminal(copy: Path, columns: int) -> Callable[[], object]:
    """Make stdout a terminal, whose every byte goes to a file too; what is returned ends it, the last byte copied."""
    inside, outside = pty.openpty()
    fcntl.ioctl(outside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.dup2(outside, 1)
    os.environ.update(TERM="xterm", COLUMNS=str(columns))
    file = os.open(copy, os.O_WRONLY)

    def read() -> None:
        with contextlib.suppress(OSError):  # its end, as Linux says it
            while chunk := os.read(inside, 4096):
                os.write(file, chunk)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def drain() -> None:
        sys.stdout.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(outside)
        reader.join(10)

    return drain


def _dump_weights(folder: Path) -> None:
    from safetensors.torch import save_file

    from unitkit.networks.state import weights_of
    from unitkit.system import dist
    from unitkit.trainer import Trainer

    evaluated, step = Trainer.evaluate, Trainer.step
    seen: dict[str, torch.Tensor] = {}

    def moved(self: Trainer, number: int) -> dict[str, torch.Tensor]:
        losses = step(self, number)
        seen.update(losses_and_gradients(self.model, number, losses))
        return losses

    def evaluate(self: Trainer, **words: Any) -> dict[str, Any]:
        save_file(weights_of(self.model), folder / f"rank{dist.rank()}.safetensors")
        save_file(seen, folder / f"rank{dist.rank()}.steps.safetensors")
        return evaluated(self, **words)

    Trainer.evaluate, Trainer.step = evaluate, moved  # type: ignore[method-assign]


def losses_and_gradients(model: Any, step: int, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a step was, by names that say so: Adam's weights alone do not tell a gradient from its double."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = {f"loss {step} {name}": value for name, value in losses.items()}
    found |= {f"gradient {step} {name}": value for name, value in gradients.items()}
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


def _mount(folder: Path, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    private = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC: what is mounted here is seen nowhere else
    for done in (
        libc.unshare(NEW_MOUNTS),
        libc.mount(b"none", b"/", None, private, None),
        libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()),
    ):
        if done != 0:
            print("no small disk here", file=sys.stderr)
            sys.exit(77)
