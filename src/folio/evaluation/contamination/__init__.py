"""Benchmark items found in training text, exactly."""
