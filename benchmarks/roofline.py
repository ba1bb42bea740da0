"""The arithmetic and the memory traffic of a training step, the machine's ceilings, and how near the step comes.

    python benchmarks/roofline.py unit_faces @paper batch=1 --precision fp32 bf16 --threads 2 --csv roofline.csv
    python benchmarks/roofline.py munit size=128 batch=8 --precision bf16 --device cuda

The real step of a recipe runs under a counter (`counting.py`): FLOP and bytes of each operator, by class. Ceilings are
measured (`ceilings.py`): the fastest rate of each convolution that occurs, by itself, in the better memory format, and
the fastest copy or triad that moves as many bytes or more, in caches where they fit. From these follow two floors:

    floor            sum over operators of max(FLOP / ceiling of that convolution, bytes / bandwidth)
    arithmetic floor FLOP of all convolutions / the fastest rate of any of them

Operators are taken one by one: fusing some of them could go below the floor, no ordering or layout can. The column
"ms counted" is the time of each operator while it is counted and waited for, so that on a GPU it has launches in it;
"step" is the undisturbed step, without the loader, as a median with its 20 and 80 % quantiles.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from ceilings import Bandwidth, Rates, bandwidth_at, bandwidths, convolution_rates
from counting import BY_WEIGHT, CLASSES, Convolution, Work, count_step
from measuring import (
    Row,
    Spread,
    add_machine_options,
    clock,
    introduce,
    print_table,
    spread,
    trainer_of,
    whole_step,
    write_csv,
)
from torch.utils.flop_counter import FlopCounterMode

from unitkit import UserError

LISTED = 12  # convolutions in the printed table, those with the largest floors; the CSV has all


def floor(work: Work, rates: Rates, memory: Sequence[Bandwidth]) -> float:
    """The least seconds of an operator: of its arithmetic or its memory traffic, whichever is longer."""
    traffic = work.moved / bandwidth_at(work.moved, memory)
    return max(traffic, work.flop / max(rates[work.convolution].values())) if work.convolution else traffic


def arithmetic_floor(work: Sequence[Work], rates: Rates) -> float:
    """The seconds of all convolutions, were each as fast as the fastest."""
    return sum(each.flop for each in work if each.convolution) / max(max(found.values()) for found in rates.values())


def by_class(work: Sequence[Work], rates: Rates, memory: Sequence[Bandwidth]) -> list[Row]:
    """A row for each class of operators, and one of all."""
    groups = {kind: [each for each in work if each.kind == kind] for kind in CLASSES}
    rows: list[Row] = []
    for kind, members in {**groups, "all": list(work)}.items():
        least = 1e3 * sum(floor(each, rates, memory) for each in members)
        counted = 1e3 * sum(each.seconds for each in members)
        row: dict[str, object] = {"operators": kind, "calls": len(members)}
        row |= {"GFLOP": sum(each.flop for each in members) / 1e9, "MB": sum(each.moved for each in members) / 1e6}
        rows.append(
            row | {"ms floor": least, "ms counted": counted, "floor / counted": least / counted if counted else 0.0}
        )
    return rows


def by_convolution(work: Sequence[Work], rates: Rates, memory: Sequence[Bandwidth]) -> list[Row]:
    """A row for each convolution that occurs, the longest floors first."""
    calls = Counter(each.convolution for each in work if each.convolution)
    total: Counter[Convolution] = Counter()
    seconds: Counter[Convolution] = Counter()
    for each in work:
        if each.convolution:
            total[each.convolution] += floor(each, rates, memory)  # type: ignore[assignment]
            seconds[each.convolution] += each.seconds  # type: ignore[assignment]
    return [
        {
            "convolution": shape.describe(),
            "calls": calls[shape],
            "GFLOP": calls[shape] * shape.flop / 1e9,
            **{f"GFLOP/s {layout}": rate / 1e9 for layout, rate in rates[shape].items()},
            "GFLOP/s counted": calls[shape] * shape.flop / seconds[shape] / 1e9,
            "ms floor": 1e3 * least,
        }
        for shape, least in total.most_common()
    ]


def check_flop(work: Sequence[Work], step: Callable[[int], object], number: int) -> None:
    """Exit unless torch's own counter finds the same arithmetic in the step."""
    with FlopCounterMode(display=False) as counter:
        step(number)
    theirs, expected = counter.get_total_flops(), sum(as_torch_counts(each) for each in work)
    if expected != theirs:
        raise SystemExit(f"{expected} FLOP counted, and {theirs} by torch.utils.flop_counter: an operator is missing")
    print(f"{sum(each.flop for each in work) / 1e9:.2f} GFLOP a step, the same by torch.utils.flop_counter")


