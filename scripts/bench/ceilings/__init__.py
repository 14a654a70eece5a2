"""The arithmetic of a round written by hand, a model a file; see ceiling.py."""
