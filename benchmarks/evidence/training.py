"""One run: settings in, a log of losses, norms and accuracies out. Finished runs are kept."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

import normfix_mm as nf
from benchmarks.evidence import network
from benchmarks.evidence.images import Images, augmented, normalized
from normfix_mm.checkpoints.whole_file import replacing

BATCH, LOGGED = 64, 20  # images a step, steps between lines of the log


@dataclass(frozen=True)
class Settings:
    """What a run is.

    Attributes:
        form: of the convolutions: 'plain', 'WN', 'WS' or 'CWN'.
        optimizer: 'sgd' (Nesterov's momentum .9) or 'adam' (coupled decay).
        lam, eps: λ of everything that decays; ε of the ε-shift on normalized weights, 0 for decay.
        classifier: 'plain', 'WN' or 'FixNorm'; alpha and gain_start of the latter.
        fixed: what the norm is fixed of: '', 'conv' or 'conv+classifier'.
        warmup: steps; the rest is one cosine to zero.
        depthwise, thin: pairs with depthwise convolutions; these normalized too.
    """

    form: str = "plain"
    optimizer: str = "sgd"
    lr: float = 0.1
    lam: float = 0.0
    eps: float = 0.0
    classifier: str = "plain"
    alpha: float = 4.0
    gain_start: str = "cap"
    fixed: str = ""
    warmup: int = 300
    epochs: int = 10
    depthwise: bool = False
    thin: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the run's folder: what differs from the defaults."""
        there = {k: v for k, v in asdict(self).items() if v != getattr(Settings, k)}
        return ",".join(f"{k}={v}" for k, v in there.items()) or "default"


def kept(settings: Settings, runs: Path) -> Path:
    """The file of a finished run."""
    return runs / f"{settings.name}.json"


def train(settings: Settings, data: tuple[Images, Images], runs: Path) -> dict:
    """The run's result, from disk if it has one.

    Returns:
        accuracy (of the test images, after the last step), alive (all was finite), stopped (the
        step at which it was not), minutes, log (of each logged quantity its values).
    """
    path = kept(settings, runs)
    if path.exists():
        return json.loads(path.read_text())
    start = time.perf_counter()
    torch.manual_seed(settings.seed)
    random = torch.Generator().manual_seed(settings.seed)
    images, tests = data
    model = build(settings)
    optimizer, layers = prepare(model, settings)
    steps = settings.epochs * (len(images.labels) // BATCH)
    log: dict[str, list] = {}
    alive = True
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for step in range(steps):
        if step % (steps // settings.epochs) == 0:
            order = torch.randperm(len(images.labels), generator=random)
        rows = order[BATCH * (step % (len(order) // BATCH)) :][:BATCH]
        warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
        rate = settings.lr * warm * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        pictures = augmented(images.pixels[rows], random)
        # A fifth less time on a CPU.
        features = model[:-1](pictures.contiguous(memory_format=torch.channels_last))
        loss = criterion(model[-1](features), images.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        if step % LOGGED == 0:
            seen = looked_at(model, layers, step, rate, loss, features, images.labels[rows])
            for name, value in seen.items():
                rounded = value if name == "step" else float(f"{value:.4g}")
                log.setdefault(name, []).append(rounded)
        alive = all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        if not alive:
            break
        optimizer.step()
    result = dict(
        settings=asdict(settings),
        accuracy=accuracy(model, tests) if alive else 0.0,
        alive=alive,
        stopped=None if alive else step,
        minutes=round((time.perf_counter() - start) / 60, 2),
        log=log,
    )
    with replacing(path) as part:
        part.write_text(json.dumps(result))
    return result


def build(settings: Settings) -> nn.Module:
    rules = {"plain": {}, "WN": dict(form="WN")}
    rules["FixNorm"] = dict(form="FixNorm", alpha=settings.alpha, gain_start=settings.gain_start)
    return network.build(
        settings.form, rules[settings.classifier], settings.depthwise, settings.thin
    )


def prepare(model: nn.Module, settings: Settings) -> tuple[torch.optim.Optimizer, list[nn.Module]]:
    """Optimizer with the treatments attached, and the convolutions whose weights are watched."""
    shifted = settings.form != "plain" and settings.lam > 0 and settings.eps > 0
    groups = nf.param_groups(
        model,
        weight_decay=settings.lam,
        eps_shift=shifted,
        norm_fix=dict(weights=settings.fixed) if settings.fixed else False,
        decay_norms=False,
    )
    if settings.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, lr=settings.lr)
    else:
        optimizer = torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True)
    if shifted:
        nf.EpsShift(optimizer, model, lam=settings.lam, eps=settings.eps)
    if settings.fixed:
        nf.NormFix(optimizer, model, weights=settings.fixed)
    return optimizer, [m for m in model.modules() if isinstance(m, nn.Conv2d)]


@torch.no_grad()
def looked_at(model, layers, step: int, rate: float, loss, features, labels) -> dict:
    """One line of the log."""
    weights = [layer.weight for layer in layers]
    joint = torch.stack([w.norm() for w in weights]).norm()
    rows = [w.flatten(1) for w in weights if w[0].numel() > 1]
    classifier = model[-1]
    gain = getattr(classifier, "g", None)
    effective = getattr(classifier, "normalized_weight", lambda: classifier.weight)()
    return dict(
        step=step,
        loss=float(loss),
        lr=rate,
        joint_norm=float(joint),
        effective_lr=float(nf.effective_learning_rate(rate, weights)),
        first_effective_lr=float(nf.effective_learning_rate(rate, weights[0])),
        largest_inverse_norm=max(float(1 / r.norm(dim=1).min()) for r in rows),
        largest_inverse_std=max(float(1 / r.std(1).min()) for r in rows),
        gain=float(effective.norm() if gain is None else gain),
        cross_boundary_risk=float(
            nf.mean_cross_boundary_risk(features, labels, classifier.weight).mean()
        ),
    )


@torch.no_grad()
def accuracy(model: nn.Module, tests: Images) -> float:
    """Share of the test images that are recognized, in percent."""
    model.eval()
    right = sum(
        int((model(normalized(pixels)).argmax(1) == labels).sum())
        for pixels, labels in zip(tests.pixels.split(500), tests.labels.split(500))
    )
    return 100 * right / len(tests.labels)
