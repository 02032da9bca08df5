"""The kernels of a GPU without one: interpreted on the CPU, and compiled for three generations."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton comes with torch for CUDA on Linux only")


@pytest.mark.slow
def test_interpreted_kernels_equal_the_formulas_in_float64():
    script = Path(__file__).parent / "interpreted_triton.py"
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(script.parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr[-2000:]


KERNELS = {
    "_standardize": {},
    "_standardize_backward": {},
    "_center_normalize": {},
    "_center_normalize_backward": {},
    "_normalize": {"GAINED": True},
    "_normalize_backward": {"GAINED": True},
}


@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_for_a_gpu(name, capability, tmp_path, monkeypatch):
    pytest.importorskip("triton.backends", reason="Triton 3, of torch 2.4, brought it")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from normfix_mm.kernels import triton_rows

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(triton_rows, name)
    values = {"BLOCK": 1024, **KERNELS[name]}
    kinds = {"n": "i32", "eps": "fp32"}
    signature = {a: "constexpr" if a in values else kinds.get(a, "*fp32") for a in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert f"sm_{capability}" in compiled.asm["ptx"] and compiled.asm["cubin"]


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (64, 512, 3, 3), (5, 2048, 3, 3), (7, 1, 1, 1)])
@pytest.mark.parametrize("scale", [1.0, 0.0, 1e-30, 1e19])
def test_the_operators_of_a_gpu_equal_those_of_the_cpu(shape, scale):
    from normfix_mm.layers import functional

    torch.manual_seed(0)
    weight, gain = torch.randn(shape) * scale, torch.rand(shape[0]) + 0.5
    grad = torch.randn(shape)
    for function in (
        functional.standardize,
        functional.center_normalize,
        functional.normalize,
        lambda w: functional.normalize(w, gain.to(w)),
        lambda w: functional.normalize_layer(w, gain[:1].to(w)),
    ):
        for fmt in (torch.contiguous_format, torch.channels_last):
            results = []
            for device in ("cpu", "cuda"):
                leaf = weight.to(device, memory_format=fmt).requires_grad_()
                out = function(leaf)
                (into,) = torch.autograd.grad(out, leaf, grad.to(device))
                results.append((out.detach().cpu(), into.cpu()))
            for a, b in zip(*results):
                size = max(float(a.abs().max()), 1e-37)
                torch.testing.assert_close(b / size, a / size, rtol=1e-4, atol=1e-5)
                assert b.isfinite().all()
