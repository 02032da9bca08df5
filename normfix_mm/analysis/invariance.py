"""Which weights of a model are really scale-invariant, measured on the model itself.

Norm fixing (FixNorm, Algorithm 1) multiplies weights by a factor after every step. That is harmless
only where the factor cancels: behind a norm in training mode, or inside a weight normalization.
`find_scale_variant` finds the weights where it does not, whatever the model is made of.

How: a weight w is scale-invariant where <w, dL/dw> = 0, so the backward pass of one forward
screens all weights at once. By chance the slope of one that is not may be near 0 as well, so
they are screened again in a network whose norm weights, gains and biases are perturbed: true
invariance survives that, an accidental zero slope does not. A third forward, with all innocent
weights scaled, each by its own factor, confirms it; where that fails, bisection names the
offenders. Suspects are scaled one by one, in either network. A model that passes costs three
forwards.

The yardstick. A loss may hardly feel a layer (RetinaNet's focal loss at its prior moves by 5e-6
when P7's convolution doubles), and the eps of a norm makes true invariance approximate, so no
threshold on the change of the loss separates them. Both are therefore compared with what a step of
the same length in a random direction would do: |w| |dL/dw| / sqrt(n) in the screens, and the step
itself for a suspect (a BN over two values, as behind PSP's pool to one pixel, has no slope but that
of its eps, and still feels every turn of w). In these units a fresh RetinaNet R-50's plain
convolutions measure 0.9 to 5 and its convolutions before a BN at most 2e-4; with their weights at
1/10, which makes the BN's eps weigh 100 times more, at most 1e-2. `tol` = 0.1 stands between.

A weight may also fail because it is so small that the eps of the norm behind it counts, as in
networks with BN eps 1e-3 trained by the authors of FixNorm. What turns invariant once that eps is
next to nothing is reported apart, and is no reason to refuse.

A weak spot: a weight whose slope happens to be near 0 in both networks is overlooked if it is also
much weaker than the others. In 48 fresh narrow OCNets on random images 2 of 336 names were missing,
each of a pair (f_value, W) whose other half was named; with one network some 10 % were.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from normfix_mm.analysis.perturbations import norms_with_eps, revive
from normfix_mm.analysis.probe import Probe, ScaleReport
from normfix_mm.analysis.snapshot import Snapshot
from normfix_mm.errors import listing
from normfix_mm.optim.weights import WeightInfo, norm_fix_weights, unwrapped


def find_scale_variant(
    model: nn.Module,
    run: Callable[[nn.Module], object],
    weights: Iterable[WeightInfo | str] | None = None,
    scale: float = 2.0,
    tol: float = 0.1,
) -> dict[str, float]:
    """Names of the weights that are not scale-invariant, with the measured relative change.

    Every weight is really scaled, on real forwards in training mode. The model, its buffers,
    gradients, modes and all random states are afterwards what they were, also if `run` raises.
    All ranks of a process group must call it together; the verdict is the same on each.

    Args:
        model: the network; `model.train()` decides which norms use batch statistics, so a BN kept
            in evaluation mode by its owner (`norm_eval=True`) does not count as a norm.
        run: one forward, `run(model)` -> tensor or nested dict/list/tuple of tensors, best the
            losses. Called several times with the same random state; must not call backward.
        weights: the weights to judge (infos or names); default `norm_fix_weights(model)`.
        scale: a weight alone is multiplied by this; in the joint check, each by another factor
            between it and its cube.
        tol: the change that passes, in units of what a random step of equal length would change.

    Returns:
        name -> largest relative change of an output when the weight alone is multiplied by
        `scale`, the largest first; inf if an output became infinite. Empty if all are invariant.
        Of more than 16 suspects only the 16 clearest are scaled alone; for the others the change is
        extrapolated from the gradient. All this with zero weights and zero norm weights made
        non-zero for the time, since nothing shows through them.

    Raises:
        ValueError: invalid scale or tol, unknown names, no finite output, random outputs.

    Source: FixNorm, Algorithm 1 (its precondition); the test is ours.
    """
    report = measure_scale_variance(model, run, weights, scale, tol)
    if report.by_eps:
        warnings.warn(eps_note(model, report.by_eps), stacklevel=2)
    if report.unreached:
        warnings.warn(
            f"Scale-invariance could not be judged for {listing(report.unreached)}: no output "
            "depends on them in this batch; check again on a batch that uses them.",
            stacklevel=2,
        )
    return report.variant


def measure_scale_variance(
    model: nn.Module,
    run: Callable[[nn.Module], object],
    weights: Iterable[WeightInfo | str] | None = None,
    scale: float = 2.0,
    tol: float = 0.1,
    keep_modes: bool = False,
) -> ScaleReport:
    """As `find_scale_variant`, with all that was measured.

    Args:
        keep_modes: judge the model in its modules' present modes, instead of `model.train()`.
    """
    if not (math.isfinite(scale) and scale > 0 and abs(math.log(scale)) > 1e-3):
        raise ValueError(f"Invalid scale: {scale}; give a positive factor other than 1, e.g. 2.0.")
    if not 0 < tol < math.inf:
        raise ValueError(f"Invalid tol: {tol}; give a positive number, for example 0.1.")
    model = unwrapped(model)  # DDP's reducer expects a backward after every forward
    with Snapshot(model) as snapshot, ExitStack() as stack:
        for device in {"cpu", *(p.device.type for p in model.parameters())}:
            stack.enter_context(torch.autocast(device, enabled=False))
        if not keep_modes:
            model.train()
        params = _selected(model, weights)
        if not params:
            return ScaleReport()
        revive(model)
        snapshot.remember_weights()
        return Probe(model, run, params, scale, tol, snapshot).judge()


def eps_note(model: nn.Module, by_eps: dict[str, float]) -> str:
    """What is to be said of weights that are variant only by the eps of a norm."""
    each = {eps for _, eps in norms_with_eps(unwrapped(model))}
    eps = sorted({torch.finfo().eps if e is None else e for e in each}, reverse=True)
    names = [f"{name} ({change:.1e})" for name, change in by_eps.items()]
    return (
        f"{len(by_eps)} weights are so small that the eps of the norm behind them "
        f"({listing(f'{e:g}' for e in eps)}) keeps them from being quite scale-invariant (change "
        f"of the outputs when the weight doubles): {listing(names)}."
    )


def _selected(model: nn.Module, weights: Iterable[WeightInfo | str] | None) -> dict[str, Tensor]:
    if weights is None:
        return {w.name: w.param for w in norm_fix_weights(model)}
    known = dict(model.named_parameters(remove_duplicate=False))
    given = [weights] if isinstance(weights, str) else weights
    names = [w if isinstance(w, str) else w.name for w in given]
    unknown = [n for n in names if n not in known]
    if unknown:
        raise ValueError(
            f"The model has no parameter {listing(unknown)}; there are: {listing(known)}."
        )
    return {n: known[n] for n in names}
