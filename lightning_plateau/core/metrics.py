"""What the name of a logged metric says: whether larger values are better."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+\d*")
_SMALLER = frozenset(
    [
        "loss",
        "losses",
        "error",
        "errors",
        "err",
        "mse",
        "rmse",
        "mae",
        "mape",
        "nll",
        "bce",
        "perplexity",
        "ppl",
        "wer",
        "cer",
        "fid",
        "lpips",
        "distance",
    ]
)
_LARGER = frozenset(
    [
        "acc",
        "accuracy",
        "f1",
        "fbeta",
        "auc",
        "auroc",
        "auprc",
        "precision",
        "recall",
        "sensitivity",
        "specificity",
        "iou",
        "miou",
        "dice",
        "jaccard",
        "bleu",
        "rouge",
        "psnr",
        "ssim",
        "r2",
        "top1",
        "top5",
        "ndcg",
        "mrr",
        "map",
        "kappa",
        "mcc",
        "reward",
    ]
)
_REVERSED = frozenset({"neg", "negative", "minus", "inverse", "inv"})


def better(name: str) -> str | None:
    """Return ``"min"`` or ``"max"``, whichever is better for a metric of that name; None for any.

    Example:
        >>> better("val_loss"), better("valid/Accuracy"), better("val_f1"), better("val_score")
        ('min', 'max', 'max', None)
        >>> better("dice_loss"), better("neg_mse")
        ('min', None)
    """
    words = {word.lower() for word in _WORD.findall(name)}
    if words & _REVERSED:
        return None
    if words & _SMALLER:
        return "min"
    return "max" if words & _LARGER else None
