"""Data and training of a small super-resolution model from scratch. In: generated pictures and photographs of installed
packages. Out: a checkpoint. Not part of the wheel.
"""
