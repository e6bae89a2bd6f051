"""What happens in a training goes in, a History comes out."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_plateau.core import signal
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import Signal
from lightning_plateau.recording.recorder import EARLY_SAMPLES, Recorder

SYNCHRONIZING = {"aten._local_scalar_dense", "aten.is_nonzero", "aten.item", "aten.equal"}


def batches(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(size, 4, generator=generator), torch.randint(0, 3, (size,)))
        for _ in range(count)
    ]


class Loop:
    """A training loop of five lines that calls the recorder as the callback does."""

    def __init__(self, net: nn.Module, accumulate: int = 1, **settings: Any) -> None:
        self.net, self.accumulate = net, accumulate
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        self.recorder = Recorder(net, [list(net.parameters())], **settings)
        self.losses: list[float] = []
        self.norms: list[float] = []

    def run(self, data: Iterable[Any], around: Callable[[int], Any] | None = None) -> History:
        data = list(data)
        window: list[float] = []
        for index, batch in enumerate(data):
            self.recorder.begin_batch(batch, first_of_window=not window)
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            window.append(float(loss.detach()))
            divided = loss / self.accumulate
            self.recorder.observe_loss(divided)
            divided.backward()
            last = index == len(data) - 1
            if (index + 1) % self.accumulate == 0 or last:
                gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
                self.norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
                self.recorder.observe_gradients(0, accumulated=self.accumulate)
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.losses.append(float(np.mean(window)))
                window = []
            rates = {"0": self.optimizer.param_groups[0]["lr"]}
            if self.recorder.end_batch(learning_rates=rates) and self.recorder.due:
                self.recorder.drain()
        return self.history()

    def history(self) -> History:
        self.recorder.drain(wait=True)
        return self.recorder.history()


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


# -- what is recorded -----------------------------------------------------------------------------


def test_every_step_has_its_loss_and_gradient_norm() -> None:
    loop = Loop(net(), every_n_steps=7)
    history = loop.run(batches(30))
    assert history[signal.LOSS].steps.tolist() == list(range(30))
    np.testing.assert_allclose(history[signal.LOSS].values, loop.losses, rtol=1e-6)
    np.testing.assert_allclose(history[signal.GRADIENT_NORM].values, loop.norms, rtol=1e-5)
    assert history[signal.GRADIENT_NORMS].labels == tuple(n for n, _ in loop.net.named_parameters())
    assert history.step == 30


def test_samples_early_and_then_regularly() -> None:
    history = Loop(net(), every_n_steps=25).run(batches(60))
    expected = sorted(EARLY_SAMPLES | {25, 50})
    sampled = (signal.PARAMETER_NORMS, signal.UPDATE_RATIOS, signal.DATA_MEAN, signal.BATCH_SIZE)
    for which in (*sampled, signal.ACTIVATION_STD, signal.NORMALIZATION_RUNNING_MEAN):
        assert history[which].steps.tolist() == expected, which
    assert history[signal.BATCH_SIZE].values.tolist() == [8.0] * len(expected)
    assert history.tapes[0].step == 0
    assert history.last_tape is not None
    assert history.last_tape.step == 50


def test_accumulation_gives_the_mean_loss_even_of_a_short_last_window() -> None:
    loop = Loop(net(), accumulate=3, every_n_steps=4)
    history = loop.run(batches(14))  # four windows of three, one of two
    np.testing.assert_allclose(history[signal.LOSS].values, loop.losses, rtol=1e-6)
    np.testing.assert_allclose(history[signal.GRADIENT_NORM].values, loop.norms, rtol=1e-5)


def test_accumulation_samples_as_much_as_any_training() -> None:
    plain = Loop(net(), every_n_steps=4).run(batches(6))
    accumulated = Loop(net(), accumulate=3, every_n_steps=4).run(batches(18))
    assert set(plain.series) == set(accumulated.series)
    for tag, series in plain.series.items():
        assert accumulated.series[tag].steps.tolist() == series.steps.tolist(), tag


def test_update_ratio_of_plain_descent_is_known() -> None:
    loop = Loop(nn.Linear(4, 3), every_n_steps=1)
    before = loop.net.weight.detach().clone()  # type: ignore[union-attr]
    history = loop.run(batches(1))
    expected = (loop.net.weight.detach() - before).norm() / before.norm()  # type: ignore[union-attr,operator]
    assert history[signal.UPDATE_RATIOS].values[0, 0] == pytest.approx(float(expected), rel=1e-5)


def test_absent_gradients_are_nan_and_do_not_count() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, points: Tensor) -> Tensor:
            return self.used(points)

    loop = Loop(Half())
    history = loop.run(batches(3))
    assert np.isnan(history[signal.GRADIENT_NORMS].values[:, 2:]).all()
    assert np.isfinite(history[signal.GRADIENT_NORMS].values[:, :2]).all()
    np.testing.assert_allclose(history[signal.GRADIENT_NORM].values, loop.norms, rtol=1e-5)


def test_gradients_that_are_not_finite_make_the_norm_so() -> None:
    net = nn.Linear(2, 1)
    recorder = Recorder(net, [list(net.parameters())])
    for bad in (math.nan, math.inf):
        recorder.begin_batch(None)
        net.weight.grad, net.bias.grad = torch.full((1, 2), bad), torch.ones(1)
        recorder.observe_gradients(0)
        recorder.end_batch()
    recorder.drain(wait=True)
    nan, inf = recorder.history()[signal.GRADIENT_NORM].values
    assert math.isnan(nan)
    assert math.isinf(inf)


def test_learning_rates_are_kept_where_they_change() -> None:
    loop = Loop(nn.Linear(4, 3), every_n_steps=100)
    loop.run(batches(60))
    loop.optimizer.param_groups[0]["lr"] = 0.01
    history = loop.run(batches(10))
    rates = history[signal.LEARNING_RATES]
    assert rates.column("0").values[-1] == 0.01
    assert rates.steps[-1] == 60
    assert len(rates) <= len(EARLY_SAMPLES) + 2


def test_a_nan_batch_is_looked_at_in_that_very_step() -> None:
    data = batches(50)
    data[43][0][2, 1] = math.nan
    assert 43 not in EARLY_SAMPLES
    history = Loop(nn.Linear(4, 3), every_n_steps=100).run(data)
    row = history[signal.DATA_NON_FINITE]
    assert row.steps.tolist().count(43) == 1
    assert row.column("0").values[row.steps.tolist().index(43)] == 1.0


def test_losses_whose_backward_was_not_seen() -> None:
    net = nn.Linear(2, 1)
    recorder = Recorder(net, [list(net.parameters())])
    recorder.begin_batch(None)
    net(torch.ones(1, 2)).sum().backward()
    recorder.observe_gradients(0)
    recorder.end_batch(loss=torch.tensor(2.5))
    recorder.begin_batch(None)
    recorder.observe_gradients(0)
    recorder.end_batch()
    recorder.drain(wait=True)
    losses = recorder.history()[signal.LOSS]
    assert losses.steps.tolist() == [0]
    assert losses.values.tolist() == [2.5]


def test_a_step_without_gradients_comes_first() -> None:
    """training_step may return None on the first batch."""
    loop = Loop(nn.Linear(4, 3))
    loop.recorder.begin_batch(None)
    loop.recorder.observe_gradients(0, accumulated=1)
    loop.recorder.end_batch()
    history = loop.run(batches(3))
    assert history[signal.LOSS].steps[0] == 1
    assert np.isfinite(history[signal.LOSS].values).all()


def test_the_table_lies_with_the_parameters_whatever_comes_first() -> None:
    net = nn.Linear(4, 3, device="meta")
    recorder = Recorder(net, [list(net.parameters())])
    recorder.begin_batch(None)
    recorder.observe_gradients(0)
    assert recorder._steps._block is not None
    assert recorder._steps._block._table.is_meta
    recorder.release()


def test_two_optimizers_one_of_which_steps_every_second_batch() -> None:
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    both = nn.ModuleList([first, second])
    recorder = Recorder(both, [list(first.parameters()), list(second.parameters())])
    for index in range(6):
        recorder.begin_batch(None)
        for position, part in enumerate((first, second)):
            if position and index % 2 == 0:
                continue
            part.zero_grad()
            loss = (part(torch.ones(1, 2)) ** 2).sum()
            recorder.observe_loss(loss)
            loss.backward()
            recorder.observe_gradients(position)
        recorder.end_batch()
    recorder.drain(wait=True)
    history = recorder.history()
    per_optimizer = history[signal.LOSS_PER_OPTIMIZER]
    assert per_optimizer.labels == ("0", "1")
    assert np.isnan(per_optimizer.values[:, 1]).tolist() == [True, False] * 3
    assert np.isfinite(per_optimizer.values[:, 0]).all()
    expected = np.nansum(per_optimizer.values, axis=1)
    np.testing.assert_allclose(history[signal.LOSS].values, expected)


def test_batches_in_which_nobody_steps_close_no_step() -> None:
    net = nn.Linear(2, 1)
    recorder = Recorder(net, [list(net.parameters())])
    recorder.begin_batch(None)
    assert recorder.end_batch() is False
    assert recorder.clock == 0


def test_models_in_double_precision_keep_it() -> None:
    net = nn.Linear(4, 3).double()
    recorder = Recorder(net, [list(net.parameters())])
    recorder.begin_batch(None)
    loss = net(torch.ones(1, 4, dtype=torch.float64)).sum() + 1e-12
    recorder.observe_loss(loss)
    loss.backward()
    recorder.observe_gradients(0)
    recorder.end_batch()
    recorder.drain(wait=True)
    assert recorder.history()[signal.LOSS].values[0] == loss.item()


def test_parameters_of_several_types_train_together() -> None:
    mixed = nn.ModuleDict({"low": nn.Linear(4, 4).bfloat16(), "high": nn.Linear(4, 3).double()})
    recorder = Recorder(mixed, [list(mixed.parameters())])
    recorder.begin_batch((torch.ones(2, 4),))
    loss = mixed["high"](mixed["low"](torch.ones(2, 4).bfloat16()).double()).sum()
    recorder.observe_loss(loss)
    loss.backward()
    recorder.observe_gradients(0)
    recorder.end_batch()
    recorder.drain(wait=True)
    history = recorder.history()
    assert np.isfinite(history[signal.GRADIENT_NORMS].values).all()
    assert np.isfinite(history[signal.PARAMETER_NORMS].values).all()


def test_quantized_parameters_in_an_optimizer() -> None:
    net = nn.Linear(4, 3)
    frozen = nn.Parameter(torch.ones(8, dtype=torch.uint8), requires_grad=False)
    recorder = Recorder(net, [[*net.parameters(), frozen]])
    recorder.begin_batch(None)
    net(torch.ones(1, 4)).sum().backward()
    recorder.observe_gradients(0)
    recorder.end_batch()
    recorder.drain(wait=True)
    assert recorder.history()[signal.PARAMETER_NORMS].values.shape == (1, 3)


# -- what is asked for ----------------------------------------------------------------------------


def test_only_what_somebody_needs_is_kept() -> None:
    tags = frozenset({signal.LOSS.tag, signal.DATA_STD.tag})
    history = Loop(net(), tags=tags).run(batches(3))
    always = {signal.GRADIENT_NORM.tag, signal.SKIPPED_STEPS.tag, signal.LEARNING_RATES.tag}
    assert set(history.series) - always <= {*tags, signal.NORMALIZATION_VALUES.tag}
    assert tags <= set(history.series)


def test_modules_that_may_not_be_taped_have_no_tape() -> None:
    assert not Loop(net(), tape=False).run(batches(3)).tapes


@pytest.mark.parametrize("bad", [0, -3])
def test_every_n_steps_must_be_positive(bad: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, but is {bad}"):
        Recorder(nn.Linear(1, 1), [], every_n_steps=bad)


def test_values_of_the_user() -> None:
    recorder = Recorder(nn.Linear(1, 1), [])
    recorder.record_value(signal.user("entropy"), 0.5)
    recorder.record_tensor(signal.user("rate"), torch.tensor([1.0, 3.0], requires_grad=True))
    recorder.drain(wait=True)
    history = recorder.history()
    assert history[signal.user("entropy")].last == 0.5
    assert history[signal.user("rate")].last == 2.0


@pytest.mark.parametrize(
    "batch",
    [
        *(None, 7, "text", {"a": torch.ones(3)}, object(), [torch.zeros(0)]),
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        (torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged),),
        {"old": torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)])},
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_batches_of_any_make(batch: Any) -> None:
    net = nn.Linear(2, 1)
    recorder = Recorder(net, [list(net.parameters())])
    recorder.begin_batch(batch)
    loss = net(torch.ones(1, 2)).sum()
    recorder.observe_loss(loss)
    loss.backward()
    recorder.observe_gradients(0)
    assert recorder.end_batch()
    recorder.drain(wait=True)
    assert recorder.failure is None


def test_an_epoch_without_a_step_ends_once() -> None:
    recorder = Recorder(nn.Linear(1, 1), [])
    recorder.end_epoch()
    recorder.end_epoch()
    assert recorder.history().epoch_ends == (0,)


# -- it does no harm, and costs little ------------------------------------------------------------


class Count(TorchDispatchMode):
    """Counts the operations that reach the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func).rpartition(".")[0])
        return func(*args, **(kwargs or {}))


