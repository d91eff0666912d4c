"""Backends, a file each, and what both sides share: bundle, graph table, errors, command shell.

In: a bundle's graph. Out: a runner on raw pointers (`engines.backends`). Imports no torch, NumPy or CuPy.
"""
