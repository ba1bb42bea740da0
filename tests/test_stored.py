"""What a run's files may hold: limits of JSON, lines, tensors, and descriptions of models that harm nobody."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import fuzz
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unitkit import discriminators, encoders, generators
from unitkit.networks.bounded import rehearsed
from unitkit.networks.state import weights_of
from unitkit.networks.tower import Tower
from unitkit.optimizers import SGD, Adam
from unitkit.registry import MOST, Spec, users_parameters
from unitkit.runs import checkpoint, schema, stored
from unitkit.runs.folder import RunFolder
from unitkit.system.errors import UserError
from unitkit.translate import load


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    fuzz.make(home)
    return home


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def at_once(call: Callable[[], object]) -> UserError:
    """What a call is refused with, in time and in little memory."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError) as caught:
        call()
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    return caught.value


# JSON


def test_a_table_of_uneven_rows_is_damage(run: Path) -> None:
    written = json.loads((run / "metrics.json").read_text())
    tables = [
        result["table"] for entry in written["evaluations"] for result in entry["metrics"].values() if "table" in result
    ]
    assert tables
    for cells in ([], ["ab", "ba"]):
        tables[0]["rows"][0]["cells"] = cells
        (run / "metrics.json").write_text(json.dumps(written))
        with pytest.raises(UserError, match="a row has more cells, or fewer, than there are heads"):
            RunFolder(run).evaluations()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "Expecting value"),
        (b"\xff", "codec can't decode"),
        (b'\xef\xbb\xbf{"step": 1}', "BOM"),
        (b"[]", "not of format 1"),
        (b'{"step": 1, "format": 2}', "not of format 1"),
        (b'{"step": 1, "step": 1}', "names 'step' twice"),
        (b'{"step": true}', "step: Expected 'int', got 'bool'"),
        (b'{"step": -1}', "step: Expected 'int' >= 0"),
        (b'{"step": 1.0}', "step: Expected 'int', got 'float'"),
        (b'{"step": 1' + b"0" * 400 + b"}", "out of range"),
        (b'{"step": 9223372036854775808}', "out of range"),
        (b'{"step": 1, "x": ' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper than 64"),
        (b'{"step": 1, "x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "nested deeper than 64"),
        (b'{"step": 1, "x": "' + b"x" * 2**17 + b'"}', "longer than 65536 characters"),
        (b'{"step": 1, "\\u0000": 1}', "is no text"),
        (b'{"step": 1, "x": "\\ud800"}', "is no text"),
        (b'{"step": 1, "x": "' + b" " * 2**26 + b'"}', "more than 33554432 bytes"),
    ],
)
def test_json_that_cannot_be_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(text)
    said = str(at_once(lambda: stored.read_json(path, schema.STATE)))
    assert said.startswith(f"cannot use {path}: ") and words in said and said.endswith(schema.STATE.way_out)
    assert "\n" not in said and len(said) < 400


def test_fields_of_a_later_version_are_kept(run: Path) -> None:
    path = run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": {"x": [1, "\udc80"]}}))
    assert RunFolder(run).record["later"] == {"x": [1, "\udc80"]}
    fuzz.resumed(run)
    assert RunFolder(run).record["later"] == {"x": [1, "\udc80"]}


@pytest.mark.parametrize("value", [[[[]]] * 2, "x" * 2**17, 2**63, "\ud800", {1}])
def test_what_could_not_be_read_again_is_not_written(run: Path, value: Any) -> None:
    before = (run / "run.json").read_bytes()
    for _ in range(70 if isinstance(value, list) else 0):
        value = [value]
    with pytest.raises(UserError, match="cannot keep"):
        RunFolder(run).write_json("run.json", {"x": value})
    assert (run / "run.json").read_bytes() == before


@pytest.mark.parametrize("name", ["stats.jsonl", "watched.jsonl"])
def test_a_cut_last_line_is_dropped_and_a_damaged_one_is_named(run: Path, name: str) -> None:
    folder = RunFolder(run)
    read = folder.stats if name == "stats.jsonl" else folder.watched
    path, rows = run / name, read()
    whole = path.read_bytes()
    assert len(rows) == 2
    path.write_bytes(whole[:-1])
    assert read() == rows
    for cut in (whole[:-2], whole + b'{"st', whole + b"\0" * 9):
        path.write_bytes(cut)
        assert read() == rows[: len(cut.splitlines()) - 1]
    for line in (b"x\n", b'{"step": null}\n', b"{}\n", b'{"step": 1, "x": "y"}\n', b"\n", b"\xff\n"):
        path.write_bytes(whole.splitlines(keepends=True)[0] + line + whole)
        with pytest.raises(UserError, match=rf"cannot use {path}: line 2: .*; remove that line"):
            read()


