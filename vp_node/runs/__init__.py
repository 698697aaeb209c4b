"""The durable workflow of a run, and when it happens."""
