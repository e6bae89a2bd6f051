"""The zoo: real programs, sick and healthy, that the diagnosis is measured on.

A program is what a user would hand to ``Trainer.fit``: their module, their loaders, their Trainer
settings. What is wrong with it, and whether thresholds were tuned on it, stands beside it and is
never seen by the diagnosis.
"""
