"""Probes: pure functions that read one family of signals on its device and never wait for it."""
