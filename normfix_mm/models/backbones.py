"""Backbones with normalized convolutions: the option ``normalize``, whatever package they are of.

Norm fixing needs scale-invariant weights. Behind a convolution stands BN; where its statistics are
fixed (``norm_eval=True``, MMDetection's habit), it is an affine map and the convolution's scale
counts. Weight normalization with a gain g_f = |w_f| per filter keeps the function of a pretrained
backbone and makes its weights scale-invariant (our choice: FixNorm does not say how it treated the
backbone's BN). With BN in training mode, or GN, ``normalize=dict(form='WS')`` gives weight
standardization instead.

The layers are swapped when the backbone is built, and the gains of frozen stages are born frozen.
``init_cfg`` runs later and sees parameter names and layer classes as in the stock backbone, so
torchvision's weights load as ever. Standardized layers make another function of them, which is
warned of when they are loaded.
"""

from __future__ import annotations

import logging
import os

from mmengine.logging import print_log
from mmengine.registry import MODELS, Registry

from normfix_mm.checkpoints import files
from normfix_mm.checkpoints.forms import (
    checkpoint_forms,
    foreign_weights,
    keeps_function,
    model_forms,
    pretrained,
    unsuited,
)
from normfix_mm.errors import BadInput
from normfix_mm.layers.normalize_layers import normalize_layers
from normfix_mm.models.mixins import Normalized
from normfix_mm.models.same_padding import plain_same_padding
from normfix_mm.typed import invocation

WEIGHT_NORMALIZATION = dict(form="WN", gain=True)


class NormalizedBackbone(Normalized):
    """Mixin before a backbone: the option ``normalize``.

    Args:
        normalize: One rule or a list of rules of :func:`normfix_mm.normalize_layers`. Default:
            weight normalization with a gain per filter on every convolution. Depthwise and other
            grouped convolutions whose filters see little stay plain unless a rule says
            ``depthwise=True``; layers of squeeze-and-excitation blocks have one gain each.
            ``dict()``: none.
        *args, **kwargs: The stock backbone's.
    """

    own_options = ("normalize",)

    def __init__(self, *args, normalize: dict | list[dict] | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        plain_same_padding(self)
        if normalize != {}:
            normalize_layers(self, WEIGHT_NORMALIZATION if normalize is None else normalize)

    def init_weights(self) -> None:
        for path, prefix in () if self.is_init else pretrained(self):
            doubt = self._doubt(path, prefix)
            if doubt:
                print_log(doubt, logger="current", level=logging.WARNING)
        super().init_weights()

    def _doubt(self, path: str, prefix: str) -> str | None:
        """A warning about this checkpoint's weights in these layers; None if there is no need."""
        forms, told = model_forms(self), self._forms_told(path)
        told = {name: told[prefix + name] for name in forms if prefix + name in told}
        wrong = [name for name in told if not keeps_function(told[name], forms[name])]
        if wrong:
            return (
                f"The checkpoint {path!r} holds {told[wrong[0]]} weights where the backbone has "
                f"{forms[wrong[0]]} ones ({len(wrong)}, first {wrong[0]!r}): the network starts as "
                f"another function; see what {invocation('convert')} --config says of it."
            )
        untold = [name for name in unsuited(self) if name not in told]
        return foreign_weights(untold, forms, path) if untold else None

    @staticmethod
    def _forms_told(path: str) -> dict[str, str]:
        """Weight name to form as a local file says; addresses are not fetched for this."""
        if not os.path.isfile(path):
            return {}
        try:
            state, meta = files.read(path)
        except BadInput:  # with objects that only a loader that runs code can read
            return {}
        return checkpoint_forms(dict(state_dict=state, meta=meta))


def normalized(backbone: type, registry: Registry = MODELS) -> type:
    """``Normalized<X>`` of a backbone class X of your own, registered under that name.

    Those of MMDetection, MMSegmentation and MMPretrain are written out in ``detection.backbones``,
    ``segmentation.backbones`` and ``classification.backbones``.

    Args:
        backbone: X.
        registry: Where the name is registered; mmengine's root is seen by every package.
    """
    name = f"Normalized{backbone.__name__}"
    body = dict(__doc__=f"{backbone.__name__} with the option ``normalize``.", __module__=__name__)
    made = type(name, (NormalizedBackbone, backbone), body)
    return registry.register_module(name=name, module=made, force=True)
