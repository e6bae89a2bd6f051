"""Searches for real, on real images."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage

from lightning_plateau import PlateauCallback
from lightning_plateau.tuning import PlateauPruner, trial_callbacks, tune
from lightning_plateau.tuning.fault import ENDED, FAULT
from tests.digits import Digits, loader, trainer


def data() -> tuple[Any, Any]:
    """Return loaders that begin anew: they shuffle from a seed of their own."""
    return loader(640), loader(128, shuffle=False, first=1500)


SHORT = {"max_epochs": 2, "accelerator": "cpu", "devices": 1}
RATES = {"learning_rate": FloatDistribution(1e-3, 1e-1, log=True)}


def search(module: Any = Digits, **settings: Any):
    defaults: dict[str, Any] = {
        "space": RATES,
        "storage": InMemoryStorage(),
        "n_trials": 3,
        "trainer": SHORT,
        "progress_bar": False,
        "folder": "searched",
        "seed": 1,
    }
    return tune(module, *data(), **{**defaults, **settings})


def rates(found):
    return [trial.params["learning_rate"] for trial in found.study.get_trials(deepcopy=False)]


class WithSoftmax(Digits):
    """Its outputs are probabilities, and cross entropy takes them for scores."""

    def forward(self, images: Any) -> Any:
        return super().forward(images).softmax(1)


class Broken(Digits):
    """It raises an error in its first step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise RuntimeError("this cannot work")


class Picky(Digits):
    """It accepts no high learning rate."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.lr > 0.01:
            raise RuntimeError("too much for me")
        return super().training_step(batch, batch_idx)


class NotANumber(Digits):
    """Its validation knows no numbers."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", torch.tensor(math.nan))


@pytest.mark.parametrize("sampler", ["grid", "random", "bayesian", "quasi-random"])
def test_every_sampler_finds_something_and_the_same_again(sampler, tmp_path) -> None:
    found = search(sampler=sampler, n_trials=4, folder=tmp_path)
    assert found.ok
    assert len(set(rates(found))) == 4
    assert found.best.value == min(t.value for t in found.study.trials if t.value is not None)
    assert "lr: " in (tmp_path / "best.yaml").read_text("utf-8")
    assert rates(search(sampler=sampler, n_trials=4)) == rates(found)


def test_a_trial_writes_no_report_of_its_own(tmp_path) -> None:
    search(n_trials=1, folder=tmp_path / "search", trainer={**SHORT, "default_root_dir": tmp_path})
    assert not [*tmp_path.rglob("journal.jsonl"), *tmp_path.rglob("report.html")]


