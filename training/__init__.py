"""Trains a small DoSSR from scratch, the demo model that ships. In: pictures. Out: a checkpoint, and its figures."""
