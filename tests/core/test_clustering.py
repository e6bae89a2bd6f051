"""How far the samples of a batch are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.clustering import Clustering, between_batches, clustering
from lightning_plateau.core.labels import labels
from lightning_plateau.core.signal import LABEL_COUNTS
from lightning_plateau.testing import history


def of(order: Any, batch: int) -> Clustering:
    """Return the clustering of labels that are read in ``order``."""
    order = np.asarray(order)
    rows = order[: len(order) // batch * batch].reshape(-1, batch)
    counts = {str(label): (rows == label).sum(axis=1) for label in range(int(order.max()) + 1)}
    found = clustering(labels(history({LABEL_COUNTS: counts})))  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("batch", [1, 2, 8, 32, 100])
@pytest.mark.parametrize("classes", [2, 10])
def test_shuffled_labels_do_not_cluster(batch: int, classes: int) -> None:
    for seed in range(20):
        found = of(np.random.default_rng(seed).integers(classes, size=1600), batch)
        assert abs(found.deviations) < 5.0
        assert found.purity < 0.1


@pytest.mark.parametrize("batch", [1, 2, 8, 32])
@pytest.mark.parametrize("classes", [2, 10])
def test_sorted_labels_do(batch: int, classes: int) -> None:
    found = of(np.sort(np.arange(1600) % classes), batch)
    assert found.deviations > 6.0
    assert found.purity > 0.7
    assert found.single > 0.7


def test_balanced_batches_cluster_less_than_chance() -> None:
    assert of(np.arange(800) % 4, 8).purity < 0.0


def test_a_rare_class_in_one_batch_is_no_cluster() -> None:
    order = np.zeros(3200, dtype=int)
    order[100:103] = 1
    assert of(order, 32).concentration > 0.99


def test_batches_that_are_no_neighbours_are_not_put_together() -> None:
    counts = {LABEL_COUNTS: {"0": [1.0] * 40, "1": [1.0] * 40}}
    assert clustering(labels(history(counts, every=50))) is None  # type: ignore[arg-type]


def test_variance_between_batches() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=3200).reshape(-1, 32)
    ordered = np.sort(values.reshape(-1)).reshape(-1, 32)
    assert between_batches(values.mean(axis=1), values.std(axis=1)) < 0.1
    assert between_batches(ordered.mean(axis=1), ordered.std(axis=1)) > 0.95
    assert between_batches(np.array([np.nan, 1.0]), np.array([1.0, np.inf])) == 0.0
