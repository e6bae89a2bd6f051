"""Real trainings, logged by real loggers and read back with each logger's own means."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from lightning_plateau import PlateauCallback, Policy
from lightning_plateau.core.signal import GRADIENT_NORM, UPDATE_RATIOS
from lightning_plateau.framework import PACKAGE
from lightning_plateau.report.known_loggers import known
from lightning_plateau.report.loggers import LoggerFeed
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer
from tests.report.runs import CLIP, DECAY, FLAT, KEPT, SOFTMAX, TOO_HIGH, journal

loggers = __import__(f"{PACKAGE}.loggers", fromlist=["CSVLogger"])
HISTOGRAMS = ("plateau/gradient_norm_by_parameter", "plateau/update_ratio_by_parameter")
PARAMETERS = len(list(Digits().parameters()))
NAMES = ("plateau/gradient_norm", "plateau/update_ratio", "plateau/faults")


class Softmaxed(Digits):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(dim=1)


def logged(logger: Any, tmp_path: Path, **settings: Any) -> PlateauCallback:
    """Train 16 steps, logged each fourth."""
    callback = PlateauCallback(dirpath=str(tmp_path / "plateau"), every_n_steps=5, **settings)
    made = trainer(callback, logger=logger, log_every_n_steps=4, max_epochs=2)
    made.fit(Softmaxed(), loader(256))
    assert not callback.disabled
    return callback


def rows_of(logger: Any) -> list[dict[str, str]]:
    """Return the rows of ``metrics.csv`` that are ours."""
    with (Path(logger.log_dir) / "metrics.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("plateau/faults")]


class Recording:
    """A logger of somebody else's, that takes scalars and nothing more."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))


# -- what is fed, and when ------------------------------------------------------------------------


def test_each_step_at_which_lightning_logs_is_fed_once_however_often_it_is_drained():
    norms, seen = [float(step) for step in range(40)], Recording()
    feed = LoggerFeed([seen], every_n_steps=10)
    for drained in (7, 20, 20, 33, 40):
        feed.update(history({GRADIENT_NORM: norms[:drained]}), journal())
    assert [step for step, _ in seen.rows] == [9, 19, 29, 39]
    assert [row["plateau/gradient_norm"] for _, row in seen.rows] == [9.0, 19.0, 29.0, 39.0]


def test_steps_that_were_not_read_from_the_device_yet_wait():
    seen = Recording()
    feed = LoggerFeed([seen], every_n_steps=2)
    feed.update(history({GRADIENT_NORM: [1.0, 1.0]}, step=10), journal())
    assert [step for step, _ in seen.rows] == [1]


def test_what_is_measured_now_and_then_is_logged_with_its_latest_value():
    ratios = {"a.weight": [0.5, 0.1, 0.01], "b.weight": [0.5, 0.3, 0.03]}
    seen = Recording()
    feed = LoggerFeed([seen], every_n_steps=50)
    for drained in (75, 150):
        kept = {name: values[: drained // 50] for name, values in ratios.items()}
        made = history({GRADIENT_NORM: [1.0] * drained, UPDATE_RATIOS: kept}, every=50)
        feed.update(made, journal())
    rows = {step: row["plateau/update_ratio"] for step, row in seen.rows}
    assert rows == pytest.approx({49: 0.5, 99: 0.2, 149: 0.02})


def test_faults_and_interventions_are_counted_from_the_step_at_which_they_happened():
    seen = Recording()
    feed = LoggerFeed([seen], every_n_steps=50)
    told = journal(SOFTMAX, FLAT, TOO_HIGH, DECAY, KEPT, CLIP)
    feed.update(history({GRADIENT_NORM: [1.0] * 200}), told)
    counted = [(row["plateau/faults"], row["plateau/interventions"]) for _, row in seen.rows]
    assert counted == [(1.0, 0.0), (2.0, 1.0), (2.0, 1.0), (2.0, 2.0)]


def test_a_resumed_run_repeats_nothing_and_keeps_the_steps_of_its_loggers():
    before, after = history({GRADIENT_NORM: [1.0] * 10}), history({GRADIENT_NORM: [1.0] * 20})
    seen = Recording()
    feed = LoggerFeed([seen], every_n_steps=5, offset=100)
    feed.begin(before, journal(SOFTMAX))
    feed.update(after, journal(SOFTMAX))
    assert [step for step, _ in seen.rows] == [114, 119]


def test_bad_intervals_are_refused():
    with pytest.raises(ValueError, match="at least 1, but is 0"):
        LoggerFeed([], every_n_steps=0)


# -- in trainings ---------------------------------------------------------------------------------


def test_an_unknown_logger_is_given_scalars(tmp_path):
    class Own(loggers.logger.Logger):
        name, version, root_dir, save_dir = "own", 0, None, None

        def __init__(self) -> None:
            super().__init__()
            self.rows: list[tuple[int | None, dict[str, float]]] = []

        def log_hyperparams(self, params, *args, **kwargs):
            pass

        def log_metrics(self, metrics, step=None):
            self.rows.append((step, dict(metrics)))

    own = Own()
    assert known(own) is None
    logged(own, tmp_path)
    ours = [(step, row) for step, row in own.rows if "plateau/faults" in row]
    assert [step for step, _ in ours] == [3, 7, 11, 15]
    assert set(NAMES) <= set(ours[-1][1])
    assert ours[-1][1]["plateau/faults"] >= 1.0


def test_a_logger_that_fails_is_told_once_and_the_training_goes_on(tmp_path):
    class Full(loggers.CSVLogger):
        def log_metrics(self, metrics, step=None):
            if any(name.startswith("plateau/") for name in metrics):
                raise OSError(28, "no space left on device")
            super().log_metrics(metrics, step)

    callback = logged(Full(tmp_path), tmp_path)
    told = [f.message for f in callback.findings if f.code == "LP903"]
    assert told == [
        "nothing more is logged: a logger failed: OSError: [Errno 28] no space left on device"
    ]
    assert callback.history.step == 16


@pytest.mark.parametrize(
    "settings", [{"policy": "observe"}, {"policy": Policy.observe()}, {"log": False}]
)
def test_a_run_that_is_only_observed_has_the_logs_that_it_would_have_had(settings, tmp_path):
    logger = loggers.CSVLogger(tmp_path)
    logged(logger, tmp_path, **settings)
    assert not rows_of(logger)
    asked = loggers.CSVLogger(tmp_path, version="asked")
    logged(asked, tmp_path, policy="observe", log=True)
    assert rows_of(asked)


def test_csv(tmp_path):
    logger = loggers.CSVLogger(tmp_path)
    logged(logger, tmp_path)
    rows = rows_of(logger)
    assert [int(row["step"]) for row in rows] == [3, 7, 11, 15]
    assert all(math.isfinite(float(row[name])) for row in rows for name in NAMES)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = loggers.TensorBoardLogger(tmp_path)
    logged(logger, tmp_path)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    for name in NAMES:
        assert [event.step for event in events.Scalars(name)] == [3, 7, 11, 15]
    (text,) = events.Tensors("plateau/finding/text_summary")[:1]
    assert text.step == 0
    assert b"LP701 softmax-before-cross-entropy" in text.tensor_proto.string_val[0]
    assert events.Images("plateau/overview")[0].width > 500
    for name in HISTOGRAMS:
        (*_, last) = events.Histograms(name)
        assert last.step < 16
        assert last.histogram_value.num == PARAMETERS
        assert -12.0 < last.histogram_value.min < last.histogram_value.max < 12.0


@pytest.mark.slow
def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = loggers.WandbLogger(save_dir=tmp_path, offline=True, project="plateau")
    logged(logger, tmp_path)
    summary = dict(logger.experiment.summary)
    folder = Path(logger.experiment.dir)
    wandb.finish()
    for name in NAMES:
        assert math.isfinite(summary[name])
    for name in HISTOGRAMS:
        assert summary[name]["_type"] == "histogram"
        assert sum(summary[name]["values"]) == PARAMETERS
    assert summary["plateau/journal"]["_type"] == "table-file"
    tables = list(folder.glob("media/table/plateau/*.json"))
    assert "LP701 softmax-before-cross-entropy" in tables[0].read_text("utf-8")
    assert list(folder.glob("media/images/plateau/*.png"))


@pytest.mark.slow
def test_mlflow_file_store(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    # MLflow keeps its file store and asks for this word of consent.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = loggers.MLFlowLogger("plateau", tracking_uri=(tmp_path / "mlruns").as_uri())
    logged(logger, tmp_path)
    client, run = logger.experiment, logger.run_id
    for name in NAMES:
        assert [m.step for m in client.get_metric_history(run, name)] == [3, 7, 11, 15]
    files = {file.path for file in client.list_artifacts(run, "plateau")}
    assert files == {"plateau/journal.txt", "plateau/overview.png"}
    text = Path(client.download_artifacts(run, "plateau/journal.txt")).read_text("utf-8")
    assert "LP701 softmax-before-cross-entropy" in text
