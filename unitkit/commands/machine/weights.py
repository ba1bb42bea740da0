"""`unitkit weights`: the public files of weights that metrics need, where they are, and how to get them."""

from __future__ import annotations

from collections.abc import Sequence

from ...metrics import parse_metrics
from ...metrics import registry as metrics
from ...metrics.networks.published import Published, published, timm_weights
from ...metrics.networks.weights import sha256
from ...system.errors import UserError, nearest
from ...system.output import say, screen


def show_weights() -> None:
    """Print every file that the metrics need at their usual settings: whether it is here, and where it comes from."""
    console = screen()
    for each in published():
        console.print(f"[bold]{each.name}[/bold]  {state(each)}")
        for head, text in (
            ("what", each.what),
            ("used by", ", ".join(each.used_by)),
            ("size", f"about {each.megabytes:.0f} MB" if each.megabytes else ""),
            ("licence", each.licence),
            ("sha256", f"{each.digest}..." if each.digest else ""),
            ("source", each.url),
            ("place", str(each.place)),
        ):
            if text:
                say(console, f"  {head:8} {text}")
    console.print(
        "\nunitkit weights NAME fetches them; NAME is one of these, a metric, or a model of timm", markup=False
    )


def fetch_weights(names: Sequence[str]) -> None:
    """Fetch weights by the names that `published_for` knows; what is here already stays.

    Raises:
        UserError: an unknown name, before anything is fetched; and what could not be, once the others are here.
    """
    console = screen()
    wanted = {each.name: each for each in map(published_for, names)}
    failed = []
    for each in wanted.values():
        if each.place.is_file():
            if not _as_published(each):
                failed.append(f"{each.place} is not the published file of {each.what}: move it away to fetch that")
            else:
                say(console, f"{each.name}: is here already, {each.place}")
            continue
        size = f", about {each.megabytes:.0f} MB" if each.megabytes else ""
        say(console, f"{each.name}: {each.what}{size}, {each.licence}; from {each.url}")
        try:
            path = each.fetch()
        except UserError as error:
            failed.append(str(error))
            continue
        checked = "as published" if each.digest else "no hash is published to check it by"
        say(console, f"{each.name}: {path} (sha256 {sha256(path)[:16]}, {checked})")
    if failed:
        raise UserError("; ".join(failed))


def published_for(name: str) -> Published:
    """The weights that a name means: their own, those of a metric as `--metrics` has it, or those of a timm model.

    Raises:
        UserError: a name that means none, with the nearest.
    """
    import timm

    said = name.replace(" ", "")
    known = published()
    for each in known:
        if said.lower() in (each.name, *each.used_by):
            return each
    if said.partition("(")[0].lower() in metrics:
        needed = parse_metrics(said.lower() if "(" not in said else said, "ab")[0].needs()
        if needed is None:
            users = ", ".join(word for each in known for word in each.used_by)
            raise UserError(f"the metric '{name}' needs no weights that are published; those that do: {users}")
        return needed
    if timm.is_model(said.partition(".")[0]):
        found = timm_weights(said)
        if found is None:
            raise UserError(f"there are no published weights of timm's '{name}' that metrics can read")
        return found
    names = [word for each in known for word in (each.name, *each.used_by)]
    raise UserError(f"no weights are known as '{name}'. {nearest(said, names)} Models of timm have their own names.")


def state(each: Published) -> str:
    """Whether a file is on this machine, and the published one."""
    if not each.place.is_file():
        return "missing"
    return "here" if _as_published(each) else "here, but not the published file"


def _as_published(each: Published) -> bool:
    return sha256(each.place).startswith(each.digest_of(each.place))