def ordinary_step(parameters: int) -> list[str]:
    """Return the operations that the recorder itself adds to an ordinary step."""
    net = nn.ParameterList([nn.Parameter(torch.ones(3)) for _ in range(parameters)])
    recorder = Recorder(net, [list(net)], every_n_steps=50)
    for _ in range(4):
        loss = sum(((p**2).sum() for p in net), torch.zeros(()))
        loss.backward()
        with Count() as count:
            recorder.begin_batch((torch.ones(2, 3),))
            recorder.observe_loss(loss)
            recorder.observe_gradients(0, accumulated=1)
            recorder.end_batch(learning_rates={"0": 0.1})
    assert recorder.clock - 1 not in EARLY_SAMPLES
    return count.names


def test_the_cost_of_an_ordinary_step_does_not_grow_with_the_parameters() -> None:
    few, many = ordinary_step(2), ordinary_step(200)
    assert len(few) == len(many) <= 12, many


def test_ordinary_steps_never_read_the_device() -> None:
    assert SYNCHRONIZING.isdisjoint(ordinary_step(5))


def test_sampled_steps_never_read_the_device() -> None:
    model = net()
    recorder = Recorder(model, [list(model.parameters())])
    (batch,) = batches(1)
    with Count() as count:
        recorder.begin_batch(batch)
        loss = F.cross_entropy(model(batch[0]), batch[1])
        recorder.observe_loss(loss)
        loss.backward()
        recorder.observe_gradients(0, accumulated=1)
        recorder.end_batch()
    assert SYNCHRONIZING.isdisjoint(count.names)


