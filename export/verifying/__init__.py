"""The parts of `dossr verify`: a reference, the engines present, the walk over both, and where an engine departs.

In: a bundle, and a checkpoint or a second bundle to hold it against. Out: a `report.Report`. Imports torch only where a
checkpoint is the reference.
"""
