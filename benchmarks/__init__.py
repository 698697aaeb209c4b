"""Measurements as ratios within one run; `make bench` runs them all. Results are recorded in docs/BENCHMARKS.md."""
