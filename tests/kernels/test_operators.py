"""The operators as torch's compilers see them, and the kernels of devices that are not here."""

import pytest
import torch
from torch import Tensor, nn

from normfix_mm import CWNConv2d, FixNormLinear, WNConv2d, WSConv2d
from normfix_mm.kernels import formulas, operators, portable
from normfix_mm.layers import functional

OPS = torch.ops.normfix_mm


def layouts() -> dict[str, Tensor]:
    weight = torch.randn(4, 3, 3, 3)
    return {
        "contiguous": weight,
        "channels_last": weight.to(memory_format=torch.channels_last),
        "strided": torch.randn(4, 6, 3, 3)[:, ::2],
        "linear": torch.randn(5, 7),
        "bfloat16": weight.bfloat16(),
        "float64": weight.double(),
    }


@pytest.mark.since_torch("2.4", "opcheck")
@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("name", operators.FORWARD)
def test_torch_finds_no_fault_with_an_operator(name, layout):
    """Schema, fake tensors, autograd registration, tracing: torch's own checks."""
    weight = layouts()[layout]
    count = 1 if name == "normalize_layer" else len(weight)
    gain = torch.rand(count).add(0.5).to(weight.dtype)
    for options in ((gain,), (None,)) if "center" not in name else ((),):
        options = (1e-5,) if name == "standardize" else options
        forward, backward = getattr(OPS, name).default, getattr(OPS, name + "_backward").default
        leaves = [x.clone().requires_grad_() if isinstance(x, Tensor) else x for x in options]
        torch.library.opcheck(forward, (weight.clone().requires_grad_(), *leaves))
        statistics = forward(weight, *options)[1:]
        grad = torch.randn(weight.shape, dtype=weight.dtype)
        utils = ("test_schema", "test_faketensor")  # it has no derivative
        torch.library.opcheck(backward, (grad, weight, *options, *statistics), test_utils=utils)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [WSConv2d(3, 6, 3), WNConv2d(6, 6, 3, gain=False), CWNConv2d(6, 4, 3)]
        self.convs = nn.Sequential(*layers, nn.Flatten())
        self.weight = nn.Parameter(torch.randn(5, 36))
        self.g = nn.Parameter(torch.tensor([1.5]))

    def forward(self, x: Tensor) -> Tensor:
        effective = functional.normalize_layer(self.weight, self.g)
        return nn.functional.linear(self.convs(x), effective)


def name_of(operator) -> str:
    return operator._schema.name.partition("::")[2]


def operators_in(graph: torch.fx.Graph) -> list[str]:
    return sorted(name_of(n.target) for n in graph.nodes if "normfix_mm" in str(n.target))


@pytest.mark.since_torch("2.4", "operators of ours in a compiled graph")
def test_compiled_training_equals_eager_and_sees_one_operator_a_direction():
    torch.manual_seed(0)
    model, seen = Net(), []

    def look(graph, _):
        seen.extend(operators_in(graph.graph))
        return graph

    from torch._dynamo.backends.common import aot_autograd

    compiled = torch.compile(model, backend=aot_autograd(fw_compiler=look), fullgraph=True)
    x = torch.randn(2, 3, 9, 9)
    for function in (model, compiled):
        model.zero_grad()
        function(x).square().sum().backward()
        grads = {k: p.grad.clone() for k, p in model.named_parameters()}
        if function is model:
            eager = grads
    for name, grad in grads.items():
        torch.testing.assert_close(grad, eager[name], rtol=1e-5, atol=1e-6)
    assert sorted(seen) == sorted([*operators.FORWARD, *operators.BACKWARD])


@pytest.mark.since_torch("2.4", "operators of ours in a compiled graph")
def test_what_the_compiler_cannot_see_is_still_right():
    """Zero and huge filters take another way inside the operator, chosen by value."""
    compiled = torch.compile(functional.standardize, backend="aot_eager", fullgraph=True)
    weight = torch.randn(4, 3, 3, 3)
    for scale in (1.0, 0.0, 1e19):
        leaf = (weight * scale).requires_grad_()
        out = compiled(leaf)
        out.sum().backward()
        assert out.isfinite().all() and leaf.grad.isfinite().all()
        torch.testing.assert_close(out, functional.standardize(leaf))


@pytest.mark.since_torch("2.4", "operators of ours in a compiled graph")
def test_an_exported_model_has_the_operators_and_trains_alike():
    torch.manual_seed(0)
    model, x = Net(), torch.randn(2, 3, 9, 9)
    exported = torch.export.export(model, (x,))
    assert operators_in(exported.graph) == sorted(operators.FORWARD)
    again = exported.module()
    torch.testing.assert_close(again(x), model(x))
    model(x).square().sum().backward()
    again(x).square().sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(again.get_parameter(name).grad, p.grad)


def test_a_mode_sees_one_operator_a_direction():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(name_of(func))
            return func(*args, **(kwargs or {}))

    calls = []
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    with Count():
        functional.standardize(weight).sum().backward()
    own = [name for name in calls if name.startswith("standardize")]
    assert own == ["standardize", "standardize_backward"]
    assert len([name for name in calls if name != "detach"]) <= 5  # and the sum, its gradient


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("scale", [1.0, 0.0, 1e-30, 1e19])
@pytest.mark.parametrize("name", operators.FORWARD)
def test_other_devices_have_the_same_operators(name, layout, scale):
    weight = layouts()[layout] * scale
    count = 1 if name == "normalize_layer" else len(weight)
    options = {"standardize": (1e-5,), "center_normalize": ()}
    options = options.get(name, (torch.rand(count).add(0.5).to(weight.dtype),))
    grad = torch.randn(weight.shape, dtype=weight.dtype)
    here, *statistics = getattr(OPS, name)(weight, *options)
    there, *others = operators._forward(getattr(portable, name))(weight, *options)
    tol = dict(rtol=1e-5, atol=1e-6) if weight.dtype != torch.bfloat16 else dict(rtol=0.01, atol=0)
    torch.testing.assert_close(there, here, **tol)
    assert [(s.shape, s.dtype) for s in statistics] == [(s.shape, s.dtype) for s in others]
    back = name + "_backward"
    here = getattr(OPS, back)(grad, weight, *options, *statistics)
    there = operators._backward(getattr(portable, back))(grad, weight, *options, *others)
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (there, here))):
        size = max(float(b.abs().max()), 1e-37)
        torch.testing.assert_close(a / size, b / size, **tol)
        assert a.isfinite().all() and a.stride() == b.stride() and a.dtype == b.dtype


@pytest.mark.parametrize("name", ["standardize", "normalize", "center_normalize"])
def test_formulas_derivatives_are_those_of_autograd(name):
    torch.manual_seed(0)
    rows, grad = torch.randn(3, 7, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    gain = torch.rand(3, dtype=torch.float64).requires_grad_()
    options = {"standardize": (0.1,), "normalize": (gain,), "center_normalize": ()}[name]
    rows = rows.requires_grad_()
    leaves = [rows, *(o for o in options if isinstance(o, Tensor))]
    expected = torch.autograd.grad(getattr(formulas, name)(rows, *options), leaves, grad)
    ours = getattr(formulas, name + "_vjp")(grad, rows, *options)
    for a, b in zip((ours,) if isinstance(ours, Tensor) else ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.since_torch("2.4", "operators of ours in a compiled graph")
def test_a_layer_of_each_kind_goes_through_the_operators():
    layer = FixNormLinear(6, 3)
    exported = torch.export.export(nn.Sequential(layer), (torch.randn(2, 6),))
    assert operators_in(exported.graph) == ["normalize_layer"]
