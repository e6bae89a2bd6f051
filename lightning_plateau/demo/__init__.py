"""The embedded demo: real images, a planted fault, no download; untreated against treated."""

from lightning_plateau.demo.faults import FAULTS, find_fault
from lightning_plateau.demo.run import DemoResult, check_extras, describe_faults, run_demo, train
from lightning_plateau.demo.tunable import DigitsClassifier, DigitsData

__all__ = [
    "FAULTS",
    "DemoResult",
    "DigitsClassifier",
    "DigitsData",
    "check_extras",
    "describe_faults",
    "find_fault",
    "run_demo",
    "train",
]
