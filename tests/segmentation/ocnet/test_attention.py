"""Attention without a map of pixels × pixels: the explicit form's results, in linear memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from normfix_mm.segmentation import ASPOC, BaseOC, PyramidOC
from normfix_mm.segmentation.ocnet.attention import attention


def explicit(query, key, value, regions=1):
    """Each pixel by itself: whose region it is in, the softmax of its row, the sum of values."""
    _, channels, height, width = key.shape
    rows, columns = (
        torch.arange(n).div(max(n // regions, 1), rounding_mode="floor").clamp(max=regions - 1)
        if n >= regions
        else torch.zeros(n, dtype=torch.long)
        for n in (height, width)
    )
    region = (rows[:, None] * regions + columns).flatten()
    apart = region[:, None] != region
    scores = torch.einsum("ncq,nck->nqk", query.flatten(2), key.flatten(2)) / channels**0.5
    weights = scores.masked_fill(apart, -torch.inf).softmax(-1)
    return torch.einsum("nqk,nck->ncq", weights, value.flatten(2)).reshape(value.shape)


def maps(shape, keys, values, dtype):
    torch.manual_seed(0)
    sizes = (keys, keys, values)
    return [torch.randn(2, c, *shape, dtype=dtype).mul(2).requires_grad_() for c in sizes]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("regions", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(9, 13), (12, 6), (4, 11), (1, 1)])
@pytest.mark.parametrize(("keys", "values"), [(16, 16), (8, 16), (5, 7)])
def test_it_is_the_explicit_softmax(dtype, tolerance, regions, shape, keys, values):
    inputs = maps(shape, keys, values, dtype)
    found, expected = attention(*inputs, regions), explicit(*inputs, regions)
    assert found.shape == (2, values, *shape)
    direction = torch.randn_like(found)
    gradients = [torch.autograd.grad(out, inputs, direction) for out in (found, expected)]
    for a, b in zip((found, *gradients[0]), (expected, *gradients[1])):
        assert (a - b).norm() <= tolerance * max(b.norm(), 1)  # 0 for a single pixel


def test_regions_of_a_published_size():
    """97 pixels in 6 parts: five of 16 and one of 17, as the authors cut."""
    query = torch.zeros(1, 1, 97, 97)  # all similar: the context is the mean of the region
    value = torch.randn(1, 1, 97, 97)
    found = attention(query, query, value, regions=6)
    for top, left, bottom, right in [(0, 0, 16, 16), (16, 80, 32, 97), (80, 80, 97, 97)]:
        mean = value[..., top:bottom, left:right].mean()
        assert torch.allclose(found[..., top:bottom, left:right], mean, atol=1e-5)


def test_values_narrower_than_keys_are_refused():
    key = torch.zeros(1, 8, 2, 2)
    with pytest.raises(ValueError, match="4 channels, fewer than the keys' 8"):
        attention(key, key, key[:, :4])


CONTEXTS = dict(base=BaseOC, asp=ASPOC, pyramid=PyramidOC)


def layer(into, out, size, **options):
    return nn.Sequential(nn.Conv2d(into, out, size, **options), nn.BatchNorm2d(out))


def pretend(shape):
    return torch.randn(1, 16, *shape)


PEAK = """
import sys
import torch
from test_attention import CONTEXTS, layer, pretend

def peak_of(step):
    # MB above what is held before; writing 5 resets the process's high-water mark.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    step()
    return status("VmHWM") - before

def status(key):
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(key)).split()[1]) / 1024

for name, kind in CONTEXTS.items():
    model = kind(16, layer)
    for tokens in map(int, sys.argv[1:]):
        x = pretend((64, tokens // 64))
        if tokens == int(sys.argv[1]):
            model(x).sum().backward()  # what the kernels keep is held before
        print(name, tokens, peak_of(lambda: model(x).sum().backward()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_memory_is_linear_in_the_pixels():
    """Forward and backward of every context; a map of 8192² in fp32 would be 268 MB."""
    tokens = 2048, 8192
    environment = os.environ | dict(
        PYTHONPATH=os.pathsep.join([os.path.dirname(__file__), *sys.path]),
        MALLOC_MMAP_THRESHOLD_="65536",  # freed memory goes back at once
    )
    result = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, tokens)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    peaks = {}
    for line in result.stdout.splitlines():
        name, count, peak = line.split()
        peaks[name, int(count)] = float(peak)
    for name in CONTEXTS:
        few, many = (peaks[name, count] for count in tokens)
        # ASP-OC attends among a quarter of the pixels, a map of which is 17 MB.
        assert few > 0.5 and many < 8 * few + 8, peaks
