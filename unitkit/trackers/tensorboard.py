"""TensorBoard: `tensorboard --logdir RUN/tensorboard`; with the folder of an ablation, or of runs, it shows all of the
runs below it side by side, and their knobs as hyperparameters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ..runs.folder import RunFolder
from .tracker import Tracker, settings


class TensorBoard(Tracker):
    """Writes event files into the run's folder `tensorboard`."""

    writer: Any = None

    def open(self, run: RunFolder, step: int) -> None:
        self.close()
        folder = run.path / "tensorboard"
        while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
            time.sleep(0.05)  # files are read by their names, which tell the second: of one, the later might come first
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        said = settings(run)
        rows = [f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in said.items()]
        self.writer.add_text("settings", "\n".join(["| | |", "|---|---|", *rows]), step)
        plain = {name: each if isinstance(each, bool | int | float) else str(each) for name, each in said.items()}
        _, begun, _ = hparams(plain, {})  # which of them differ, and the metrics, TensorBoard finds in the runs
        self.writer.file_writer.add_summary(begun)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def grid(self, step: int, file: Path) -> None:
        with Image.open(file) as image:
            self.writer.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def flush(self) -> None:
        self.writer.flush()

    def close(self, *, whole: bool = True) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
