"""Which wires may be cut without a test that fails: breaks a copy of the package in one place at a time.

    python tests/mutate.py                                   the modules of the table below, all mutants
    python tests/mutate.py unitkit/system/dist.py --sample 20 --seed 1

Every mutant runs the tests that serve its module, until the first that fails. What survives is listed, and the status
is then 1. A survivor is a wire that no test holds, or a change that changes nothing; only a reader can tell which.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import importlib
import inspect
import itertools
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The tests that serve a module: the quickest and the likeliest to fail come first.
QUICK = ("test_wiring.py", "test_by_hand.py", "test_effects.py")  # and all for a module that the table does not name
MOVING = (*QUICK, "test_turns.py", "test_growth.py")
SERVED = {
    "unitkit/trainer.py": (
        *MOVING,
        "test_dist.py",
        "test_adaptation.py",
        "test_phases.py",
        "test_training.py",
        "test_runs.py",
        "test_bad_images.py",
    ),
    "unitkit/training/step.py": (*MOVING, "test_dist.py", "test_adaptation.py", "test_phases.py", "test_training.py"),
    "unitkit/training/plan.py": (
        *MOVING,
        "test_adaptation.py",
        "test_phases.py",
        "test_objective.py",
        "test_paths_once.py",
    ),
    "unitkit/hooks.py": (
        *MOVING,
        "test_dist.py",
        "test_runs.py",
        "test_trackers.py",
        "test_evaluate.py",
        "test_bad_images.py",
    ),
    "unitkit/recipe.py": (*MOVING, "test_adaptation.py", "test_phases.py", "test_objective.py", "test_paths_once.py"),
    "unitkit/optimizers.py": ("test_by_hand.py", "test_turns.py", "test_growth.py", *QUICK),
    "unitkit/schedules.py": ("test_turns.py", "test_adaptation.py", "test_phases.py"),
    "unitkit/networks/graph.py": (
        "test_turns.py",
        "test_by_hand.py",
        "test_objective.py",
        "test_paths_once.py",
        "test_sharing.py",
    ),
    "unitkit/data/batches.py": ("test_batches.py", *QUICK, "test_loading.py", "test_bad_images.py"),
    "unitkit/data/sampler.py": ("test_batches.py", "test_wiring.py", "test_loading.py"),
    "unitkit/networks/average.py": ("test_growth.py", "test_wiring.py"),
    "unitkit/networks/state.py": ("test_growth.py", "test_sharing.py", "test_pool.py"),
    "unitkit/runs/moments.py": (*MOVING, "test_stored.py", "test_training.py"),
    "unitkit/runs/checkpoint.py": (*MOVING, "test_stored.py", "test_pool.py", "test_training.py", "test_runs.py"),
    "unitkit/runs/steps.py": (*MOVING, "test_training.py", "test_runs.py"),
    "unitkit/runs/stored.py": (*MOVING, "test_stored.py", "test_training.py", "test_runs.py"),
    "unitkit/runs/options.py": (*QUICK, "test_training.py", "test_runs.py"),
    "unitkit/system/dist.py": ("test_dist.py",),
}
# Imported once, before the processes of the mutants part: what takes the ten seconds of a start, and nothing of ours.
HEAVY = ("torch", "torchvision", "timm", "lpips", "torch_fidelity", "torchmetrics", "scipy.stats", "matplotlib.pyplot")
LIMIT = 3  # times as long as the tests take on the source as it is: a mutant that never ends is found

PAIRS = ("Lt", "LtE"), ("Gt", "GtE"), ("Eq", "NotEq"), ("Is", "IsNot"), ("In", "NotIn")
COMPARISONS = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
OPERATORS = {"Add": "Sub", "Sub": "Add", "Mult": "Div", "Div": "Mult", "FloorDiv": "Mult", "Mod": "Mult", "Pow": "Mult"}


@dataclass(frozen=True)
class Mutant:
    """A file with one change: what kind of change it is, where it begins, and the whole new text."""

    file: str
    line: int
    kind: str
    text: str

    @property
    def shown(self) -> str:
        return self.text.splitlines()[self.line - 1].strip()


def mutants(file: str, source: str, module: ModuleType) -> Iterator[Mutant]:
    """Every mutant of a source that is Python still."""
    for node, changed, kind in _changes(ast.parse(source), module):
        text = _spliced(source, node, changed)
        with contextlib.suppress(SyntaxError):
            compile(text, file, "exec")
            yield Mutant(file, node.lineno, kind, text)


def _changes(tree: ast.AST, module: ModuleType) -> Iterator[tuple[Any, ast.AST | None, str]]:
    """A node, what takes its place, and what that is called."""
    for node in _walk(tree):
        if isinstance(node, ast.Call):
            for place, keyword in enumerate(node.keywords):
                if keyword.arg and keyword.arg != "strict":  # of zip: a guard, which right code never needs
                    changed = deepcopy(node)
                    if _has_default(node, keyword.arg, module):
                        del changed.keywords[place]
                    else:
                        changed.keywords[place].value = ast.Constant(0)
                    yield node, changed, f"without {keyword.arg}="
        elif isinstance(node, ast.Compare):
            for place, operator in enumerate(node.ops):
                changed = deepcopy(node)
                changed.ops[place] = getattr(ast, COMPARISONS[type(operator).__name__])()
                yield node, changed, "comparison"
        elif isinstance(node, ast.BoolOp):
            yield node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values), "and/or"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node, node.operand, "without not"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op).__name__ in OPERATORS:
            changed = deepcopy(node)
            changed.op = getattr(ast, OPERATORS[type(node.op).__name__])()
            yield node, changed, "arithmetic"
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            yield node, ast.Constant(value), "constant"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, ast.Pass(), "call deleted"


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """As `ast.walk`, in the order of the lines, without annotations, errors' words and what runs for types alone."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or isinstance(node, ast.Raise | ast.JoinedStr | ast.Import):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.keyword) and node.arg == "strict":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _has_default(call: ast.Call, name: str, module: ModuleType) -> bool:
    """Whether a call goes on without an argument, as far as can be told: of `self.run.lock` nothing can, say."""
    head, *rest = ast.unparse(call.func).split(".")
    try:
        found = getattr(module, head) if hasattr(module, head) else getattr(builtins, head)
        for each in rest:
            found = getattr(found, each)
        parameter = inspect.signature(found).parameters.get(name)
    except (AttributeError, TypeError, ValueError):
        return True
    return parameter is None or parameter.default is not parameter.empty


