"""A run's model pushed to the Hugging Face Hub, in one commit."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..hub.access import LOG_IN, asking
from ..hub.names import PREFIX, Place, check_repository, check_revision, is_on_hub
from ..runs.kept import find_run
from ..system.errors import UserError, refusal
from ..system.files import flush, temporary
from .contents import OURS, write_contents

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Attributes:
        place: where it is.
        where: the commit's address, or the folder of a dry run.
        private: whether others see it; None in a dry run.
        files: their sizes in bytes, by name.
        notes: sentences on what a user should know.
    """

    place: Place
    where: str
    private: bool | None
    files: dict[str, int]
    notes: list[str]


def push(
    run: str | Path,
    name: str,
    *,
    private: bool | None = None,
    weights: str = "ema",
    revision: str | None = None,
    message: str | None = None,
    license: str | None = None,
    dry_run: Path | None = None,
) -> Pushed:
    """Publish the model of a run, or write the folder that would be published.

    Args:
        run: a run folder, its folder `best`, or a checkpoint.
        name: of the repository, OWNER/NAME.
        private: whether others see a repository that is made; without it they do not. One that is there keeps what it
            is, and is refused where this says otherwise.
        weights: "ema" or "last", as of `unitkit.load`.
        revision: the branch, which is made where it is not there.
        message: of the commit.
        license: by the hub's names, such as apache-2.0.
        dry_run: a folder that is not there yet, or is empty.

    Raises:
        UserError: no run, a name or a right that is not, no token, a folder that is taken.
        MachineError: no network.
    """
    check_revision(revision)
    place = Place(check_repository(name.removeprefix(PREFIX)), revision)
    license = _checked_license(license)
    if message is not None and not message.strip():
        raise UserError("--message is empty: leave it out, or say what this is")
    if is_on_hub(run):
        raise UserError(f"{run} is on the hub already: push a run folder, or a checkpoint in one")
    if dry_run is None:
        _refuse_offline()
    elif os.path.lexists(dry_run) and not (dry_run.is_dir() and not any(dry_run.iterdir())):
        raise UserError(f"{dry_run} is there already, and not an empty folder: name another for --dry-run")
    folder, checkpoint = find_run(Path(run))
    try:
        parent = Path(tempfile.gettempdir()) if dry_run is None else dry_run.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        with temporary(parent, folder=True) as made:
            contents = write_contents(made, folder, checkpoint, place, weights, license)
            files = {path.name: path.stat().st_size for path in sorted(made.iterdir())}
            if dry_run is not None:
                for path in [*made.iterdir(), made]:
                    flush(path)
                made.rename(dry_run)
                return Pushed(place, str(dry_run), None, files, contents.notes)
            facts = contents.facts
            said = message or f"{facts.record.get('recipe', facts.kind)}, step {facts.step}"
            with asking(f"the model '{place}'"):
                where, hidden, notes = _upload(made, place, private, said)
    except OSError as error:
        raise refusal(f"cannot write what would be published{f' to {dry_run}' if dry_run else ''}", error) from error
    return Pushed(place, where, hidden, files, [*contents.notes, *notes])


def _upload(folder: Path, place: Place, private: bool | None, message: str) -> tuple[str, bool, list[str]]:
    """Make the repository where there is none, and commit the folder. Returns the commit's address, whether it is
    private, and what the hub remarks."""
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

    api = HfApi(library_name="unitkit")
    hidden = _visibility(api, place, private)
    if place.revision not in (None, "main"):
        api.create_branch(place.repository, branch=place.revision or "", exist_ok=True)
    names = {path.name for path in folder.iterdir()}
    stale = set(api.list_repo_files(place.repository, revision=place.revision)) & set(OURS) - names
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in sorted(names)),
        *(CommitOperationDelete(path_in_repo=name, is_folder=False) for name in sorted(stale)),
    ]
    with warnings.catch_warnings(record=True) as said, _no_bars():
        warnings.simplefilter("always")
        try:
            done = api.create_commit(place.repository, operations, commit_message=message, revision=place.revision)
        except ValueError as error:  # which the library raises of a card that the hub does not take
            if isinstance(error, OSError):
                raise
            raise UserError(f"the hub does not take this: {' '.join(str(error).split()):.300}") from error
    return (
        done.commit_url,
        hidden,
        [f"the hub: {' '.join(str(each.message).split()):.300}" for each in said if each.category is UserWarning],
    )


@contextmanager
def _no_bars() -> Iterator[None]:
    """Within the block the library draws no bars: those of several files move the cursor about."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _visibility(api: HfApi, place: Place, private: bool | None) -> bool:
    """Whether the repository is private, which is made where it is not there. Raises `UserError` where it is what the
    user says it should not be."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        hidden = bool(api.model_info(place.repository).private)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        api.create_repo(place.repository, private=private is not False)
        return private is not False
    if private not in (None, hidden):
        is_, not_ = ("private", "public") if hidden else ("public", "private")
        raise UserError(
            f"the model '{place}' is there already, and {is_}: nothing is pushed. Make it {not_} on its page, or leave "
            f"--{not_} out"
        )
    return hidden


def _refuse_offline() -> None:
    """Raise `UserError` where nothing can be pushed."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be pushed: unset it, or give --dry-run FOLDER")
    if get_token() is None:
        raise UserError(f"there is no token for the hub on this machine: {LOG_IN}; or give --dry-run FOLDER")


def _checked_license(name: str | None) -> str | None:
    """A licence's name as the hub writes it. Raises `UserError` for what is none."""
    if name is None:
        return None
    if not (
        0 < len(name) <= 64 and name.isascii() and name.replace("-", "").replace(".", "").replace("+", "").isalnum()
    ):
        raise UserError(f"'{name:.80}' is no licence's name on the hub: expected such as apache-2.0, mit or cc-by-4.0")
    return name.lower()
