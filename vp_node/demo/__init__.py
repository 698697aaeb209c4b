"""`make demo`: the whole job on one machine, with a small PACS on loopback."""