@pytest.mark.parametrize("place", ["folder", "pipe", "link to nothing", "link to itself", "endless"])
@pytest.mark.parametrize("stem", fuzz.READ_BY)
def test_what_stands_in_a_file_s_place_is_refused(made: Path, tmp_path: Path, stem: str, place: str) -> None:
    call = {**fuzz.CALLS, **fuzz.ABLATION_CALLS}[fuzz.READ_BY[stem][0]]
    whole = Path(shutil.copytree(made / ("ablation" if stem == "ablation" else "run"), tmp_path / "copy"))
    for path in [each for each in whole.rglob("*") if each.stem == stem and each.suffix != ".html"]:
        path.unlink()
        if place == "folder":
            path.mkdir()
        elif place == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to({"endless": "/dev/zero", "link to itself": path.name}.get(place, "nothing"))
    if stem in ("ema", "training", "state"):  # of the first there may be none, without the others none is a checkpoint
        assert not fuzz.tried(call, whole)[0]
    else:
        at_once(lambda: fuzz.quiet(lambda: call(whole)))


def test_a_pipe_in_a_sample_grid_s_place_is_passed_over(run: Path) -> None:
    path = RunFolder(run).sample(2)
    path.unlink()
    os.mkfifo(path)
    assert fuzz.tried(fuzz.reported, run) == ("", False)


@pytest.mark.parametrize("folder", ["/x", "..", "../x", "x/../../y", "x/..", "a\n/../../x", ""])
def test_a_cell_lies_in_its_ablation(made: Path, tmp_path: Path, folder: str) -> None:
    whole = Path(shutil.copytree(made / "ablation", tmp_path / "copy"))
    record = json.loads((whole / "ablation.json").read_text())
    record["cells"][1]["folder"] = folder
    (whole / "ablation.json").write_text(json.dumps(record))
    assert "cells[1].folder" in str(at_once(lambda: fuzz.tabulated(whole)))


# Descriptions of models

NUMBERS = (5000, MOST, 2**40)


def counted(annotation: Any) -> bool:
    """Whether an argument is a whole number."""
    return get_args(annotation)[0] is int if get_origin(annotation) is Annotated else annotation is int


PARTS = [
    (registry.kind, name, key)
    for registry in (encoders.registry, generators.registry, discriminators.registry)
    for name in registry
    for key in users_parameters(registry.function(name))
    if counted(get_type_hints(registry.function(name), include_extras=True)[key])
]


@pytest.mark.parametrize(("kind", "name", "key"), PARTS)
def test_no_number_in_a_description_makes_a_part_take_long(kind: str, name: str, key: str) -> None:
    given = {"timm": {"backbone": "test_resnet"}}.get(name, {})
    wired = (8, 3) if kind == "generator" else (3,)

    def built(value: int | None) -> nn.Module:
        arguments = given | ({key: value} if value is not None else {})
        spec = Spec.from_json({"kind": kind, "name": name, "arguments": arguments})
        return rehearsed(lambda: spec.build(*wired), weights)

    weights = {"x": torch.zeros(1000)}
    weights = weights_of(built(None))
    for value in NUMBERS:
        began = time.process_time()
        try:
            assert all(tensor.is_meta for tensor in built(value).state_dict().values())
        except (UserError, RuntimeError, ValueError, TypeError):  # which `load_model` says in a line
            assert value > 8
        assert time.process_time() - began < 5


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize(
    "place", ["encoder width", "encoder blocks", "generator blocks", "discriminator layers", "sharing encoder", "pool"]
)
def test_a_description_of_another_model_is_refused_before_memory_is_touched(run: Path, place: str, value: int) -> None:
    path = RunFolder(run).latest() / "model.json"
    said = json.loads(path.read_text())
    part, _, key = place.partition(" ")
    arguments = said["model"]["arguments"]
    if key:
        arguments[part]["arguments"][key] = value
    else:
        arguments |= {"pool": value, "size": [128, 128]}  # no weight
    path.write_text(json.dumps(said))
    at_once(lambda: load(run, device="cpu"))