def _spliced(source: str, node: Any, changed: ast.AST | None) -> str:
    """The source with other text in a node's place, as many lines as before."""
    lines = source.encode().splitlines(keepends=True)  # columns count bytes
    starts = [0, *itertools.accumulate(len(line) for line in lines)]
    begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
    text = ast.unparse(ast.fix_missing_locations(changed)).encode() if changed else b"pass"
    empty = b"\n" * (node.end_lineno - node.lineno)
    text = text + empty if isinstance(changed, ast.stmt) else b"(" + text + empty + b")"
    return (source.encode()[:begin] + text + source.encode()[end:]).decode()


def tested(copy: Path, tests: tuple[str, ...], log: Path) -> None:
    """Run tests on a copy in this process, which ends with their status."""
    os.setsid()
    os.chdir(copy)
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.path[:0] = [str(copy / "tests"), str(copy)]
    import pytest

    files = [f"tests/{name}" for name in tests]
    status = pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--basetemp", f"{copy}.tmp", *files])
    os._exit(int(status))


def left_out(folder: str, names: list[str]) -> list[str]:
    """What a copy goes without: what is hidden, and what the repository's folder holds beside its files."""
    beside = ("runs", "site") if Path(folder) == ROOT else ()
    return [name for name in names if name.startswith(".") or name in ("__pycache__", *beside)]


def tried(
    chosen: Sequence[Mutant | tuple[str, ...]], workers: int, folder: Path, limit: float
) -> Iterator[tuple[Any, bool, float]]:
    """Each mutant, whether no test failed, and the seconds; tests alone are run on the source as it is."""
    context, waiting = get_context("fork"), list(reversed(chosen))
    free, running = [], {}
    for worker in range(workers):
        free.append(folder / str(worker))
        if free[-1].exists():
            continue
        shutil.copytree(ROOT, free[-1], ignore=left_out)
    while waiting or running:
        while waiting and free:
            mutant, copy = waiting.pop(), free.pop()
            tests = mutant if isinstance(mutant, tuple) else SERVED.get(mutant.file, QUICK)
            if isinstance(mutant, Mutant):
                (copy / mutant.file).write_text(mutant.text, "utf-8")
            os.environ["PYTHONPATH"] = str(copy)
            process = context.Process(target=tested, args=(copy, tests, folder / f"{copy.name}.log"))
            process.start()
            running[process.sentinel] = (process, mutant, copy, time.monotonic())
        wait(list(running), timeout=1)
        for sentinel, (process, mutant, copy, started) in list(running.items()):
            late = time.monotonic() - started > limit
            if process.exitcode is None and not late:
                continue
            with contextlib.suppress(ProcessLookupError):  # with what it has started
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            del running[sentinel]
            free.append(copy)
            if isinstance(mutant, Mutant):
                shutil.copy(ROOT / mutant.file, copy / mutant.file)
            yield mutant, process.exitcode == 0, time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="modules (default: those of the table)")
    parser.add_argument("--sample", type=int, metavar="N", help="try N mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--list", action="store_true", help="show the mutants and run none")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = True  # a mutant of the same second and size would be taken for the one before
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    files = [str(each.resolve().relative_to(ROOT)) for each in given.files] or list(SERVED)
    every: list[Mutant] = []
    for file in files:
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        every += mutants(file, (ROOT / file).read_text("utf-8"), module)
    chosen = random.Random(given.seed).sample(every, min(given.sample or len(every), len(every)))
    if given.list:
        print(*(f"{each.file}:{each.line}  {each.kind}: {each.shown}" for each in chosen), sep="\n")
        return 0
    for name in [name for name in sys.modules if name.partition(".")[0] == "unitkit"]:
        del sys.modules[name]
    sys.path.remove(str(ROOT))
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            pkgutil.resolve_name(name)
    alive = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tests = sorted({SERVED.get(file, QUICK) for file in files})
        longest = 0.0
        for each, passed, seconds in tried(tests, given.workers, Path(folder), 3600):
            print(f"{', '.join(each)}: {'pass' if passed else 'FAIL'} in {seconds:.0f} s on the source as it is")
            longest = max(longest, seconds)
            if not passed:  # then all would be found
                print(*(log.read_text() for log in Path(folder).glob("*.log")))
                return 2
        results = tried(chosen, given.workers, Path(folder), 30 + LIMIT * longest)
        for number, (mutant, survived, seconds) in enumerate(results, 1):
            print(f"{number}/{len(chosen)} {'SURVIVED' if survived else 'found'} in {seconds:.0f} s", end="  ")
            print(f"{mutant.file}:{mutant.line}  {mutant.kind}", flush=True)
            alive += [mutant] if survived else []
    print(f"\n{len(alive)} of {len(chosen)} mutants survive ({len(every)} could be made)")
    for mutant in sorted(alive, key=lambda each: (each.file, each.line)):
        print(f"{mutant.file}:{mutant.line}  {mutant.kind:24}  {mutant.shown}")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
