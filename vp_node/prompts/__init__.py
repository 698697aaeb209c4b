"""Standing prompts: versioned rules, owned by a person, and the studies that they apply to."""
