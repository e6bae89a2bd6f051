"""The table of modes: what the library can do in each way to train, each cell one real training.

python -m tests.modes --write-docs
"""
