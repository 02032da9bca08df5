"""Mixed precision: the real scaler with our hooks on the CPU, the whole Runner where a GPU is."""

import pytest
import torch
from engine.toy_run import toy_config, train
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module(force=True)
class CpuScalerWrapper(OptimWrapper):
    """AmpOptimWrapper's backward and step, which refuses to be built on a CPU, with its scaler."""

    def __init__(self, overflow_at=(), **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        self.overflow_at, self.calls, self.skipped = overflow_at, 0, []

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.calls in self.overflow_at:
            params[-1].grad.fill_(float("inf"))
        before = [p.detach().clone() for p in params]
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()
        if all(torch.equal(a, b) for a, b in zip(before, params, strict=True)):
            self.skipped.append(self.calls)
        self.calls += 1


def optimizer_hooks(kind):
    if kind == "norm fixing":
        return {"custom_hooks": [dict(type="NormFixHook")]}
    shift = dict(eps_shift=dict(lam=0.1, eps=1e-3))
    return {
        "optim_wrapper.constructor": "EpsShiftOptimWrapperConstructor",
        "optim_wrapper.paramwise_cfg": shift,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["norm fixing", "eps shift"])
def test_scaling_and_a_skipped_step(toy_data, tmp_path, kind):
    """A power-of-two scale changes no bit; an overflow leaves every weight as it was.

    On a GPU two runs without a scaler differ as well: cuDNN adds in another order each time.
    """
    options = dict(length=1) | optimizer_hooks(kind)
    scaled = {"optim_wrapper.type": "CpuScalerWrapper"}
    clip = {"optim_wrapper.clip_grad": dict(max_norm=35)}
    plain = train(toy_config(toy_data, tmp_path / "a", **options, **clip))
    amp = train(toy_config(toy_data, tmp_path / "b", **options, **clip, **scaled))
    for (name, a), b in zip(plain.model.named_parameters(), amp.model.parameters(), strict=True):
        close = dict(rtol=2e-2, atol=2e-4) if a.is_cuda else dict(rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(a, b, **close, msg=name)
    scaled["optim_wrapper.overflow_at"] = (2,)
    overflown = train(toy_config(toy_data, tmp_path / "c", **options, **scaled))
    assert overflown.optim_wrapper.skipped == [2]
    if kind == "norm fixing":
        hook = next(h for h in overflown.hooks if type(h).__name__ == "NormFixHook")
        norm, target = float(hook.norm_fix.joint_norm()), float(hook.norm_fix.target)
        assert norm == pytest.approx(target, rel=1e-6)


@pytest.mark.gpu  # AmpOptimWrapper refuses to be built without one
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["norm fixing", "eps shift"])
def test_the_runner_with_amp(toy_data, tmp_path, kind, dtype):
    options = {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.dtype": dtype, "length": 1}
    runner = train(toy_config(toy_data, tmp_path, **options, **optimizer_hooks(kind)))
    assert all(p.isfinite().all() for p in runner.model.parameters())
    if kind == "norm fixing":
        hook = next(h for h in runner.hooks if type(h).__name__ == "NormFixHook")
        norm, target = float(hook.norm_fix.joint_norm()), float(hook.norm_fix.target)
        assert norm == pytest.approx(target, rel=1e-6)
