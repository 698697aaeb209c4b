"""Means with confidence intervals, and paired tests, as the tables of the experiments give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2_000
SEED = 7


@dataclass(frozen=True)
class Summary:
    """`mean` and `deviation` (standard, of the sample) of `count` values; `low` … `high`, the bootstrapped 95 %
    confidence interval of the mean.
    """

    mean: float
    deviation: float
    low: float
    high: float
    count: int

    def percent(self) -> str:
        """As the paper's tables write Dice: mean ± deviation, in points; and the interval."""
        return f"{100 * self.mean:.1f} ± {100 * self.deviation:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def plain(self) -> str:
        return f"{self.mean:.3g} ± {self.deviation:.2g} [{self.low:.3g}, {self.high:.3g}]"


def summarise(values: Sequence[float]) -> Summary:
    """Raises ValueError where there is nothing to summarise."""
    sample = np.asarray([value for value in values if np.isfinite(value)], dtype=np.float64)
    if not len(sample):
        raise ValueError("There is no value to summarise.")
    mean = float(sample.mean())
    if len(sample) < 2 or np.ptp(sample) == 0:
        return Summary(mean, 0.0, mean, mean, len(sample))
    found = stats.bootstrap(
        (sample,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, random_state=SEED, method="percentile"
    )
    interval = found.confidence_interval
    return Summary(mean, float(sample.std(ddof=1)), float(interval.low), float(interval.high), len(sample))


@dataclass(frozen=True)
class Comparison:
    """Paired differences a − b: their summary, and p of the paired t-test and of Wilcoxon's signed ranks."""

    difference: Summary
    p_t: float
    p_wilcoxon: float

    def verdict(self) -> str:
        significant = "significant" if self.p_t < 1 - CONFIDENCE else "not significant"
        return f"p = {self.p_t:.2g} (t), {self.p_wilcoxon:.2g} (Wilcoxon): {significant}"


def compare(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """A paired comparison.

    Raises:
        ValueError: the samples are not pairs.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"Pairs are compared; there are {len(first)} and {len(second)} values.")
    whole = np.isfinite(first) & np.isfinite(second)
    difference = first[whole] - second[whole]
    if len(difference) < 2 or np.allclose(difference, 0):
        return Comparison(summarise(difference.tolist()), 1.0, 1.0)
    wilcoxon = float(stats.wilcoxon(difference).pvalue)
    if np.ptp(difference) < 1e-12:  # one and the same difference has no deviation: only its sign can be tested
        return Comparison(summarise(difference.tolist()), 0.5 ** (len(difference) - 1), wilcoxon)
    return Comparison(
        summarise(difference.tolist()),
        float(stats.ttest_1samp(difference, 0.0).pvalue),
        wilcoxon,
    )


def cohens_d(first: Sequence[float], second: Sequence[float]) -> float:
    """Effect size of two groups: difference of the means over the pooled standard deviation."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)
    return float((a.mean() - b.mean()) / max(np.sqrt(pooled), 1e-12))
