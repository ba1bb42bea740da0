"""Any timm backbone as the front of an encoder."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from torch import Tensor, nn

from ..annotations import Blocks, Count, FirstWeights, Positive
from ..networks.layers import Residual, initialise
from ..networks.tower import Tower
from ..system.errors import UserError, nearest
from .encoder import register


class Features(nn.Module):
    """The deepest of a timm backbone's chosen feature maps."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        features: list[Tensor] = self.backbone(x)
        return features[-1]


@register
def timm(
    in_channels: int,
    *,
    backbone: str = "resnet18",
    level: Count = 1,
    width: Positive = 256,
    blocks: Blocks = 4,
    weights: Annotated[str | None, FirstWeights] = None,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """A timm backbone's feature stages, a 1x1 convolution to `width` channels, residual blocks; variance fixed at 1.

    Stages: 2 + blocks. The backbone keeps timm's own initial weights unless `weights` is given.

    Args:
        backbone: a name that `timm.list_models()` knows and that has feature stages.
        level: which feature level ends the front, from 0 (the finest); 1 is stride 4 in most backbones.
        width: channels of the latent.
        weights: path of a checkpoint of the backbone, read where a training begins; nothing is downloaded.
        init: how the weights behind the backbone are drawn, see `initialise`.

    Raises:
        UserError: an unknown backbone, or a level that it does not have.
    """
    import timm as library  # seconds of import time, needed only where this part is used

    if not library.is_model(backbone):
        raise UserError(f"timm has no model '{backbone}'. {nearest(backbone, library.list_models())}")
    try:
        front: Any = library.create_model(
            backbone, features_only=True, in_chans=in_channels, out_indices=(level,), checkpoint_path=weights or ""
        )
    except (AssertionError, IndexError, AttributeError, RuntimeError, OSError) as error:
        raise UserError(f"timm cannot give feature level {level} of '{backbone}': {error}") from error
    info = front.feature_info.get_dicts()[-1]
    behind = Tower(
        [nn.Conv2d(info["num_chs"], width, 1), *(Residual(width) for _ in range(blocks))],
        channels=width,
        stride=info["reduction"],
    )
    return Tower([Features(front), *initialise(behind, init).stages], channels=width, stride=info["reduction"])
