"""The data of the demo: scikit-learn's handwritten digits, real images that need no download."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 10
TEST_SIZE, VALIDATION_SIZE = 360, 237
BRIGHTEST = 16.0


@dataclass(frozen=True)
class Digits:
    """Images and labels, split once and for all.

    Attributes:
        train: Images, float32 ``[1200, 1, 8, 8]`` in 0 … 16, and labels, int64 ``[1200]``.
        validation: The same, 237 samples.
        test: The same, 360 samples.
    """

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@cache
def digits() -> Digits:
    """Return the 1,797 images of 8 × 8 pixels (Alpaydin and Kaynak, 1998, UCI optical digits).

    Raises:
        ImportError: If scikit-learn is not installed; the message names the extra.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the demo needs the images of scikit-learn, which is not installed: "
            "pip install 'lightning-plateau[demo]'"
        ) from error
    found = load_digits()
    images = torch.as_tensor(found.images, dtype=torch.float32).unsqueeze(1)
    labels = torch.as_tensor(found.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    cuts = [len(labels) - VALIDATION_SIZE - TEST_SIZE, VALIDATION_SIZE, TEST_SIZE]
    train, validation, test = ((images[part], labels[part]) for part in torch.split(order, cuts))
    return Digits(train, validation, test)


def standardized(images: Tensor) -> Tensor:
    """Return images of mean 0 and standard deviation 1, as measured on the training images."""
    reference = digits().train[0]
    return (images - reference.mean()) / reference.std()


def loader(
    images: Tensor, labels: Tensor, *, batch_size: int = 32, shuffle: bool = False
) -> DataLoader[tuple[Tensor, ...]]:
    """Return a loader of image and label."""
    return DataLoader(TensorDataset(images, labels), batch_size=batch_size, shuffle=shuffle)
