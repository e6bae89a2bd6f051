"""LP415: the optimizer is set in a way that hinders it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isnan
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, Profile, Value
from lightning_plateau.core.rule import Method, Rule

_ADAMS = frozenset({"Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam"})
_MOMENTA = frozenset({"SGD", "RMSprop"})


@dataclass(frozen=True, slots=True)
class _Oddity:
    setting: str
    value: float
    limit: float
    harm: str
    fix: str
    confidence: float
    says: str = ""

    @property
    def said(self) -> str:
        return self.says or f"has {self.setting} = {self.value:.6g}"


@dataclass(frozen=True)
class OddOptimizerSettings(Rule):
    """The optimizer is set in a way that hinders it.

    What it detects:
        In a training that fails: ``eps`` of Adam of 0.01 and more; betas that remember next to
        nothing or next to all, or are the wrong way round; a momentum above 0.99; dampening that
        takes away what momentum gives; ``maximize``; Rprop on mini-batches.

    Why it matters:
        A large eps turns Adam into a slow SGD, a momentum of 0.999 overshoots for a thousand steps,
        ``maximize`` climbs the loss.

    Example:
        >>> from lightning_plateau.core.profile import GroupFact
        >>> from lightning_plateau.testing import history
        >>> group = GroupFact(("fc.weight",), {"lr": 0.1, "momentum": 0.999})
        >>> profile = Profile(optimizers=(OptimizerFact("SGD", (group,)),))
        >>> OddOptimizerSettings().check(history(profile=profile)).message
        'SGD has momentum = 0.999: it goes on for 1000 steps in the direction of the past'

    Remedies:
        switch-optimizer puts Adam with sound settings in its place, but of ``maximize``, which may
        be meant.

    Known limitations:
        Only optimizers of torch, and what derives from them. What a schedule makes of momentum and
        betas is not followed.

    References:
        Kingma and Ba, 2015, Adam: A Method for Stochastic Optimization (ICLR). Reddi et al., 2018,
        On the Convergence of Adam and Beyond (ICLR). Choi et al., 2019, On Empirical Comparisons of
        Optimizers for Deep Learning.
    """

    code: ClassVar[str] = "LP415"
    name: ClassVar[str] = "odd-optimizer-settings"
    severity: ClassVar[Severity] = Severity.WARNING
    explains: ClassVar = (
        "LP306",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP405",
        "LP406",
        "LP407",
        "LP414",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("switch-optimizer",)
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "the steps do not go where the gradient points, or hardly go at all"

    largest_eps: float = 1e-2
    largest_momentum: float = 0.99
    largest_second_beta: float = 0.9999
    smallest_second_beta: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the oddest setting of any optimizer."""
        profile = history.profile
        found = [
            (optimizer, oddity)
            for optimizer in profile.optimizers
            for group in optimizer.groups
            for judge in _JUDGES
            if (oddity := judge(self, profile, optimizer, group.settings)) is not None
        ]
        if not found:
            return None
        optimizer, oddity = max(found, key=lambda entry: entry[1].confidence)
        return self.finding(
            history,
            oddity.confidence,
            f"{optimizer.kind} {oddity.said}: {oddity.harm}",
            evidence=(Evidence(oddity.setting, oddity.value, oddity.limit, optimizer.kind),),
            fix=oddity.fix,
            where=optimizer.kind,
            step=0,
            remedies=() if oddity.setting == "maximize" else None,
        )


def _number(settings: Mapping[str, Value], name: str) -> float | None:
    value = settings.get(name)
    return float(value) if isinstance(value, int | float) and not isnan(value) else None


def _eps(
    rule: OddOptimizerSettings, _: Profile, optimizer: OptimizerFact, settings: Mapping[str, Value]
) -> _Oddity | None:
    eps = _number(settings, "eps")
    if optimizer.kind not in _ADAMS or eps is None or eps < rule.largest_eps:
        return None
    return _Oddity(
        "eps",
        eps,
        rule.largest_eps,
        "it outweighs the size of the gradients that the step is divided by",
        "leave eps at 1e-8",
        0.85 if eps >= 0.1 else 0.6,
    )


def _momentum(
    rule: OddOptimizerSettings, _: Profile, optimizer: OptimizerFact, settings: Mapping[str, Value]
) -> _Oddity | None:
    first = _number(settings, "betas_0" if optimizer.kind in _ADAMS else "momentum")
    if optimizer.kind not in _ADAMS | _MOMENTA or first is None or first <= rule.largest_momentum:
        return None
    setting = "beta1" if optimizer.kind in _ADAMS else "momentum"
    lasts = f"for {1 / (1 - first):.0f} steps" if first < 1 else "for ever"
    return _Oddity(
        setting,
        first,
        rule.largest_momentum,
        f"it goes on {lasts} in the direction of the past",
        f"{setting} = 0.9",
        0.85 if first >= 0.995 else 0.6,
    )


def _second_beta(
    rule: OddOptimizerSettings, _: Profile, optimizer: OptimizerFact, settings: Mapping[str, Value]
) -> _Oddity | None:
    second = _number(settings, "betas_1")
    if optimizer.kind not in _ADAMS or second is None:
        return None
    if second < rule.smallest_second_beta:
        harm, limit = "the size of steps follows every single gradient", rule.smallest_second_beta
    elif second > rule.largest_second_beta:
        harm, limit = "the size of steps follows only the beginning", rule.largest_second_beta
    else:
        return None
    return _Oddity("beta2", second, limit, harm, "betas = (0.9, 0.999)", 0.5)


def _dampening(
    _: OddOptimizerSettings, __: Profile, optimizer: OptimizerFact, settings: Mapping[str, Value]
) -> _Oddity | None:
    dampening = _number(settings, "dampening")
    if optimizer.kind != "SGD" or not _number(settings, "momentum"):
        return None
    if dampening is None or dampening < 0.95:
        return None
    return _Oddity(
        "dampening",
        dampening,
        0.95,
        f"{100 * dampening:.0f} % of each gradient is thrown away",
        "leave dampening at 0",
        0.6,
    )


def _maximize(
    _: OddOptimizerSettings, __: Profile, optimizer: OptimizerFact, settings: Mapping[str, Value]
) -> _Oddity | None:
    if settings.get("maximize") is not True:
        return None
    return _Oddity(
        "maximize",
        1.0,
        0.0,
        "it climbs the loss instead of descending",
        "maximize=False",
        0.9,
        "has maximize = True",
    )


def _full_batch_only(
    _: OddOptimizerSettings,
    profile: Profile,
    optimizer: OptimizerFact,
    settings: Mapping[str, Value],
) -> _Oddity | None:
    batches = profile.batches_per_epoch
    if optimizer.kind != "Rprop" or batches is None or batches < 2:
        return None
    return _Oddity(
        "batches an epoch",
        float(batches),
        1.0,
        "it reads the signs of gradients and needs those of the whole data set",
        "use RMSprop or Adam on mini-batches",
        0.6,
        f"is given {batches} batches an epoch",
    )


_Judge = Callable[
    [OddOptimizerSettings, Profile, OptimizerFact, Mapping[str, Value]], _Oddity | None
]
_JUDGES: tuple[_Judge, ...] = (
    _eps,
    _momentum,
    _second_beta,
    _dampening,
    _maximize,
    _full_batch_only,
)
