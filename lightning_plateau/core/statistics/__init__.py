"""Robust statistics of short series: trend, noise, spikes, agreement, concentration.

Every function is pure and total over its data. The conventions hold for all of them:

* Input is any real array-like; it is read as a flat float64 array and never written to. Arrays
  given back are always fresh.
* Rows with NaN or an infinity are dropped unless the function says otherwise. Series that belong
  together are paired from the start; the surplus of a longer one is ignored.
* A quantity that the data does not determine (too few values, no variation) is NaN. Comparisons
  with NaN are false, so a threshold on an unknown quantity never fires.
* Nothing raises and nothing warns, whatever the data. Only a *parameter* that makes no sense
  (``alpha`` outside [0, 1], fewer than one block) raises ``ValueError``.
* Values are scaled by a power of two first, so the largest float64 cannot overflow on the way. It
  rounds only what is 10³⁰⁸ times smaller than the greatest.
"""

from lightning_plateau.core.statistics.averages import ema, log_ema_z_scores
from lightning_plateau.core.statistics.medians import block_medians, row_medians, thin
from lightning_plateau.core.statistics.ranks import spearman
from lightning_plateau.core.statistics.series import finite
from lightning_plateau.core.statistics.shares import normalized_entropy, perplexity
from lightning_plateau.core.statistics.spread import (
    coefficient_of_variation,
    lag1_autocorrelation,
    noise,
    relative_drop,
)
from lightning_plateau.core.statistics.trends import MannKendall, mann_kendall, theil_sen

__all__ = [
    "MannKendall",
    "block_medians",
    "coefficient_of_variation",
    "ema",
    "finite",
    "lag1_autocorrelation",
    "log_ema_z_scores",
    "mann_kendall",
    "noise",
    "normalized_entropy",
    "perplexity",
    "relative_drop",
    "row_medians",
    "spearman",
    "theil_sen",
    "thin",
]
