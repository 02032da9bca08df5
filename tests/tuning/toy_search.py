"""A small config for searches on a landscape, and the function that tunes it."""

import sys
from pathlib import Path

from mmengine.config import Config

from normfix_mm.tuning import tune

COMMAND = [sys.executable, str(Path(__file__).with_name("landscape.py"))]
TMAX = 100


def toy_config(decay: bool = False, **landscape) -> Config:
    """A config with FixNorm (or with decay) whose training is a formula."""
    told = dict(lr=0.0145, alpha=0.5, power=0.675, tmax=TMAX) | landscape
    head = dict(type="RetinaHead") if decay else dict(type="FixNormRetinaHead", alpha=1.0)
    return Config(
        dict(
            default_scope="mmdet",
            model=dict(type="RetinaNet", bbox_head=head),
            optim_wrapper=dict(
                optimizer=dict(type="SGD", lr=0.01, weight_decay=1e-4 if decay else 0.0)
            ),
            custom_hooks=[] if decay else [dict(type="NormFixHook")],
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=TMAX, val_interval=TMAX),
            val_dataloader=dict(batch_size=1),
            val_evaluator=dict(type="CocoMetric", metric="bbox"),
            landscape=told,
        )
    )


def search(config: Config, out: Path, **options):
    """Tune it, quickly."""
    return tune(config, out=out, **dict(command=COMMAND, pace=0.2) | options)