def test_memory_on_the_device_is_bounded_by_the_number_of_tensors() -> None:
    """Whatever the size of the parameters: 8 KB a tensor on sampled steps, 4 B a step else."""
    net = nn.ParameterList([nn.Parameter(torch.ones(100_000)) for _ in range(4)])
    recorder = Recorder(net, [list(net)], every_n_steps=50)
    for _ in range(4):
        recorder.begin_batch(None)
        for p in net:
            p.grad = torch.ones_like(p)
        recorder.observe_gradients(0)
        kept = [t.untyped_storage() for o in recorder._optimizers for t in o.before]
        sizes = {storage.data_ptr(): storage.nbytes() for storage in kept}
        assert sum(sizes.values()) <= 4 * 8192
        recorder.end_batch()
    assert recorder._steps._block is not None
    assert recorder._steps._block._table.untyped_storage().nbytes() <= 50 * (4 + 2) * 4


def test_nothing_of_the_batch_or_the_graph_is_held_after_the_step() -> None:
    import gc
    import weakref

    model = net()
    recorder = Recorder(model, [list(model.parameters())])
    gc.disable()
    try:
        for batch in batches(4):
            images = batch[0].clone()
            recorder.begin_batch((images, batch[1]))
            hidden = model(images)
            loss = F.cross_entropy(hidden, batch[1])
            recorder.observe_loss(loss)
            loss.backward()
            recorder.observe_gradients(0)
            recorder.end_batch()
            alive = [weakref.ref(images), weakref.ref(hidden), weakref.ref(loss)]
            del images, hidden, loss, batch
            assert [reference() for reference in alive] == [None] * 3
    finally:
        gc.enable()


