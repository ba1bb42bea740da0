"""The run folder: what a training leaves, and the lock that keeps a second training out of it."""

from __future__ import annotations

import fcntl
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from ..data.files.bad import BadImage
from ..system.errors import UserError, closest, refusal
from ..system.files import folders_with, replacing
from ..system.output import printable
from .schema import BAD, METRICS, RUN, STATS, WATCHED, Kind, Result
from .steps import latest, step_name
from .stored import FORMAT, check_writable, read_json, read_lines

# What a run writes beside run.json.
WRITTEN = (
    *("recipe.py", "recipes", "checkpoints", "samples", "best", "tensorboard", "wandb"),
    *("stats.jsonl", "watched.jsonl", "metrics.json", "report.html"),
)
# What lies beside these records is the run's, or the ablation's, but for its cells, and its recipe, NAME.py.
OWN = {
    "run.json": (*WRITTEN, "run.json", "bad_images.json", ".lock", "log.txt"),
    "ablation.json": (*(f"ablation.{suffix}" for suffix in ("json", "csv", "md", "html")), "plots", "recipes", ".lock"),
}
LONGEST = 200  # characters of what a metric is called whose result cannot be kept
# What two evaluations of one and the same thing agree in.
MEASURED = ("checkpoint", "step", "weights", "seed", "data", "split", "images")


