"""Heads with FixNorm's classifier: which layer becomes what, stock checkpoints, caps, invariance.

What must be normalized is derived from the stock head: its convolutions, linear layers and
transposed convolutions, without those that a ConvModule follows up with a norm.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.stock_models import bare_layers, head_and_stock
from mmdet.utils import register_all_modules
from mmengine.registry import MODELS
from torch import nn

from normfix_mm import (
    FixNormConv2d,
    FixNormLinear,
    WNConv2d,
    WNConvTranspose2d,
    WNLinear,
    detection,
)
from normfix_mm.models.mixins import FixNorm

register_all_modules()
GN = dict(type="GN", num_groups=2)
TOWERS = dict(num_classes=3, in_channels=8, feat_channels=8, stacked_convs=2)
ONE_SCALE = dict(
    type="AnchorGenerator", ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=[8, 16]
)
BOXES = dict(num_classes=3, in_channels=4, fc_out_channels=8, roi_feat_size=4)


def case(name, classifier, outputs, options, shape=(2, 8, 9, 7)):
    """`outputs`: those of the classifier, whose root is in the cap."""
    return pytest.param(
        SimpleNamespace(
            cls=getattr(detection, name),
            classifier=classifier,
            outputs=outputs,
            options=options,
            x=torch.randn(shape, generator=torch.Generator().manual_seed(0)),
        ),
        id=f"{name}{'-GN' if options.get('norm_cfg') else ''}",
    )


CASES = [
    case("FixNormRetinaHead", "retina_cls", 9 * 3, TOWERS),
    case("FixNormRetinaHead", "retina_cls", 9 * 3, TOWERS | dict(norm_cfg=GN)),
    case("FixNormRPNHead", "rpn_cls", 9, dict(in_channels=8, feat_channels=8)),
    case("FixNormRPNHead", "rpn_cls", 9, dict(in_channels=8, feat_channels=8, num_convs=2)),
    case("FixNormFCOSHead", "conv_cls", 3, TOWERS | dict(strides=[8, 16], norm_cfg=GN)),
    case(
        "FixNormFCOSHead",
        "conv_cls",
        3,
        TOWERS | dict(strides=[8, 16], norm_cfg=None, regress_ranges=((-1, 64), (64, 1e8))),
    ),
    case("FixNormATSSHead", "atss_cls", 3, TOWERS | dict(norm_cfg=GN, anchor_generator=ONE_SCALE)),
    case("FixNormGFLHead", "gfl_cls", 3, TOWERS | dict(norm_cfg=GN, anchor_generator=ONE_SCALE)),
    # Softmax heads: three classes and the background.
    case("FixNormShared2FCBBoxHead", "fc_cls", 4, BOXES, (2, 4, 4, 4)),
    case(
        "FixNormShared4Conv1FCBBoxHead",
        "fc_cls",
        4,
        BOXES | dict(conv_out_channels=8),
        (2, 4, 4, 4),
    ),
    case(
        "FixNormShared4Conv1FCBBoxHead",
        "fc_cls",
        4,
        BOXES | dict(conv_out_channels=8, norm_cfg=GN),
        (2, 4, 4, 4),
    ),
    case(
        "FixNormConvFCBBoxHead",
        "fc_cls",
        4,
        BOXES | dict(num_shared_convs=1, num_cls_fcs=1, num_reg_convs=1, num_reg_fcs=1),
        (2, 4, 4, 4),
    ),
    case(
        "FixNormFCNMaskHead",
        "conv_logits",
        3,
        dict(num_classes=3, num_convs=2, in_channels=8, conv_out_channels=8),
        (2, 8, 5, 5),
    ),
]
heads = pytest.mark.parametrize("c", CASES)


def pair(c, **options):
    """A stock head and one of ours that loaded its checkpoint, strictly."""
    stock, ours = head_and_stock(c.cls, c.options, **options)
    return stock.eval(), ours.eval()


def outputs(head, x) -> list[torch.Tensor]:
    """Everything the head predicts; dense heads get two levels."""
    found = head((x, x[..., ::2, ::2])) if hasattr(head, "forward_single") else head(x)
    flat = []
    for part in found if isinstance(found, (tuple, list)) else [found]:
        flat += part if isinstance(part, (tuple, list)) else [part]
    return flat


@heads
def test_every_layer_without_a_norm_is_normalized_and_no_other(c):
    stock, ours = pair(c)
    bare = bare_layers(stock)
    assert c.classifier in bare and len(bare) > 1
    for name, layer in stock.named_modules():
        got = type(ours.get_submodule(name))
        if name not in bare:
            assert got is type(layer) or name == "", name
        elif isinstance(layer, nn.Conv2d):
            assert got is (FixNormConv2d if name == c.classifier else WNConv2d), name
            assert name == c.classifier or ours.get_submodule(name).gain
        elif isinstance(layer, nn.Linear):
            assert got is (FixNormLinear if name == c.classifier else WNLinear), name
        else:
            assert got is WNConvTranspose2d, name
    assert set(ours.state_dict()) == set(stock.state_dict()) | {f"{name}.g" for name in bare}


@heads
def test_a_stock_checkpoint_keeps_its_function(c):
    stock, ours = pair(c, alpha=100.0)
    for got, expected in zip(outputs(ours, c.x), outputs(stock, c.x), strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@heads
def test_the_cap_is_alpha_times_the_root_of_the_outputs(c):
    alpha = 1e-3
    stock, ours = pair(c, alpha=alpha)
    with torch.no_grad():  # the same cap, put on the stock head by hand
        weight = stock.get_submodule(c.classifier).weight
        cap = alpha * math.sqrt(c.outputs)
        assert cap < weight.norm()
        weight.mul_(cap / weight.norm())
    for got, expected in zip(outputs(ours, c.x), outputs(stock, c.x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@heads
def test_the_outputs_do_not_see_the_scale_of_any_bare_weight(c):
    stock, head = pair(c)
    expected = [y.detach() for y in outputs(head, c.x)]
    head.load_state_dict(head.state_dict())  # from here on g no longer follows the weight
    for name in bare_layers(stock):
        head.get_submodule(name).weight.data.mul_(3.0)
    for got, y in zip(outputs(head, c.x), expected, strict=True):
        torch.testing.assert_close(got, y, rtol=1e-4, atol=1e-5)


@heads
def test_initialization_is_the_stock_head_s(c):
    """After init_weights, from one seed, the weights agree and the gains are their norms."""
    made = []
    for cls in (c.cls.stock, c.cls):
        torch.manual_seed(3)
        head = cls(**c.options)
        torch.manual_seed(4)
        head.init_weights()
        made.append(head)
    stock, ours = made
    for name, value in stock.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0, msg=name)
    for name, layer in bare_layers(stock).items():
        if name != c.classifier:
            got = ours.get_submodule(name).normalized_weight()
            torch.testing.assert_close(got, layer.weight, rtol=1e-5, atol=1e-7)


@heads
def test_names_are_in_the_root_registry_and_options_known(c):
    assert MODELS.module_dict[c.cls.__name__] is c.cls
    assert c.cls.own_options == ("alpha", "gain_start")
    for alpha in (0.0, -1.0):
        with pytest.raises(ValueError, match="alpha"):
            c.cls(**c.options, alpha=alpha)


def test_retinanet_s_baseline_head_differs_in_the_classifier_alone():
    c = CASES[0].values[0]
    fixnorm, baseline = c.cls(**c.options), detection.WNRetinaHead(**c.options)
    assert baseline.own_options == () and baseline.stock is c.cls.stock
    for name in bare_layers(c.cls.stock(**c.options)):
        assert type(baseline.get_submodule(name)) is WNConv2d
        same = type(fixnorm.get_submodule(name)) is WNConv2d
        assert same == (name != "retina_cls")


def test_depthwise_layers_without_a_norm_are_not_left_out():
    class Depthwise(nn.Module):
        def __init__(self):
            super().__init__()
            self.deep = nn.Conv2d(8, 8, 3, groups=8)
            self.cls = nn.Conv2d(8, 3, 1)

    class Head(FixNorm, Depthwise):
        classifier = "cls"

    head, x = Head(), torch.randn(1, 8, 5, 5)
    assert type(head.deep) is WNConv2d and type(head.cls) is FixNormConv2d
    stock = Depthwise()
    stock.load_state_dict(head.state_dict(), strict=False)
    torch.testing.assert_close(head.deep(x), stock.deep(x))


def test_towers_keep_the_conv_cfg_of_the_config():
    options = TOWERS | dict(conv_cfg=dict(type="WNConv2d", gain=False))
    head = detection.FixNormRetinaHead(**options)
    assert all(m.conv.g is None for m in [*head.cls_convs, *head.reg_convs])
    assert detection.FixNormRetinaHead(**TOWERS | dict(stacked_convs=0)).retina_reg.g is not None


def test_a_box_head_without_a_classifier_is_weight_normalized_all_the_same():
    head = detection.FixNormShared2FCBBoxHead(**BOXES, with_cls=False)
    assert not hasattr(head, "fc_cls")
    assert type(head.fc_reg) is WNLinear and type(head.shared_fcs[0]) is WNLinear


def test_a_classifier_that_normalizes_on_its_own_is_one_sentence():
    with pytest.raises(ValueError, match=r"'fc_cls' is a NormedLinear.*dict\(type='Linear'\)"):
        detection.FixNormShared2FCBBoxHead(**BOXES, cls_predictor_cfg=dict(type="NormedLinear"))


def test_a_head_without_its_classifier_is_one_sentence():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 3, 1)

    class Head(FixNorm, Bare):
        classifier = "cls"

    with pytest.raises(ValueError, match="has no layer 'cls'; correct the class's `classifier`"):
        Head()


def test_a_layer_of_several_levels_is_normalized_once_a_forward():
    """Counted in torch's own dispatch: five levels, one operator for each weight."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            name = operator.name()
            self.seen += name.startswith("normfix_mm::") and "backward" not in name
            return operator(*args, **(kwargs or {}))

    head = detection.FixNormRetinaHead(**TOWERS)
    levels = [torch.randn(1, 8, size, size) for size in (16, 8, 4, 2, 1)]
    with Count() as count:
        head(levels)
    assert count.seen == sum(1 for m in head.modules() if hasattr(m, "normalized_weight"))


@pytest.mark.parametrize("scope", ["mmseg", "mmpretrain"])
def test_under_another_scope_the_bare_name_is_not_mmdetection_s_backbone(scope):
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(scope):
        found = MODELS.switch_scope_and_registry(scope)
        with found as registry:
            kind = registry.get("NormalizedResNet")
    assert kind is not detection.NormalizedResNet
