"""Options of an optimizer: none, and `fused`, which has not always been there on a CPU."""

import pytest

on_cpu = pytest.mark.since_torch("2.4", "fused optimizers on a CPU")
FUSED = [pytest.param({}, id="plain"), pytest.param(dict(fused=True), id="fused", marks=on_cpu)]
