"""The task categories of Table 1: how their inputs are sampled, and the target program of each."""
