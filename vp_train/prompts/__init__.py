"""Templates, slots and synonyms (data), and their expansion into prompts (paper 3.2, Figure 6)."""
