"""The profile: facts of a run that do not change from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_plateau.core.derived import Derivable, derived

Value = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class ParameterFact:
    """One parameter of the module.

    Attributes:
        name: Dotted name, as in ``named_parameters``.
        module: Dotted name of the module that owns it, ``""`` for the root.
        shape: Shape of the tensor.
        dtype: Short name of the type, ``"float32"``.
        trainable: Whether ``requires_grad`` is set.
        optimized: Whether some optimizer holds it.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    trainable: bool = True
    optimized: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True, slots=True)
class ModuleFact:
    """One submodule.

    Attributes:
        name: Dotted name, ``""`` for the root.
        kind: The nearest class of ``torch.nn`` among its bases (``"Conv2d"``, ``"BatchNorm1d"``),
            ``"Module"`` for code of the user: never the user's own class name.
        training: Whether it was in training mode when training started.
        attributes: Plain settings (``p``, ``momentum``, ``eps``, ``num_features``, ``affine``…).
    """

    name: str
    kind: str
    training: bool = True
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupFact:
    """One parameter group of an optimizer: its settings and the names of its parameters."""

    parameters: tuple[str, ...]
    settings: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OptimizerFact:
    """One optimizer.

    Attributes:
        kind: Name of the nearest class of ``torch.optim`` among its bases.
        groups: Its parameter groups.
        capabilities: What can be done to its steps (``"fused"``, ``"closure"``, ``"sharded"`` …).
    """

    kind: str
    groups: tuple[GroupFact, ...] = ()
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SchedulerFact:
    """One learning-rate scheduler and when Lightning steps it."""

    kind: str
    interval: str = "epoch"
    frequency: int = 1
    optimizer: int = 0
    monitor: str | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MonitorFact:
    """What watches a logged metric and acts on it.

    Attributes:
        kind: ``"EarlyStopping"``, ``"ModelCheckpoint"`` or ``"ReduceLROnPlateau"``.
        metric: Name of the metric.
        mode: ``"min"`` or ``"max"``: which values it takes for better.
    """

    kind: str
    metric: str
    mode: str = "min"


@dataclass(frozen=True, slots=True)
class Profile(Derivable):
    """Facts that do not change from step to step.

    Attributes:
        parameters: Every parameter, in the order of ``named_parameters``.
        modules: Every submodule, in the order of ``named_modules``.
        optimizers: Every optimizer, in Lightning's order.
        schedulers: Every learning-rate scheduler.
        precision: Lightning's name of the precision, ``"32-true"``, ``"bf16-mixed"`` …
        strategy: Short name of the strategy, ``"SingleDeviceStrategy"``.
        world_size: Number of ranks.
        manual_optimization: Whether the user steps the optimizers.
        accumulate_grad_batches: Micro-batches of a step.
        gradient_clip_val: The clip value that the user gave to the Trainer.
        gradient_clip_algorithm: ``"norm"``, ``"value"`` or None.
        batches_per_epoch: Training batches of an epoch; None where the loader has no length.
        planned_steps: Optimizer steps that the Trainer is to make; None where unlimited.
        planned_epochs: Epochs that the Trainer is to make; None where unlimited.
        has_validation: Whether validation batches exist.
        dataset_size: Training samples, where known.
        shuffled: Whether the training loader shuffles, where known.
        classes: Number of classes, from the user's hint; None where not given.
        task: The user's hint, for example ``"classification"``.
        monitor: The metric that the user named to watch.
        monitors: What stops, saves or lowers the learning rate by a logged metric.
        unshaped: Whether some parameters have no shape yet, and stand here with that of a scalar:
            lazy layers get theirs in the first forward pass.
        lines: Where methods of the user's module begin, ``"train.py:42"`` by name:
            ``training_step`` and ``configure_optimizers``.
    """

    parameters: tuple[ParameterFact, ...] = ()
    modules: tuple[ModuleFact, ...] = ()
    optimizers: tuple[OptimizerFact, ...] = ()
    schedulers: tuple[SchedulerFact, ...] = ()
    precision: str = "32-true"
    strategy: str = "SingleDeviceStrategy"
    world_size: int = 1
    manual_optimization: bool = False
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None
    batches_per_epoch: int | None = None
    planned_steps: int | None = None
    planned_epochs: int | None = None
    has_validation: bool = False
    dataset_size: int | None = None
    shuffled: bool | None = None
    classes: int | None = None
    task: str | None = None
    monitor: str | None = None
    monitors: tuple[MonitorFact, ...] = ()
    unshaped: bool = False
    lines: Mapping[str, str] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps of an epoch; None where the loader has no length."""
        if self.batches_per_epoch is None:
            return None
        return max(1, -(-self.batches_per_epoch // max(1, self.accumulate_grad_batches)))

    @property
    def trainable_size(self) -> int:
        """Number of trainable elements."""
        return sum(parameter.size for parameter in self.parameters if parameter.trainable)

    @property
    @derived
    def trainable(self) -> frozenset[str]:
        """Names of the trainable parameters."""
        return frozenset(fact.name for fact in self.parameters if fact.trainable)

    @property
    @derived
    def frozen(self) -> frozenset[str]:
        """Names of the parameters that are not trainable."""
        return frozenset(fact.name for fact in self.parameters if not fact.trainable)

    @property
    @derived
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the parameters by name."""
        return {fact.name: fact.shape for fact in self.parameters}

    def held_alone(self, optimizer: int) -> tuple[str, ...]:
        """Return the trainable parameters of an optimizer that no other one holds."""
        groups = [
            [name for group in one.groups for name in group.parameters] for one in self.optimizers
        ]
        others = {name for one, names in enumerate(groups) if one != optimizer for name in names}
        own = self.trainable - others
        return tuple(name for name in groups[optimizer] if name in own)

    def module(self, name: str) -> ModuleFact | None:
        """Return the submodule of that dotted name, or None."""
        return _modules_by_name(self).get(name)

    def modules_of_kind(self, *kinds: str) -> tuple[ModuleFact, ...]:
        """Return the submodules whose kind is one of ``kinds``, in order.

        Example:
            >>> profile = Profile(
            ...     modules=(ModuleFact("", "Module"), ModuleFact("bn", "BatchNorm1d"))
            ... )
            >>> [fact.name for fact in profile.modules_of_kind("BatchNorm1d", "BatchNorm2d")]
            ['bn']
        """
        return tuple(fact for fact in self.modules if fact.kind in kinds)


@derived
def _modules_by_name(profile: Profile) -> Mapping[str, ModuleFact]:
    return {fact.name: fact for fact in reversed(profile.modules)}
