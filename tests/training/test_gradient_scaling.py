"""What the guard multiplies gradients by: on the host and on the device, alike."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD

from lightning_plateau.training.gradient_scaling import device_factors, host_factors
from lightning_plateau.training.guard import GuardSettings
from tests.trainings import Guarding, Regressor, assert_equal, batches, fit, scaled, state_of

NORMS = [3.0, 0.0, 4.0, 12.0]
GROUPS = [0, 0, 1, 1]


def factors(**settings: Any) -> np.ndarray:
    chosen = GuardSettings(**settings)
    host = host_factors(chosen, np.array(NORMS), GROUPS)
    device = device_factors(chosen, torch.tensor(NORMS), GROUPS)
    assert (host is None and chosen.clip_norm is not None) or device is not None
    known = np.ones(4) * (1.0 if host is None else np.array(host))
    if device is not None:
        assert np.ones(4) * device.numpy() == pytest.approx(known, rel=1e-6)
    return known * NORMS


def test_together_to_one_norm() -> None:
    assert np.linalg.norm(factors(normalize="all", normal_norm=2.0)) == pytest.approx(2.0)
    assert np.linalg.norm(factors(normalize="all", normal_norm=200.0)) == pytest.approx(200.0)


def test_layer_by_layer() -> None:
    assert factors(normalize="layer", normal_norm=2.0).tolist() == pytest.approx([1, 0, 1, 1])


def test_what_is_within_the_limit_stays() -> None:
    assert factors(clip_norm=13.1).tolist() == pytest.approx(NORMS)
    assert np.linalg.norm(factors(clip_norm=1.0)) == pytest.approx(1.0)


def test_group_by_group() -> None:
    assert factors(clip_norm=5.0, clip_by_group=True).tolist() == pytest.approx(
        [3.0, 0.0, *(np.array([4.0, 12.0]) * 5 / np.sqrt(2) / np.sqrt(160))]
    )


@pytest.mark.parametrize("settings", [{"clip_value": 0.0}, {"normal_norm": float("nan")}])
def test_settings_are_checked(settings: Any) -> None:
    [(name, value)] = settings.items()
    with pytest.raises(
        ValueError, match=f"{name} must be a positive finite number, but is {value}"
    ):
        GuardSettings(**settings)


WAYS: dict[str, Any] = {
    "normalize": {"normalize": "all", "normal_norm": 0.5},
    "layer": {"normalize": "layer", "normal_norm": 0.5},
    "value": {"clip_value": 0.01},
    "group": {"clip_norm": 0.1, "clip_by_group": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_host_and_device_train_alike(way: str) -> None:
    ends = []
    for fused in (False, True):
        guarding = Guarding(GuardSettings(**WAYS[way]))
        make = partial(SGD, lr=0.1, momentum=0.9, fused=fused)
        ends.append(state_of(fit(Regressor(make), batches(6), guarding)))
    assert ends[0].keys() == ends[1].keys()
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor.float(), ends[1][name].float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_a_scaled_loss_makes_no_difference(way: str) -> None:
    ends = []
    for scale in (1.0, 1024.0):
        guarding = Guarding(GuardSettings(**WAYS[way]))
        make = partial(SGD, lr=0.1, fused=True)
        trainer = fit(Regressor(make), batches(6), guarding, plugins=scaled(scale))
        ends.append(state_of(trainer))
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor.float(), ends[1][name].float(), rtol=1e-2, atol=1e-3)


class Rooted(Regressor):
    """One parameter gets a gradient of NaN in every step: the root of zero."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.extra = torch.nn.Parameter(torch.zeros(3))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        root = (self.extra * 0.0).square().sum().sqrt()
        return super().training_step(batch, batch_idx) + root


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_finite_of_a_gradient_is_used(fused: bool) -> None:
    make = partial(SGD, lr=0.1, fused=fused)
    plain = fit(Rooted(make), batches(6), Guarding())
    assert plain.lightning_module.extra.isnan().all()
    guarding = Guarding(GuardSettings(replace_non_finite=True, skip_non_finite=True))
    mended = fit(Rooted(make), batches(6), guarding)
    assert mended.lightning_module.extra.tolist() == [0.0, 0.0, 0.0]
    alone = state_of(fit(Regressor(make), batches(6), Guarding()))
    kept = {k: v for k, v in state_of(mended).items() if k.startswith("module/net.0")}
    assert_equal(kept, {name: alone[name] for name in kept})


@pytest.mark.parametrize("fused", [False, True])
def test_a_batch_of_nan_leaves_statistics_and_weights_finite(fused: bool) -> None:
    guarding = Guarding(GuardSettings(replace_non_finite=True))
    make = partial(SGD, lr=0.1, fused=fused)
    trainer = fit(Regressor(make), batches(6, poison=3), guarding)
    assert all(bool(t.isfinite().all()) for t in state_of(trainer).values())
