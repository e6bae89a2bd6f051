from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.optim import SGD

from lightning_plateau.remedies.batch_norm_momentum import BatchNormMomentum
from lightning_plateau.remedies.reset_batch_norm import ResetBatchNorm
from lightning_plateau.remedies.restore_batch_norm import RestoreBatchNorm
from lightning_plateau.training.run import Run
from tests.trainings import Guarding, Regressor, batches, fit

NAN = float("nan")


def run_of() -> Run:
    guarding = Guarding()
    fit(Regressor(partial(SGD, lr=0.1)), batches(5), guarding)
    return guarding.run


def norm_of(run: Run) -> Any:
    return run.module.net[1]


def test_statistics_of_the_last_good_snapshot_are_restored() -> None:
    run = run_of()
    expected = norm_of(run).running_mean.clone()
    run.snapshots.keep(run)
    norm_of(run).running_mean.fill_(NAN)
    assert RestoreBatchNorm().obstacle(run) is None
    RestoreBatchNorm().apply(run)
    assert torch.equal(norm_of(run).running_mean, expected)
    assert int(norm_of(run).num_batches_tracked) == 5
    assert RestoreBatchNorm().obstacle(run) == "all running statistics are finite"


def test_without_a_snapshot_they_are_gathered_anew() -> None:
    run = run_of()
    norm_of(run).running_var[2] = NAN
    RestoreBatchNorm().apply(run)
    assert norm_of(run).running_var.tolist() == [1.0] * 8
    assert int(norm_of(run).num_batches_tracked) == 0


def test_all_are_reset_where_all_are_finite() -> None:
    run = run_of()
    ResetBatchNorm().apply(run)
    assert norm_of(run).running_mean.tolist() == [0.0] * 8
    run.module.net[1] = torch.nn.Identity()
    assert ResetBatchNorm().obstacle(run) == "no layer keeps running statistics"


def test_a_customary_momentum_stays() -> None:
    run = run_of()
    assert BatchNormMomentum().obstacle(run) == "no layer has an extreme momentum"
    norm_of(run).momentum = 0.0
    change = BatchNormMomentum().apply(run)
    assert norm_of(run).momentum == 0.1
    BatchNormMomentum().revert(run, change)
    assert norm_of(run).momentum == 0.0
    norm_of(run).momentum = None
    assert BatchNormMomentum().obstacle(run) is not None
