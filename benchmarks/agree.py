"""Whether reports of `dossr bench` agree: each picture's median within the other's stated interval. In: JSON files.

    python benchmarks/agree.py first.json second.json ...

Prints a line a picture, and ends with code 1 where some pair of intervals does not overlap.
"""

import itertools
import json
import sys
from pathlib import Path

from runtime.bench.spread import Spread, agree
from runtime.bench.table import steps_label


def main(paths: list[str]) -> int:
    reports = [json.loads(Path(path).read_text()) for path in paths]
    cases = [{(c["width"], c["height"], c["steps"]): Spread(**c["picture"]) for c in r["cases"]} for r in reports]
    shared = [key for key in cases[0] if all(key in found for found in cases)]
    if len(reports) < 2 or not shared:
        print("error: give two or more reports that share a picture", file=sys.stderr)
        return 2
    whole = True
    for key in shared:
        spreads = [found[key] for found in cases]
        same = all(agree(a, b) for a, b in itertools.combinations(spreads, 2))
        whole = whole and same
        words = "; ".join(f"{s.p50:.4g} s ({s.low:.4g} .. {s.high:.4g}, {s.count} runs)" for s in spreads)
        print(f"{key[0]}x{key[1]}, {steps_label(key[2])}: {'agree' if same else 'DO NOT AGREE'}: {words}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
