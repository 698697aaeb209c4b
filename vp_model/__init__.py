"""VoxelPrompt: a language model that writes a program, and the vision network that the program calls.

Importing this package is cheap: nothing here loads torch or transformers. `vp_model.agent` does.
"""

__version__ = "0.1.0"
