"""The names and numbers that arbitrary histories are made of."""

from __future__ import annotations

from lightning_plateau.core.tape import (
    ACTIVATIONS,
    LINEAR_OPERATIONS,
    LOSSES,
    NORMALIZATIONS,
    RECURRENCES,
    SHAPE_OPERATIONS,
)

PARAMETERS = ("net.0.weight", "net.0.bias", "net.1.weight", "embed.weight", "net.2.weight", "head")
LAYERS = ("", "net", "net.0", "net.1", "net.2", "embed", "head")
LEAVES = ("0", "1", "label", "nested.path")
CONDITIONS = (
    "before",
    "own",
    "adam",
    "0",
    "0.1",
    "0.3",
    "1",
    "3",
    "10",
    "true",
    "shuffled",
    "real",
    "zeroed",
    "swapped",
    "train",
    "eval",
    "halved",
    "repeated",
    "waited",
    "elapsed",
)
"""Conditions of the library's own experiments."""
KINDS = (
    "Linear",
    "Conv2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "LayerNorm",
    "Dropout",
    "Embedding",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "LSTM",
    "MultiheadAttention",
    "Sequential",
    "Module",
)
SETTINGS = (
    "p",
    "momentum",
    "eps",
    "num_features",
    "affine",
    "track_running_stats",
    "lr",
    "weight_decay",
    "betas",
)
ATTRIBUTES = (
    "dim",
    "reduction",
    "training",
    "ignore_index",
    "weight",
    "p",
    "label_smoothing",
    "arg1",
    "exponent",
)
STATISTICS = (
    "minimum",
    "maximum",
    "mean",
    "std",
    "row_sum_error",
    "row_exponential_sum_error",
    "integer",
    "non_finite",
    "dead_units",
    "saturated",
)
OPERATIONS = sorted(
    ACTIVATIONS
    | LINEAR_OPERATIONS
    | LOSSES
    | NORMALIZATIONS
    | RECURRENCES
    | SHAPE_OPERATIONS
    | {
        "sub",
        "rsub",
        "mul",
        "div",
        "pow",
        "log",
        "exp",
        "sqrt",
        "add",
        "mean",
        "sum",
        "cat",
        "embedding",
        "dropout",
        "unheard_of",
    }
)
SHAPES = ((), (0,), (1,), (8,), (8, 1), (8, 10), (10, 8), (8, 3, 4, 4), (1, 5, 7))
DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "uint8", "bool", "complex64")
NUMBERS = (0.0, 1.0, -1.0, 0.5, 1e-30, 1e-4, 100.0, 255.0, 1e30, 1.7e308, float("nan"))
INFINITIES = (float("inf"), float("-inf"))
