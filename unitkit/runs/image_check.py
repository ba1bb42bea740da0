"""What a training does about images that cannot be decoded: it looks for them, stops or skips, and keeps their list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal, get_args

from ..data import Data
from ..data.batches import Batches
from ..data.cache import broken
from ..data.files.bad import SHOWN, WAY_OUT, BadImage, BadImages, described, none_left
from ..data.files.check import Progress, bad_images, sampled
from ..data.files.short_jpeg import short_note
from ..data.sources import ImageFiles
from ..system import dist
from ..system.errors import UserError, suggested
from .folder import RunFolder

Policy = Literal["stop", "skip"]
POLICIES: tuple[str, ...] = get_args(Policy)
# Images of a domain, or their share, that may be found bad while a training runs before the disk is suspected.
SUDDEN, SUDDEN_SHARE = 10, {None: 0.05, "skip": 0.5}


def check_policy(policy: str | None) -> None:
    """Raise `UserError` for what is neither None nor one of `POLICIES`."""
    if policy is not None and policy not in POLICIES:
        raise UserError(f"bad images can be met with stop or skip, not '{policy}'{suggested(policy, POLICIES)}")


class ImageCheck:
    """The bad images of a training.

    Args:
        run: where their list is kept, `bad_images.json`.
        data: of the training.
        policy: "stop" ends the training at any bad image, "skip" at none; None stops before the first step and skips
            what is found later.
        warn: is told, in a line, of what is skipped.
        resumed: whether the run's list is to be gone on with.
    """

    def __init__(
        self, run: RunFolder, data: Data, policy: str | None, warn: Callable[[str], None], resumed: bool
    ) -> None:
        check_policy(policy)
        self.run, self.policy, self.warn, self.resumed = run, policy, warn, resumed
        self.bad = BadImages(data, run.bad_images() if resumed else ())
        self.later = Counter[str]()

    def begin(self, batches: Batches, step: int, progress: Progress | None = None) -> None:
        """Look at every image before step `step` is trained. Raises `UserError` where the policy is to stop."""
        data = self.bad.data
        found = [each for each in dist.gather(bad_images(batches, step, progress)) if self.bad.add(each)]
        for note in sampled(batches) if dist.rank() == 0 else ():
            self.warn(note)
        self._note_short(data)
        news = Counter(bad.letter for bad in found if bad.split == "train")
        sudden = step > 0 and any(self._too_many(letter, count) for letter, count in news.items())
        if found and (self.policy == "stop" or (self.policy is None and step == 0) or sudden):
            self._refuse(found)
        for letter, domain in data.domains.items():
            if len(self.bad.of(letter, "train")) == len(domain.train):
                raise UserError(none_left(domain, "training", len(domain.train), self.bad.of(letter, "train")[0]))
        self.measured()  # refuses a split without a good image to measure on
        if found and dist.rank() == 0:
            self.warn(f"{described(found, self.run.path / self.run.BAD)}; left out")

    def skip(self, bad: BadImage) -> None:
        """What happens to an image that is found bad when a step needs it. Raises `UserError` where it is to stop."""
        domain = self.bad.data.domains[bad.letter]
        self.later[bad.letter] += 1
        if self.policy == "stop":
            raise UserError(f"{bad.reason}; the training can go on without it: --bad-images skip")
        if self._too_many(bad.letter, self.later[bad.letter]):
            raise UserError(
                f"{self.later[bad.letter]} images of '{domain.label}' could not be read since the training began, the "
                f"last: {bad.reason}; see whether the disk that holds them is there, and resume"
            )
        self.bad.add(bad)
        if dist.rank() == 0:
            self.keep()
            self.warn(f"{bad.reason}; others take its place from step {bad.step + 1} on")

    def look_again(self, step: int) -> bool:
        """Look at the held-out images, of which one could not be read; whether any more are bad than were known.

        They are left out from then on. Raises `UserError` where the policy is to stop, or no good image is left.
        """
        found = []
        for letter, domain in self.bad.data.domains.items():
            if isinstance(domain.test, ImageFiles):
                known = {bad.index for bad in self.bad.of(letter, "test")}
                errors = broken(domain.test, [i for i in range(len(domain.test)) if i not in known])
                found += [
                    BadImage(letter, "test", i, domain.test.name(i), str(error), step) for i, error in errors.items()
                ]
        if found and self.policy == "stop":
            self._refuse(found)
        for bad in found:
            self.bad.add(bad)
        if found:
            self.measured()  # refuses a split without a good image
            self.keep()
            self.warn(f"{described(found)}; left out from now on")
        return bool(found)

    def share(self) -> None:
        """Bring together what all ranks have found; each of them must call this at the same step."""
        if dist.world() == 1:
            return
        new = [bad for bad in dist.gather(list(self.bad.found.values())) if self.bad.add(bad)]
        if dist.rank() == 0:
            self.keep()
            if new:
                self.warn(f"{described(new)}; others take their places")

    def keep(self) -> None:
        """Write the list to the run, or remove that of an earlier attempt where nothing is bad."""
        self.run.keep_bad_images(self.bad.to_json() if self.bad else None)

    def measured(self) -> Data:
        """The data without their bad images, to measure and to show."""
        return self.bad.without()

    def _too_many(self, letter: str, count: int) -> bool:
        """Whether so many images that were good when the training began are a disk that is gone, not bad images."""
        share = SUDDEN_SHARE.get(self.policy, 0.0)
        return count > max(SUDDEN, share * len(self.bad.data.domains[letter].train))

    def _refuse(self, found: list[BadImage]) -> None:
        listed = None
        if len(found) > SHOWN and not self.resumed:  # a run's own list says what it has skipped
            listed = self.run.path / self.run.BAD
            if dist.rank() == 0:
                self.keep()
        raise UserError(f"{described(found, listed)}. {WAY_OUT}")

    def _note_short(self, data: Data) -> None:
        short = [
            path
            for domain in data.domains.values()
            for images in (domain.train, domain.test)
            if isinstance(images, ImageFiles)
            for path in images.short
        ]
        short = dist.gather(short)
        if short and dist.rank() == 0:
            self.warn(short_note(short))
