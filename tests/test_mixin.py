"""PlateauMixin brings the callback along and lets the module speak to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightning_plateau import PlateauCallback, PlateauMixin
from lightning_plateau.core import signal
from lightning_plateau.framework import Callback, LightningModule
from lightning_plateau.recording.profile import Hints
from tests.digits import Digits, loader, trainer


class Watched(PlateauMixin, Digits):
    plateau_hints = Hints(classes=10, task="classification", monitor="val_loss")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.plateau.record("brightness", batch[0].mean())
        return super().training_step(batch, batch_idx)


def callbacks_of(fit: Any) -> list[PlateauCallback]:
    return [callback for callback in fit.callbacks if isinstance(callback, PlateauCallback)]


def test_brings_the_callback_along(tmp_path: Path) -> None:
    module, fit = Watched(), trainer(default_root_dir=tmp_path)
    fit.fit(module, loader())
    (callback,) = callbacks_of(fit)
    assert module.plateau.callback is callback
    assert callback.history.step == 8
    assert len(callback.history[signal.user("brightness")]) == 8
    assert callback.history.profile.classes == 10
    assert callback.history.profile.monitor == "val_loss"
    assert (tmp_path / "plateau" / "history.npz").exists()


def test_a_callback_of_the_trainer_wins(tmp_path: Path) -> None:
    mine = PlateauCallback(policy="observe", dirpath=str(tmp_path))
    fit = trainer(mine)
    fit.fit(Watched(), loader(64))
    assert callbacks_of(fit) == [mine]
    assert mine.history.step == 2


def test_a_second_fit_brings_no_second_one(tmp_path: Path) -> None:
    module, fit = Watched(), trainer(default_root_dir=tmp_path)
    fit.fit(module, loader(64))
    fit.fit_loop.max_epochs = 2
    fit.fit(module, loader(64))
    assert len(callbacks_of(fit)) == 1


def test_callbacks_of_the_module_itself_are_kept(tmp_path: Path) -> None:
    class Own(Callback):
        started = False

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.started = True

    own = Own()

    class Both(PlateauMixin, Digits):
        def configure_callbacks(self) -> Any:
            return [*super().configure_callbacks(), own]

    fit = trainer(default_root_dir=tmp_path)
    fit.fit(Both(), loader(64))
    assert own.started
    assert len(callbacks_of(fit)) == 1


def test_is_silent_where_nobody_watches() -> None:
    module = Watched()
    module.plateau.record("brightness", 1.0)
    assert module.plateau.callback is None


def test_evaluation_needs_no_training() -> None:
    trainer().validate(Watched(), loader(64, shuffle=False), verbose=False)


def test_hints_have_defaults() -> None:
    class Plain(PlateauMixin, LightningModule):
        pass

    assert Plain.plateau_hints == Hints()


def test_the_wrong_order_of_bases_is_refused() -> None:
    with pytest.raises(TypeError, match=r"class Wrong\(PlateauMixin, LightningModule\)"):

        class Wrong(Digits, PlateauMixin):
            pass

    with pytest.raises(TypeError, match="must name PlateauMixin before LightningModule"):

        class Hidden(LightningModule, PlateauMixin):
            def configure_callbacks(self) -> Any:
                return super().configure_callbacks()


def test_subclasses_of_a_right_order_are_right() -> None:
    class Deeper(Watched):
        pass

    assert issubclass(Deeper, PlateauMixin)
