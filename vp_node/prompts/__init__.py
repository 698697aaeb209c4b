"""Prompts as rules: what a person wants to know, of which studies, from which series, and where the answer goes."""
