"""Stock backbones and heads, and what of them ours must turn into what."""

import torch
from mmcv.cnn import ConvModule
from torch import nn

SMALL_HRNET = dict(
    extra={
        f"stage{i + 1}": dict(
            num_modules=1,
            num_branches=i + 1,
            block="BASIC" if i else "BOTTLENECK",
            num_blocks=(1,) * (i + 1),
            num_channels=(8, 16, 32, 64)[: i + 1],
        )
        for i in range(4)
    }
)


def trained(cls: type[nn.Module], **options) -> nn.Module:
    """A stock backbone whose BN statistics and affine parameters are those of no fresh model."""
    torch.manual_seed(2)
    model = cls(**options)
    model.init_weights()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return model


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def thin(layer: nn.Conv2d) -> bool:
    """Whether a grouped convolution of these backbones stays plain."""
    return layer.groups > 1 and (layer.groups == layer.in_channels or layer.weight[0].numel() < 32)


def head_and_stock(cls: type[nn.Module], options: dict, **ours) -> tuple[nn.Module, nn.Module]:
    """A stock head without zeros in it, and one of `cls` that loaded its checkpoint, strictly."""
    torch.manual_seed(1)
    stock = cls.stock(**options)
    stock.init_weights()
    for name, param in stock.named_parameters():
        if name.endswith("bias") or not param.any():  # as OCNet's W
            nn.init.normal_(param, std=0.1)
    head = cls(**options, **ours)
    missing, unexpected = head.load_state_dict(stock.state_dict(), strict=True)
    assert not missing and not unexpected
    return stock, head


def bare_layers(stock: nn.Module) -> dict[str, nn.Module]:
    """Layers without a norm behind them."""
    kinds = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)
    normed = {m.conv for m in stock.modules() if isinstance(m, ConvModule) and m.with_norm}
    return {n: m for n, m in stock.named_modules() if isinstance(m, kinds) and m not in normed}


def with_values(model: nn.Module) -> nn.Module:
    """A model of the meta device with all parameters .01, for which norms can be fixed."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for param in model.parameters():
            param.fill_(0.01)
    return model
