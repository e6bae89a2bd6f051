"""The guard: what is done to an optimizer step between backward and update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_plateau.core.finite import all_finite
from lightning_plateau.training.gradient_scaling import device_factors, host_factors
from lightning_plateau.training.optimizers import OptimizerAdapter
from lightning_plateau.training.running_statistics import RunningStatistics


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What the guard does.

    Attributes:
        skip_non_finite: Skip a step whose gradients hold NaN or infinity, exactly: parameters,
            optimizer state and running statistics of normalization layers stay as they were.
        clip_norm: Largest L2 norm of all gradients of an optimizer; larger ones are scaled down.
        clip_share: Share of the usual norm that ``clip_norm`` is set to anew at each drain; None
            where ``clip_norm`` stays.
        clip_quantile: Quantile of the recent norms that counts as the usual one.
        clip_value: Largest magnitude of an element of a gradient; larger ones are cut off.
        clip_by_group: Whether ``clip_norm`` is that of a parameter group, in proportion to the root
            of its size, instead of the whole optimizer.
        normalize: Scale the gradients *to* ``normal_norm``: ``"all"`` together, or ``"layer"`` so
            that each has an equal part of it.
        normal_norm: That norm.
        replace_non_finite: Set what is NaN or infinite in the gradients to zero, in place of
            skipping the step.
        wait_for_device: Whether the host may read one flag a step where an optimizer on an
            accelerator is not fused. Without it such a step cannot be skipped.
    """

    skip_non_finite: bool = False
    clip_norm: float | None = None
    clip_share: float | None = None
    clip_quantile: float = 0.5
    clip_value: float | None = None
    clip_by_group: bool = False
    normalize: Literal["all", "layer"] | None = None
    normal_norm: float = 1.0
    replace_non_finite: bool = False
    wait_for_device: bool = True

    def __post_init__(self) -> None:
        for name in ("clip_norm", "clip_value", "normal_norm"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise ValueError(f"{name} must be a positive finite number, but is {value}")

    @property
    def watches_steps(self) -> bool:
        """Whether a step is looked at before it is made."""
        return self.skip_non_finite or self.replace_non_finite or self.changes_gradients

    @property
    def changes_gradients(self) -> bool:
        """Whether gradients that are finite may be changed."""
        return self.scales_gradients or self.clip_value is not None

    @property
    def scales_gradients(self) -> bool:
        """Whether gradients are multiplied by something that depends on their norms."""
        return self.clip_norm is not None or self.normalize is not None

    @property
    def keeps_statistics(self) -> bool:
        """Whether running statistics are remembered, to be put back after a step not finite."""
        return self.skip_non_finite or self.replace_non_finite


_CLIPPING = "configure_gradient_clipping"


class Guard:
    """Skips non-finite steps and clips gradients; what it costs is one look at the norms.

    On the CPU the norms are read through shared memory. With a fused optimizer the decision stays
    on the device. Otherwise the host reads the norms once a step, and waits for them.

    Call ``before_batch``, ``before_step`` (once for each optimizer that steps) and ``after_step``
    in this order, and ``close`` when the training ends or fails.

    Args:
        module: The module that is trained.
        settings: What to do; may be replaced at any time between batches.
    """

    def __init__(self, module: nn.Module, settings: GuardSettings | None = None) -> None:
        self.settings = settings or GuardSettings()
        self._module = module
        self._statistics = RunningStatistics(module)
        self._stepped: list[tuple[OptimizerAdapter, Tensor | bool]] = []
        self._first_step: list[tuple[OptimizerAdapter, Tensor]] = []
        self._begun: set[int] = set()
        self._forced: dict[int, Tensor] = {}
        self._hooks: dict[int, RemovableHandle] = {}
        self._clipping: tuple[Any] | None = None

    def before_batch(self, first_of_window: bool) -> None:
        """Remember the running statistics, at the first micro-batch of an accumulation window."""
        if self.settings.keeps_statistics and first_of_window:
            self._statistics.save()

    def before_step(
        self, adapter: OptimizerAdapter, norms: Tensor | None, *, clipped_next: bool = False
    ) -> None:
        """Decide on the step that ``adapter``'s optimizer is about to make.

        Args:
            adapter: The optimizer.
            norms: Unscaled L2 norms of its gradients, ``[k]`` on the device; None without any.
            clipped_next: Whether Lightning is about to let the module clip them.
        """
        settings = self.settings
        if norms is None or not settings.watches_steps:
            return
        if adapter.obstacle("clip") is not None:
            return
        if adapter.fused or not (norms.is_cpu or settings.wait_for_device):
            with torch.no_grad():
                self._decide_on_device(adapter, norms)
            return
        # `numpy()` shares the memory of a CPU tensor; `cpu()` is what waits for an accelerator.
        values = (norms if norms.is_cpu else norms.cpu()).numpy()
        if not all_finite(values):
            self._answer_non_finite(adapter, clipped_next)
        elif settings.changes_gradients:
            self._change_gradients(adapter, values)

    @torch.no_grad()
    def _answer_non_finite(self, adapter: OptimizerAdapter, clipped_next: bool) -> None:
        if self.settings.replace_non_finite:
            adapter.replace_non_finite()
            self._statistics.restore()
        elif self.settings.skip_non_finite and adapter.obstacle("skip") is None:
            self._drop(adapter, clipped_next)
            self._stepped.append((adapter, True))

    @torch.no_grad()
    def _change_gradients(self, adapter: OptimizerAdapter, values: NDArray[Any]) -> None:
        settings = self.settings
        if settings.scales_gradients:
            factors = host_factors(settings, values.astype(np.float64), adapter.gradient_groups)
            if factors is not None:
                adapter.scale_gradients(factors)
        if settings.clip_value is not None:
            adapter.clip_elements(settings.clip_value)

    def _drop(self, adapter: OptimizerAdapter, clipped_next: bool) -> None:
        """Take the gradients away; where they would be clipped first, in place of that.

        Other hooks that look at gradients are still to come, and clipping by value fails where
        there are none.
        """
        if not clipped_next:
            adapter.drop_gradients()
            return

        def drop_in_place_of_clipping(*_: Any, **__: Any) -> None:
            self._let_clip()
            adapter.drop_gradients()

        held = vars(self._module)
        self._clipping = (held.get(_CLIPPING),)
        held[_CLIPPING] = drop_in_place_of_clipping

    def _let_clip(self) -> None:
        """Let the module clip as before."""
        if self._clipping is None:
            return
        [own], self._clipping = self._clipping, None
        held = vars(self._module)
        del held[_CLIPPING]
        if own is not None:
            held[_CLIPPING] = own

    def _decide_on_device(self, adapter: OptimizerAdapter, norms: Tensor) -> None:
        finite = torch.isfinite(norms).all()
        settings = self.settings
        factors = (
            device_factors(settings, norms, adapter.gradient_groups)
            if settings.scales_gradients
            else None
        )
        if factors is not None:
            # Clipping by a norm that is not finite would spoil the gradients that are.
            adapter.scale_gradients(torch.where(finite & torch.isfinite(factors), factors, 1.0))
        if settings.clip_value is not None:
            adapter.clip_elements(settings.clip_value)
        if settings.replace_non_finite:
            adapter.replace_non_finite()
            self._statistics.restore_where((~finite).float())
        elif settings.skip_non_finite and adapter.fused:
            self._skip_on_device(adapter, (~finite).float())

    def _skip_on_device(self, adapter: OptimizerAdapter, flag: Tensor) -> None:
        self._stepped.append((adapter, flag))
        if adapter.momentum_unset and adapter.index not in self._begun:
            self._first_step.append((adapter, flag))
        if adapter.scaler is None:
            adapter.optimizer.found_inf = flag  # type: ignore[attr-defined]
            return
        # The scaler sets `found_inf` after this, just before the step: add to it there.
        self._forced[adapter.index] = flag
        if adapter.index not in self._hooks:
            hook = self._join_scaler(adapter)
            self._hooks[adapter.index] = adapter.optimizer.register_step_pre_hook(hook)

    def _join_scaler(self, adapter: OptimizerAdapter) -> Any:
        def join(optimizer: Any, *_: Any) -> None:
            flag = self._forced.pop(adapter.index, None)
            found = vars(optimizer).get("found_inf")
            if flag is not None and found is not None:
                flag.copy_(torch.maximum(flag, found.to(flag)))
                optimizer.found_inf = flag

        return join

    def after_step(self) -> Tensor | bool:
        """Put back what a skipped step has damaged; return whether a step was skipped.

        Returns:
            A bool, or a 0-d float tensor on the device that is not zero where a step was skipped.
        """
        if not self._stepped:
            return False
        stepped, self._stepped = self._stepped, []
        skipped = stepped[0][1] if len(stepped) == 1 else _any([flag for _, flag in stepped])
        scaled = any(adapter.scaler is not None for adapter, _ in stepped)
        with torch.no_grad():
            self._restore_statistics(skipped, only_if_damaged=scaled)
        for adapter, _ in stepped:
            if adapter.scaler is None:
                vars(adapter.optimizer).pop("found_inf", None)
        self._forget_first_steps()
        return skipped

    def _restore_statistics(self, skipped: Tensor | bool, *, only_if_damaged: bool) -> None:
        # A scaler looking for its scale skips the steps of sound batches: their statistics count.
        if isinstance(skipped, Tensor) and skipped.device.type != "cpu":
            if only_if_damaged:
                skipped = skipped * self._statistics.damaged().to(skipped)
            self._statistics.restore_where(skipped)
        elif _read(skipped) and not (only_if_damaged and not _read(self._statistics.damaged())):
            self._statistics.restore()

    def _forget_first_steps(self) -> None:
        """Drop the momentum that a skipped first step has allocated but not set."""
        for adapter, skipped in self._first_step:
            if _read(skipped):
                adapter.optimizer.state.clear()
            else:
                self._begun.add(adapter.index)
        self._first_step.clear()

    def close(self) -> None:
        """Take everything off optimizers and module that was put on them."""
        self._let_clip()
        for adapter, _ in self._stepped:
            if adapter.scaler is None:
                vars(adapter.optimizer).pop("found_inf", None)
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()
        self._forced.clear()
        self._stepped.clear()
        self._first_step.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the settings in plain types."""
        return asdict(self.settings)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the settings of ``state``."""
        self.settings = GuardSettings(**state)


def _read(flag: Tensor | bool) -> bool:
    """Read a flag on the host: through shared memory on the CPU, waiting for an accelerator."""
    if not isinstance(flag, Tensor):
        return flag
    return bool((flag if flag.device.type == "cpu" else flag.cpu()).numpy())


def _any(flags: list[Tensor | bool]) -> Tensor | bool:
    tensors = [flag for flag in flags if isinstance(flag, Tensor)]
    if not tensors:
        return any(flags)
    if any(flag is True for flag in flags):
        return torch.ones_like(tensors[0])
    return torch.stack([flag.to(tensors[0]) for flag in tensors]).amax()
