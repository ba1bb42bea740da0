"""`unitkit push`: a trained model on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..arguments import Parts, Weights


def push(
    run: Annotated[Path, typer.Argument(help="A run folder, its folder best, or a checkpoint in it.")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the hub.")],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Who sees a repository that is made.  [default: private]", show_default=False
        ),
    ] = None,
    weights: Weights = "ema",
    revision: Annotated[str | None, typer.Option(help="A branch, made where it is not there.  [default: main]")] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    license: Annotated[str | None, typer.Option(help="By its name on the hub: apache-2.0, cc-by-4.0.")] = None,
    parts: Parts = None,
    dry_run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write what would be pushed, and push nothing.")
    ] = None,
) -> None:
    """Publish a trained model on the Hugging Face Hub, with its figures, samples and a model card."""
    from ..publishing.push import push as pushed
    from ..recipe_file import import_parts
    from ..system.output import print_notes, room, say, screen, typed
    from ..system.sizes import show_size

    if parts is not None:
        import_parts(parts)
    console = screen()
    with console.status(f"pushing to {name}" if dry_run is None else "writing"):
        done = pushed(
            run,
            name,
            private=private,
            weights=weights,
            revision=revision,
            message=message,
            license=license,
            dry_run=dry_run,
        )
    for file, size in done.files.items():
        say(console, f"  {file}, {show_size(size) if size >= 2**20 else f'{size} bytes'}")
    print_notes(console, done.notes)
    if dry_run is not None:
        say(console, f"nothing is pushed; this would be, to {done.place}: {done.where}")
        return
    say(console, f"{done.place}, {'private' if done.private else 'public'}: {done.where}")
    console.print(typed("unitkit", "translate", str(done.place), "PATH", "INPUT", "OUTPUT", width=room(console)))
