"""What keeps a node observable: audit, logging, health, disk."""
