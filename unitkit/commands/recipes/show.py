"""`unitkit show`: the checked model as tables, and the memory that training takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from torch import nn

from ...check import Checked, check, meta_batch
from ...kernels.placement import Placement, choose_device, usual_layout
from ...memory.fitting import MOST, Fitting, available
from ...memory.predict import Unpredictable
from ...networks.graph import Graph, Program
from ...networks.tower import Tower
from ...recipe import Player, Recipe
from ...recipe_file import RecipeFile, parse_knobs, read_recipe_file
from ...system.output import literal, screen
from ...system.sizes import parse_size, show_size


def show_recipe(recipe: str, words: Sequence[str], memory: str | None) -> None:
    """Check a recipe with these knobs, and print its description, its knobs and its model.

    Args:
        memory: the largest batch that fits into it is named, "8G"; without it, into what is free here.

    Raises:
        UserError: what `check` refuses, or a `memory` that is no amount.
    """
    if memory is not None:
        parse_size(memory)
    file, values = _read(recipe, words)
    built = file.build(values)
    checked = check(built)
    console = screen(soft_wrap=False)
    console.print(file.doc, markup=False, highlight=False)
    console.print(knob_table(file, values, built))
    console.print(describe(checked, memory))


def show_knobs(recipe: str, words: Sequence[str]) -> None:
    """Print a recipe's description and its knobs."""
    file, values = _read(recipe, words)
    console = screen(soft_wrap=False)
    console.print(file.doc, markup=False, highlight=False)
    console.print(knob_table(file, values))


def _read(recipe: str, words: Sequence[str]) -> tuple[RecipeFile, dict[str, Any]]:
    file = read_recipe_file(recipe)
    return file, file.values(*parse_knobs(words))


def describe(checked: Checked, memory: str | None = None) -> RenderableType:
    """Tables of the towers (stages, output shapes, parameters, what is shared), the players' terms, and memory."""
    return Group(_towers(checked), _players(checked), _memory(checked, memory))


def knob_table(file: RecipeFile, values: Mapping[str, Any], built: Recipe | None = None) -> Table:
    """The knobs of a recipe with their present values, a star where these differ from the defaults, and what is said of
    them; then its presets. `built` knows the recipe's own fields, which are left out without it where not given."""
    table = Table(title=f"knobs of {literal(file.name)} (* differs from its default)", title_justify="left")
    for column in ("knob", "value", "what"):
        table.add_column(column)
    for name, knob in file.knobs.items():
        own = not knob.parameter
        value = values.get(name, getattr(built, name, "the recipe's") if own else None)
        star = " *" if (name in values if own else value != knob.default) else ""
        table.add_row(name, literal(f"{value}{star}"), literal(knob.help))
    for name, preset in file.presets.items():
        table.add_row(f"@{name}", "", literal(" ".join(f"{k}={v}" for k, v in preset.items())))
    return table


def parameters(*modules: nn.Module) -> int:
    """The number of parameters in the modules, a tied one counted once."""
    return sum(p.numel() for p in {id(p): p for m in modules for p in m.parameters()}.values())


def _towers(checked: Checked) -> Table:
    model, height, width = checked.model, *checked.recipe.data.window
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
            name = literal(f"{part[:-1]} {letter} ({checked.recipe.data.labels[letter]})")
            for number, (stage, shape) in enumerate(_stages(checked, part, letter, tower)):
                shared = owners[id(stage)]
                note = f"by {', '.join(dict.fromkeys(shared))}" if len(set(shared)) > 1 else ""
                counted = f"{parameters(stage):,}" if letter == shared[0] else "counted above"
                table.add_row(name if number == 0 else "", str(number), _what(stage), shape, note, counted)
            table.add_section()
        table.add_row(f"all {part}", "", "", "", "", f"[bold]{parameters(group):,}", end_section=True)
    return table


def _stages(checked: Checked, part: str, letter: str, tower: Tower) -> Iterator[tuple[nn.Module, str]]:
    value = _input(checked, part, letter)
    for stage in tower.stages:
        try:
            with torch.no_grad():
                value = stage(value)
        except (RuntimeError, TypeError, ValueError):  # of a tower that reads something else
            value = ()
        outputs = value if isinstance(value, tuple) else (value,)
        yield stage, " + ".join("x".join(map(str, t.shape[1:])) for t in outputs)


def _input(checked: Checked, part: str, letter: str) -> Any:
    """What a tower reads in training, on the meta device."""
    model, graph = checked.model, Graph()
    if part == "generators":
        starts = [letter, *model.channels, "z"]
        node = model.latent_of(graph, next(s + letter for s in starts if model.has(s + letter)))
    elif part == "classifiers":
        node = graph.make("mean", lambda code: code.mean, model.code(graph, letter))
    else:
        node = model.image(graph, letter)
    program = Program(graph, [node])
    return program.run(program.start(meta_batch(checked.recipe)))[graph.nodes.index(node)]


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
                f"{player.name} ({_optimizer(checked, player)})" if first else "",
                ", ".join(player.trains) if first else "",
                f"{term.weight:g}" if isinstance(term.weight, int | float) else str(term.weight),
                term.name,
                ", ".join(map(str, term.reads)),
            )
        table.add_section()
    return table


def _optimizer(checked: Checked, player: Player) -> str:
    if player.optimizer is None:
        return f"by the optimizer of {checked.owners[player.name]}"
    return f"{type(player.optimizer).__name__}, lr {player.optimizer.lr:g}"


def _memory(checked: Checked, memory: str | None) -> Table:
    """The predicted memory by what it is for, with what fits into `memory`, or else into what is free here."""
    recipe, device = checked.recipe, choose_device("auto")
    fitting = Fitting(checked, Placement(usual_layout(device, "fp32")), "fp32", device)
    table = Table(title=f"memory while training, fp32 on {device.type} (predicted)", title_justify="left")
    table.add_column("what")
    table.add_column("MiB", justify="right")
    try:
        found = fitting.predict(recipe)
    except Unpredictable as error:
        table.add_row(literal(f"not predicted: {error}"), "")
        return table
    rows = [
        ("weights", found.weights),
        ("gradients", found.gradients),
        ("the optimizers' state", found.optimizers),
        ("the moving average of the weights", found.average),
        (f"a batch of {recipe.batch * recipe.accumulate}", found.batch),
        ("activations, and what backward makes, at the peak", found.activations),
        ("the framework, and gaps in its heap", found.besides),
        ("[bold]together", found.total),
    ]
    for what, size in rows:
        if size:
            table.add_row(what, f"{size / 2**20:,.1f}")
    limit = parse_size(memory) if memory is not None else available(device)
    where = memory if memory is not None else f"the {show_size(limit or 0)} that {device} has free"
    if limit is not None:
        largest = fitting.largest_batch(recipe, limit)
        fits = f"batch={largest}{' or more' if largest == MOST else ''}" if largest else "no batch of this recipe"
        table.caption = f"fits into {show_size(found.total)}; the largest into {where}: {fits}"
        table.caption_justify = "left"
    return table
