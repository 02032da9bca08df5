"""ResNet-D with EfficientNet's tricks (FixNorm, section 3.2 and the starred row of Table 2).

ResNet-D's deep stem and pooled shortcuts (He et al., arXiv 1812.01187), squeeze-and-excitation at
the end of each block, swish instead of ReLU, and stochastic depth. Depth 50 has 28.1 million
parameters, as in the paper. MMPretrain's SEResNet has neither swish nor stochastic depth.
"""

from __future__ import annotations

from mmpretrain.models.backbones import SEResNet
from mmpretrain.models.backbones.seresnet import SEBottleneck
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class DroppedSEBottleneck(SEBottleneck):
    """MMPretrain's block, which builds ``drop_path`` and does not call it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            out = checkpoint(self._sum, x, use_reentrant=False)
        else:
            out = self._sum(x)
        return self.relu(out)

    def _sum(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.relu(self.norm2(self.conv2(out)))
        out = self.se_layer(self.norm3(self.conv3(out)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.drop_path(out) + shortcut


@MODELS.register_module(force=True)
class SEResNetD(SEResNet):
    """SEResNet with ResNet-D's stem and shortcuts, a choice of activation, and stochastic depth.

    Args:
        depth: 50, 101 or 152.
        act_cfg: the activation of every block, of the squeezes and of the stem.
        drop_path_rate: the last block's chance to be left out in training; it grows linearly with
            depth from 0 at the first.
        **kwargs: SEResNet's.
    """

    arch_settings = {
        depth: (DroppedSEBottleneck, blocks)
        for depth, (_, blocks) in SEResNet.arch_settings.items()
    }

    def __init__(
        self,
        depth: int,
        act_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(
            depth, deep_stem=True, avg_down=True, drop_path_rate=drop_path_rate, **kwargs
        )
        act = act_cfg or dict(type="Swish")
        for module in self.modules():
            for name, child in module.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(module, name, MODELS.build(act))
