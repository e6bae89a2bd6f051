from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.core.signal import (
    GRADIENT_NORM,
    LEARNING_RATES,
    LOSS,
    VALIDATION_LOSS,
    metric,
)
from lightning_plateau.framework import PACKAGE
from lightning_plateau.report.logged_run import logged_files, read_logged
from lightning_plateau.report.saved_run import read_run
from tests.digits import Digits, loader, trainer
from tests.report.test_event_file import START, event, simple

CSVLogger = __import__(f"{PACKAGE}.loggers", fromlist=["CSVLogger"]).CSVLogger
ROWS = """\
epoch,lr-SGD,step,train_loss_step,val_acc,val_loss,grad_2.0_norm_total
0,0.1,0,2.3,,,5.0
0,0.1,10,2.2,,,4.0
0,,14,,0.2,2.25,
1,0.01,20,2.1,,,nan
1,,29,,0.3,2.15,
"""


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(ROWS)
    return path


def test_the_columns_of_csv_logger_become_signals(metrics):
    read = read_logged([metrics])
    history = read.history
    assert history[LOSS].steps.tolist() == [0, 10, 20]
    assert history[VALIDATION_LOSS].values.tolist() == [2.25, 2.15]
    assert history[LEARNING_RATES].labels == ("lr-SGD",)
    assert history[LEARNING_RATES].values[:, 0].tolist() == [0.1, 0.1, 0.01]
    assert np.isnan(history[GRADIENT_NORM].last)
    assert history[metric("val_acc")].last == 0.3
    assert (history.step, history.epoch_ends) == (30, (15,))
    assert read.names["loss/train"] == "train_loss_step"
    assert read.names["optimizer/learning_rate"] == "lr-SGD"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["train_loss_epoch", "train_loss_step"], "train_loss_step"),
        (["Train/Loss", "Val/Loss"], "Train/Loss"),
        (["loss", "train_aux_loss"], "loss"),
        (["train_cls_loss", "val_loss"], "train_cls_loss"),
    ],
)
def test_the_training_loss_goes_by_many_names(names, chosen, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,{','.join(names)}\n0,1.0,2.0\n")
    assert read_logged([path]).names["loss/train"] == chosen


def test_event_files_of_one_folder_are_one_run(tmp_path):
    for part, steps in enumerate((range(5), range(5, 9))):
        events = b"".join(event(s, simple("train_loss", 2.0 - 0.1 * s)) for s in steps)
        (tmp_path / f"events.out.tfevents.{part}").write_bytes(START + events)
    run = read_run(tmp_path)
    assert run.history[LOSS].steps.tolist() == list(range(9))
    assert len(run.files) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("epoch,train_loss\n0,1.0\n", "expected a column step in"),
        ("step,train_loss\n0,1.0\nlast,1.0\n", "line 3 of .* has no step"),
        ("step,accuracy\n0,1.0\n", "called train_loss, loss or val_loss, but received accuracy"),
        ("", "received nothing"),
        ("\0\0\1", "expected"),
    ],
)
def test_what_cannot_be_read_is_told(content, told, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=told):
        read_logged([path])


def test_the_plugin_s_own_history_goes_before_a_logger_s(metrics, tmp_path):
    assert logged_files(tmp_path) == (metrics,)
    assert read_run(tmp_path).names
    (tmp_path / "plateau").mkdir()
    read_run(tmp_path).history.save(tmp_path / "plateau" / "history.npz")
    assert not read_run(tmp_path).names


def test_a_real_run_of_lightning_is_read(tmp_path):
    logger = CSVLogger(tmp_path)
    made = trainer(logger=logger, log_every_n_steps=2, max_epochs=2)
    made.fit(Digits(), loader(256), loader(64))
    history = read_run(logger.log_dir).history
    assert history[LOSS].steps.tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert len(history[VALIDATION_LOSS]) == 2
