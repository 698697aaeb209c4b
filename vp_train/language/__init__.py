"""Training and measuring of α on prompts and target programs."""
