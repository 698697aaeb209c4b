"""α: the tokenizer, the transformer, its initial state, constrained decoding, and grounding in the prompt."""
