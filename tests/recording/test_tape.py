"""The tape sees the forward pass, and the forward pass does not see the tape."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

from lightning_plateau.core.tape import Tape
from lightning_plateau.recording import tape as tape_module
from lightning_plateau.recording.batch import leaves
from lightning_plateau.recording.draft import Draft
from lightning_plateau.recording.tape import TapeRecorder

IMAGES, LABELS, POINTS = torch.rand(6, 1, 8, 8), torch.arange(6) % 3, torch.rand(6, 4)


def record(module: nn.Module, step: Callable[[], Tensor], batch: Any = ()) -> Tape:
    recorder = TapeRecorder(0, module, leaves(batch))
    recorder.start()
    try:
        loss = step()
    except BaseException:
        recorder.stop()
        raise
    draft = recorder.stop(loss)
    assert recorder.failure is None
    return finished(draft)


def finished(draft: Draft) -> Tape:
    return draft.tape([tensor.numpy() for tensor in draft.tensors()])


def names(tape: Tape) -> list[str]:
    return [operation.name for operation in tape]


def chain(tape: Tape) -> list[str]:
    """Return what the loss depends on, first to last."""
    assert tape.root is not None
    assert tape.root >= 0
    return [operation.name for operation in tape.ancestors(tape.operations[tape.root])][::-1]


# -- what it sees ---------------------------------------------------------------------------------


def test_sees_modules_and_functions_in_order() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())

    def step() -> Tensor:
        return F.cross_entropy(F.linear(net(IMAGES), torch.ones(3, 108)).softmax(dim=1), LABELS)

    tape = record(net, step, (IMAGES, LABELS))
    assert [n for n in names(tape) if n not in ("add", "iadd", "ones")] == [
        *("conv2d", "batch_norm", "relu", "flatten", "linear", "softmax", "cross_entropy")
    ]
    layers = {operation.name: operation.layer for operation in tape}
    assert (layers["conv2d"], layers["batch_norm"], layers["softmax"]) == ("0", "1", "")
    (loss,) = tape.losses
    prediction, target = loss.operands
    assert tape.origin(prediction).name == "softmax"  # type: ignore[union-attr]
    assert (target.source, target.index, target.name) == ("batch", 1, "1")
    assert prediction.statistics["row_sum_error"] < 1e-6
    assert target.statistics["maximum"] == 2.0
    assert tape.depends_on_parameters(prediction)
    assert not tape.depends_on_parameters(target)


def test_attributes_and_shapes() -> None:
    net = nn.Linear(4, 3)
    tape = record(net, lambda: F.cross_entropy(net(POINTS), LABELS, reduction="sum"))
    assert tape.losses[0].attributes["reduction"] == "sum"
    linear = next(o for o in tape if o.name == "linear")
    assert linear.shape == (6, 3)
    assert [(o.source, o.name) for o in linear.operands] == [
        *(("other", ""), ("parameter", "weight"), ("parameter", "bias"))
    ]


def test_walks_through_views_properties_and_in_place_operations() -> None:
    net = nn.Linear(4, 4)

    def step() -> Tensor:
        hidden = net(POINTS).T.reshape(-1)
        hidden += 1.0
        hidden.mul_(2.0)
        hidden.relu_()
        return hidden.mean()

    tape = record(net, step)
    assert chain(tape) == ["linear", "t", "reshape", "add", "mul", "relu", "mean"]


def test_walks_through_assignment_into_a_buffer() -> None:
    net = nn.Linear(4, 1)

    def step() -> Tensor:
        predictions = torch.zeros(6, 2)
        predictions[:, :1] = net(POINTS)
        return F.mse_loss(predictions, torch.ones(6, 2))

    tape = record(net, step)
    assert "linear" in chain(tape)
    assert tape.depends_on_parameters(tape.losses[0].operands[0])


def test_parameters_stay_parameters_when_changed_in_place() -> None:
    net = nn.Linear(4, 1)

    def step() -> Tensor:
        with torch.no_grad():
            net.weight.clamp_(-0.1, 0.1)
        return net(POINTS).sum()

    tape = record(net, step)
    linear = next(o for o in tape if o.name == "linear")
    assert [o.source for o in linear.operands] == ["other", "parameter", "parameter"]


def test_parameters_that_nobody_holds_are_strays() -> None:
    hidden, known = nn.Linear(4, 2), nn.Linear(2, 2)
    recorder = TapeRecorder(0, nn.Identity(), (), None, list(known.named_parameters()))
    recorder.start()
    known(hidden(POINTS))
    first, second = recorder.stop().operations
    assert [o.source for o in first.operands[1:]] == ["stray", "stray"]
    assert [o.source for o in second.operands[1:]] == ["parameter", "parameter"]


def test_a_reused_module_appears_as_often_as_it_is_called() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    tape = record(net, lambda: net(net(net(POINTS))).sum())
    assert names(tape).count("linear") == 3
    assert [o.layer for o in tape if o.name == "tanh"] == ["1"] * 3


def test_modules_that_are_not_ours_count_as_their_caller() -> None:
    net, stranger = nn.Linear(4, 2), nn.Softmax(dim=1)
    tape = record(net, lambda: stranger(net(POINTS)).sum())
    assert [(o.name, o.layer) for o in tape][:2] == [("linear", ""), ("softmax", "")]


class Language(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.embedding, self.body, self.head = nn.Embedding(5, 8), body, nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.body(self.embedding(tokens))
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return self.head(hidden).transpose(1, 2)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.attention(hidden, hidden, hidden)[0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (nn.LSTM(8, 8, batch_first=True), "lstm"),
        (nn.GRU(8, 8, batch_first=True), "gru"),
        (SelfAttention(), "multi_head_attention_forward"),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), "layer_norm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sequences_from_tokens_to_loss(body: nn.Module, expected: str) -> None:
    net, tokens = Language(body), torch.randint(0, 5, (3, 7))
    tape = record(net, lambda: F.cross_entropy(net(tokens), tokens), (tokens,))
    assert expected in chain(tape)
    embedding = next(o for o in tape if o.name == "embedding")
    assert {o.source for o in embedding.operands} == {"batch", "parameter"}
    assert tape.losses[0].operands[1].source == "batch"


def test_checkpointed_segments_are_seen_once() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def step() -> Tensor:
        return checkpoint(net, POINTS, use_reentrant=False).sum()

    tape = record(net, step)
    assert chain(tape) == ["linear", "relu", "sum"]


def test_a_loss_written_by_hand_is_a_chain() -> None:
    net = nn.Linear(4, 1)

    def step() -> Tensor:
        error = net(POINTS).squeeze(1) - LABELS
        return (error**2).mean()

    tape = record(net, step, (POINTS, LABELS))
    assert chain(tape) == ["linear", "squeeze", "sub", "pow", "mean"]
    power = next(o for o in tape if o.name == "pow")
    assert power.attributes["exponent"] == 2
    difference = next(o for o in tape if o.name == "sub")
    assert [o.shape for o in difference.operands] == [(6,), (6,)]
    assert difference.operands[1].source == "batch"


def test_a_loss_of_unknown_origin() -> None:
    constant = torch.ones((), requires_grad=True)
    tape = record(nn.Linear(1, 1), lambda: constant)
    assert tape.root == -1


def test_a_detached_loss_says_so() -> None:
    net = nn.Linear(4, 1)
    assert not record(net, lambda: net(POINTS).sum().detach()).root_requires_grad


def test_batch_norm_leaves_its_moments() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    recorder = TapeRecorder(0, net)
    recorder.start()
    net(IMAGES)
    draft = recorder.stop()
    moments, values = draft.normalizations["1"]
    assert values == 6 * 6 * 6
    assert moments.shape == (2,)


def test_dead_channels_of_a_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    with torch.no_grad():
        net[0].bias[:3] = -100.0
        net[0].bias[3] = 100.0
    tape = record(net, lambda: net(IMAGES).sum())
    assert next(o for o in tape if o.name == "relu").statistics["dead_units"] == 0.75


def test_long_loops_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_module, "LONGEST", 10)

    def step() -> Tensor:
        value = POINTS
        for _ in range(50):
            value = value * 2
        return F.mse_loss(value, POINTS)

    # Losses are noted whatever came before them: they are what the rules ask for.
    tape = record(nn.Linear(1, 1), step)
    assert len(tape) <= 11
    assert tape.losses


# -- the loss that never returns ------------------------------------------------------------------


def test_the_loss_is_on_the_tape_before_it_raises() -> None:
    net, seen = nn.Linear(4, 3), []
    batch = (POINTS, torch.full((6,), 7))
    recorder = TapeRecorder(0, net, leaves(batch), lambda draft: seen.append(finished(draft)))
    recorder.start()
    with pytest.raises(IndexError, match="out of bounds"):
        F.cross_entropy(net(POINTS), batch[1])
    tape = finished(recorder.stop())
    (loss,) = seen[0].losses
    assert loss.operands[1].statistics["maximum"] == 7.0
    assert names(tape)[-1] == "cross_entropy"


def test_looks_once_only() -> None:
    net, looks = nn.Linear(4, 3), []
    recorder = TapeRecorder(0, net, (), looks.append)
    recorder.start()
    F.cross_entropy(net(POINTS), LABELS)
    F.cross_entropy(net(POINTS), LABELS)
    recorder.stop()
    assert len(looks) == 1


# -- it does no harm ------------------------------------------------------------------------------


class Everything(nn.Module):
    """Convolution, batch norm, dropout, recurrence, attention, in-place operations, randomness."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True))
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv(images + 0.1 * torch.randn_like(images)).flatten(2).transpose(1, 2)
        hidden, _ = self.lstm(hidden)
        hidden = self.attention(F.dropout(hidden, 0.3, self.training))
        return self.head(hidden.mean(dim=1))


