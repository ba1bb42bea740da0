"""The formats of exported files: how each is written, and run as others run it, without a line of unitkit's."""

from __future__ import annotations

import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from ..models import ImagePaths
from ..networks.state import weights_of
from ..system.errors import UserError, nearest
from .portable import Portable, padded, padded_symbolically

Run: TypeAlias = Callable[[np.ndarray], np.ndarray]
KEY = "unitkit"  # of the description in a file's metadata; with .json, the name of the file in an archive
OPSET = 20  # of ONNX
ASSERTIONS = (torch.ops.aten._assert_scalar.default, torch.ops.aten._assert_tensor_metadata.default)
INPUT, OUTPUT = "images", "translations"


@dataclass(frozen=True)
class Work:
    """What is exported.

    Attributes:
        network: the path.
        model: its model, with the path's towers alone.
        about: the description that goes along.
        rebuilt: what `model.json` says of the model.
        size: (H, W) of the training's images.
    """

    network: Portable
    model: ImagePaths
    about: Mapping[str, Any]
    rebuilt: Mapping[str, Any]
    size: tuple[int, int]


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        write: write a new file at a place.
        run: what a file computes, of arrays (N, C, H, W) in float32; None for one of weights alone.
        needs: packages of the extra `export`.
    """

    name: str
    suffixes: tuple[str, ...]
    precisions: tuple[str, ...]
    write: Callable[[Work, Path], None]
    run: Callable[[Path], Run] | None
    needs: tuple[str, ...] = ()


def format_of(output: Path, name: str | None) -> Format:
    """The format of a file: the one that is named, else that of its suffix. Raises `UserError` for one that there is
    not, for a suffix that says another, and for packages that are missing."""
    suffix = output.suffix.lower()
    meant = next((each for each in FORMATS.values() if suffix in each.suffixes), None)
    if name is not None and name not in FORMATS:
        raise UserError(f"unknown format '{name}'. {nearest(name, FORMATS)}")
    if name is not None and meant is not None and meant.name != name:
        raise UserError(f"{output} is called as a file of {meant.name}, and --format says {name}: give one of them")
    found = meant if name is None else FORMATS[name]
    if found is None:
        known = ", ".join(suffix for each in FORMATS.values() for suffix in each.suffixes)
        raise UserError(f"the suffix of {output} says no format: expected one of {known}, or --format with it")
    if missing := [package for package in found.needs if find_spec(package) is None]:
        raise UserError(f"the format {found.name} needs {', '.join(missing)}: pip install 'unitkit[export]'")
    return found


def traced(work: Work) -> torch.export.ExportedProgram:
    """The network as a graph of torch's operators, for any number of images, and any size where it takes any.

    Raises `UserError` for layers that torch.export cannot follow, and for operators that torch alone has not.
    """
    work.network.pad = padded_symbolically
    names = {0: "n", 2: "h", 3: "w"} if work.network.pads else {0: "n"}
    shapes = {axis: torch.export.Dim(name) for axis, name in names.items()}
    with followed(work.network.path, "torch.export"):
        # What it asks of sizes on the way, such as whether a side is 1, becomes an assertion in the graph, for it could
        # prove nothing of padded sides.
        program = torch.export.export(
            work.network,
            (_example(work),),
            dynamic_shapes=(shapes,),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for node in list(program.graph.nodes):
        node.meta.pop("stack_trace", None)  # with paths of this machine
        if node.target in ASSERTIONS:  # the operators do the same either way, and on other devices
            program.graph.erase_node(node)
            continue
        namespace = getattr(node.target, "namespace", "aten")
        if namespace != "aten":
            raise UserError(f"the path runs the operator '{node.target}' of '{namespace}', which torch alone has not")
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _write_pt2(work: Work, place: Path) -> None:
    whole = io.BytesIO()  # in which an archive has no name of its own
    torch.export.save(traced(work), whole, extra_files={f"{KEY}.json": json.dumps(work.about)})
    place.write_bytes(whole.getbuffer())


def _run_pt2(place: Path) -> Run:
    return _with_torch(torch.export.load(place).module())


def _write_onnx(work: Work, place: Path) -> None:
    program = traced(work)
    with followed(work.network.path, "torch.onnx"), _without_log("torch.onnx", "onnxscript", "onnx_ir"):
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT]
        )
    assert made is not None, "with dynamo"
    graph = made.model.graph
    for each in [*graph, *graph.inputs, *graph.outputs, *graph.initializers.values()]:
        each.metadata_props.clear()  # of the exporter's own, larger than what it is of
    made.model.metadata_props[KEY] = json.dumps(work.about)
    made.save(place)


def _run_onnx(place: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {INPUT: images})[0]
        return found

    return run


def _write_torchscript(work: Work, place: Path) -> None:
    with followed(work.network.path, "torch.jit"):
        work.network.pad = torch.jit.script(padded)
        script = torch.jit.trace(  # type: ignore[no-untyped-call]
            work.network, (_example(work),), check_trace=False
        )
        whole = io.BytesIO()
        torch.jit.save(script, whole, _extra_files={f"{KEY}.json": json.dumps(work.about)})
    with zipfile.ZipFile(whole) as read, zipfile.ZipFile(place, "w") as write:
        for each in read.infolist():
            if not each.filename.endswith(".debug_pkl"):  # with paths of this machine
                write.writestr(each, read.read(each))


def _run_torchscript(place: Path) -> Run:
    with _quiet():
        return _with_torch(torch.jit.load(place))  # type: ignore[no-untyped-call]


def _write_safetensors(work: Work, place: Path) -> None:
    metadata = {KEY: json.dumps(work.about), "model.json": json.dumps(work.rebuilt)}
    place.write_bytes(save(weights_of(work.model), metadata))


def _example(work: Work) -> Tensor:
    """Two images, whose sides no stride divides where they may be any: each size stands for all others."""
    height, width = work.size
    if work.network.pads:
        height, width = (side // work.network.stride * work.network.stride + 1 for side in (height, width))
    values = work.about["input"]
    return torch.full((2, values["channels"], height, width + 2 * work.network.pads), float(values["low"][0]))


def _with_torch(module: Callable[[Tensor], Tensor]) -> Run:
    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return run


@contextmanager
def followed(path: str, by: str) -> Iterator[None]:
    """Within the block a path's layers, which may be anyone's, are followed or run: what fails raises `UserError`."""
    try:
        with _quiet(), torch.no_grad():
            yield
    except UserError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError(f"{by} fails at the path '{path}': {type(error).__name__}: {said:.300}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is deprecated, and of shapes, which the check of the file looks at
        yield


@contextmanager
def _without_log(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)


EVERY = ("fp32", "fp16", "bf16")
FORMATS = {
    each.name: each
    for each in (
        Format("pt2", (".pt2",), EVERY, _write_pt2, _run_pt2),
        Format(
            "onnx", (".onnx",), ("fp32", "fp16"), _write_onnx, _run_onnx, needs=("onnx", "onnxscript", "onnxruntime")
        ),
        Format("torchscript", (".pt", ".ts"), EVERY, _write_torchscript, _run_torchscript),
        Format("safetensors", (".safetensors",), ("fp32",), _write_safetensors, None),
    )
}
