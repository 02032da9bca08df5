"""Can this model be trained by this optimizer and these hooks? Tried out before a Runner exists.

On the model that the preflight has built anyway, the optimizer wrapper is built with its
constructor, then our own hooks, and norm fixing is attached. All of it is thrown away; the run
builds its own, so nothing here reaches the training. Errors that may only mean that the processes
or devices of the run are not there yet are left to the Runner.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from normfix_mm.datasets.config import type_name
from normfix_mm.errors import BadInput, listing, one_line, quoted
from normfix_mm.preflight.evaluators import check_reported
from normfix_mm.preflight.notes import warn


def check_training(cfg, model: nn.Module) -> None:
    """Build optimizer wrapper and our hooks for `model`, in the config's default scope.

    Raises:
        BadInput: A wrong option, a pattern that matches nothing, two treatments on one weight.
    """
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import OPTIMIZERS

    optim = cfg.get("optim_wrapper")
    if not isinstance(optim, dict) or cfg.get("runner_type", "Runner") != "Runner":
        return  # built by hand, or by a strategy (DeepSpeed, FSDP) that needs its processes
    wrapper, kind = None, (optim.get("optimizer") or {}).get("type")
    if kind is not None and _registered(OPTIMIZERS, kind) is None:
        raise BadInput(f"There is no optimizer {kind!r}; correct optim_wrapper.optimizer.type.")
    if kind != "ZeroRedundancyOptimizer":  # which needs the processes of the run
        with _quiet():
            try:
                wrapper = build_optim_wrapper(model, copy.deepcopy(optim))
            except (ValueError, TypeError, KeyError) as error:
                raise BadInput(f"The optimizer cannot be built: {one_line(error)}") from None
            except AssertionError as error:
                if "only available training" in str(error):
                    raise BadInput(
                        f"Mixed precision (--amp, {optim.get('type')}) needs a GPU, and torch "
                        "finds none here; leave it out, or see that the GPU is visible."
                    ) from None
            except RuntimeError:  # the processes or devices of the run are not there yet
                pass
    _check_clipping(optim.get("clip_grad"))
    _warn_of_keys((optim.get("paramwise_cfg") or {}).get("custom_keys") or {}, model)
    groups = getattr(getattr(wrapper, "optimizer", None), "param_groups", [])
    if groups and not any(group.get("lr", 1) for group in groups):
        raise BadInput(
            "The learning rate of optim_wrapper.optimizer is 0, so that nothing would be trained; "
            "give a rate above 0."
        )
    for hook in (_our_hook(options, where) for where, options in _hooks(cfg)):
        if hasattr(hook, "attach") and hasattr(wrapper, "optimizer"):
            try:
                hook.attach(model, wrapper.optimizer)
            except (ValueError, TypeError) as error:
                raise BadInput(one_line(error, 600)) from None


def _check_clipping(options) -> None:
    """Gradients are clipped in the first iteration, and by options that nothing looks at before.

    Raises:
        BadInput: An option that does not exist, or none of the gradients is left.
    """
    if not isinstance(options, dict):
        return
    clips = clip_grad_value_ if options.get("type") == "value" else clip_grad_norm_
    takes = [name for name in inspect.signature(clips).parameters if name != "parameters"]
    largest = takes[0]
    if unknown := [name for name in options if name not in ("type", *takes)]:
        raise BadInput(
            f"optim_wrapper.clip_grad has no option {quoted(unknown)}: {listing(takes)}."
        )
    value = options.get(largest)
    if not isinstance(value, (int, float)) or not value > 0:
        raise BadInput(
            f"optim_wrapper.clip_grad has {largest}={value!r}; give a number above 0, else no "
            "gradient is left."
        )


def _warn_of_keys(keys: Mapping, model: nn.Module) -> None:
    """mmengine passes over those that match nothing; stock configs have some that need not."""
    names = [name for name, _ in model.named_parameters()]
    idle = [key for key in keys if not any(key in name for name in names)]
    if idle:
        warn(
            f"optim_wrapper.paramwise_cfg.custom_keys has {quoted(idle)}, which is in no "
            "parameter's name: it changes nothing."
        )


def check_saving(cfg) -> None:
    """What hooks that go by an evaluation are told they first look at after it.

    Raises:
        BadInput: An option that CheckpointHook does not have, or a best checkpoint or an early
            stop by what nothing reports.
    """
    from mmengine.hooks import CheckpointHook
    from mmengine.runner import Runner

    for where, options in _hooks(cfg):
        if isinstance(options, dict) and type_name(options) == "EarlyStoppingHook":
            check_reported(cfg, options.get("monitor"), f"{where}.monitor")
        if not isinstance(options, dict) or type_name(options) != "CheckpointHook":
            continue
        takes = {*inspect.signature(CheckpointHook).parameters, "type", "priority", "_scope_"}
        takes |= {*inspect.signature(Runner.save_checkpoint).parameters}
        if unknown := [name for name in options if name not in takes]:
            raise BadInput(f"{where}: CheckpointHook has no option {quoted(unknown)}.")
        best = options.get("save_best")
        for metric in [best] if isinstance(best, str) else best or ():
            check_reported(cfg, metric, f"{where}.save_best")


def _hooks(cfg) -> Iterator[tuple[str, dict]]:
    """Where each hook stands in the config, and its options."""
    for options in cfg.get("custom_hooks") or ():
        yield "custom_hooks", options
    for name, options in (cfg.get("default_hooks") or {}).items():
        if isinstance(options, dict) and "type" in options:
            yield f"default_hooks.{name}", options


def _our_hook(options, where: str):
    """The hook of this config if it is one of ours, else None."""
    from mmengine.registry import HOOKS

    if not isinstance(options, dict):
        return None
    kind = _registered(HOOKS, options.get("type"))
    if kind is None:
        raise BadInput(
            f"{where}: there is no hook {options.get('type')!r}; correct the name, or import "
            "the module that registers it with custom_imports."
        )
    if not kind.__module__.startswith("normfix_mm."):
        return None
    arguments = {k: v for k, v in options.items() if k not in ("type", "priority", "_scope_")}
    try:
        return kind(**copy.deepcopy(arguments))
    except TypeError as error:  # an option that the hook does not have
        takes = ", ".join(inspect.signature(kind).parameters) or "no option"
        raise BadInput(f"{where}: {one_line(error)}; it takes {takes}.") from None
    except ValueError as error:
        raise BadInput(f"{where}: {one_line(error)}") from None


def _registered(registry, kind):
    """What a config's `type` stands for in its default scope; None if nothing."""
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as present:
        return present.get(kind)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the constructor's notes on parameters, which the run will print itself."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