def test_a_training_that_dies_leaves_nothing_running() -> None:
    model = net()
    recorder = Recorder(model, [list(model.parameters())])
    recorder.begin_batch((torch.ones(2, 9), torch.zeros(2)))
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 9))
    recorder.abandon_batch()
    recorder.drain(wait=True)
    history = recorder.history()
    assert history[signal.DATA_MEAN].steps.tolist() == [0]
    assert history.tapes[0].root is None
    recorder.release()


def test_a_broken_tape_is_reported_and_the_step_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_plateau.recording import tape

    def broken(*args: object, **kwargs: object) -> Tensor:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(tape, "unit_dimension", broken)
    loop = Loop(net())
    history = loop.run(batches(2))
    assert isinstance(loop.recorder.failure, ZeroDivisionError)
    assert len(history[signal.LOSS]) == 2
    assert not history.tapes


# -- resume ---------------------------------------------------------------------------------------


def test_resumed_halfway_it_ends_with_the_same_history() -> None:
    data = batches(40)
    whole = Loop(net(), every_n_steps=6)
    model = copy.deepcopy(whole.net)
    whole.run(data[:17])
    whole.recorder.end_epoch()
    expected = whole.run(data[17:])

    first = Loop(model, every_n_steps=6)
    first.run(data[:17])
    first.recorder.end_epoch()
    file = io.BytesIO()
    torch.save(first.recorder.state_dict(), file)
    file.seek(0)
    second = Loop(first.net, every_n_steps=6)
    second.recorder.load_state_dict(torch.load(file, weights_only=True))
    assert second.recorder.clock == 17
    again = second.run(data[17:])
    assert again.epoch_ends == (17,)
    assert_equal(expected, again)


