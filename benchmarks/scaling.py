"""What more ranks are worth: measured on this machine's processors, and estimated for up to 64 GPUs.

    python benchmarks/scaling.py unit_faces size=64 --csv scaling.csv
    python benchmarks/scaling.py unit_faces @paper batch=8 --step-ms 60 --precision bf16

Measured: 1 and 2 ranks by gloo, one thread each, the same batch on each of them (weak scaling). Bytes are those of the
tensors that a rank gives to collectives in a step. On CUDA only one rank is measured: ranks need a GPU each.

Estimated: a ring all-reduce of B bytes over n ranks moves 2 (n - 1) / n B over each link in 2 (n - 1) messages, so it
takes 2 (n - 1) / n B / bandwidth + 2 (n - 1) latency; over NVLink up to `--node` GPUs, beyond over InfiniBand, whose
bandwidth then bounds the ring. B are the gradients of each player. "exposed" adds all that to the step of one GPU;
"overlapped" hides each player's exchange behind the backward pass that makes its gradients, except for the last bucket,
which is there only when the pass ends. How long these passes are is measured, as a share of the step on one rank. No
estimate knows of contention, of ranks that wait for the slowest, or of the loader.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import torch
from measuring import Row, add_machine_options, introduce, print_table, write_csv
from of_ranks import Measured, measure

from unitkit import UserError
from unitkit.recipe_file import parse_knobs, read_recipe_file

GPUS = (1, 2, 4, 8, 16, 32, 64)


class Link(NamedTuple):
    """A link of the ring: bytes/s in one direction, and seconds of a message."""

    bandwidth: float
    latency: float


def ring(size: float, ranks: int, link: Link) -> float:
    """The seconds of a ring all-reduce of `size` bytes (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms
    for clusters of workstations", 2009)."""
    return 2 * (ranks - 1) / ranks * size / link.bandwidth + 2 * (ranks - 1) * link.latency


def not_hidden(exchange: float, backward: float, last: float) -> float:
    """The seconds of an exchange that its backward pass does not hide; the share `last` of it comes after the pass."""
    return max(exchange - backward, last * exchange)


def estimate(one: Measured, step: float, ranks: int, link: Link, bucket: float) -> list[Row]:
    """The step of so many GPUs from that of one, `step` seconds long, its exchange exposed and overlapped."""
    times = {player: ring(size, ranks, link) for player, size in one.gradients.items()}
    left = sum(
        not_hidden(times[player], one.backward[player] * step, min(1.0, bucket / size))
        for player, size in one.gradients.items()
    )
    rows: list[Row] = []
    for how, more in (("exposed", sum(times.values())), ("overlapped", left)):
        rows.append(
            {
                "ranks": f"{ranks} GPUs",
                "figures": f"estimated, {how}",
                "step ms": 1e3 * (step + more),
                "images/s": ranks * one.images / (step + more),
                "efficiency": step / (step + more),
                "MB a step": sum(one.gradients.values()) / 1e6 if ranks > 1 else 0.0,
                "ms of exchange": 1e3 * sum(times.values()),
            }
        )
    return rows


def row(found: Measured, world: int, one: Measured, device: str) -> Row:
    """A line of what was measured; its exchange is the time beyond the step of one rank."""
    return {
        "ranks": f"{world} on {device}",
        "figures": "measured",
        "step ms": found.ms,
        "images/s": 1e3 * world * found.images / found.ms.middle,
        "efficiency": one.ms.middle / found.ms.middle,
        "MB a step": found.exchanged / 1e6,
        "ms of exchange": found.ms.middle - one.ms.middle,
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, estimate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("knobs", nargs="*", help="@preset and knob=value, as `unitkit train` takes them")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="numbers of ranks that are measured")
    parser.add_argument("--step-ms", type=float, help="the step of one GPU; without it the measured one is taken")
    parser.add_argument("--node", type=int, default=8, help="GPUs of a node")
    parser.add_argument("--nvlink", type=float, default=450.0, help="GB/s in one direction (NVLink 4)")
    parser.add_argument("--infiniband", type=float, default=50.0, help="GB/s a GPU, in one direction (400 Gb/s)")
    parser.add_argument(
        "--latency", type=float, nargs=2, default=[3.0, 8.0], help="us of a message, in and between nodes"
    )
    parser.add_argument("--bucket", type=float, default=25.0, help="MB that are exchanged at once")
    add_machine_options(parser)
    parser.set_defaults(threads=1)
    o = parser.parse_intermixed_args(words)
    torch.set_num_threads(o.threads)
    chosen = [o.recipe, *o.knobs]
    try:
        file = read_recipe_file(o.recipe)
        file.values(*parse_knobs(o.knobs))  # a mistake is told here, and not by another process
    except UserError as error:
        parser.error(str(error))
    worlds = [1, *(world for world in o.ranks if world > 1 and o.device == "cpu")]
    found = {world: measure(world, chosen, o.device, o.precision, o.threads, o.steps) for world in worlds}
    one = found[1]
    step = (o.step_ms or one.ms.middle) / 1e3
    inside, between = (
        Link(1e9 * bandwidth, 1e-6 * latency)
        for bandwidth, latency in zip((o.nvlink, o.infiniband), o.latency, strict=True)
    )
    rows = [row(each, world, one, o.device) for world, each in found.items()]
    for ranks in GPUS:
        rows += estimate(one, step, ranks, inside if ranks <= o.node else between, 1e6 * o.bucket)
    introduce(
        f"{' '.join(chosen)}, {o.precision}, {one.images} images a step and rank; {o.threads} threads a rank", o.device
    )
    for player, size in one.gradients.items():
        print(f"{player}: {size / 1e6:.2f} MB of gradients, backward {one.backward[player]:.0%} of the step")
    given = "as given" if o.step_ms else "as measured here, on no GPU" if o.device == "cpu" else "as measured here"
    print(
        f"estimated from a step of {1e3 * step:.1f} ms, {given}, in buckets of {o.bucket:g} MB: up to {o.node} GPUs "
        f"{o.nvlink:g} GB/s and {o.latency[0]:g} us a message, beyond {o.infiniband:g} GB/s and {o.latency[1]:g} us"
    )
    print_table(rows)
    if o.csv:
        about: Row = {"recipe": " ".join(chosen), "precision": o.precision, "step of one GPU ms": 1e3 * step}
        links: Row = {"node": o.node, "NVLink GB/s": o.nvlink, "InfiniBand GB/s": o.infiniband, "bucket MB": o.bucket}
        write_csv(o.csv, [{**about, **each, **links} for each in rows], o.device)


if __name__ == "__main__":
    main()
