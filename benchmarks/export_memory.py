"""Seconds and peak memory of each stage of an export; run from the repository's root, Linux only:

    python -m benchmarks.export_memory --checkpoint model.ckpt --precision fp16 --out bundles/full

takes the options of `python -m export.build`. The peak is the kernel's VmHWM, mapped pages included, set back after
each stage.
"""

import sys
import time
from pathlib import Path

from engines.cli import run_command
from export import build, progress


def status():
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0]: int(words[1]) / 1024**2 for words in lines if words[-1] == "kB"}


class Measured(progress.Progress):
    def __init__(self, stream):
        super().__init__(stream)
        self.rows, self.before = [], None

    def stage(self, name, done):
        self.close_row()
        self.before = (name, time.monotonic())
        super().stage(name, done)

    def close_row(self):
        if self.before is not None:
            name, started = self.before
            now = status()
            self.rows.append((name, time.monotonic() - started, now["VmHWM:"], now["RssAnon:"]))
        Path("/proc/self/clear_refs").write_text("5")

    def __exit__(self, *error):
        super().__exit__(*error)
        self.close_row()
        print(f"\n{'stage':36} seconds  peak GiB  own GiB after")
        for name, seconds, peak, own in self.rows:
            print(f"{name:36} {seconds:7.1f}  {peak:8.2f}  {own:8.2f}")
        print(f"{'whole':36} {sum(r[1] for r in self.rows):7.1f}  {max(r[2] for r in self.rows):8.2f}")


if __name__ == "__main__":
    build.Progress = Measured
    sys.exit(run_command(build.main))