class RunFolder:
    """`recipe.py`, `run.json`, `stats.jsonl`, `checkpoints/`, `samples/`, `metrics.json`, `report.html`, `best/`;
    `tensorboard/`, `wandb/` and `bad_images.json` where there are any."""

    BAD = "bad_images.json"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def sample(self, step: int) -> Path:
        """The file of a step's sample grid."""
        return self.samples / f"{step_name(step)}.png"

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds. Raises `UserError` where there is no run."""
        path = self.path / "run.json"
        if not path.is_file():
            runs = folders_with("run.json", self.path.parent)
            run = closest(self.path.name, runs)
            hint = f"Did you mean '{runs[run]}'?" if run else "A run folder is what `unitkit train` leaves."
            raise UserError(f"{self.path} is not a run folder: it holds no run.json. {hint}")
        return read_json(path, RUN)

    def refuse_batch(self, batch: int, world: int) -> None:
        """Raise `UserError` where `batch` on each of `world` processes is another number of images than the run's."""
        record = self.record
        whole = record["batch"] * record["world"]
        if batch * world != whole:
            fits = f"give batch={whole // world}" if whole % world == 0 else f"{whole} is no multiple of {world}"
            raise UserError(
                f"{self.path} is a run of {whole} images of each domain a step, {record['batch']} on each of "
                f"{record['world']} processes; batch={batch} on {world} is another recipe, whose batch differs: "
                f"{fits}, or resume as it began"
            )

    @property
    def best(self) -> Path:
        """The folder of the best step's checkpoint, where the recipe watches metrics."""
        return self.path / "best"

    def bad_images(self) -> list[BadImage]:
        """The images that the run's training could not decode. Raises `UserError` for a list that is damaged."""
        path = self.path / self.BAD
        known = read_json(path, BAD)["images"] if os.path.lexists(path) else []
        return [BadImage(**{each.name: bad[each.name] for each in fields(BadImage)}) for bad in known]

    def keep_bad_images(self, value: Mapping[str, Any] | None) -> None:
        """Write the list of bad images, or take an old one away. Raises `UserError` where the disk refuses."""
        if value is not None:
            self.write_json(self.BAD, value)
        else:
            (self.path / self.BAD).unlink(missing_ok=True)

    def latest(self) -> Path:
        """The newest checkpoint. Raises `UserError` where there is none yet."""
        if found := latest(self.checkpoints):
            return found
        recipe = self.record.get("recipe", "a recipe")
        raise UserError(f"{self.path}, a run of {recipe}, has no checkpoint yet: its training has not got that far")

    def create(self, record: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Make the folder for a new run, with its recipe's files by name. Raises as `refuse_what_is_there` does."""
        self.refuse_what_is_there(files)
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise refusal(f"cannot write the run folder {self.path}", error) from error
        for name, text in files.items():
            if not self._has(name, files):
                with replacing(self.path / name) as file:
                    file.write_text(text, "utf-8")
        self.write_json("run.json", record)

    def refuse_what_is_there(self, files: Mapping[str, str]) -> None:
        """Raise `UserError` where a new run would meet a run, or files of the names that a run writes.

        Other files may lie in the folder, and what a training leaves that was killed before it began: empty folders,
        and the recipe's own text.
        """
        if os.path.lexists(self.path / "run.json"):
            raise UserError(f"{self.path} already holds a run: continue it with --resume, or choose another --out")
        for name in WRITTEN:
            path = self.path / name
            if os.path.lexists(path) and not _is_empty(path) and not self._has(name, files):
                raise UserError(
                    f"{self.path} holds {name} but no run.json: a new run would overwrite it, and there is no run to "
                    "resume; choose another --out, or move it away"
                )

    def _has(self, name: str, files: Mapping[str, str]) -> bool:
        """Whether the file of this name, or each file of the folder, is one of the recipe's, as it is now."""
        path = self.path / name
        inside = sorted(each.name for each in path.iterdir() if each.suffix == ".py") if path.is_dir() else []
        found = {f"{name}/{each}": path / each for each in inside} or ({name: path} if path.is_file() else {})
        return bool(found) and all(
            known in files and each.read_bytes() == files[known].encode("utf-8") for known, each in found.items()
        )

    @property
    def locked_before(self) -> bool:
        """Whether a training is running here or has been."""
        return (self.path / ".lock").exists()

    def lock(self) -> int:
        """Hold the folder until the process ends, however it ends. Raises `UserError` where another process has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise refusal(f"cannot write to the run folder {self.path}", error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise UserError(
                f"another training is running in {self.path}; wait for it or choose another --out"
            ) from None
        return handle

    def write_json(self, name: str, value: Any, kind: Kind | None = None) -> None:
        """Write a JSON file of the folder, whole or not at all. Raises `UserError` where the disk refuses, and for what
        could not be read again, as `kind` has it where one is given."""
        with replacing(self.path / name) as file:
            try:
                _as_read(value, kind.shape if kind else Any)
                file.write_text(json.dumps(value, indent=1), "utf-8")
            except (TypeError, ValueError, RecursionError) as error:  # a note, say, or an argument of a part
                raise UserError(f"cannot keep {self.path / name}: {error}; it holds JSON values only") from error

    def evaluations(self) -> list[dict[str, Any]]:
        """What `metrics.json` holds, oldest first: an entry for what was measured of a checkpoint on the same terms."""
        path = self.path / "metrics.json"
        found: list[dict[str, Any]] = read_json(path, METRICS)["evaluations"] if os.path.lexists(path) else []
        return found

    def add_evaluation(self, entry: Mapping[str, Any]) -> None:
        """Keep an evaluation; one of the same (`MEASURED`) gets its metrics added or renewed."""
        with self._alone():
            kept = self.evaluations()
            for index, old in enumerate(kept):
                if all(old.get(key) == entry[key] for key in MEASURED):
                    metrics = dict(old["metrics"])
                    for name, result in entry["metrics"].items():
                        if "failed" not in result or "failed" in metrics.get(name, result):  # no figure is lost to it
                            metrics[name] = result
                    kept[index] = {**entry, "metrics": metrics}
                    break
            else:
                kept.append(dict(entry))
            self.write_json("metrics.json", {"format": FORMAT, "evaluations": kept}, METRICS)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within the block no other process adds an evaluation, which would be lost, or lose this one."""
        try:
            handle = os.open(self.path / "run.json", os.O_RDONLY)
        except OSError as error:
            raise refusal(f"cannot read {self.path / 'run.json'}", error) from error
        try:
            with suppress(OSError):  # a disk without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def append_stats(self, row: Mapping[str, Any]) -> None:
        """Add one line to `stats.jsonl`. Raises `UserError` where the disk refuses."""
        self._append("stats.jsonl", row)

    def append_watched(self, row: Mapping[str, Any]) -> None:
        """Add one line to `watched.jsonl`: step, and the figures by metric. Raises `UserError` as above."""
        self._append("watched.jsonl", row)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        path = self.path / name
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise refusal(f"cannot write {path}", error) from error

    def stats(self) -> list[dict[str, Any]]:
        """The rows of `stats.jsonl`, as `read_lines` reads them."""
        return read_lines(self.path / "stats.jsonl", STATS)

    def watched(self) -> list[dict[str, Any]]:
        """The rows of `watched.jsonl`, likewise."""
        return read_lines(self.path / "watched.jsonl", WATCHED)

    def rewind(self, step: int) -> None:
        """Forget the statistics of steps after `step`, which a resumed training writes again."""
        for name, rows in ("stats.jsonl", self.stats()), ("watched.jsonl", self.watched()):
            if (self.path / name).exists():
                kept = [row for row in rows if row["step"] <= step]
                with replacing(self.path / name) as file:
                    file.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")


def refuse_own(path: Path) -> None:
    """Raise `UserError` for a file that a run or an ablation writes itself, which a user names for something else."""
    # A link that is named is replaced itself, and stands for the file that it leads to besides.
    for place in (path.parent.resolve() / path.name, path.resolve()):
        for folder, (record, names) in itertools.product(place.parents, OWN.items()):
            first = place.relative_to(folder).parts[0]
            if (first in names or first.endswith(".py")) and os.path.lexists(folder / record):
                raise UserError(f"{path} is the {record.removesuffix('.json')}'s own {first}: choose another file")


def storable(results: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What metrics found, by name, as JSON has it; one whose result `metrics.json` cannot hold failed, and says why."""
    found: dict[str, dict[str, Any]] = {}
    for name, result in results.items():
        try:
            found |= _as_read({name: result}, dict[str, Result])
        except (TypeError, ValueError, RecursionError) as error:
            reason = f"its result cannot be kept: {printable(str(error)):.200}"
            head = {"title": printable(result["title"])[:LONGEST], "figures": {}, "n": result["n"], "higher": {}}
            rest = {"units": {}, "protocol": {}, "warnings": [f"not measured: {reason}"], "failed": reason}
            found[printable(name)[:LONGEST]] = {**head, **rest}
    return found


def _as_read(value: Any, shape: Any) -> Any:
    """A value as it is read of a file of this shape. Raises `ValueError`, or `TypeError`, where it could not be."""
    check_writable(value)
    read = json.loads(json.dumps(value))
    msgspec.convert(read, shape)  # which raises a `ValueError`
    return read


def _is_empty(path: Path) -> bool:
    """Whether this is a folder with nothing in it; hidden files do not count."""
    try:
        return all(name.startswith(".") for name in os.listdir(path))
    except OSError:
        return False


def best_row(rows: Sequence[Mapping[str, Any]], metric: str, higher: bool) -> int:
    """The place of the row of `watched.jsonl` with a metric's best first figure, the first of equals; -1 of none."""
    # A metric that failed has no figure, nor has one that was not watched then.
    values = [next(iter(row.get(metric, {}).values()), math.nan) * (1 if higher else -1) for row in rows]
    # A figure that is no number is never the best.
    return max(range(len(values)), key=lambda i: (values[i] == values[i], values[i], -i), default=-1)
