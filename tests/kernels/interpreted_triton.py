"""The Triton kernels on the CPU, against the kernels of the CPU: run with TRITON_INTERPRET=1."""

import torch

from normfix_mm.kernels import formulas, triton_rows

torch.manual_seed(0)
EPS = 1e-5


def relative(ours, exact):
    size = exact.double().abs().max().clamp_min(1e-300)
    return float((ours.double() - exact.double()).abs().max() / size)


def check(rows, gain, what, tol=2e-6):
    """Each kernel against the formula in float64, or finite where that has no direction."""
    grad = torch.randn_like(rows)
    wide, wide_grad, wide_gain = rows.double(), grad.double(), gain.double()
    pairs = {
        "WS": (triton_rows.standardize(rows, EPS)[0], formulas.standardize(wide, EPS)),
        "WS backward": (
            triton_rows.standardize_backward(grad, rows, EPS, None, None),
            formulas.standardize_vjp(wide_grad, wide, EPS),
        ),
        "CWN": (triton_rows.center_normalize(rows)[0], formulas.center_normalize(wide)),
        "CWN backward": (
            triton_rows.center_normalize_backward(grad, rows, None, None),
            formulas.center_normalize_vjp(wide_grad, wide),
        ),
        "WN": (triton_rows.normalize(rows, gain)[0], formulas.normalize(wide, wide_gain)),
        "WN-": (triton_rows.normalize(rows, None)[0], formulas.normalize(wide, None)),
    }
    for name, own in (("WN", gain), ("WN-", None)):
        ours = triton_rows.normalize_backward(grad, rows, own, None)
        exact = formulas.normalize_vjp(wide_grad, wide, None if own is None else own.double())
        pairs[f"{name} backward"] = ours[0], exact[0]
        pairs[f"{name} gain"] = ours[1], exact[1]
    for name, (ours, exact) in pairs.items():
        assert ours.isfinite().all(), (what, name)
        if tol is not None:
            error = relative(ours, exact)
            assert error < tol or exact.abs().max() < 1e-36, (what, name, error)


triton_rows.BLOCK = 64  # rows longer than a block too
for n in (1, 3, 7, 63, 64, 65, 200):
    rows = torch.randn(3, n) * 0.1 + 0.02
    check(rows, torch.rand(3) + 0.5, n, tol=5e-6)
for size in (1e-30, 1e-20, 1e-7, 1e7, 1e19, 3e38):
    rows = torch.rand(3, 70).mul_(2).sub_(1).mul_(size)
    check(rows, torch.rand(3) + 0.5, size, tol=2e-5)
for rows in (
    torch.zeros(2, 70),
    torch.full((2, 70), 0.1),
    torch.full((2, 70), 1e3),
    torch.full((2, 70), 3e38),
    torch.full((2, 70), -1e-30),
    torch.full((2, 70), 1e-44),
    torch.full((2, 1), 0.3),
    torch.zeros(2, 1),
):
    check(rows, torch.rand(2) + 0.5, float(rows[0, 0]), tol=None)
    left = triton_rows.center_normalize(rows)[0]
    into = triton_rows.center_normalize_backward(torch.ones_like(rows), rows, None, None)
    assert not (left.any() or into.any()) or rows.abs().max() < 1e-38, float(rows[0, 0])
    assert triton_rows.standardize(rows, EPS)[0].abs().max() < 1e-3
zero = torch.zeros(2, 70)
assert not triton_rows.normalize(zero, None)[0].any()
assert not triton_rows.normalize_backward(torch.ones(2, 70), zero, None, None)[0].any()
for value in (float("nan"), float("inf")):
    rows = torch.randn(3, 70)
    rows[1, 66] = value
    outs = [
        triton_rows.standardize(rows, EPS)[0],
        triton_rows.center_normalize(rows)[0],
        triton_rows.normalize(rows, None)[0],
        triton_rows.standardize_backward(rows, rows, EPS, None, None),
        triton_rows.center_normalize_backward(rows, rows, None, None),
        triton_rows.normalize_backward(rows, rows, None, None)[0],
    ]
    for out in outs:
        assert not out[1].isfinite().all() and out[::2].isfinite().all()
print("equal")
