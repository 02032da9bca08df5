"""Whether the weights that a treatment was given are still those of the model.

A layer may be replaced afterwards (a new classifier, a new backbone), or be normalized only then;
the treatment would go on with what nobody uses, and pass over what came in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from operator import is_

from torch import nn
from torch.optim import Optimizer

from normfix_mm.errors import Stopped, listing
from normfix_mm.layers.base import adoptions
from normfix_mm.optim.claims import params_of
from normfix_mm.optim.weights import WeightInfo

_Edge = tuple[nn.Module, str, nn.Module]


class Residence:
    """The selected weights in their model and in their optimizer.

    Args:
        who: the treatment's class.
        select: gives the weights that the treatment would be given now.

    Raises:
        ValueError: the optimizer has nothing to do with the model.
    """

    def __init__(
        self,
        who: str,
        model: nn.Module,
        optimizer: Optimizer,
        select: Callable[[], list[WeightInfo]],
    ) -> None:
        self.who, self.model, self.optimizer, self.select = who, model, optimizer, select
        self.infos = select()
        self._order = params_of(optimizer)
        self.held = set(self._order)
        all_frozen = not any(info.param.requires_grad for info in self.infos)
        if self.infos and all_frozen and self.held.isdisjoint(model.parameters()):
            raise ValueError(
                f"{who}: the optimizer holds no parameter of this model, whose weights are all "
                "frozen; give the model that the optimizer trains, not a teacher or a copy."
            )
        # Frozen, and not the optimizer's.
        self._apart = [info for info in self.infos if info.param not in self.held]
        self._forms = [info.form for info in self.infos]
        self._adoptions = adoptions()
        self._edges = self._find_edges()

    def look(self) -> bool:
        """Once a step; whether the optimizer holds other parameters than before.

        Raises:
            Stopped: a weight is no longer in the model, the model has others by now, or a weight
                thawed that the optimizer does not hold.
        """
        if any(parent._modules.get(key) is not child for parent, key, child in self._edges):
            self._refuse_absent()
            self._edges = self._find_edges()  # a wrapper was put around a layer
        order = params_of(self.optimizer)
        same = len(order) == len(self._order) and all(map(is_, order, self._order))
        if not same or self._adoptions != adoptions():
            self._order, self._adoptions = order, adoptions()
            self.held = set(order)
            self._apart = [info for info in self._apart if info.param not in self.held]
            self._refuse_others()
        if any(info.param.requires_grad for info in self._apart):
            self._refuse_thawed()
        return not same

    def _refuse_thawed(self) -> None:
        thawed = [info for info in self._apart if info.param.requires_grad]
        raise Stopped(
            f"{self.who}: {listing(thawed)} trains by now, and the optimizer does not hold it: give"
            " it to this optimizer (add_param_group), or leave it out with exclude= where another "
            "trains it."
        )

    def _refuse_absent(self) -> None:
        present = set(self.model.modules())
        absent = [info for info in self.infos if info.module not in present]
        if absent:
            raise Stopped(
                f"{self.who}: the layers of {listing(absent)} were replaced after {self.who} was "
                "attached, so it would edit what the model no longer uses: remove() it and attach "
                "it to the optimizer of the finished model."
            )

    def _refuse_others(self) -> None:
        before = dict(zip([i.param for i in self.infos], self._forms, strict=True))
        now = {info.param: info for info in self.select()}
        others = [i for p, i in now.items() if p not in before or before[p] != i.form]
        if others:
            raise Stopped(
                f"{self.who}: {listing(others)} came into the model or were normalized after "
                f"{self.who} was attached: remove() it and attach it to the optimizer of the "
                "finished model."
            )

    def _find_edges(self) -> list[_Edge]:
        return list(_ways(self.model, {info.module for info in self.infos}))


def _ways(module: nn.Module, targets: Collection[nn.Module]) -> Iterator[_Edge]:
    """All steps from a module to a child on the ways to the targets."""
    for key, child in module._modules.items():
        below = [] if child is None else list(_ways(child, targets))
        if child is not None and (below or child in targets):
            yield module, key, child
            yield from below