def assert_equal(left: History, right: History) -> None:
    assert (left.step, left.tapes) == (right.step, right.tapes)
    assert set(left.series) == set(right.series)
    for tag, series in left.series.items():
        other = right.series[tag]
        assert (series.labels, series.steps.tolist()) == (other.labels, other.steps.tolist()), tag
        np.testing.assert_array_equal(series.values, other.values, err_msg=tag)


def test_a_state_from_the_future_is_refused() -> None:
    recorder = Recorder(nn.Linear(1, 1), [])
    state = {**recorder.state_dict(), "version": 999}
    with pytest.raises(ValueError, match=r"version 999.*upgrade"):
        recorder.load_state_dict(state)


def test_names_of_signals_are_unique() -> None:
    tags = [which.tag for which in signal.STANDARD]
    assert len(tags) == len(set(tags))
    assert all(isinstance(which, Signal) for which in signal.STANDARD)


def test_steps_after_one_that_was_not_finite_are_looked_at_one_by_one() -> None:
    layer = nn.Linear(2, 1)
    recorder = Recorder(layer, [list(layer.parameters())], every_n_steps=10)

    def sampled_in_ten_steps(broken: int | None) -> int:
        before = len(recorder.history()[signal.PARAMETER_NORMS])
        for step in range(10):
            recorder.begin_batch(torch.ones(3, 2))
            layer.zero_grad()
            loss = layer(torch.full((3, 2), float("nan") if step == broken else 1.0)).mean()
            recorder.observe_loss(loss)
            loss.backward()
            recorder.observe_gradients(0, accumulated=1)
            recorder.end_batch()
        recorder.drain(wait=True)
        return len(recorder.history()[signal.PARAMETER_NORMS]) - before

    assert sampled_in_ten_steps(None) == 4
    assert sampled_in_ten_steps(None) == 1
    assert sampled_in_ten_steps(4) == 1
    assert sampled_in_ten_steps(None) == 10
    assert sampled_in_ten_steps(None) == 1
