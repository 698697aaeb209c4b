"""Offline training of VoxelPrompt: prompts, tasks, image synthesis, the joint optimisation, evaluation."""

__version__ = "0.1.0"
