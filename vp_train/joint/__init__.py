"""Joint training of the language model α and the vision network m (paper 3.1 "Supervised Training", A.1, A.4).

An example is a study with a prompt and its target program (`examples`); `model` writes the program and runs what it
calls, with gradients from the masks into α through φ, and from later steps into m through ε; `engine` trains.
"""
