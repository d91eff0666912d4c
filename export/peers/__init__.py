"""What the runtime is compared with, each in a process of its own. In: a task. Out: the same picture, and its times.

`python -m runtime.bench --against NAME` starts `python -m export.peers` and takes turns with it.
"""
