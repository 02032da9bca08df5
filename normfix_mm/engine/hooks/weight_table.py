"""The table of what every parameter gets, printed when the weights are those training starts from.

The optimizer constructor runs before the weights are initialized or loaded and norm fixing joins
only in `before_train`, so the one table both belong in comes after them.
"""

from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS

from normfix_mm.analysis.tables import treatment_table
from normfix_mm.engine.hooks.as_trained import AsTrained
from normfix_mm.engine.optim_wrapper_constructor import refuse_ignored_eps_shift
from normfix_mm.layers.gain import settle_before_training
from normfix_mm.optim.weights import unwrapped


@HOOKS.register_module(force=True)
class WeightTableHook(AsTrained):
    """Before training: print the table, of the model as it will be trained.

    One table for each optimizer of the run, over all parameters of the model.

    Raises:
        BadInput: the config asks for the regularizer and its optimizer constructor ignores it.
    """

    # After NormFixHook (55) has claimed its weights.
    priority = 57

    def before_train(self, runner) -> None:
        refuse_ignored_eps_shift(runner.cfg.get("optim_wrapper"))
        model = unwrapped(runner.model)
        if runner.cfg.get("compile"):
            settle_before_training(model)
        several = isinstance(runner.optim_wrapper, OptimWrapperDict)
        wrappers = dict(runner.optim_wrapper.items()) if several else {"": runner.optim_wrapper}
        for name, wrapper in wrappers.items():
            of = f" (optimizer {name!r})" if name else ""
            table = treatment_table(model, wrapper.optimizer)
            print_log(f"Treatment of every parameter{of}:\n{table}", logger="current")
