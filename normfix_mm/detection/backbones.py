"""MMDetection's ResNet and ResNeXt with normalized convolutions.

MMDetection trains with ``norm_eval=True``: BN is a fixed affine map, so the convolution before it
is not scale-invariant and norm fixing would change the network. Weight normalization with a gain
g_f = |w_f| per filter keeps the function of a pretrained backbone and makes its weights
scale-invariant (our choice: FixNorm does not say how it treated the backbone's BN). With BN in
training mode, or GN, ``normalize=dict(form='WS')`` gives weight standardization instead.

The layers are swapped when the backbone is built, and the gains of frozen stages are born frozen.
``init_cfg`` runs later and sees parameter names and layer classes as in the stock backbone, so
torchvision's weights load as ever. Standardized layers make another function of them, which is
warned of when they are loaded.
"""

from __future__ import annotations

import logging

from mmdet.models.backbones import ResNet, ResNeXt
from mmengine.logging import print_log
from mmengine.registry import MODELS

from normfix_mm.core.swap import normalize_layers
from normfix_mm.preflight_forms import foreign_weights, model_forms, pretrained, unsuited

WEIGHT_NORMALIZATION = dict(form="WN", gain=True)


class _Normalized:
    """Mixin before a ResNet: the option ``normalize``."""

    def __init__(self, *args, normalize: dict | list[dict] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        normalize_layers(self, WEIGHT_NORMALIZATION if normalize is None else normalize)

    def init_weights(self) -> None:
        names = [] if self.is_init else unsuited(self)
        for path, _ in pretrained(self) if names else ():
            message = foreign_weights(names, model_forms(self), path)
            print_log(message, logger="current", level=logging.WARNING)
        super().init_weights()


@MODELS.register_module()
class NormalizedResNet(_Normalized, ResNet):
    """ResNet whose convolutions are normalized by the rules in ``normalize``.

    Args:
        normalize: One rule or a list of rules of :func:`normfix_mm.normalize_layers`. Default:
            weight normalization with a gain per filter on every convolution.
        *args, **kwargs: ResNet's.
    """


@MODELS.register_module()
class NormalizedResNeXt(_Normalized, ResNeXt):
    """ResNeXt with the option ``normalize`` of :class:`NormalizedResNet`.

    Grouped convolutions with a thin fan-in stay plain unless a rule says ``depthwise=True``.
    """
