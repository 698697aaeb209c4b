"""What things mean: the index of everything that the node received, decided, ran and sent."""
