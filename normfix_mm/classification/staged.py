"""What the plain networks here share: a stem and stages in a row, some returned, some frozen."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

INIT = (
    dict(type="Kaiming", layer=["Conv2d"]),
    dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"]),
)


class StagedBackbone(BaseBackbone):
    """A backbone whose subclass builds ``conv1`` and then the stages ``names`` (class attribute).

    Args:
        out_indices: stages whose outputs are returned, from 0.
        frozen_stages: so many stages, and the stem, are not trained; -1 for nothing.
        norm_eval: keep the statistics of BN fixed.
        init_cfg: as in every module of mmengine; He's initialization by default.

    Raises:
        ValueError: no such stage.
    """

    names: tuple[str, ...]

    def __init__(
        self,
        out_indices: Sequence[int],
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | Sequence[dict] | None = INIT,
    ) -> None:
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        count = len(self.names)
        if not set(out_indices) <= set(range(count)):
            raise ValueError(f"Invalid out_indices={out_indices}; the stages are 0 to {count - 1}.")
        if not -1 <= frozen_stages <= count:
            raise ValueError(f"Invalid frozen_stages={frozen_stages}; give -1 to {count}.")
        self.out_indices, self.frozen_stages = out_indices, frozen_stages
        self.norm_eval = norm_eval

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the stages of ``out_indices``, of images of shape (N, 3, H, W)."""
        x, outputs = self.conv1(x), []
        for index, name in enumerate(self.names):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> StagedBackbone:
        super().train(mode)
        frozen = ["conv1", *self.names[: self.frozen_stages]] if self.frozen_stages >= 0 else []
        for module in map(self.get_submodule, frozen):
            module.eval()
            module.requires_grad_(False)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
