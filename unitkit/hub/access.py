"""The Hugging Face Hub asked: whatever it, the network between or its library raises becomes one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..system.errors import MachineError, UserError

LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"
NETWORK = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}  # what the library asks through
WAITING = 429  # the status by which the hub asks for patience


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Within the block the hub is asked for `what`, such as "the model 'anna/glasses'".

    Raises `UserError` for what is not there, or not for this user, and `MachineError` where the network, or the hub,
    fails. What is of neither passes.
    """
    quiet()
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (said := explained(error, what)) is None:
            raise
        raise said from error


def quiet() -> None:
    """Keep the library from telling of each of its attempts."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def explained(error: BaseException, what: str) -> UserError | None:
    """The line for an error that the hub, or the network, is behind; None for others."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        if (said := _explained(each, what)) is not None:
            return said
        seen.add(id(each))
        each = each.__cause__ or each.__context__
    return None


def _explained(error: BaseException, what: str) -> UserError | None:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return MachineError(f"{what} is not in the cache of this machine, and the hub is not asked or not reached")
    if isinstance(error, errors.GatedRepoError):
        return UserError(f"{what} is gated: ask for access on its page at the hub, and {LOG_IN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"{what} has no such revision: expected a branch, a tag or a commit of it")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(f"{what} is not there, or is private: look for its name, and {LOG_IN} if it is private")
    if isinstance(error, errors.EntryNotFoundError):
        return UserError(f"{what} lacks a file that it should have: {_line(error)}")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error.response.status_code, error.server_message or _line(error), what)
    if isinstance(error, errors.FileMetadataError | json.JSONDecodeError):
        return MachineError(f"{what}: what answers is no hub; look at HF_ENDPOINT, or at the network's own login page")
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.partition(".")[0] in NETWORK:
        return MachineError(f"the hub cannot be reached for {what}: {_line(error)}")
    return None


def _refused(status: int, reason: str, what: str) -> UserError:
    """The line for a status of the hub's."""
    said = f"{' '.join(reason.split()):.200}"
    if status == 401:
        return UserError(f"the hub does not know this token ({said}): {LOG_IN}")
    if status == 403:
        return UserError(
            f"the hub refuses this for {what} ({said}): use a token that may write, of an account that may"
        )
    if status == WAITING or status >= 500:
        return MachineError(f"the hub fails for {what}, with status {status}: {said}; try again later")
    return UserError(f"the hub refuses this for {what}, with status {status}: {said}")


def _line(error: BaseException) -> str:
    return f"{' '.join(str(error).split()):.200}" or type(error).__name__
