"""The paper's experiments, each one function and one command, at full scale or at one that a CPU can do.

`settings.json` holds both scales; `vp-train experiment NAME --scale small` runs one, `make experiments-small` all of
them.
"""
