"""The measurement of scale-invariance: slopes, forwards with scaled weights, bisection.

What is measured and why is said in `invariance`; here is how.
"""

import math
from collections.abc import Callable, Sequence
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
from normfix_mm.analysis.perturbations import TINY_EPS, perturb, tiny_eps
from normfix_mm.analysis.snapshot import Snapshot

MOST_SCALED_ALONE = 16
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


class Probe:
    """The measurement of a model inside a `Snapshot`; arguments as of `find_scale_variant`."""

    def __init__(
        self,
        model: nn.Module,
        run: Callable[[nn.Module], object],
        params: dict[str, Tensor],
        scale: float,
        tol: float,
        snapshot: Snapshot,
    ) -> None:
        self.model, self.run, self.snapshot = model, run, snapshot
        self.params = params
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
        self.perturbed_base, again, random_again = self._screen(perturbed=True)
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
            unreached=[n for n in self.params if not self.random_slope[n] and n not in variant],
            forwards=self.forwards,
        )

    def _confirmed(self, name: str) -> dict[str, float]:
        """The name and its change, unless that is little beside a random step's.

        Little is `tol`, on the average of the network and the perturbed one. Where both the
        rescaling and the random step stay below rounding the network is not used; if both networks
        are unusable the gradient decides, which rounding blurs less.
        """
        changes, ratios = [], []
        for perturbed, before in ((False, self.base), (True, self.perturbed_base)):
            changes.append(self._change(self._outputs([name], perturbed), before))
            step = self._change(self._stepped(name, perturbed), before)
            if max(changes[-1], step) > ROUNDING:
                ratios.append(changes[-1] / step if 0 < step < math.inf else math.inf)
            if sum(ratios) > 2 * self.tol:
                break
        innocent = ratios and sum(ratios) / len(ratios) <= self.tol
        return {} if innocent else {name: max(changes)}

    def _by_eps(self, variant: dict[str, float]) -> dict[str, float]:
        """Those that are invariant once no norm adds anything to a variance."""
        found: dict[str, float] = {}
        left = dict(list(variant.items())[:MOST_SCALED_ALONE])
        for tiny in TINY_EPS:
            shares = dict.fromkeys(left, 0.0)  # of the change, what is left of it
            with tiny_eps(self.model, tiny):
                for perturbed in (False, True):
                    asked = [name for name, share in shares.items() if share <= EPS_SHARE]
                    base = self._outputs([], perturbed) if asked else []
                    for name in asked:
                        change = self._change(self._outputs([name], perturbed), base)
                        shares[name] = change / left[name]
            found |= {name: left[name] for name, share in shares.items() if share <= EPS_SHARE}
            # Nothing is left to ask of a weight that hardly feels the eps.
            left = {n: left[n] for n, share in shares.items() if EPS_SHARE < share < 0.5}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _parted(self, slope: dict[str, float], random_slope: dict[str, float]) -> tuple[list, list]:
        """Names whose slope is small beside a random direction's, and the others, largest first."""
        ratio = {n: slope[n] / (random_slope[n] or 1.0) for n in slope}
        suspects = [n for n in slope if not ratio[n] <= self.tol]
        return [n for n in slope if ratio[n] <= self.tol], sorted(suspects, key=lambda n: -ratio[n])

    def _screen(
        self, perturbed: bool = False
    ) -> tuple[list[Tensor], dict[str, float], dict[str, float]]:
        """The outputs; per name, how fast they change along log |w|, and how fast they would change
        in a random direction. `perturbed`: in the perturbed network."""
        params = list(self.params.values())
        for param in params:
            param.requires_grad_(True)
        with torch.enable_grad():
            outputs = self._forward(lambda: None, perturbed)
            grads: Sequence[Tensor | None] | None = _gradients(projection(outputs), params)
            if grads is None:  # perhaps in a reentrant checkpoint, and the graph is spent
                outputs = self._forward(lambda: None, perturbed)
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

    def _outputs(self, names: list[str], perturbed: bool = False) -> list[Tensor]:
        """The outputs with these weights scaled, each by its factor."""

        def scale() -> None:
            for name in names:
                self.params[name].data.mul_(self.factor[name])

        with torch.no_grad():
            return [out.clone() for out in self._forward(scale, perturbed)]  # may alias a buffer

    def _stepped(self, name: str, perturbed: bool) -> list[Tensor]:
        """The outputs with this weight moved as far as its scaling does, but at random."""

        def step() -> None:
            param = self.params[name].data
            noise = torch.randn(param.shape, generator=torch.Generator().manual_seed(2)).to(param)
            length = abs(self.factor[name] - 1) * param.norm()
            param.add_(noise * (length / noise.norm()))

        with torch.no_grad():
            return [out.clone() for out in self._forward(step, perturbed)]

    def _forward(self, edit: Callable[[], None], perturbed: bool = False) -> list[Tensor]:
        self.snapshot.rewind()
        if perturbed:
            perturb(self.model, but=self.params)
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


def _gradients(total: Tensor, params: list[Tensor]) -> Sequence[Tensor] | None:
    """Gradients of one number, None if some of them may come in `backward()` alone.

    A reentrant checkpoint hides its parameters: either it says so, or they look unused.
    """
    try:
        grads = torch.autograd.grad(total, params, allow_unused=True)
    except RuntimeError as error:
        if "backward through the graph a second time" in str(error):
            raise ValueError(
                "run(model) has called backward already; let it only return the losses."
            ) from None
        if "checkpoint" not in str(error):
            raise
        return None
    found = [grad for grad in grads if grad is not None]
    return found if len(found) == len(params) else None
