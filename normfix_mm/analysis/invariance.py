"""Which weights of a model are really scale-invariant, measured on the model itself.

Norm fixing (FixNorm, Algorithm 1) multiplies weights by a factor after every step. That is harmless
only where the factor cancels: behind a norm in training mode, or inside a weight normalization.
`find_scale_variant` finds the weights where it does not, whatever the model is made of.

How: a weight w is scale-invariant where <w, dL/dw> = 0, so the backward pass of one forward
screens all weights at once. By chance the slope of one that is not may be near 0 as well, so
they are screened again after perturbing norm weights, gains and biases ("elsewhere" below): true
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from normfix_mm.analysis.outputs import (
    mean_of_ranks,
    projection,
    relative_change,
    tensors,
    worst_of_ranks,
)
from normfix_mm.analysis.snapshot import Snapshot
from normfix_mm.errors import listing
from normfix_mm.optim.weights import NORMS, WeightInfo, norm_fix_weights, unwrapped, weights_of

MOST_SCALED_ALONE = 16
TINY_EPS = 1e-12
EPS_SHARE = 0.05  # eps has caused a change if no more of it than this is left without eps
ROUNDING = 2.5e-7  # relative; twice the eps of float32


@dataclass
class ScaleReport:
    """What was measured.

    Attributes:
        variant: name to relative change.
        by_eps: the same for weights that are variant only by the eps of a norm behind them.
        unreached: names that no output depends on.
        forwards: how many were spent.
    """

    variant: dict[str, float] = field(default_factory=dict)
    by_eps: dict[str, float] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    forwards: int = 0


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
        _revive(model)
        snapshot.remember_weights()
        return _Probe(model, run, params, scale, tol, snapshot).judge()


def eps_note(model: nn.Module, by_eps: dict[str, float]) -> str:
    """What is to be said of weights that are variant only by the eps of a norm."""
    eps = sorted({m.eps for m in unwrapped(model).modules() if isinstance(m, NORMS)}, reverse=True)
    names = [f"{name} ({change:.1e})" for name, change in by_eps.items()]
    return (
        f"{len(by_eps)} weights are so small that the eps of the norm behind them "
        f"({listing(f'{e:g}' for e in eps)}) keeps them from being quite scale-invariant (change "
        f"of the outputs when the weight doubles): {listing(names)}."
    )


class _Probe:
    """The measurement, inside a snapshot."""

    def __init__(self, model, run, params, scale, tol, snapshot) -> None:
        self.model, self.run, self.snapshot = model, run, snapshot
        self.params: dict[str, Tensor] = params
        self.scale, self.tol = scale, tol
        self.forwards = 0
        # Different factors, from scale to its cube in random order: layers that are added up in one
        # residual stream would, by one factor, scale the sum as a whole, and a norm behind it would
        # hide that.
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(params), generator=generator).tolist()
        self.factor = {
            name: scale ** (1 + 2 * k / len(params)) for name, k in zip(params, order, strict=True)
        }

    def judge(self) -> ScaleReport:
        self.base, slope, self.random_slope = self._screen()
        innocent, suspects = self._parted(slope, self.random_slope)
        self.base_elsewhere, again, random_again = self._screen(elsewhere=True)
        if all(map(math.isfinite, (*again.values(), *random_again.values()))):
            _, late = self._parted(again, random_again)
            suspects += [name for name in late if name in innocent]
            innocent = [name for name in innocent if name not in late]
            slope |= {name: again[name] for name in late if again[name] > slope[name]}
        outputs = self._outputs(innocent) if innocent else self.base
        failed = self._excess(outputs, self.base, innocent) > 1
        if suspects or failed:
            self._refuse_random_outputs()
        variant = self._bisect([], innocent, self.base) if failed else {}

        self.factor = dict.fromkeys(self.params, self.scale)
        for name in variant:
            variant[name] = self._change(self._outputs([name]), self.base)
        for name in suspects[:MOST_SCALED_ALONE]:
            variant |= self._confirmed(name)
        for name in suspects[MOST_SCALED_ALONE:]:
            variant.setdefault(name, slope[name] * abs(math.log(self.scale)))
        variant = dict(sorted(variant.items(), key=lambda item: -item[1]))
        by_eps = self._by_eps(variant)
        return ScaleReport(
            variant={n: change for n, change in variant.items() if n not in by_eps},
            by_eps=by_eps,
            unreached=[n for n in self.params if self.random_slope[n] == 0],
            forwards=self.forwards,
        )

    def _confirmed(self, name: str) -> dict[str, float]:
        """The name and its change, unless that is little beside a random step's.

        Little is `tol`, on the average of the network and the perturbed one. Where both the
        rescaling and the random step stay below rounding the network is not used; if both networks
        are unusable the gradient decides, which rounding blurs less.
        """
        changes, ratios = [], []
        for elsewhere, before in ((False, self.base), (True, self.base_elsewhere)):
            changes.append(self._change(self._outputs([name], elsewhere), before))
            step = self._change(self._stepped(name, elsewhere), before)
            if max(changes[-1], step) > ROUNDING:
                ratios.append(changes[-1] / step if 0 < step < math.inf else math.inf)
            if sum(ratios) > 2 * self.tol:
                break
        innocent = ratios and sum(ratios) / len(ratios) <= self.tol
        return {} if innocent else {name: max(changes)}

    def _by_eps(self, variant: dict[str, float]) -> dict[str, float]:
        """Those that are invariant once no norm adds anything to a variance."""
        if not variant:
            return {}
        found = dict(list(variant.items())[:MOST_SCALED_ALONE])
        with _tiny_eps(self.model):
            for elsewhere in (False, True):
                base = self._outputs([], elsewhere)
                for name, before in list(found.items()):
                    change = self._change(self._outputs([name], elsewhere), base)
                    if change > EPS_SHARE * before:
                        del found[name]
        return found

    def _parted(self, slope: dict[str, float], random_slope: dict[str, float]) -> tuple[list, list]:
        """Names whose slope is small beside a random direction's, and the others, largest first."""
        ratio = {n: slope[n] / (random_slope[n] or 1.0) for n in slope}
        suspects = [n for n in slope if not ratio[n] <= self.tol]
        return [n for n in slope if ratio[n] <= self.tol], sorted(suspects, key=lambda n: -ratio[n])

    def _screen(
        self, elsewhere: bool = False
    ) -> tuple[list[Tensor], dict[str, float], dict[str, float]]:
        """The outputs; per name, how fast they change along log |w|, and how fast they would change
        in a random direction. `elsewhere`: in the perturbed network."""
        params = list(self.params.values())
        for param in params:
            param.requires_grad_(True)
        with torch.enable_grad():
            outputs = self._forward(lambda: None, elsewhere)
            grads = _gradients(projection(outputs), params)
            if grads is None:  # a reentrant checkpoint, and its graph is spent
                outputs = self._forward(lambda: None, elsewhere)
                projection(outputs).backward()
                grads = [param.grad for param in params]
                self.model.zero_grad(set_to_none=True)
        slopes, lengths = [], []
        for param, grad in zip(params, grads, strict=True):
            w = param.detach().double()
            g = torch.zeros_like(w) if grad is None else grad.double()
            slopes.append(float((w * g).sum()))
            lengths.append(float(w.norm() * g.norm() / math.sqrt(w.numel())))
        # SyncBN couples the ranks: the loss of one has a slope, the mean over all of them has none.
        slopes = [abs(slope) for slope in mean_of_ranks(slopes)]
        return (
            [out.detach().clone() for out in outputs],
            dict(zip(self.params, slopes, strict=True)),
            dict(zip(self.params, worst_of_ranks(lengths), strict=True)),
        )

    def _bisect(self, kept: list[str], names: list[str], before: list[Tensor]) -> dict[str, float]:
        """At least one name: those in `names` whose scaling makes the difference, and how large.

        The second half is scaled on top of the first, so the two changes add up to the whole.
        """
        if len(names) == 1:
            return {names[0]: self._change(self._outputs(kept + names), before)}
        left, right = names[: len(names) // 2], names[len(names) // 2 :]
        between = self._outputs(kept + left)
        excess_left = self._excess(between, before, left)
        excess_right = self._excess(self._outputs(kept + names), between, right)
        found: dict[str, float] = {}
        if excess_left > 1 or excess_left >= excess_right:
            found |= self._bisect(kept, left, before)
        if excess_right > 1 or excess_right > excess_left:
            found |= self._bisect(kept + left, right, between)
        return found

    def _outputs(self, names: list[str], elsewhere: bool = False) -> list[Tensor]:
        """The outputs with these weights scaled, each by its factor."""

        def scale() -> None:
            for name in names:
                self.params[name].data.mul_(self.factor[name])

        with torch.no_grad():
            return [out.clone() for out in self._forward(scale, elsewhere)]  # may alias a buffer

    def _stepped(self, name: str, elsewhere: bool) -> list[Tensor]:
        """The outputs with this weight moved as far as its scaling does, but at random."""

        def step() -> None:
            param = self.params[name].data
            noise = torch.randn(param.shape, generator=torch.Generator().manual_seed(2)).to(param)
            length = abs(self.factor[name] - 1) * param.norm()
            param.add_(noise * (length / noise.norm()))

        with torch.no_grad():
            return [out.clone() for out in self._forward(step, elsewhere)]

    def _forward(self, edit: Callable[[], None], elsewhere: bool = False) -> list[Tensor]:
        self.snapshot.rewind()
        if elsewhere:
            _disturb(self.model, but=self.params)
        edit()
        self.forwards += 1
        return tensors(self.run(self.model))

    def _excess(self, outputs: list[Tensor], before: list[Tensor], names: list[str]) -> float:
        """The change, as a multiple of what passes."""
        change = self._change(outputs, before)
        steps = [math.log(self.factor[n]) * self.random_slope[n] for n in names]
        passes = self.tol * math.hypot(*(s for s in steps if math.isfinite(s)))
        return change / max(passes, 1e-30) if change else 0.0

    def _change(self, outputs: list[Tensor], before: list[Tensor]) -> float:
        return worst_of_ranks([relative_change(outputs, before)])[0]

    def _refuse_random_outputs(self) -> None:
        """A changed output may only mean that `run` is not repeatable."""
        change = self._change(self._outputs([]), self.base)
        if change > 1e-4:
            raise ValueError(
                f"Two forwards with the same weights and random state differ by {change:.1e}, so "
                "scaling cannot be told from chance; let run(model) repeat the same batch."
            )


def _gradients(total: Tensor, params: list[Tensor]) -> Sequence[Tensor | None] | None:
    """Gradients of one number, None if a part of the graph works in `backward()` alone."""
    try:
        return torch.autograd.grad(total, params, allow_unused=True)
    except RuntimeError as error:
        if "checkpoint" not in str(error):
            raise
        return None


def _selected(model: nn.Module, weights: Iterable[WeightInfo | str] | None) -> dict[str, Tensor]:
    if weights is None:
        return {w.name: w.param for w in norm_fix_weights(model)}
    known = dict(model.named_parameters(remove_duplicate=False))
    names = [w if isinstance(w, str) else w.name for w in weights]
    unknown = [n for n in names if n not in known]
    if unknown:
        raise ValueError(
            f"The model has no parameter {listing(unknown)}; there are: {listing(known)}."
        )
    return {n: known[n] for n in names}


@contextmanager
def _tiny_eps(model: nn.Module) -> Iterator[None]:
    """Norms whose eps is next to nothing, for the time of the block."""
    norms = [(m, m.eps) for m in model.modules() if isinstance(m, NORMS)]
    for norm, _ in norms:
        norm.eps = TINY_EPS
    try:
        yield
    finally:
        for norm, eps in norms:
            norm.eps = eps


def _revive(model: nn.Module) -> None:
    """Replace weights that are zero, which hide themselves and all that lies before them.

    A zero convolution gets a random direction; a zero norm weight (`zero_init_residual`), gain or
    scalar becomes 1. Biases stay.
    """
    generator = torch.Generator().manual_seed(0)
    for info in weights_of(model):
        param = info.param.data
        if info.name.endswith("bias") or param.numel() == 0 or param.any():
            continue
        if info.kind in ("norm", "gain") or param.dim() == 0:
            param.fill_(1.0)
        else:
            fan_in = param[0].numel()
            param.copy_(torch.randn(param.shape, generator=generator) / math.sqrt(fan_in))


def _disturb(model: nn.Module, but: dict[str, Tensor]) -> None:
    """Perturb the network: norm weights, gains and biases that are not judged change at random."""
    generator = torch.Generator().manual_seed(1)
    for info in weights_of(model):
        param = info.param.data
        if info.name in but or info.kind not in ("norm", "gain", "bias"):
            continue
        noise = torch.randn(param.shape, generator=generator).to(param)
        param.mul_((0.5 * noise).exp())
        if info.kind == "bias" or info.name.endswith("bias"):  # of a norm
            param.add_(0.1 * noise)
