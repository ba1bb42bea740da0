"""What a model computes, as a graph of values, and as a program: an immutable list of calls that a step executes.

A graph is made once, before training. It knows each value by what makes it, so that no value is computed twice: two
translations of one code meet in one sample, and a trunk shared by two generators runs once on both latents, however
many domains decode them. Where towers meet in a stage their inputs are joined along the batch and the stage runs once;
a stage with batch statistics sees the joined batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .tower import Tower, Value


@dataclass(frozen=True, eq=False)
class Node:
    """A value of a graph.

    Attributes:
        make: a stage, or a function of the values of `inputs`; for a value that is given, its name.
        level: nodes are computed in the order of their levels, and a stage's inputs of one level are joined:
            whether parts beside the translator are behind it, the towers before it, the stages of its tower before it.
    """

    make: nn.Module | Callable[..., Any] | str
    inputs: tuple[Node, ...]
    level: tuple[bool, int, int]
    optional: bool = False

    @property
    def translates(self) -> bool:
        """Whether nothing but what translates images (the player's `through` parts) is behind it."""
        return not self.level[0]


class Graph:
    """Values of a model under construction. `nodes` are in the order in which they were asked for."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[Hashable, Node] = {}

    def input(self, name: str, *, optional: bool = False) -> Node:
        """What the batch holds under a name; of an optional one None where it holds none."""
        return self._node(("input", name), name, (), (False, 0, 0), optional)

    def tower(self, tower: Tower, node: Node, *, translates: bool) -> list[Node]:
        """The outputs of a tower's stages, first to last, from the value of a node.

        Args:
            translates: whether the tower belongs to what translates images; False for what only looks at them.
        """
        aside = not (translates and node.translates)
        before = node.level[1] if node.level[0] == aside else 0
        outputs = []
        for place, stage in enumerate(tower.stages):
            node = self._node((stage, node), stage, (node,), (aside, before + 1, place))
            outputs.append(node)
        return outputs

    def make(self, key: Hashable, function: Callable[..., Any], *inputs: Node, translates: bool = True) -> Node:
        """What a function makes of other values. `key` says which function: equal keys and inputs are one value.

        Args:
            translates: as in `tower`, of what the function uses besides its inputs.
        """
        aside = not (translates and all(node.translates for node in inputs))
        at = [node.level[1:] for node in inputs if node.level[0] == aside]
        towers, stages = max(at, default=(0, 0))
        return self._node((key, *inputs), function, inputs, (aside, towers, stages + 1))

    def _node(
        self,
        key: Hashable,
        make: nn.Module | Callable[..., Any] | str,
        inputs: tuple[Node, ...],
        level: tuple[bool, int, int],
        optional: bool = False,
    ) -> Node:
        if key not in self._known:
            self._known[key] = Node(make, inputs, level, optional)
            self.nodes.append(self._known[key])
        return self._known[key]


class Call(NamedTuple):
    """One line of a program: slots to read, slots to write, and those whose values nobody needs any more.

    `function` is a stage, or several in turn, that runs once on its joined inputs; or a function of all of them with
    one result.
    """

    function: Callable[..., Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    joins: bool
    done: tuple[int, ...]


class Program:
    """An immutable list of calls that fills slots.

    Args:
        graph: all of whose nodes have slots, by their order, in every program made of it.
        wanted: nodes to compute, with all that lies behind them.
        given: nodes whose values are there when the program begins.
        recomputed: stages whose activations the backward pass computes again, to save memory.
    """

    def __init__(
        self,
        graph: Graph,
        wanted: Iterable[Node],
        given: Iterable[Node] = (),
        recomputed: Iterable[nn.Module] = (),
    ) -> None:
        slots = {node: slot for slot, node in enumerate(graph.nodes)}
        wanted, there = list(wanted), set(given)
        needed = {node for node in _behind(wanted, there) if node not in there}
        self.size = len(graph.nodes)
        ordered = [node for node in graph.nodes if node in needed]
        self.batch = tuple((slots[n], n.make, n.optional) for n in ordered if isinstance(n.make, str))
        read = {*wanted, *(node for each in needed for node in each.inputs)}
        self.reads = tuple(sorted(slots[node] for node in read & there))
        kept = {slots[node] for node in [*wanted, *there]}
        groups: dict[Hashable, list[Node]] = {}
        for node in sorted(ordered, key=lambda node: node.level):
            if isinstance(node.make, nn.Module):
                groups.setdefault((node.level, node.make), []).append(node)
            elif not isinstance(node.make, str):
                groups[node] = [node]
        again = set(recomputed)
        lines = [
            Call(
                _Recomputed(nodes[0].make) if nodes[0].make in again else nodes[0].make,  # type: ignore[arg-type]
                tuple(slots[n] for node in nodes for n in node.inputs),
                tuple(slots[node] for node in nodes),
                isinstance(nodes[0].make, nn.Module),
                (),
            )
            for nodes in groups.values()
        ]
        lines = _chained(lines, kept)
        last = {slot: place for place, line in enumerate(lines) for slot in line.inputs}
        self.calls = tuple(
            line._replace(done=tuple(dict.fromkeys(s for s in line.inputs if last[s] == place and s not in kept)))
            for place, line in enumerate(lines)
        )

    @property
    def alike(self) -> Hashable:
        """What two programs of one graph have in common that compute the same."""
        calls = [
            (tuple(map(_origin, stages_of(line.function))), line.inputs, line.outputs, line.done) for line in self.calls
        ]
        return self.reads, self.batch, tuple(calls)

    def start(self, batch: Mapping[str, Any]) -> list[Any]:
        """Slots with what the program takes from a batch."""
        values: list[Any] = [None] * self.size
        for slot, name, optional in self.batch:
            values[slot] = batch.get(name) if optional else batch[name]
        return values

    def run(self, values: list[Any]) -> list[Any]:
        """Fill the slots of `values` that the program computes, in place."""
        for function, inputs, outputs, joins, done in self.calls:
            given = [values[slot] for slot in inputs]
            results = _joined(function, given) if joins else [function(*given)]
            for slot, result in zip(outputs, results, strict=True):
                values[slot] = result
            for slot in done:
                values[slot] = None
        return values


def _chained(lines: list[Call], kept: set[int]) -> list[Call]:
    """The lines, with stages one behind the other as one line where nothing else reads what is between them: what is
    joined for the first is split behind the last."""
    readers = Counter(slot for line in lines for slot in set(line.inputs))
    found: list[Call] = []
    ends: dict[tuple[int, ...], int] = {}  # where the line is that makes these slots
    for line in lines:
        before = ends.get(line.inputs)
        between = all(readers[slot] == 1 and slot not in kept for slot in line.inputs)
        if line.joins and before is not None and between:
            chain = found[before]
            stages = _Chain([*stages_of(chain.function), line.function])
            found[before] = chain._replace(function=stages, outputs=line.outputs)
            ends[line.outputs] = before
        else:
            found.append(line)
            if line.joins:
                ends[line.outputs] = len(found) - 1
    return found


def stages_of(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The stages that a line of a program runs in turn."""
    return function.stages if isinstance(function, _Chain) else [function]


def _origin(function: Callable[..., Any]) -> Hashable:
    return ("again", function.stage) if isinstance(function, _Recomputed) else function


class _Chain:
    """Stages, each on what the one before it gives."""

    def __init__(self, stages: list[Callable[..., Any]]) -> None:
        self.stages = stages

    def __call__(self, value: Value) -> Value:
        for stage in self.stages:
            value = stage(value)
        return value


def _behind(nodes: Sequence[Node], there: set[Node]) -> set[Node]:
    found: set[Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += () if node in there else node.inputs
    return found


def _joined(stage: Callable[[Value], Value], inputs: list[Value]) -> list[Value]:
    """A stage on several inputs: once on all of them, or one by one where their shapes differ."""
    if len(inputs) == 1:
        return [stage(inputs[0])]
    several = isinstance(inputs[0], tuple)
    columns = list(zip(*inputs, strict=True)) if several else [inputs]
    if any(t.shape[1:] != column[0].shape[1:] for column in columns for t in column):  # type: ignore[union-attr]
        return [stage(value) for value in inputs]
    joined = tuple(torch.cat(column) for column in columns)  # type: ignore[arg-type]
    output = stage(joined if several else joined[0])
    sizes = [len(t) for t in columns[0]]
    if isinstance(output, tuple):
        return list(zip(*(torch.split(t, sizes) for t in output), strict=True))
    return list(torch.split(output, sizes))


class _Recomputed:
    """A stage whose activations are not kept for the backward pass, but computed again in it."""

    def __init__(self, stage: nn.Module) -> None:
        self.stage = stage

    def __call__(self, value: Value) -> Value:
        if not torch.is_grad_enabled():
            result: Value = self.stage(value)
        elif isinstance(value, tuple):
            result = checkpoint(lambda *each: self.stage(each), *value, use_reentrant=False)
        else:
            result = checkpoint(self.stage, value, use_reentrant=False)
        return result