class Kept(nn.Module):
    """A tensor that is no weight."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.table = torch.zeros(count, count)


OUTSIDE: dict[str, Callable[[int], list[nn.Module]]] = {
    "modules": lambda count: [nn.Sequential(*[nn.Identity() for _ in range(1000)]) for _ in range(count)],
    "copies": lambda count: [nn.Linear(4, 4)] * 2 + [nn.Linear(4, 4) for _ in range(count)],
    "a tensor": lambda count: [Kept(count)],
    "an endless loop": lambda count: [nn.Linear(4, 4) for _ in iter(int, 1)],
    "an error": lambda count: [] if count < 10 else [nn.Linear(4, 4)][count],
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_parts_of_other_packages_are_held_to_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    monkeypatch.setattr(encoders.registry, "parts", dict(encoders.registry.parts))

    @encoders.register
    def outside(in_channels: int, *, count: int) -> Tower:
        return Tower(OUTSIDE[what](count), channels=4)

    path = RunFolder(run).latest() / "model.json"
    said = json.loads(path.read_text())
    said["model"]["arguments"]["encoder"] = {"kind": "encoder", "name": "outside", "arguments": {"count": MOST}}
    path.write_text(json.dumps(said))
    assert "does not build" in str(at_once(lambda: load(run, device="cpu")))


def test_first_weights_are_not_read_where_a_model_is_loaded() -> None:
    spec = encoders.timm(backbone="test_resnet", width=8, weights="nowhere.pth")
    with pytest.raises(UserError, match="timm cannot give"):
        spec.build(3)
    again = Spec.from_json(json.loads(json.dumps(spec.to_json()))).rebuilding()
    assert again == encoders.timm(backbone="test_resnet", width=8)
    assert Spec("model", "unit", {"encoder": spec}).rebuilding().arguments["encoder"] == again


# Tensors


def moved(optimizer: Any, model: nn.Module, steps: int) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = optimizer.build(list(model.parameters()), fused=False)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        made.step()
    return made


NAME = "p/weight/exp_avg"
OTHERS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "holds no": lambda t: t.pop(NAME),
    "holds no 'p/weight/exp_avg'": lambda t: t.update({"p/weight/exp_avgs": t.pop(NAME)}),
    "none of them trains 'q/weight'": lambda t: t.update({"q/weight/exp_avg": t.pop(NAME)}),
    "has shape": lambda t: t.update({NAME: torch.zeros(3)}),
    "has values of torch.float64": lambda t: t.update({NAME: t[NAME].double()}),
    "is not finite": lambda t: t[NAME].fill_(float("nan")),
    "counts below 0": lambda t: t["p/weight/step"].fill_(-1),
    "is nothing that its optimizer keeps": lambda t: t.update({"p/weight/lr:int": torch.zeros(2)}),
}


@pytest.mark.parametrize("words", OTHERS)
def test_moments_of_another_optimizer_are_refused_before_any_is_copied(tmp_path: Path, words: str) -> None:
    model = nn.Linear(2, 3)
    place = checkpoint.save(tmp_path, 1, model=model, description={}, optimizers={"p": moved(Adam(), model, 2)}, keep=1)
    path = place / "training.safetensors"
    tensors = load_file(path)
    OTHERS[words](tensors)
    save_file(tensors, path)
    fresh, weights = moved(Adam(), model, 0), [each.clone() for each in model.parameters()]
    with pytest.raises(UserError, match=words):
        checkpoint.load_training(model, {"p": fresh}, place)
    assert not any(fresh.state.values())
    assert all(torch.equal(one, two) for one, two in zip(weights, model.parameters(), strict=True))


def test_moments_of_another_kind_of_optimizer_are_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    place = checkpoint.save(tmp_path, 1, model=model, description={}, optimizers={"p": moved(SGD(), model, 2)}, keep=1)
    with pytest.raises(UserError, match="holds no"):
        checkpoint.load_training(model, {"p": moved(Adam(), model, 0)}, place)


def test_weights_of_another_type_are_refused(run: Path) -> None:
    path = RunFolder(run).latest() / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    with pytest.raises(UserError, match=r"values of torch\.float16, and not of torch\.float32"):
        load(run, device="cpu", weights="last")
