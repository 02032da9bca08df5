"""The model as the first iteration will have it, before any hook looks at it.

mmengine sets the training mode after `before_train`, and many backbones freeze their first stages
there: a table of what is trained, or a joint norm, would count weights that never move. And a hook
that copies the model before training, as MMDetection's MeanTeacherHook does, would copy weights
just initialized beside gains of the weights before.
"""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.layers.gain import settle_gains
from normfix_mm.optim.weights import unwrapped


@HOOKS.register_module(force=True)
class AsTrainedHook(Hook):
    """Before training: training mode, and g = ||W|| where nobody has loaded, trained or written g.

    Every other hook of ours puts it into a run that has none.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        runner.model.train()
        settle_gains(unwrapped(runner.model))


class AsTrained(Hook):
    """A hook that looks at the model before training."""

    def before_run(self, runner) -> None:
        if not any(isinstance(hook, AsTrainedHook) for hook in runner.hooks):
            runner.register_hook(AsTrainedHook())