def as_torch_counts(work: Work) -> int:
    """The FLOP of an operator by torch's counter, which takes a grouped convolution's gradient by weight for that of a
    convolution without groups (torch 2.14)."""
    return work.flop * (work.convolution.groups if work.convolution and work.kind == BY_WEIGHT else 1)


def measure(o: argparse.Namespace, precision: str, memory: Sequence[Bandwidth]) -> list[Row]:
    """Count, measure and print one precision. Returns the rows of the CSV."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of([o.recipe, *o.knobs], Path(folder, "run"), o.device, precision)
        step = whole_step(trainer)
        step(1)  # warms up
        work = count_step(trainer, step, 2)
        introduce(f"{' '.join([o.recipe, *o.knobs])}, {precision}, {trainer.placement.layout}", trainer.device)
        check_flop(work, step, 3)
        step(4)
        times = [1e3 * clock(partial(step, 5 + number), trainer.device) for number in range(o.steps)]
        shapes = dict.fromkeys(each.convolution for each in work if each.convolution)
        rates = convolution_rates(shapes, trainer.device, o.budget)
    classes, shapes_found = by_class(work, rates, memory), by_convolution(work, rates, memory)
    print_table(classes)
    print_table(shapes_found[:LISTED])
    whole = conclude(spread(times), work, rates, memory)
    for name, value in whole.items():
        print(f"{name}: {value.text(1) if isinstance(value, Spread) else f'{value:.4g}'}")
    about: Row = {"recipe": " ".join([o.recipe, *o.knobs]), "precision": precision, "layout": trainer.placement.layout}
    return [{**about, **row} for row in (*classes, *shapes_found, {"operators": "step", **whole})]


def conclude(
    step: Spread, work: Sequence[Work], rates: Rates, memory: Sequence[Bandwidth]
) -> dict[str, float | Spread]:
    """The step in ms beside its floors."""
    least = 1e3 * sum(floor(each, rates, memory) for each in work)
    arithmetic = 1e3 * arithmetic_floor(work, rates)
    best: dict[str, float] = {}
    for shape, found in rates.items():
        for layout, rate in found.items():
            name = f"fastest {shape.part}, {layout}, GFLOP/s"
            best[name] = max(best.get(name, 0.0), rate / 1e9)
    return {
        **dict(sorted(best.items())),
        "step ms": step,
        "floor ms": least,
        "floor / step": least / step.middle,
        "arithmetic floor ms": arithmetic,
        "arithmetic floor / step": arithmetic / step.middle,
    }


def main(words: Sequence[str] | None = None) -> None:
    """Count, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("knobs", nargs="*", help="@preset and knob=value, as `unitkit train` takes them")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32"])
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    parser.add_argument("--budget", type=float, default=0.05, help="seconds for each convolution and memory format")
    add_machine_options(parser)
    o = parser.parse_intermixed_args(words)
    torch.set_num_threads(o.threads)
    device = torch.device(o.device)
    memory = bandwidths(device, o.budget)
    memory_rows: list[Row] = [
        {"traffic": each.name, "MB": each.moved / 1e6, "GB/s": each.rate / 1e9} for each in memory
    ]
    print_table(memory_rows)
    try:
        rows = [row for precision in o.precision for row in measure(o, precision, memory)]
    except UserError as error:
        parser.error(str(error))
    if o.csv:
        write_csv(o.csv, [*rows, *memory_rows], device)


if __name__ == "__main__":
    main()
