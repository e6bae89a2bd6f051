"""Recording the tape: the forward pass of a sampled step, functional and module calls alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from lightning_plateau.core.domain import EDGED
from lightning_plateau.core.profile import Value
from lightning_plateau.core.tape import (
    LOSSES,
    NORMALIZATIONS,
    RECTIFIERS,
    SHAPE_OPERATIONS,
    SQUASHERS,
    Operand,
    Operation,
)
from lightning_plateau.recording.caller import calling_line
from lightning_plateau.recording.calls import bound_arguments, operation_name
from lightning_plateau.recording.draft import Draft
from lightning_plateau.recording.modes import alone, enter, fused_name, leave
from lightning_plateau.recording.origins import Origins
from lightning_plateau.recording.probes.activations import (
    operand_statistics,
    unit_dimension,
)
from lightning_plateau.recording.probes.normalization import batch_moments
from lightning_plateau.recording.structure import Structure

LONGEST = 20_000
"""Operations after which a tape ends: unrolled loops repeat themselves."""

ELEMENTWISE = frozenset(
    [
        "sub",
        "rsub",
        "mul",
        "div",
        "truediv",
        "rtruediv",
        "pow",
        "log",
        "log2",
        "log10",
        "exp",
        "sqrt",
        "add",
        "square",
        "abs",
        "logsumexp",
    ]
)
LARGEST_OPERAND = 1 << 20
_INSPECTED = LOSSES | EDGED
"""Operations whose operands are looked at wherever they are called."""
Noted = tuple[int, Tensor | None]
_CONVOLVED = ("conv1d", "conv2d", "conv3d")


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def readable(tensor: Tensor) -> bool:
    """Whether statistics of ``tensor`` can be taken here and used later.

    Not those of sparse and nested tensors, nor of a tensor that is spread over several ranks, and
    not within ``vmap`` and ``grad`` of ``torch.func``: what is computed there may not leave.
    """
    return (
        tensor.layout is torch.strided
        and getattr(tensor, "device_mesh", None) is None
        and not tensor.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and tensor.numel() > 0
    )


def _stray(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) and tensor.requires_grad and tensor.is_leaf


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _dtype(tensor: Tensor) -> str:
    return _type_name(tensor.dtype)


@cache
def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class TapeRecorder(TorchFunctionMode):
    """Records the operations of one forward pass while it is entered.

    It sees what ``torch.overrides`` sees: every call of a torch function or method, in order,
    from modules and from functional code. It changes no result, draws no random number, and waits
    for the device only where ``before_first_loss`` does.

    Args:
        step: Optimizer step.
        module: The module that is trained; names parameters, buffers and layers.
        batch: Path and tensor of each leaf of the batch.
        before_first_loss: Called once, before the first loss function runs, with the draft so far,
            so that labels which would crash the device can be reported before they do.
        optimized: Name and tensor of parameters that an optimizer holds, though the module does
            not know them.
        structure: What the module consists of now, where that is known already.
    """

    def __init__(
        self,
        step: int,
        module: nn.Module,
        batch: Iterable[tuple[str, Tensor]] = (),
        before_first_loss: Callable[[Draft], None] | None = None,
        optimized: Iterable[tuple[str, Tensor]] = (),
        structure: Structure | None = None,
    ) -> None:
        super().__init__()
        self.draft = Draft(step, training=module.training)
        self._before_first_loss = before_first_loss
        self._module = module
        self._origin = Origins()
        self._convolved: set[int] = set()
        self._layers: list[str] = []
        self._fused: nn.Module | None = None
        structure = structure or Structure.of(module)
        self._names, self._parametric = structure.names, structure.parametric
        self._handles: list[RemovableHandle] = []
        self.failure: Exception | None = None
        for name, buffer in structure.buffers:
            self._origin.set(buffer, Operand("buffer", name=name))
        for name, parameter in (*optimized, *structure.parameters):
            self._origin.set(parameter, Operand("parameter", name=name))
        for position, (path, leaf) in enumerate(batch):
            self._origin.set(leaf, Operand("batch", position, path))

    def start(self) -> None:
        """Begin to record."""
        self._handles = [
            register_module_forward_pre_hook(self._enter_layer),
            register_module_forward_hook(self._leave_layer, always_call=True),
        ]
        enter(self)

    def stop(self, loss: Tensor | None = None) -> Draft:
        """Stop recording; ``loss`` is the tensor that backward starts from."""
        leave(self)
        for handle in self._handles:
            handle.remove()
        if loss is not None:
            origin = self._origin.get(loss)
            made_here = origin is not None and origin.source == "operation"
            self.draft.root = origin.index if origin is not None and made_here else -1
            self.draft.root_requires_grad = loss.requires_grad
        return self.draft

    def _enter_layer(self, module: nn.Module, _: Any) -> None:
        self._layers.append(self._names.get(id(module), self._layers[-1] if self._layers else ""))
        if fused_name(module) is not None and alone(self):
            self._fused = module
            leave(self)

    def _leave_layer(self, module: nn.Module, args: Any, output: Any) -> None:
        if module is self._fused:
            self._fused = None
            enter(self)
            self._attempt(lambda: self._note_fused(module, args, output))
        if self._layers:
            self._layers.pop()

    def _note_fused(self, module: nn.Module, args: Any, output: Any) -> None:
        """Put a module on the tape as one operation."""
        made = next(iter(_tensors(output)), None)
        if made is None or len(self.draft.operations) >= LONGEST:
            return
        named = {"input": list(_tensors(args)), "parameters": list(module.parameters())}
        index, taken = self._note(str(fused_name(module)), named)
        self._complete(index, taken, output, made)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run ``func`` and note what it took and made."""
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling():  # the user's compiler must not trace our code
            return func(*args, **kwargs)
        name = operation_name(func)
        # A loss is noted before it runs: with labels out of range it never returns.
        noted = (
            self._attempt(lambda: self._note_loss(func, name, args, kwargs))
            if name in LOSSES
            else None
        )
        result = func(*args, **kwargs)
        self._attempt(lambda: self._note_result(func, name, args, kwargs, result, noted))
        return result

    def _attempt(self, note: Callable[[], Noted | None]) -> Noted | None:
        """Run ``note``; should it fail, the tape ends there and the user's call goes on."""
        if self.failure is None:
            try:
                return note()
            except Exception as error:  # noqa: BLE001 - reported as LP903 when the tape ends
                self.failure = error
        return None

    def _note_loss(
        self, func: Callable[..., Any], name: str, args: Any, kwargs: Mapping[str, Any]
    ) -> Noted:
        noted = self._note(name, bound_arguments(func, name, args, kwargs))
        if self._before_first_loss is not None:
            look, self._before_first_loss = self._before_first_loss, None
            look(self.draft)
        return noted

    def _note_result(
        self,
        func: Callable[..., Any],
        name: str,
        args: Any,
        kwargs: Mapping[str, Any],
        result: Any,
        noted: Noted | None,
    ) -> None:
        if name == "setitem":  # changes its first argument and returns nothing
            result = args[0]
        made = next(iter(_tensors(result)), None)
        if made is None:
            return
        if noted is None:
            if len(self.draft.operations) >= LONGEST:
                return
            noted = self._note(name, bound_arguments(func, name, args, kwargs))
        self._complete(*noted, result, made)

    def _note(self, name: str, named: Mapping[str, Any]) -> Noted:
        """Put a call on the tape and return its index and its first tensor."""
        index = len(self.draft.operations)
        layer = self._layers[-1] if self._layers else ""
        tensors = [tensor for value in named.values() for tensor in _tensors(value)]
        attributes: dict[str, Value] = {key: value for key, value in named.items() if _plain(value)}
        operands = tuple(self._operand(tensor) for tensor in tensors)
        self.draft.operations.append(
            Operation(index, name, layer, operands, attributes=attributes, line=calling_line())
        )
        plain_code = not layer or layer not in self._parametric
        if name in _INSPECTED or (name in ELEMENTWISE and plain_code):
            for position, tensor in enumerate(tensors):
                if readable(tensor) and (name in LOSSES or tensor.numel() <= LARGEST_OPERAND):
                    self.draft.operands[index, position] = operand_statistics(tensor)
        first = tensors[0] if tensors else None
        if name == "batch_norm" and first is not None and first.dim() >= 2 and readable(first):
            per_channel = first.numel() // first.shape[1]
            self.draft.normalizations.setdefault(layer, (batch_moments(first), per_channel))
        return index, first

    def _operand(self, tensor: Tensor) -> Operand:
        origin = self._origin.get(tensor)
        known = origin or (self._place_of(tensor) if _stray(tensor) else Operand("other"))
        return Operand(known.source, known.index, known.name, tuple(tensor.shape), _dtype(tensor))

    def _place_of(self, parameter: Tensor) -> Operand:
        """Look for a parameter anew: sharded ones are replaced for the forward pass by whole ones.

        What is found, or not found, is kept: it is looked for once.
        """
        names = (name for name, one in self._module.named_parameters() if one is parameter)
        name = next(names, None)
        place = Operand("stray") if name is None else Operand("parameter", name=name)
        self._origin.set(parameter, place)
        return place

    def _complete(self, index: int, taken: Tensor | None, result: Any, made: Tensor) -> None:
        """Add what the call made; ``taken`` is its first tensor."""
        noted = self.draft.operations[index]
        self.draft.operations[index] = Operation(
            index,
            noted.name,
            noted.layer,
            noted.operands,
            tuple(made.shape),
            _dtype(made),
            noted.attributes,
            made.requires_grad,
            line=noted.line,
        )
        for tensor in _tensors(result):
            origin = self._origin.get(tensor)
            if origin is None or origin.source not in ("parameter", "buffer"):
                self._origin.set(tensor, Operand("operation", index))
        first = noted.operands[0] if noted.operands else None
        from_convolution = (
            first is not None and first.source == "operation" and first.index in self._convolved
        )
        if noted.name in _CONVOLVED or (
            from_convolution
            and noted.name in NORMALIZATIONS | RECTIFIERS | SQUASHERS | {"add", "iadd"}
        ):
            self._convolved.add(index)
        if made.is_floating_point() and readable(made) and noted.name not in SHAPE_OPERATIONS:
            self.draft.outputs.add(
                index,
                made,
                rectified=noted.name in RECTIFIERS,
                squashed_input=taken if noted.name in SQUASHERS else None,
                unit_dim=unit_dimension(tuple(made.shape), index in self._convolved),
            )
