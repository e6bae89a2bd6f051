"""Benchmarks: ratios side by side in one process, never a clock time that must hold."""
