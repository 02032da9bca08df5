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

from normfix_mm.engine.normalized import Normalized
from normfix_mm.preflight_forms import (
    checkpoint_forms,
    foreign_weights,
    model_forms,
    pretrained,
    unsuited,
)
from normfix_mm.transfer import files

WEIGHT_NORMALIZATION = dict(form="WN", gain=True)


class NormalizedBackbone(Normalized):
    """Mixin before a backbone: the option ``normalize``.

    Args:
        normalize: One rule or a list of rules of :func:`normfix_mm.normalize_layers`. Default:
            weight normalization with a gain per filter on every convolution. Grouped convolutions
            with a thin fan-in stay plain unless a rule says ``depthwise=True``.
        *args, **kwargs: The stock backbone's.
    """

    def rules(self, normalize: dict | list[dict] | None = None) -> dict | list[dict]:
        return WEIGHT_NORMALIZATION if normalize is None else normalize

    def init_weights(self) -> None:
        names = [] if self.is_init else unsuited(self)
        for path, prefix in pretrained(self) if names else ():
            told, forms = self._forms_told(path), model_forms(self)
            untold = [name for name in names if told.get(prefix + name) != forms[name]]
            if untold:
                message = foreign_weights(untold, forms, path)
                print_log(message, logger="current", level=logging.WARNING)
        super().init_weights()

    @staticmethod
    def _forms_told(path: str) -> dict[str, str]:
        """Weight name to form as a local file says; addresses are not fetched for this."""
        if not os.path.isfile(path):
            return {}
        state, meta = files.read(path)
        return checkpoint_forms(dict(state_dict=state, meta=meta))


def normalized(backbone: type, registry: Registry = MODELS, module: str = __name__) -> type:
    """``Normalized<X>`` of a backbone class X.

    Args:
        backbone: X, for example a backbone of your own.
        registry: Where the name is registered; mmengine's root is seen by every package.
        module: Of which the class will be an attribute.
    """
    name = f"Normalized{backbone.__name__}"
    body = dict(__doc__=f"{backbone.__name__} with the option ``normalize``.", __module__=module)
    made = type(name, (NormalizedBackbone, backbone), body)
    return registry.register_module(name=name, module=made, force=True)
