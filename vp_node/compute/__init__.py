"""The process that decodes pixels and runs the model: the only one that does, killable and confined."""
