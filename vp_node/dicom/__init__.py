"""The wire: what is listened for, what is sent, and the guard in front of it."""
