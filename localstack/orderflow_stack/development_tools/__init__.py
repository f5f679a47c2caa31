"""Pinned programs that developers and tests call, each in a virtual environment of its own below .local."""
