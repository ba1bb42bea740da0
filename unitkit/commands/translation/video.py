"""`unitkit translate` of videos, animated images among them."""

from __future__ import annotations

from pathlib import Path

from ...data.formats.header import suffix_of
from ...kernels.placement import choose_device
from ...recipe_file import import_parts
from ...system.devices import enough_memory
from ...system.errors import MachineError, UserError
from ...system.output import print_notes, say, screen
from ...translate import load
from ...video.clip import is_video, require_av
from ...video.encoding import WRITTEN, codec_for
from ...video.flicker import Steady
from ...video.parts import forget, kept_for
from ...video.translating import Translated, translate_video
from ..progress import frames_done
from ..translate import numbered


def is_of_video(source: Path, target: Path, steady: float, lossless: bool) -> bool:
    """Whether there is a video to translate. Raises `UserError` for an input and an output of which one alone is a
    video, and for options of videos that are given for images."""
    if not source.exists():
        return False  # which is said there
    into = suffix_of(target) in WRITTEN and not target.is_dir()
    if is_video(source):
        if not target.is_dir() and suffix_of(target) not in WRITTEN:
            raise UserError(f"{source} is a video, and {target} none: name one of {', '.join(WRITTEN)}")
        return True
    if into and source.is_file() and suffix_of(target) != ".webp":
        raise UserError(
            f"{source} is no video, and the output {target} has no image suffix: name a .png, or another image"
        )
    if into and source.is_dir():
        raise UserError(f"{source} is a folder, and {target} a video: name a folder for its images")
    if steady or lossless:
        raise UserError("--steady and --lossless are of videos, and the input is none")
    return False


def translate_videos(
    run: Path,
    path: str,
    source: Path,
    target: Path,
    *,
    steady: float,
    lossless: bool,
    parts: Path | None,
    style: Path | None,
    samples: int | None,
    seed: int | None,
    weights: str,
    device: str,
    precision: str,
    alpha: str,
    format: str | None,
    threads: int | None,
    again: bool,
) -> None:
    """Translate a video and say what was done; the arguments are the command's own."""
    require_av()
    if samples is not None and style is not None:
        raise UserError("--style and --samples each say what style the outputs have: give one of them")
    if seed is not None and samples is None:
        raise UserError("--seed is of styles that are drawn: give --samples N with it")
    if alpha != "white" or format is not None or threads is not None or again:
        raise UserError(
            "--alpha, --format, --workers and --again are of images: a video is opaque, and its name says its format"
        )
    into = target / source.name if target.is_dir() else target
    codec_for(into, lossless)
    Steady(steady)
    if parts is not None:
        import_parts(parts)
    with enough_memory(choose_device(device), "translating", "choose another --device, or scale it down", MachineError):
        translator = load(run, device=device, weights=weights, precision=precision)
        translator.check(path)
        if style is not None or samples is not None:
            translator.check_styles()
        styles = [None if style is None else translator.style(style, path[-1])]
        if samples is not None:
            styles = [translator.drawn_style(path[-1], (seed or 0) + number) for number in range(samples)]
        outs = [into if samples is None else numbered(into, f"-{number}") for number in range(1, len(styles) + 1)]
        for out, each in zip(outs, styles, strict=True):
            try:
                with frames_done() as progress:
                    done = translate_video(
                        translator,
                        path,
                        source,
                        out,
                        style=each,
                        steady=steady,
                        lossless=lossless,
                        keep=len(outs) > 1,  # until all are done: a call that goes on need not make the first again
                        progress=progress,
                    )
            except KeyboardInterrupt:
                if any(kept_for(each).exists() for each in outs):
                    say(screen(stderr=True), f"what is done is kept beside {out}: the same command goes on from there")
                raise
            _say(done, out)
        for out in outs:
            forget(out)


def _say(done: Translated, out: Path) -> None:
    console, (before, after) = screen(), done.flicker
    print_notes(console, done.notes)
    if done.resumed:
        say(console, f"{done.resumed} of the frames were there from an earlier call")
    times = f", {after / before:.2f} times as much" if before else ""
    say(console, f"flicker: {before:.2f} of 255 in the input, {after:.2f} in the output{times}")
    say(console, f"{done.frames} {'frame' if done.frames == 1 else 'frames'} in {out}")
