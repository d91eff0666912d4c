"""Trains a small DoSSR from scratch, the demo model. In: pictures. Out: a checkpoint, and its figures."""
