"""The Runner of a config. Several processes run on GPUs, or without a GPU over gloo."""

from __future__ import annotations

import os
from datetime import timedelta

from normfix_mm.errors import BadInput


def build_runner(cfg):
    """Runner of the config, of its ``runner_type`` where it names one.

    Raises:
        BadInput: Several processes without a GPU, by another launcher than torchrun.
    """
    from mmdet.utils import setup_cache_size_limit_of_dynamo
    from mmengine.device import get_device
    from mmengine.registry import RUNNERS

    from normfix_mm.run.console import QuietRunner

    setup_cache_size_limit_of_dynamo()
    if cfg.launcher != "none" and get_device() == "cpu":
        _join_on_cpu(cfg)
    return RUNNERS.build(cfg) if "runner_type" in cfg else QuietRunner.from_cfg(cfg)


def _join_on_cpu(cfg) -> None:
    """Start the process group over gloo and wrap the model for it: mmengine asks for GPUs in both.

    The Runner finds the group started and leaves it alone. Writes ``cfg.model_wrapper_cfg`` and
    ``cfg.sync_bn``.
    """
    from mmengine.registry import MODEL_WRAPPERS
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    if cfg.launcher != "pytorch" or "RANK" not in os.environ:
        raise BadInput(
            f"--launcher {cfg.launcher}: without a GPU the processes must be started by torchrun "
            "(bash tools/dist_train.sh CONFIG PROCESSES); or leave --launcher out."
        )
    if not distributed.is_initialized():
        timeout = cfg.get("env_cfg", {}).get("dist_cfg", {}).get("timeout")  # seconds
        distributed.init_process_group("gloo", timeout=timeout and timedelta(seconds=timeout))
    wrapper = cfg.get("model_wrapper_cfg") or dict(
        broadcast_buffers=False,  # as mmengine's own default
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    wrapper.setdefault("type", "MMDistributedDataParallel")
    if issubclass(MODEL_WRAPPERS.get(wrapper["type"]), DistributedDataParallel):
        wrapper.setdefault("device_ids", None)
    cfg.model_wrapper_cfg = wrapper
    cfg.sync_bn = None  # needs GPUs