def outcome(taped: bool) -> list[Tensor]:
    torch.manual_seed(1)
    net = Everything()
    recorder = TapeRecorder(0, net, leaves((IMAGES, LABELS)))
    if taped:
        recorder.start()
    loss = F.cross_entropy(net(IMAGES), LABELS)
    if taped:
        recorder.stop(loss)
    loss.backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    return [loss.detach(), *gradients, *net.buffers(), torch.get_rng_state()]


def test_results_gradients_buffers_and_random_state_are_bitwise_equal() -> None:
    python, numpy = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    plain, taped = outcome(taped=False), outcome(taped=True)
    assert len(plain) == len(taped)
    assert all(torch.equal(a, b) for a, b in zip(plain, taped, strict=True))
    assert random.getstate() == python
    assert np.random.get_state()[1].tobytes() == numpy  # noqa: NPY002


@pytest.mark.parametrize("kind", ["layer", "stack", "attention"])
def test_frozen_transformers_keep_their_fast_path(kind: str) -> None:
    """In eval mode torch runs fused kernels, unless it sees a mode: then bits would change."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    frozen = {
        "layer": layer,
        "stack": nn.TransformerEncoder(layer, 2),
        "attention": SelfAttention(),
    }[kind].eval()
    frozen.requires_grad_(False)
    net, head, points = nn.ModuleList([frozen]), nn.Linear(8, 1), torch.randn(4, 5, 8)
    calls: list[str] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            calls.append(str(func))
            return func(*args, **(kwargs or {}))

    def forward() -> Tensor:
        return head(frozen(points)).sum()

    with Watch():
        plain = forward()
    fused = [call for call in calls if "_native_multi_head" in call or "_transformer_enc" in call]
    assert fused
    calls.clear()
    with Watch():
        tape = record(net, forward)
    assert set(fused) <= set(calls)
    assert torch.equal(plain, forward())
    assert "linear" in chain(tape)
    site = next(o for o in tape if o.layer.startswith("0"))
    assert site.index in {o.index for o in tape.ancestors(tape.operations[tape.root])}


def test_activations_are_freed_with_the_step() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    recorder = TapeRecorder(0, net, leaves((POINTS,)))
    recorder.start()
    hidden = net(POINTS)
    loss = hidden.sum()
    draft = recorder.stop(loss)
    alive = weakref.ref(hidden)
    gc.disable()
    try:
        del hidden, loss
        assert alive() is None  # no reference, and no cycle that only the collector breaks
    finally:
        gc.enable()
    # Numbers about the values are kept, not the values.
    assert sum(tensor.numel() for tensor in draft.tensors()) <= 40 * len(draft.operations)
    assert not any(tensor.requires_grad for tensor in draft.tensors())


def test_the_recorder_itself_is_freed() -> None:
    net = nn.Linear(4, 4)
    recorder = TapeRecorder(0, net)
    recorder.start()
    net(POINTS)
    recorder.stop()
    alive = weakref.ref(recorder)
    gc.disable()
    try:
        del recorder
        assert alive() is None
    finally:
        gc.enable()


def test_our_failure_leaves_the_call_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> Tensor:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(tape_module, "unit_dimension", broken)
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    expected = net(POINTS).sum()
    recorder = TapeRecorder(0, net)
    recorder.start()
    loss = net(POINTS).sum()
    recorder.stop(loss)
    assert torch.equal(loss, expected)
    assert isinstance(recorder.failure, ZeroDivisionError)


def test_the_users_failure_reaches_the_user() -> None:
    net = nn.Linear(4, 4)
    recorder = TapeRecorder(0, net)
    recorder.start()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        net(torch.ones(2, 9))
    recorder.stop()
    assert recorder.failure is None


def test_global_hooks_go_when_the_tape_stops() -> None:
    before = len(hooks._global_forward_hooks)
    recorder = TapeRecorder(0, nn.Linear(1, 1))
    recorder.start()
    assert len(hooks._global_forward_hooks) == before + 1
    recorder.stop()
    assert len(hooks._global_forward_hooks) == before
    assert not _get_current_function_mode_stack()


def test_layers_are_right_again_after_a_module_that_raised() -> None:
    class Picky(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            raise ValueError("no")

    net = nn.ModuleDict({"picky": Picky(), "linear": nn.Linear(4, 1)})
    recorder = TapeRecorder(0, net)
    recorder.start()
    with pytest.raises(ValueError, match="no"):
        net["picky"](POINTS)
    torch.relu(POINTS)
    loss = net["linear"](POINTS).sum()
    draft = recorder.stop(loss)
    assert [o.layer for o in draft.operations] == ["", "linear", ""]


class Counting(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_modes_of_the_user_keep_working_when_the_tape_stops_inside_them() -> None:
    recorder, mode = TapeRecorder(0, nn.Linear(1, 1)), Counting()
    recorder.start()
    with mode:
        torch.relu(POINTS)
        recorder.stop()  # manual_backward within the user's block
        torch.relu(POINTS)
        assert _get_current_function_mode_stack() == [mode]
    assert mode.calls == 2
    assert not _get_current_function_mode_stack()


def test_stopping_twice_is_harmless() -> None:
    recorder = TapeRecorder(0, nn.Linear(1, 1))
    recorder.start()
    recorder.stop()
    with Counting() as mode:
        recorder.stop()
        assert _get_current_function_mode_stack() == [mode]


def test_sees_through_autocast() -> None:
    net = nn.Linear(4, 3)

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(net(POINTS), LABELS)

    tape = record(net, step)
    assert next(o for o in tape if o.name == "linear").dtype == "bfloat16"
    assert chain(tape)[-1] == "cross_entropy"


# -- what torch can do besides --------------------------------------------------------------------


def test_functions_that_the_user_compiles_whole_stay_compiled() -> None:
    compiled: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    body = torch.compile(lambda x: torch.relu(x) * 2, backend=backend, fullgraph=True)
    net = nn.Linear(4, 3)
    plain = body(net(POINTS)).sum()
    for _ in range(12):
        tape = record(net, lambda: body(net(POINTS)).sum())
    assert chain(tape)[0] == "linear"
    assert torch.equal(plain, body(net(POINTS)).sum())
    assert len(compiled) <= 2  # once without a tape, once with any


LINEAR = nn.Linear(4, 3)


def per_sample_gradients() -> Tensor:
    gradient = torch.func.grad(lambda point: LINEAR(point).sum())
    return torch.func.vmap(gradient)(POINTS).sum() + LINEAR(POINTS).sum()


def ragged() -> Tensor:
    parts = torch.nested.nested_tensor([POINTS[:2], POINTS[2:]], layout=torch.jagged)
    return parts.sin().values().sum() + LINEAR(POINTS).sum()


def second_order() -> Tensor:
    loss = LINEAR(POINTS).square().sum()
    return torch.autograd.grad(loss, LINEAR.weight, create_graph=True)[0].sum()


def categorical() -> Tensor:
    return -torch.distributions.Categorical(logits=LINEAR(POINTS)).log_prob(LABELS).mean()


UNUSUAL: dict[str, Callable[[], Tensor]] = {
    "vmap": lambda: torch.func.vmap(lambda point: LINEAR(point).tanh())(POINTS).sum(),
    "per-sample gradients": per_sample_gradients,
    "sparse": lambda: torch.sparse.mm(torch.eye(6).to_sparse(), LINEAR(POINTS)).sum(),
    "ragged": ragged,
    "reentrant": lambda: checkpoint(LINEAR, POINTS, use_reentrant=True).sum(),
    "second order": second_order,
    "complex": lambda: torch.fft.fft(LINEAR(POINTS)).abs().sum(),
    "empty": lambda: LINEAR(POINTS[:0]).relu().sum(),
    "scripted": lambda: torch.jit.script(nn.ReLU())(LINEAR(POINTS)).sum(),
    "distribution": categorical,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_forward_passes_are_taped_without_harm(name: str) -> None:
    step = UNUSUAL[name]
    expected = step()
    tape = record(LINEAR, step)
    assert torch.equal(step(), expected)
    assert any(operation.name == "linear" for operation in tape)


def test_a_parameter_that_is_put_in_place_of_another_for_the_forward_pass_keeps_its_name() -> None:
    """So do sharded ones: the module holds a shard, and computes with the whole."""
    net = nn.Sequential(nn.Linear(4, 3))
    shard, whole = net[0].weight, nn.Parameter(torch.randn(3, 4))

    def step() -> Tensor:
        net[0].weight = whole
        loss = F.mse_loss(net(POINTS), torch.zeros(6, 3))
        net[0].weight = shard
        return loss

    tape = record(net, step)
    first = next(operation for operation in tape if operation.name == "linear")
    assert [(o.source, o.name) for o in first.operands[1:]] == [
        ("parameter", "0.weight"),
        ("parameter", "0.bias"),
    ]
