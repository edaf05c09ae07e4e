"""Synthetic task families: generators, exact baselines and metrics."""
