"""The soak: trainings that are killed, starved of disk, lied to and sabotaged at random.

python -m tests.soak --faults 200 --seed 0
"""
