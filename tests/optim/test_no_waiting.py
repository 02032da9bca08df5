"""The step hooks as a GPU runs them: they look at no value and leave no tensor behind.

A step that waited for the device would be slow, and could not be captured in a CUDA graph. The
kernels of a GPU are run here on the CPU; whole captures are in test_cuda_graph.py.
"""

import gc

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from normfix_mm import CWNConv2d, EpsShift, FixNormLinear, NormFix, WNConv2d, WSConv2d
from normfix_mm.kernels import devices

pytestmark = pytest.mark.slow

READS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


class NoReading(TorchDispatchMode):
    """Refuses every operator whose result a host would wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        assert name not in READS, f"the host reads a tensor: {name}"
        if name in ("index", "index_put_"):
            indices = [i for i in args[1] if i is not None]
            assert all(i.dtype not in (torch.bool, torch.uint8) for i in indices), "a mask"
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(devices, "few_kernels", lambda _: True)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        WSConv2d(3, 4, 3), CWNConv2d(4, 4, 3), WNConv2d(4, 4, 3, gain=False), nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), FixNormLinear(64, 5),
    )  # fmt: skip


def set_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def attach(optimizer, model, mode="joint"):
    return EpsShift(optimizer, model), NormFix(optimizer, model, mode, include="^(4|7)")


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd, lr a tensor": lambda p: torch.optim.SGD(p, lr=torch.tensor(0.1), momentum=0.9),
    "sgd, fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0),
}


@pytest.mark.parametrize("mode", ["joint", "layer"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hooks_read_no_tensor(name, mode):
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    shift, fixing = attach(optimizer, model, mode)
    for step in range(3):
        set_gradients(model, step)
        if "fused" in name:  # as a GradScaler sets them
            optimizer.found_inf, optimizer.grad_scale = torch.tensor(0.0), torch.tensor(2.0)
        with NoReading():
            for hook in (shift._before_step, fixing._before_step):
                hook(optimizer, (), {})
        optimizer.step()
        with NoReading():
            fixing._after_step(optimizer, (), {})
            shift._after_step(optimizer, (), {})


@pytest.mark.parametrize("mode", ["joint", "layer"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hooks_leave_no_tensor_behind(name, mode):
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    attach(optimizer, model, mode)

    def tensors():
        gc.collect()
        return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())

    set_gradients(model, 0)
    optimizer.step(), optimizer.step()  # the optimizer makes its state
    before, grads = tensors(), [p.grad.clone() for p in model.parameters()]
    kept = len(grads)
    for _ in range(3):
        optimizer.step()
    assert tensors() - kept == before
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_the_same_with_either_kind_of_kernels(name, monkeypatch):
    states = []
    for few in (True, False):
        monkeypatch.setattr(devices, "few_kernels", lambda _, few=few: few)
        model = net()
        optimizer = OPTIMIZERS[name](model.parameters())
        _, fixing = attach(optimizer, model)
        for step in range(5):
            set_gradients(model, step)
            optimizer.step()
        assert abs(float(fixing.joint_norm()) / float(fixing.target) - 1) < 1e-6
        states.append(model.state_dict())
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-5, atol=1e-6)
