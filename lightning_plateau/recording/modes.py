"""The stack of torch function modes, which the user's own code shares with the tape."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn, overrides
from torch.overrides import TorchFunctionMode

_active: Callable[[], list[TorchFunctionMode]] = overrides._get_current_function_mode_stack
_pop: Callable[[], TorchFunctionMode] = overrides._pop_mode
_push: Callable[[TorchFunctionMode], None] = overrides._push_mode
_FUSED: dict[type[nn.Module], str] = {
    nn.TransformerEncoder: "transformer_encoder",
    nn.TransformerEncoderLayer: "transformer_encoder_layer",
    nn.MultiheadAttention: "multi_head_attention_forward",
}


def fused_name(module: nn.Module) -> str | None:
    """Return the name under which a module that torch may run as one fused kernel is taped.

    In evaluation mode (a frozen encoder) torch chooses the kernel only where no function mode is
    active, and its results differ in the last bits: the tape has to look away meanwhile.

    Example:
        >>> attention = nn.MultiheadAttention(4, 2)
        >>> fused_name(attention), fused_name(attention.eval())
        (None, 'multi_head_attention_forward')
    """
    if module.training:
        return None
    return next((name for kind, name in _FUSED.items() if isinstance(module, kind)), None)


def alone(mode: TorchFunctionMode) -> bool:
    """Whether ``mode`` is the only one that is active."""
    stack = _active()
    return len(stack) == 1 and stack[0] is mode


def enter(mode: TorchFunctionMode) -> None:
    """Put ``mode`` uppermost on the stack."""
    _push(mode)


def leave(mode: TorchFunctionMode) -> None:
    """Take ``mode`` off the stack, wherever it lies; those that the user put above it stay.

    Leaving a mode the ordinary way takes off the uppermost, and within the user's block
    (``with torch.device(...): self.manual_backward(loss)``) that is another one.
    """
    if not any(active is mode for active in _active()):
        return
    above = []
    while (uppermost := _pop()) is not mode:
        above.append(uppermost)
    for other in reversed(above):
        _push(other)
