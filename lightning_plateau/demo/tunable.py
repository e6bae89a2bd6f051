"""A training of the demo whose settings can be searched, made as ``LightningCLI`` makes it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_plateau.demo.digits import CLASSES, digits, loader, standardized
from lightning_plateau.demo.networks import Classifier, sgd
from lightning_plateau.framework import LightningDataModule

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class DigitsClassifier(Classifier):
    """A small convolutional network for the digits, trained by SGD with momentum.

    Args:
        learning_rate: Learning rate; 0.5 is far too high, 0.05 would do.
        weight_decay: Weight decay.
        width: Channels of the first convolution.
        dropout: Share of the features, 0 … 1, that are left out before the last layer.
        activation: Name of the activation.
    """

    def __init__(
        self,
        learning_rate: float = 0.5,
        weight_decay: float = 0.0,
        width: int = 16,
        dropout: float = 0.0,
        activation: Literal["relu", "gelu", "tanh"] = "relu",
    ) -> None:
        chosen = ACTIVATIONS[activation]
        network = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            chosen(),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            chosen(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * 4 * 4, CLASSES),
        )
        super().__init__(network, sgd(learning_rate, weight_decay))


class DigitsData(LightningDataModule):
    """The digits, standardized.

    Args:
        batch_size: Images of a training batch.
    """

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the training batches."""
        images, labels = digits().train
        return loader(standardized(images), labels, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the validation batches."""
        images, labels = digits().validation
        return loader(standardized(images), labels, batch_size=120)