def test_random_states_are_left_as_they_were() -> None:
    before = torch.get_rng_state()
    search(n_trials=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sick_trial_is_ended_and_the_sampler_is_told() -> None:
    grid = {"learning_rate": [1e-2, 1e-7, 2e-2]}
    found = search(space=grid, sampler="grid", trainer={**SHORT, "max_epochs": 4})
    (dead,) = [one for one in found.study.trials if one.user_attrs.get(ENDED)]
    assert dead.params["learning_rate"] == 1e-7
    assert dead.user_attrs[FAULT]["code"] == dead.user_attrs[ENDED] == "LP407"
    assert dead.constraints == {FAULT: 1.0}
    (row,) = found.deaths
    assert (row.reason, row.trials) == ("LP407 learning-rate-too-low", (dead.number,))
    assert "1 of LP407 learning-rate-too-low: learning_rate 1e-07" in found.text()
    assert found.to_dict()["died"] == [row.to_dict()]


def test_a_fault_of_the_code_stops_the_search_and_is_told() -> None:
    found = search(WithSoftmax, space="learning_rate", n_trials=9)
    assert not found.ok
    assert len(found.study.trials) < 9
    assert "stopped. No search can mend LP701 softmax-before-cross-entropy" in found.text()
    assert found.to_dict()["stopped"]["code"] == "LP701"


def test_an_error_of_every_trial_stops_the_search_and_is_told() -> None:
    found = search(Broken, n_trials=9)
    assert len(found.study.trials) == 3
    assert "Every trial raised an error" in found.text()
    assert "RuntimeError: this cannot work" in found.text()


def test_an_error_of_some_trials_is_a_row_of_the_table() -> None:
    grid = {"learning_rate": [4e-3, 5e-3, 0.05]}
    found = search(Picky, space=grid, sampler="grid", pruner="none")
    assert found.ok
    assert [row.reason for row in found.deaths] == ["RuntimeError: too much for me"]


def test_a_score_that_is_no_number_is_none() -> None:
    found = search(NotANumber, n_trials=2, pruner="none")
    assert found.best is None
    assert not found.ok
    assert "nothing found" in found.text()
    assert [row.reason for row in found.deaths] == ["a score that is not finite"]


def test_an_unknown_monitor_says_what_was_logged() -> None:
    found = search(monitor="accuracy", n_trials=3)
    assert "expected 'accuracy' among the logged metrics, but found" in found.text()
    assert "val_loss" in found.text()


def test_it_goes_on_where_it_was_and_does_nothing_twice(tmp_path) -> None:
    storage = tmp_path / "study.journal"
    first = rates(search(storage=storage, sampler="random", n_trials=2))
    more = search(storage=storage, sampler="random", n_trials=4)
    assert len(set(rates(more))) == 4
    assert rates(more)[:2] == first
    assert rates(search(storage=storage, sampler="random", n_trials=4)) == rates(more)


def test_a_grid_goes_on_too() -> None:
    storage = InMemoryStorage()
    grid = {"learning_rate": [1e-3, 2e-3, 3e-3, 4e-3, 5e-3]}
    search(storage=storage, space=grid, sampler="grid", n_trials=3, pruner="none")
    found = search(storage=storage, space=grid, sampler="grid", n_trials=50, pruner="none")
    assert sorted(rates(found)) == grid["learning_rate"]


def test_a_best_trial_on_the_edge_widens_a_ready_space() -> None:
    found = search(
        objective=lambda trial, values: abs(math.log10(values["learning_rate"]) - 1.5),
        module=None,
        space="learning_rate",
        n_trials=40,
    )
    assert found.best.params["learning_rate"] > 3.0
    assert found.space.dimensions["learning_rate"].distribution.high > 1.0
    assert any("lies at the edge" in note for note in found.notes)


def test_an_objective_of_ones_own_has_the_diagnosis_too() -> None:
    def objective(trial, values):
        fit = trainer(*trial_callbacks(trial, "val_loss"), max_epochs=4)
        torch.manual_seed(1)
        fit.fit(Digits(lr=values["lr"]), *data())
        return float(fit.callback_metrics["val_loss"])

    found = search(None, objective=objective, space={"lr": [1e-2, 1e-7]}, sampler="grid")
    assert found.best.params == {"lr": 1e-2}
    assert found.configuration == {}
    # At chance after an eighth of the trial; the cause may not be plain so early.
    (death,) = found.deaths
    assert death.reason in {"LP407 learning-rate-too-low", "LP807 at-chance"}


def test_a_study_of_ones_own_takes_pruner_and_callbacks() -> None:
    def objective(trial):
        fit = trainer(*trial_callbacks(trial), max_epochs=4)
        fit.fit(Digits(lr=trial.suggest_float("lr", 1e-7, 2e-7)), *data())
        return float(fit.callback_metrics["val_loss"])

    study = optuna.create_study(pruner=PlateauPruner())
    study.optimize(objective, n_trials=1)
    assert study.trials[0].user_attrs[ENDED] == "LP407"


def test_a_run_that_was_sick_narrows_the_search_and_is_begun_well(tmp_path) -> None:
    watch = PlateauCallback(policy="observe", dirpath=str(tmp_path), experiments="never")
    fit = trainer(watch, max_epochs=6)
    fit.fit(Digits(lr=30.0), *data())
    assert "LP406" in {one.code for one in watch.findings}
    found = search(space=None, from_run=tmp_path, n_trials=2, trainer=None)
    assert found.ok
    assert max(rates(found)) < 30.0
    assert "LP406" in found.notes[0]
    assert found.configuration["trainer"] == {"max_epochs": 6}


def test_a_run_with_a_fault_of_the_code_needs_no_search(tmp_path) -> None:
    watch = PlateauCallback(policy="observe", dirpath=str(tmp_path), experiments="never")
    trainer(watch, max_epochs=2).fit(WithSoftmax(), *data())
    found = search(WithSoftmax, space=None, from_run=tmp_path)
    assert found.study.trials == []
    assert found.stopped["code"] == "LP701"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_trials": 0}, "n_trials must be at least 1"),
        ({"timeout_s": 0.0}, "timeout_s must be positive"),
        ({"mode": "up"}, "mode must be 'min' or 'max'"),
        ({"sampler": "best"}, "sampler must be grid, random, bayesian, quasi-random"),
        ({"pruner": "best"}, "pruner must be plateau"),
        ({"space": {"depth": [1]}}, "'depth' is no argument of the module"),
        ({"beat_s": 0}, "beat_s must be at least 1"),
    ],
)
def test_wrong_settings_say_what_was_expected(settings, said) -> None:
    with pytest.raises(ValueError, match=said):
        search(**settings, **({"storage": None} if "beat_s" in settings else {}))


def test_a_module_or_an_objective() -> None:
    with pytest.raises(TypeError, match="received neither"):
        search(None)
    with pytest.raises(TypeError, match="received both"):
        search(objective=lambda trial, values: 0.0)


def test_the_direction_of_a_study_is_kept() -> None:
    storage = InMemoryStorage()
    search(storage=storage, n_trials=1)
    with pytest.raises(ValueError, match="is to minimize, but this search is to maximize"):
        search(storage=storage, n_trials=1, mode="max")


def test_time_is_up() -> None:
    assert len(search(n_trials=500, timeout_s=0.5).study.trials) < 50


def test_plots_are_drawn(tmp_path) -> None:
    found = search(n_trials=3, plots=True, folder=tmp_path)
    assert [path.name for path in found.files] == [
        "best.yaml",
        "history.png",
        "importances.png",
        "parallel-coordinates.png",
    ]
    assert all(path.stat().st_size > 0 for path in found.files)
