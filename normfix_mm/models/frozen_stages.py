"""timm's networks with their first stages frozen: what small data sets leave as ImageNet made it.

MMDetection's ResNet has ``frozen_stages`` and ``norm_eval``, TIMMBackbone has not. The first stages
see the largest maps: without their gradients an iteration of a detector on EfficientNet-Lite0 takes
two thirds of the time. Their norms keep ImageNet's statistics; all others train.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from normfix_mm.errors import BadInput
from normfix_mm.models.backbones import NormalizedBackbone


class FrozenStages(NormalizedBackbone):
    """Mixin before TIMMBackbone, of timm's EfficientNet and MobileNet families.

    Args:
        frozen_stages: 0 for none, 1 for the stem, k for it and the first k - 1 stages.
        norm_eval: keep ImageNet's statistics in every BN. The layers before a BN are then no longer
            scale-invariant.
        *args, **kwargs: Those of NormalizedBackbone.
    """

    own_options = ("normalize", "frozen_stages", "norm_eval")

    def __init__(self, *args, frozen_stages: int = 0, norm_eval: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        for module in self._frozen():
            module.requires_grad_(False)

    def train(self, mode: bool = True):
        super().train(mode)
        for module in self._frozen():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _frozen(self) -> Iterator[nn.Module]:
        if not self.frozen_stages:
            return
        network = self.timm_model
        stem = [getattr(network, name, None) for name in ("conv_stem", "bn1")]
        stages = getattr(network, "blocks", ())
        if None in stem or not 0 < self.frozen_stages <= len(stages) + 1:
            raise BadInput(
                f"frozen_stages={self.frozen_stages} needs a timm network with conv_stem, bn1 and "
                f"so many blocks; this one has {len(stages)}: leave it out, or take fewer."
            )
        yield from stem
        yield from stages[: self.frozen_stages - 1]
