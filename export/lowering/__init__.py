"""Canonical graphs rewritten for one backend. A rewrite is one file with a function on `GraphEditor`, and one line in
the backend's list (`export.lowering.onnxruntime_cpu`).
"""
