"""Data made for training: shares of domains, prefixes of solutions, imagined conversations."""
