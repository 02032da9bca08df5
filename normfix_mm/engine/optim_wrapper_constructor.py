"""An optimizer-wrapper constructor that attaches the epsilon-shifted regularizer.

    optim_wrapper = dict(
        optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
        constructor='EpsShiftOptimWrapperConstructor',
        paramwise_cfg=dict(eps_shift=dict(lam=1e-4, eps=1e-3), norm_decay_mult=0.))

It is mmengine's default constructor, all of whose options keep their meaning, and then:
weights that get the regularizer lose the optimizer's decay, even where a custom key gave them one;
biases, those of norm layers too, get no decay unless an option of the user gives them one (the
authors of the regularizer decay no bias); a shared parameter counts once; and parameters with equal
options share one group, because one group per parameter makes every optimizer step slow.
`WeightTableHook` prints the outcome.
"""

from collections.abc import Mapping

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.optim import Optimizer

from normfix_mm.errors import BadInput
from normfix_mm.optim.eps_shift import EpsShift
from normfix_mm.optim.param_groups import param_groups
from normfix_mm.optim.weights import unwrapped, weights_of

# No options: mmengine has multiplied rate and decay already and leaves the multipliers behind.
_SPENT = ("params", "lr_mult", "decay_mult")
# In an optimizer's state.
_NAMES = "names"
_OPTIONS = ("lam", "eps", "include", "exclude", "decoupled")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class EpsShiftOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Default constructor plus `EpsShift`, for any optimizer and any optimizer wrapper.

    The regularizer is kept as `optim_wrapper.optimizer.eps_shift`.

    Args:
        optim_wrapper_cfg: as for the default constructor.
        paramwise_cfg: as for the default constructor, with one more key, `eps_shift`: the options
            `lam`, `eps`, `include`, `exclude` and `decoupled` of `normfix_mm.EpsShift`, or None
            for ordinary decay. Without the key the defaults of `EpsShift` hold.

    Raises:
        ValueError: for an unknown option in `eps_shift`, or `bypass_duplicate=False`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        self.eps_shift = _checked_options(paramwise_cfg.pop("eps_shift", {}))
        if not paramwise_cfg.setdefault("bypass_duplicate", True):
            raise ValueError(
                "paramwise_cfg: bypass_duplicate=False would step a parameter that two layers "
                "share twice; leave it out."
            )
        super().__init__(optim_wrapper_cfg, paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = unwrapped(model)
        optim_wrapper = super().__call__(model)
        optimizer = optim_wrapper.optimizer
        # They come as ConfigDicts, of which torch.compile can make nothing.
        optimizer.param_groups[:] = map(dict, optimizer.param_groups)
        _save_names(optimizer, model)
        if self.eps_shift is not None:
            optimizer.eps_shift = EpsShift(optimizer, model, **self.eps_shift)
        return optim_wrapper

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs) -> None:
        """Collect one group per parameter, as the parent does; at the root, set decay and merge."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix == "":
            self._biases = {w.name for w in weights_of(module) if w.kind == "bias"}
            given = {group["params"][0]: self._options_of(group) for group in params}
            params[:] = param_groups(
                module,
                self.base_wd,
                eps_shift=self._selection(),
                options=lambda name, param: self._without_default_decay(name, given.get(param)),
            )

    def _selection(self) -> bool | dict:
        """Which weights the regularizer gets, as `param_groups` wants it."""
        if self.eps_shift is None:
            return False
        return {k: v for k, v in self.eps_shift.items() if k in ("include", "exclude")}

    def _options_of(self, group: dict) -> dict:
        """The options of a parameter's group, with the learning rate."""
        rate = {} if self.base_lr is None else {"lr": self.base_lr}
        return rate | {k: v for k, v in group.items() if k not in _SPENT}

    def _without_default_decay(self, name: str, options: dict | None) -> dict | None:
        """The options of a bias without a decay that no option of the user gives it."""
        if options and name in self._biases and not self._decay_is_given(name, options):
            return {key: value for key, value in options.items() if key != "weight_decay"}
        return options

    def _decay_is_given(self, name: str, options: dict) -> bool:
        """Whether an option of the user sets this parameter's decay."""
        custom = self.paramwise_cfg.get("custom_keys", {})
        # The default constructor takes the longest key that matches, the first of equally long; it
        # has a dot before a parameter of the model's own, and none before that of a layer.
        path = name if "." in name else f".{name}"
        matching = sorted((key for key in custom if key in path), key=lambda k: (-len(k), k))
        if matching:
            return not {"decay_mult", "weight_decay"}.isdisjoint(custom[matching[0]])
        return "weight_decay" in options


def _checked_options(options: Mapping | None) -> dict | None:
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise ValueError(
            f"paramwise_cfg: eps_shift={options!r} is not a dictionary of options; write "
            "eps_shift=dict(lam=1e-4, eps=1e-3), or eps_shift=None for ordinary decay."
        )
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ValueError(
            f"paramwise_cfg: eps_shift has no option {', '.join(unknown)}; it takes "
            f"{', '.join(_OPTIONS)}."
        )
    return dict(options)


def _save_names(optimizer: Optimizer, model: nn.Module) -> None:
    """Let the optimizer's state say which parameter is where, and take no other order.

    torch goes by the place, which the treatments decide here: with others a parameter would get
    the momentum of another one.
    """
    of = {param: name for name, param in model.named_parameters()}

    def order() -> list[list[str]]:
        return [[of.get(p, "?") for p in group["params"]] for group in optimizer.param_groups]

    def save(_: Optimizer, state: dict) -> None:
        state[_NAMES] = order()

    def check(_: Optimizer, state: dict) -> None:
        if state.get(_NAMES, order()) != order():
            raise BadInput(
                "The optimizer's state in the checkpoint has the parameters in other groups, "
                "because eps_shift or another option of paramwise_cfg was not the same when it was "
                "written: resume with the config that wrote it, or start from its weights with "
                "load_from."
            )

    optimizer.register_state_dict_post_hook(save)
    optimizer.register_load_state_dict_pre_hook(check)


def refuse_ignored_eps_shift(optim_wrapper: Mapping | None) -> None:
    """Raise BadInput for `eps_shift` under a constructor that takes no notice of it."""
    if not isinstance(optim_wrapper, Mapping):
        return
    given = optim_wrapper.get("paramwise_cfg") or {}
    name = optim_wrapper.get("constructor") or "DefaultOptimWrapperConstructor"
    kind = OPTIM_WRAPPER_CONSTRUCTORS.get(name) if isinstance(name, str) else name
    ours = isinstance(kind, type) and issubclass(kind, EpsShiftOptimWrapperConstructor)
    if "eps_shift" in given and not ours:
        raise BadInput(
            f"optim_wrapper.paramwise_cfg has eps_shift, which {getattr(kind, '__name__', name)} "
            "ignores; set optim_wrapper.constructor='EpsShiftOptimWrapperConstructor'."
        )
