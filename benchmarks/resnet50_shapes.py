"""Shapes of ResNet-50's backbone parameters, so that the benchmarks need no model library."""


def conv_shapes() -> list[tuple[int, int, int, int]]:
    """The 53 convolution weights, (out, in, height, width), 23.5 million elements."""
    shapes = [(64, 3, 7, 7)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                shapes.append((4 * width, channels, 1, 1))
            channels = 4 * width
    return shapes


def norm_shapes() -> list[tuple[int]]:
    """Weight and bias of the 53 batch norms."""
    return [(out,) for out, *_ in conv_shapes() for _ in range(2)]


def linear_shapes() -> list[tuple[int, ...]]:
    """Weight and bias of the classifier: with these there are 161 parameters."""
    return [(1000, 2048), (1000,)]
