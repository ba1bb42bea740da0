"""The last stage of discriminators that also classify."""

from __future__ import annotations

from torch import Tensor, nn


class Heads(nn.Module):
    """From the top features (N, C, h, w): a logit map (N, gan_classes, 1, 1) and, where asked for, class logits
    (N, classes).

    One class is real against generated; several are those of the loss `multiclass_gan_d`. Dropout is in here, and not
    in the stage before, so that the features that `feature_matching` compares differ by their images alone.
    """

    def __init__(self, features: int, classes: int | None, gan_classes: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        # A single logit is the difference of two outputs: the two and a softmax in the code released with UNIT.
        self.real = nn.Linear(features, max(2, gan_classes))
        self.gan_classes = gan_classes
        self.classes = nn.Linear(features, classes) if classes else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.dropout(x.flatten(1))
        logits = self.real(x)
        if self.gan_classes == 1:
            generated, real = logits.chunk(2, dim=1)
            logits = real - generated
        logits = logits[:, :, None, None]
        return logits if self.classes is None else (logits, self.classes(x))
