"""Where settings belong in a training, and the configuration that is made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

from lightning_plateau.demo.tunable import DigitsClassifier, DigitsData
from lightning_plateau.tuning.blueprint import Blueprint
from lightning_plateau.tuning.configuration import SCHEDULES, to_yaml
from lightning_plateau.tuning.space import Space
from lightning_plateau.tuning.spaces import standard
from tests.digits import Digits, trainer

BLUEPRINT = Blueprint(DigitsClassifier, DigitsData, trainer={"max_epochs": 4})


class Fixed(Digits):
    """Nobody can choose its learning rate."""

    def __init__(self) -> None:
        super().__init__()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.1, betas=(0.8, 0.99))


class Scheduled(Digits):
    """It makes its schedule itself."""

    def __init__(self) -> None:
        super().__init__()

    def configure_optimizers(self) -> Any:
        made = torch.optim.SGD(self.parameters(), lr=0.1)
        return [made], [torch.optim.lr_scheduler.ExponentialLR(made, 0.9)]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("learning_rate", "model.learning_rate"),
        ("width", "model.width"),
        ("batch_size", "data.batch_size"),
        ("gradient_clip_val", "trainer.gradient_clip_val"),
        ("epochs", "trainer.max_epochs"),
        ("optimizer", "optimizer"),
        ("schedule", "lr_scheduler"),
        ("optimizer.momentum", "optimizer.momentum"),
        ("depth", None),
        ("nowhere.depth", None),
    ],
)
def test_a_setting_has_its_place(name, place) -> None:
    assert BLUEPRINT.place(name) == place


def test_the_rate_goes_to_the_optimizer_that_is_searched_with_it() -> None:
    assert BLUEPRINT.place("learning_rate", ["optimizer"]) == "optimizer.lr"
    assert Blueprint(Digits).place("learning_rate") == "model.lr"
    assert Blueprint(Fixed).place("learning_rate") == "optimizer.lr"


def test_what_a_training_does_not_have_is_left_out_or_refused() -> None:
    fitted = Blueprint(Digits).fitted(standard)
    assert not {"dropout", "batch_size", "activation"} & set(fitted.dimensions)
    words = BLUEPRINT.fitted(standard).dimensions["activation"].distribution.choices
    assert words == ("relu", "gelu", "tanh")
    with pytest.raises(ValueError, match="did you mean width"):
        BLUEPRINT.fitted(Space.of({"widths": [1, 2]}))


def test_arguments_alone_are_a_plain_configuration() -> None:
    made = BLUEPRINT.configuration({"learning_rate": 0.1, "batch_size": 64})
    assert made == {
        "trainer": {"max_epochs": 4},
        "model": {
            "class_path": "lightning_plateau.demo.tunable.DigitsClassifier",
            "init_args": {"learning_rate": 0.1},
        },
        "data": {
            "class_path": "lightning_plateau.demo.tunable.DigitsData",
            "init_args": {"batch_size": 64},
        },
    }


def test_the_modules_own_optimizer_is_written_out_where_a_part_of_it_is_searched() -> None:
    made = Blueprint(Fixed).configuration({"learning_rate": 0.01})
    assert made["optimizer"] == {
        "class_path": "torch.optim.Adam",
        "init_args": {"lr": 0.01, "betas": [0.8, 0.99]},
    }


def test_a_schedule_of_the_modules_own_is_not_lost_silently() -> None:
    with pytest.raises(ValueError, match="no schedule"):
        Blueprint(Scheduled).configuration({"learning_rate": 0.01})
    Blueprint(Scheduled).configuration({"learning_rate": 0.01, "optimizer": "SGD"})


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_every_optimizer_and_schedule_can_be_trained(optimizer, schedule) -> None:
    values = {"optimizer": optimizer, "schedule": schedule, "learning_rate": 0.01}
    made = BLUEPRINT.make(BLUEPRINT.configuration({**values, "weight_decay": 1e-4}))
    fit = trainer(max_epochs=4, limit_train_batches=1, limit_val_batches=0)
    fit.fit(made.module, **made.data)
    assert type(fit.optimizers[0]).__name__ == optimizer
    assert fit.optimizers[0].defaults["weight_decay"] == 1e-4
    assert len(fit.lr_scheduler_configs) == (schedule != "constant")


def test_objects_of_a_configuration_are_made_anew_for_each_trial() -> None:
    class Holder(Digits):
        def __init__(self, part: torch.nn.Module) -> None:
            super().__init__()
            self.part = part

    part = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}}
    made = Blueprint(Holder, fixed={"model.part": part})
    one, other = (made.make(made.configuration({})).module.part for _ in range(2))
    assert one is not other
    assert (one.in_features, one.out_features) == (2, 3)


def test_yaml_says_the_same_again() -> None:
    made = BLUEPRINT.configuration(
        {"learning_rate": 1e-05, "optimizer": "SGD", "schedule": "decay"}
    )
    assert yaml.safe_load(to_yaml(made, ("a remark",))) == made


def test_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a LightningModule"):
        Blueprint(3)
