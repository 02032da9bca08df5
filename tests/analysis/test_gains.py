"""What is said of a classifier's gain, by what its curve looks like."""

import pytest

from normfix_mm.analysis.gains import gain_remark


def rising(first: float, last: float, count: int = 40) -> list[float]:
    return [first + (last - first) * (i / (count - 1)) ** 0.5 for i in range(count)]


def test_a_gain_that_never_left_its_cap_asks_for_a_larger_alpha():
    assert "larger α" in gain_remark("fc", [12.7] * 40, 12.65)


def test_a_gain_that_had_no_time_asks_for_a_higher_start_or_a_faster_rate():
    """CIFAR-10 in small: from 1.8 to 6.5 under a cap of 12.6."""
    said = gain_remark("head.fc", rising(1.8, 6.5), 12.65)
    assert "from 1.8 to 6.5" in said and "gain_start='cap'" in said and "'head.fc.g'" in said


@pytest.mark.parametrize(
    "gains",
    [
        rising(1.8, 12.7),  # arrived at its cap
        rising(12.65, 9),  # began there and found its place
        [*rising(1.8, 8), *rising(8, 7)],  # found its place
        rising(5, 6),  # began where it belongs
        rising(1.8, 6.5, 9),  # too short to say
    ],
)
def test_a_gain_that_does_its_part_needs_no_word(gains):
    assert gain_remark("fc", gains, 12.65) is None
