"""A copy of a module and its optimizers that shares nothing with the training that can change."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import CellType, FunctionType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from lightning_plateau.experiments.stand_ins import TrainerStandIn

_COMPILED = ("forward", "training_step", "validation_step", "test_step", "predict_step")
Memo = dict[int, Any]


class InseparableError(RuntimeError):
    """The module cannot be copied; the message says what it holds that cannot."""


def replicate(
    module: nn.Module, optimizers: Iterable[Optimizer], trainer: TrainerStandIn, real: Any
) -> tuple[nn.Module, list[Optimizer]]:
    """Return a copy of a module and its optimizers, whose parameters are the copy's.

    Compiled parts are copied as what they were compiled from. Data sets and loaders are shared, and
    tensors that hang on a graph are cut off from it. Hooks and functions that the module holds are
    bound to the copy.

    Args:
        module: The LightningModule.
        optimizers: Its optimizers.
        trainer: What the copy is to find where it holds the Trainer.
        real: The Trainer.

    Raises:
        InseparableError: If something that the module holds cannot be copied.
    """
    _insist_on_little(module)
    memo: Memo = {id(real): trainer}
    for shared in _data(real, module):
        memo[id(shared)] = shared
    for tensor in _on_a_graph(module):
        memo[id(tensor)] = tensor.detach().clone()
    context = getattr(module, "_compiler_ctx", None)
    if context is not None:
        memo[id(context)] = None
    try:
        for part in module.modules():
            if "_orig_mod" in part._modules:
                memo[id(part)] = copy.deepcopy(part._modules["_orig_mod"], memo)
        made, stepped = copy.deepcopy((module, list(optimizers)), memo)
        for old, new in zip(optimizers, stepped, strict=True):
            _complete(new, old, memo)
        _rebind(made, memo)
    except Exception as error:
        kind = type(error).__name__
        raise InseparableError(f"the module cannot be copied: {kind}: {error}") from error
    if context is not None:
        for name in _COMPILED:
            made.__dict__.pop(name, None)
    made.__dict__["_compiled_call_impl"] = None
    made.trainer = trainer  # type: ignore[assignment]
    return made, stepped


def _complete(copied: Optimizer, original: Optimizer, memo: Memo) -> None:
    """Copy what torch leaves out when an optimizer is copied: LBFGS keeps its parameters there."""
    for name, value in vars(original).items():
        if name not in vars(copied) and not callable(value):
            copied.__dict__[name] = copy.deepcopy(value, memo)


MOST_ITEMS = 10_000
"""Items of a container beyond which a copy of it takes too long: a replay buffer."""


def _insist_on_little(module: nn.Module) -> None:
    for part in module.modules():
        for name, held in vars(part).items():
            inside = vars(held).values() if hasattr(held, "__dict__") else ()
            for value in (held, *inside):
                if isinstance(value, list | tuple | set | dict | deque) and len(value) > MOST_ITEMS:
                    raise InseparableError(f"{name} holds {len(value)} items, too many to copy")


def _data(trainer: Any, module: nn.Module) -> Iterator[Any]:
    """Yield what belongs to the data, which is read and not copied."""
    loaders = [trainer.train_dataloader, trainer.val_dataloaders]
    for loader in loaders:
        yield from (loader, getattr(loader, "dataset", None))
    yield trainer.datamodule
    for part in module.modules():
        yield from (v for v in vars(part).values() if isinstance(v, DataLoader | Dataset))


def _on_a_graph(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that the module holds beside its parameters and that have a graph."""
    for part in module.modules():
        yield from _graph_tensors([v for k, v in vars(part).items() if k != "_modules"], 0)


def _graph_tensors(node: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(node, Tensor):
        if node.grad_fn is not None:
            yield node
    elif depth < 4 and isinstance(node, list | tuple | set | Mapping):
        for item in list(node.values() if isinstance(node, Mapping) else node):
            yield from _graph_tensors(item, depth + 1)


def _rebind(module: nn.Module, memo: Memo) -> None:
    """Bind the functions that the copy holds, hooks among them, to the copy.

    A copy of a function is the function itself: one that was made inside the original's methods
    would go on reading and changing the original.
    """
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, FunctionType):
                part.__dict__[name] = _bound(value, memo)
            elif isinstance(value, dict):
                for key, item in list(value.items()):
                    if isinstance(item, FunctionType):
                        value[key] = _bound(item, memo)


def _bound(function: FunctionType, memo: Memo) -> FunctionType:
    if function.__closure__ is None:
        return function
    cells = tuple(
        CellType(copy.deepcopy(cell.cell_contents, memo)) for cell in function.__closure__
    )
    made = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made
