"""`unitkit show`: the checked model as tables, and an estimate of the memory that training takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from ..check import Checked, meta_batch
from ..networks.tower import Tower
from ..recipe_file import RecipeFile


def describe(checked: Checked) -> RenderableType:
    """Tables of the towers (stages, output shapes, parameters, what is shared), the players' terms, and memory."""
    return Group(_towers(checked), _players(checked), _memory(checked))


def knob_table(file: RecipeFile, values: Mapping[str, Any]) -> Table:
    """The knobs of a recipe with their present values and what its docstring says of them; then its presets."""
    table = Table(title=f"knobs of {file.name}", title_justify="left")
    for column in ("knob", "value", "what"):
        table.add_column(column)
    docs = dict(re.findall(r"^ *(\w+): (.+)$", inspect.getdoc(file.function) or "", re.MULTILINE))
    for name, value in values.items():
        table.add_row(name, escape(str(value)), escape(docs.get(name, "")))
    for name, preset in file.presets.items():
        table.add_row(f"@{name}", "", escape(" ".join(f"{k}={v}" for k, v in preset.items())))
    return table


def parameters(*modules: nn.Module) -> int:
    """The number of parameters in the modules, a tied one counted once."""
    return sum(p.numel() for p in {id(p): p for m in modules for p in m.parameters()}.values())


def _towers(checked: Checked) -> Table:
    model, height, width = checked.model, *checked.recipe.data.size
    owners: dict[int, list[str]] = {}
    for part in model.parts:
        for letter, tower in getattr(model, part).items():
            for stage in tower.stages:
                owners.setdefault(id(stage), []).append(letter)
    title = f"{checked.recipe.model.name}: {parameters(model):,} parameters, images of {height}x{width}"
    table = Table(title=title, title_justify="left")
    for column in ("tower", "stage", "what", "output", "shared", "parameters"):
        table.add_column(column, justify="right" if column == "parameters" else "left")
    for part in model.parts:
        group = getattr(model, part)
        for letter, tower in group.items():
            name = f"{part[:-1]} {letter} ({checked.recipe.data.labels[letter]})"
            for number, (stage, shape) in enumerate(_stages(checked, part, letter, tower)):
                shared = owners[id(stage)]
                note = f"by {', '.join(dict.fromkeys(shared))}" if len(set(shared)) > 1 else ""
                counted = f"{parameters(stage):,}" if letter == shared[0] else "counted above"
                table.add_row(name if number == 0 else "", str(number), _what(stage), shape, note, counted)
            table.add_section()
        table.add_row(f"all {part}", "", "", "", "", f"[bold]{parameters(group):,}", end_section=True)
    return table


def _stages(checked: Checked, part: str, letter: str, tower: Tower) -> Iterator[tuple[nn.Module, str]]:
    height, width = checked.recipe.data.size
    value: Any = torch.empty(2, checked.model.channels[letter], height, width, device="meta")
    if part in ("generators", "classifiers"):  # these read codes, of images or of the noise z
        source = "z" if checked.model.latent else letter
        with torch.no_grad():
            value = checked.model.images({letter: value}, [f"code:{source}"])[f"code:{source}"].mean
    for stage in tower.stages:
        with torch.no_grad():
            value = stage(value)
        outputs = value if isinstance(value, tuple) else (value,)
        yield stage, " + ".join("x".join(map(str, t.shape[1:])) for t in outputs)


def _what(stage: nn.Module) -> str:
    """The stage's layers with weights, such as `Conv2d 3x3 s2`, or its own name where it is a block."""
    if not isinstance(stage, nn.Sequential):
        return _layer(stage)
    return ", ".join(_layer(m) for m in stage if list(m.parameters())) or "-"


def _layer(module: nn.Module) -> str:
    name = type(module).__name__
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        k, s = module.kernel_size, module.stride
        return f"{name} {k[0]}x{k[1]}" + (f" s{s[0]}" if s[0] > 1 else "")
    return name


def _players(checked: Checked) -> Table:
    table = Table(title="players and what they minimise, in the order of their turns", title_justify="left")
    for column in ("player", "trains", "weight", "term", "reads"):
        table.add_column(column, justify="right" if column == "weight" else "left")
    for player in checked.players:
        for number, term in enumerate(player.terms):
            first = number == 0
            table.add_row(
                f"{player.name} (Adam, lr {player.optimizer.lr:g})" if first else "",
                ", ".join(player.trains) if first else "",
                f"{term.weight:g}",
                term.name,
                ", ".join(term.reads),
            )
        table.add_section()
    return table


def _memory(checked: Checked) -> Table:
    weights = parameters(checked.model) * 4
    activations = activation_bytes(checked)
    table = Table(title="memory while training, fp32 (estimated; the framework comes on top)", title_justify="left")
    table.add_column("what")
    table.add_column("MiB", justify="right")
    # Adam keeps two moments a weight.
    for what, size in (
        ("weights", weights),
        ("gradients", weights),
        ("Adam's moments", 2 * weights),
        (f"activations kept for backward, batch {checked.recipe.batch}", activations),
        ("[bold]together", 4 * weights + activations),
    ):
        table.add_row(what, f"{size / 2**20:,.1f}")
    return table


def activation_bytes(checked: Checked) -> int:
    """Bytes that autograd keeps in the step's largest turn: what it saves on the meta device, weights left out."""
    model, recipe = checked.model, checked.recipe
    batch = meta_batch(recipe)
    with _saved(model) as shared:
        images = model.images(batch, checked.reads)
    largest = 0
    for player in checked.players:
        reads = [name for term in player.terms for name in term.reads]
        with _saved(model) as turn:
            readings = model.readings(images, reads)
            _ = [term(readings) for term in player.terms if term.loss.kind != "weights"]
        largest = max(largest, sum(turn.values()))
    return sum(shared.values()) + largest


@contextmanager
def _saved(model: nn.Module) -> Iterator[dict[int, int]]:
    """Collect the size of every storage that autograd saves, each once; tensors are kept so that ids stay theirs."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            sizes[storage._cdata] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes
