"""PlateauCallback in real trainings: what it says, what it writes, and what cannot kill it."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core import signal
from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.rule import Rule
from lightning_plateau.framework import PACKAGE
from tests.digits import Digits, digits, loader, trainer

ModelCheckpoint = __import__(f"{PACKAGE}.callbacks", fromlist=["ModelCheckpoint"]).ModelCheckpoint
MixedPrecision = __import__(f"{PACKAGE}.plugins", fromlist=["MixedPrecision"]).MixedPrecision


def codes(callback: PlateauCallback) -> list[str]:
    return [finding.code for finding in callback.findings]


def watched(
    tmp_path: Path, module: Any = None, data: Any = None, **settings: Any
) -> PlateauCallback:
    """Train under a callback, whose settings are the keywords that it knows."""
    known = {"policy", "rules", "select", "ignore", "every_n_steps", "dry_run", "dirpath"}
    own = {key: settings.pop(key) for key in known & set(settings)}
    callback = PlateauCallback(**{"dirpath": str(tmp_path), "every_n_steps": 5, **own})
    trainer(callback, **settings).fit(
        module if module is not None else Digits(), data if data is not None else loader()
    )
    return callback


class Softmaxed(Digits):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(dim=1)


# -- what it records and says ---------------------------------------------------------------------


def test_a_healthy_run_gives_nothing(tmp_path: Path) -> None:
    callback = watched(tmp_path, data=loader(1024), max_epochs=3)
    assert callback.findings == ()
    assert not callback.disabled
    assert callback.history.finished
    assert callback.history.step == 96


def test_a_fault_is_found_told_written_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="lightning_plateau"):
        callback = watched(tmp_path, Softmaxed())
    assert codes(callback)[0] == "LP701"
    assert "LP701" in caplog.text
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [line["code"] for line in lines if line["kind"] == "finding"].count("LP701") == 1
    assert "LP701" in {
        finding.code for finding in Journal.read(tmp_path / "journal.jsonl").findings
    }
    saved = History.load(tmp_path / "history.npz")
    assert saved.step == callback.history.step
    assert saved.tapes == callback.history.tapes


def test_the_run_is_shown_on_a_page(tmp_path: Path) -> None:
    watched(tmp_path, Softmaxed(), dirpath=str(tmp_path / "first" / "plateau"))
    page = (tmp_path / "first" / "plateau" / "report.html").read_text("utf-8")
    assert "<code>softmax-before-cross-entropy</code>" in page


def test_a_page_that_fails_costs_the_page_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Path:
        raise ZeroDivisionError("in the report")

    monkeypatch.setattr("lightning_plateau.report.html.save_report", fails)
    callback = watched(tmp_path)
    assert [f.message for f in callback.findings] == [
        "report.html cannot be written: ZeroDivisionError: in the report"
    ]
    assert not callback.disabled
    assert (tmp_path / "history.npz").exists()


def test_without_jinja_there_is_no_page_and_no_word_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_plateau.report.html.available", lambda: False)
    # How long batches were waited for (LP904) is up to the machine.
    assert "LP903" not in codes(watched(tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_findings_can_be_ignored(tmp_path: Path) -> None:
    assert "LP701" not in codes(watched(tmp_path, Softmaxed(), ignore=["LP701"]))
    assert watched(tmp_path / "b", Softmaxed(), select=["flat-loss"]).findings == ()


def test_each_fit_is_a_run_of_its_own(tmp_path: Path) -> None:
    callback = PlateauCallback(every_n_steps=4)
    for expected in (["LP701"], []):
        module = Softmaxed() if expected else Digits()
        trainer(callback, default_root_dir=tmp_path).fit(module, loader(64))
        assert [code for code in codes(callback) if code == "LP701"] == expected
        assert callback.history.step == 2
    assert (tmp_path / "plateau" / "journal.jsonl").exists()
    assert (tmp_path / "plateau" / "earlier-1" / "journal.jsonl").exists()


@pytest.mark.parametrize("log", [True, False])
def test_validation_losses_are_recorded_whether_logged_or_returned(
    log: bool, tmp_path: Path
) -> None:
    class Validated(Digits):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            loss = F.cross_entropy(self(batch[0]), batch[1])
            if log:
                self.log("val_loss", loss)
            return loss

    callback = PlateauCallback(dirpath=str(tmp_path))
    fit = trainer(callback, max_epochs=3)
    fit.fit(Validated(), loader(), loader(64, shuffle=False))
    series = callback.history[signal.VALIDATION_LOSS]
    assert series.steps.tolist() == [8, 16, 24]
    with torch.no_grad():
        images, labels = digits()
        module = fit.lightning_module.eval()
        expected = float(F.cross_entropy(module(images[:64]), labels[:64]))
    assert series.last == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_undone_of_accumulation(tmp_path: Path) -> None:
    seen: list[float] = []

    class Noting(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            seen.append(float(loss.detach()))
            return loss

    callback = watched(tmp_path, Noting(), loader(160), accumulate_grad_batches=3)
    expected = [np.mean(seen[:3]), np.mean(seen[3:])]
    np.testing.assert_allclose(callback.history[signal.LOSS].values, expected, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_loss_and_gradients_are_undone_of_the_gradient_scaler(fused: bool, tmp_path: Path) -> None:
    class Plain(Digits):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.0, fused=fused)

    def run(folder: str, **settings: Any) -> History:
        torch.manual_seed(0)
        callback = watched(tmp_path / folder, Plain(), loader(shuffle=False), **settings)
        assert not callback.disabled
        return callback.history

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled = run("a", plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    plain = run("b")
    assert len(scaled[signal.LOSS]) == len(plain[signal.LOSS]) == 8
    for which in (signal.LOSS, signal.GRADIENT_NORM):
        np.testing.assert_allclose(scaled[which].values, plain[which].values, rtol=0.05)


def test_user_values_are_recorded(tmp_path: Path) -> None:
    class Recording(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            callback.record("fixed", 2.5)
            callback.record("drawn", batch[0].mean())
            return super().training_step(batch, batch_idx)

    callback = PlateauCallback(dirpath=str(tmp_path), every_n_steps=5)
    callback.record("before", 1.0)  # outside a training: nothing happens
    trainer(callback).fit(Recording(), loader())
    history = callback.history
    assert history[signal.user("fixed")].values.tolist() == [2.5] * 8
    assert len(history[signal.user("drawn")]) == 8
    assert signal.user("before") not in history


def test_a_nan_batch_is_skipped_exactly_and_told(tmp_path: Path) -> None:
    images, labels = digits()
    images = images[:256].clone()
    images[137] = math.nan
    data = DataLoader(TensorDataset(images, labels[:256]), 32)
    module = Digits()
    callback = watched(tmp_path, module, data, policy="safe")
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    history = callback.history
    assert history[signal.SKIPPED_STEPS].values.tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert 4 in history[signal.DATA_NON_FINITE].steps
    assert "LP102" in codes(callback)


def test_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    callback = watched(tmp_path / "none", fast_dev_run=2)
    assert not callback.disabled
    assert not (tmp_path / "none").exists()


def test_sub_trainers_and_evaluation_need_no_training(tmp_path: Path) -> None:
    callback = PlateauCallback(dirpath=str(tmp_path))
    trainer(callback).validate(Digits(), loader(64), verbose=False)
    assert callback.findings == ()
    assert callback.state_dict() == {}


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "careful"}, "policy must be .* but is 'careful'"),
        ({"ignore": ["LP9999"]}, "ignore expects codes .* received 'LP9999'"),
        ({"select": ["flat-los"]}, "Did you mean flat-loss"),
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, but is 0"),
    ],
)
def test_arguments_out_of_range_are_repeated(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlateauCallback(**settings)


def test_an_unwritable_folder_is_one_finding(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    callback = watched(tmp_path, dirpath=str(tmp_path / "file"))
    assert codes(callback) == ["LP903"]
    assert "cannot be written" in callback.findings[0].message
    assert callback.history.step == 8
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_step_that_returns_none(tmp_path: Path) -> None:
    class Sometimes(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) if batch_idx % 3 else None

    callback = watched(tmp_path, Sometimes())
    assert not callback.disabled
    assert "LP903" not in codes(callback)
    assert np.isfinite(callback.history[signal.LOSS].values).sum() == 5


@dataclasses.dataclass
class Sample:
    images: Tensor
    labels: Tensor


class Opaque:
    __slots__ = ("images", "labels")

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels


@pytest.mark.parametrize(
    "kind",
    [
        lambda images, labels: {"images": images, "labels": labels},
        Sample,
        Opaque,
        lambda images, labels: SimpleNamespace(images=images, labels=labels),
        lambda images, labels: [images, labels, "a name", None],
    ],
    ids=["dict", "dataclass", "opaque", "namespace", "list"],
)
def test_batches_of_any_make(kind: Any, tmp_path: Path) -> None:
    class Unpacking(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if isinstance(batch, dict):
                pair = batch["images"], batch["labels"]
            elif isinstance(batch, list):
                pair = batch[0], batch[1]
            else:
                pair = batch.images, batch.labels
            return F.cross_entropy(self(pair[0]), pair[1])

    def collate(samples: list[Any]) -> Any:
        images, labels = zip(*samples, strict=True)
        return kind(torch.stack(images), torch.stack(labels))

    data = DataLoader(loader(64).dataset, 16, collate_fn=collate)
    callback = watched(tmp_path, Unpacking(), data)
    assert not callback.disabled
    assert "LP903" not in codes(callback)
    assert callback.history.step == 4


@dataclasses.dataclass(frozen=True)
class Broken(Rule):
    """A rule with a bug."""

    code: ClassVar[str] = "XX999"
    name: ClassVar[str] = "broken"

    def check(self, history: History) -> Finding | None:
        raise KeyError("oops")


def test_a_rule_that_raises_is_one_finding(tmp_path: Path) -> None:
    callback = watched(tmp_path, rules=[Broken()])
    assert codes(callback) == ["LP903"]
    assert "XX999" in callback.findings[0].message
    assert not callback.disabled


@pytest.mark.parametrize("target", ["begin_batch", "observe_gradients", "end_batch", "drain"])
def test_a_failure_of_ours_is_one_finding_and_the_training_goes_on(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_plateau.recording.recorder import Recorder

    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(Recorder, target, broken)
    steps: list[int] = []

    class Counting(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            steps.append(batch_idx)
            return super().training_step(batch, batch_idx)

    callback = watched(tmp_path, Counting())
    assert steps == list(range(8))
    assert codes(callback) == ["LP903"]
    assert "ZeroDivisionError" in callback.findings[0].message


def test_labels_out_of_range_are_named_before_the_loss_raises(tmp_path: Path) -> None:
    images, labels = digits()
    data = DataLoader(TensorDataset(images[:64], labels[:64] + 1), 64)
    callback = PlateauCallback(dirpath=str(tmp_path))
    with pytest.raises(IndexError, match="out of bounds"):
        trainer(callback).fit(Digits(), data)
    assert codes(callback)[0] == "LP105"
    notes = [note.text for note in callback.journal.notes]
    assert any("IndexError" in note for note in notes)
    assert (tmp_path / "history.npz").exists()


def test_an_interrupted_run_reports_and_lets_go(tmp_path: Path) -> None:
    class Dying(Softmaxed):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 6:
                raise RuntimeError("the user's own")
            return super().training_step(batch, batch_idx)

    callback = PlateauCallback(dirpath=str(tmp_path))
    with pytest.raises(RuntimeError, match="the user's own"):
        trainer(callback).fit(Dying(), loader())
    assert "LP701" in codes(callback)
    assert History.load(tmp_path / "history.npz").step == 6
    assert not callback.history.finished


def test_compiled_modules_are_watched_without_a_tape(tmp_path: Path) -> None:
    class Compiled(Digits):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.compile(self.net, backend="eager")

    callback = watched(tmp_path, Compiled())
    assert callback.history.tapes == ()
    assert codes(callback) == ["LP903"]
    assert "net.0.weight" in callback.history[signal.GRADIENT_NORMS].labels


# -- resume ---------------------------------------------------------------------------------------


class Quiet(Softmaxed):
    """Without dropout, and with a batch that breaks at step 10."""

    def __init__(self) -> None:
        super().__init__()
        self.net[5].p = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        broken = images * math.nan if self.global_step == 10 else images
        return super().training_step((broken, labels), batch_idx)


def repeated() -> DataLoader:  # type: ignore[type-arg]
    """Return 16 equal batches: Lightning does not wind a loader forward when it resumes."""
    images, labels = digits()
    return DataLoader(TensorDataset(images[:16].repeat(16, 1, 1, 1), labels[:16].repeat(16)), 16)


def test_resumed_mid_epoch_it_finds_and_records_the_same(tmp_path: Path) -> None:
    def fit(name: str, checkpoint: Any = None, *more: Any) -> PlateauCallback:
        torch.manual_seed(0)
        callback = PlateauCallback(dirpath=str(tmp_path / name), every_n_steps=3)
        fit = trainer(callback, *more, max_epochs=2, enable_checkpointing=bool(more))
        fit.fit(Quiet(), repeated(), ckpt_path=checkpoint)
        return callback

    saving = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=7, save_top_k=-1)
    whole = fit("whole", None, saving)
    resumed = fit("resumed", tmp_path / "at-step=7.ckpt")
    assert not resumed.disabled
    assert [f.code for f in resumed.findings] == [f.code for f in whole.findings]
    assert [f.step for f in resumed.findings] == [f.step for f in whole.findings]
    left, right = whole.history, resumed.history
    assert (left.step, left.epoch_ends) == (right.step, right.epoch_ends)
    assert set(left.series) == set(right.series)
    for tag, series in left.series.items():
        other = right.series[tag]
        if tag == signal.DATA_WAIT.tag:  # times by the clock
            continue
        assert series.steps.tolist() == other.steps.tolist(), tag
        np.testing.assert_allclose(series.values, other.values, rtol=1e-6, err_msg=tag)
    assert whole.journal.interventions == resumed.journal.interventions
    assert len(whole.journal.interventions) == 1


def test_resuming_into_the_same_folder_writes_no_line_twice(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=5, save_top_k=-1)
    for epochs, checkpoint in ((1, None), (2, tmp_path / "at-step=5.ckpt")):
        callback = PlateauCallback(dirpath=str(tmp_path / "plateau"), every_n_steps=3)
        fit = trainer(callback, saving, enable_checkpointing=True, max_epochs=epochs)
        fit.fit(Quiet(), loader(), ckpt_path=checkpoint)
    read = Journal.read(tmp_path / "plateau" / "journal.jsonl")
    assert [finding.code for finding in read.findings].count("LP701") == 1


def test_checkpoints_load_without_the_callback(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, "last", every_n_train_steps=8)
    callback = PlateauCallback(dirpath=str(tmp_path))
    fit = trainer(callback, saving, enable_checkpointing=True)
    fit.fit(Softmaxed(), loader())
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert "PlateauCallback" in state["callbacks"]
    Softmaxed.load_from_checkpoint(tmp_path / "last.ckpt")
    trainer(max_epochs=2).fit(Softmaxed(), loader(), ckpt_path=tmp_path / "last.ckpt")


def test_can_be_sent_to_other_processes_before_and_after_a_training(tmp_path: Path) -> None:
    callback = watched(tmp_path, Softmaxed())
    sent = pickle.loads(pickle.dumps(callback))
    assert sent.findings == callback.findings
    assert len(sent.journal) == len(callback.journal)
    trainer(sent).fit(Digits(), loader())
    assert codes(sent) == []


# -- from a configuration file --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_usable_from_the_lightning_cli(tmp_path: Path) -> None:
    cli = pytest.importorskip(f"{PACKAGE}.cli")
    config = tmp_path / "config.yaml"
    config.write_text(
        """
trainer:
  callbacks:
    - class_path: lightning_plateau.PlateauCallback
      init_args:
        policy: observe
        every_n_steps: 7
        ignore: [LP401, flat-loss]
        dry_run: true
"""
    )
    built = cli.LightningCLI(Digits, run=False, args=["--config", str(config)])
    (callback,) = (c for c in built.trainer.callbacks if isinstance(c, PlateauCallback))
    assert callback._settings.every_n_steps == 7
    assert "LP401" not in {rule.code for rule in callback._settings.rules}
