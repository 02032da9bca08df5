"""The published OCNets once more: functions of a state dict with the authors' names and shapes.

Written from the description of the networks, with norms, activations and the attention spelled
out, to compare ``normfix_mm.segmentation`` with. Weights are drawn where they are first used.
"""

import torch
import torch.nn.functional as F

NONE, RELU, LEAKY = 1.0, 0.0, 0.01  # slopes below zero


class Published:
    """An OCNet with random weights: ``net(images)`` is (auxiliary logits, logits)."""

    def __init__(self, context, blocks, width=64, stem=64, head=512, classes=19):
        self.context, self.blocks, self.width, self.stem = context, blocks, width, stem
        self.head, self.classes = head, classes
        self.state = {}

    def weight(self, name, x, *shape, low=None):
        if name not in self.state:
            drawn = torch.empty(shape, dtype=x.dtype, device=x.device)
            fan = drawn[0].numel() if drawn.dim() > 1 else 25
            drawn = drawn.normal_(0, fan**-0.5) if low is None else drawn.uniform_(low, 1.5)
            self.state[name] = drawn
        return self.state[name]

    def conv(self, name, x, out, size=1, stride=1, dilation=1, bias=True):
        weight = self.weight(f"{name}.weight", x, out, x.shape[1], size, size)
        bias = self.weight(f"{name}.bias", x, out) if bias else None
        return F.conv2d(x, weight, bias, stride, dilation * (size // 2), dilation)

    def norm(self, name, x, slope):
        gamma = self.weight(f"{name}.weight", x, x.shape[1], low=-1.5).abs() + 1e-5
        beta = self.weight(f"{name}.bias", x, x.shape[1])
        mean = self.weight(f"{name}.running_mean", x, x.shape[1])
        var = self.weight(f"{name}.running_var", x, x.shape[1], low=0.5)
        gamma, beta, mean, var = (v[:, None, None] for v in (gamma, beta, mean, var))
        y = (x - mean) / (var + 1e-5).sqrt() * gamma + beta
        return y.clamp(min=0) + slope * y.clamp(max=0)

    def layer(self, name, x, out, size=1, slope=LEAKY, **options):
        return self.norm(f"{name}.1", self.conv(f"{name}.0", x, out, size, **options), slope)

    def block(self, name, x, width, stride, dilation):
        def step(i, x, out, size, slope, **options):
            x = self.conv(f"{name}.conv{i}", x, out, size, bias=False, **options)
            return self.norm(f"{name}.bn{i}", x, slope)

        y = step(1, x, width, 1, RELU)
        y = step(2, y, width, 3, RELU, stride=stride, dilation=dilation)
        y = step(3, y, 4 * width, 1, NONE)
        if x.shape[1] != 4 * width or stride > 1:
            x = self.layer(
                f"{name}.downsample", x, 4 * width, slope=NONE, stride=stride, bias=False
            )
        return F.relu(x + y)

    def attend(self, name, x, out, keys, values, scale=1, regions=1):
        size = x.shape[2:]
        if scale > 1:
            x = F.max_pool2d(x, scale)
        key = self.layer(f"{name}.f_key", x, keys)
        value = self.conv(f"{name}.f_value", x, values)
        context = torch.empty_like(value)
        height, width = (n // regions for n in x.shape[2:])
        for i in range(regions):
            for j in range(regions):
                rows = slice(i * height, None if i == regions - 1 else (i + 1) * height)
                columns = slice(j * width, None if j == regions - 1 else (j + 1) * width)
                k, v = (m[..., rows, columns].flatten(2) for m in (key, value))
                weights = (k.transpose(1, 2) @ k * keys**-0.5).softmax(-1)
                part = v @ weights.transpose(1, 2)
                context[..., rows, columns] = part.view_as(value[..., rows, columns])
        context = self.conv(f"{name}.W", context, out)
        if scale > 1:
            context = F.interpolate(context, size, mode="bilinear", align_corners=True)
        for key in [k for k in self.state if k.startswith(f"{name}.f_key.")]:  # one module
            self.state[key.replace("f_key", "f_query")] = self.state[key]
        return context

    def base(self, x):
        x = self.layer("context", x, self.head, 3)
        half = self.head // 2
        context = self.attend("context.2.stages.0", x, self.head, half, half)
        return self.layer("context.2.conv_bn_dropout", torch.cat([context, x], 1), self.head)

    def asp(self, x):
        x, half = self.layer("context", x, self.head, 3), self.head // 2
        y = self.layer("context.2.context", x, half, 3)
        y = self.attend("context.2.context.2.stages.0", y, half, half // 2, half, scale=2)
        branches = [self.layer("context.2.context.2.conv_bn_dropout", y, half)]
        branches.append(self.layer("context.2.conv2", x, half, bias=False))
        for i, dilation in ((3, 12), (4, 24), (5, 36)):
            y = self.layer(f"context.2.conv{i}", x, half, 3, dilation=dilation, bias=False)
            branches.append(y)
        x = torch.cat(branches, 1)
        return self.layer("context.2.conv_bn_dropout", x, self.head, bias=False)

    def pyramid(self, x):
        x = self.layer("layer5", x, self.head, 3, slope=NONE)
        parts = [self.layer("context.up_dr", x, 4 * self.head)]
        for i, n in enumerate((1, 2, 3, 6)):
            name, head = f"context.stages.{i}", self.head
            parts.append(self.attend(name, x, head, head // 2, head, regions=n))
        return self.layer("context.conv_bn_dropout", torch.cat(parts, 1), self.head)

    def __call__(self, x):
        for i, (out, stride) in enumerate(((1, 2), (1, 1), (2, 1)), start=1):
            x = self.conv(f"conv{i}", x, out * self.stem, 3, stride, bias=False)
            x = self.norm(f"bn{i}", x, RELU)
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        stages = []
        for i, (stride, dilation) in enumerate(((1, 1), (2, 1), (1, 2), (1, 4))):
            for j in range(self.blocks[i]):
                name, width = f"layer{i + 1}.{j}", self.width * 2**i
                x = self.block(name, x, width, stride if j == 0 else 1, dilation)
            stages.append(x)
        slope = NONE if self.context == "pyramid" else LEAKY
        auxiliary = self.layer("dsn", stages[2], self.head, 3, slope=slope)
        auxiliary = self.conv("dsn.3", auxiliary, self.classes)
        return auxiliary, self.conv("cls", getattr(self, self.context)(x), self.classes)

    def parameters(self):
        """Names of what the authors' optimizer trains."""
        return [k for k in self.state if ".running_" not in k and ".f_query." not in k]
