"""The findings as text for a terminal, and as JSON. In: findings. Out: lines, or an object."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from runtime.doctor.findings import Finding, Mark, Remedy

SCHEMA = 1
WIDTH = 100
_MARKS = {Mark.OK: "✓", Mark.WARNING: "!", Mark.MISSING: "–"}
_ASCII = {Mark.OK: "+", Mark.WARNING: "!", Mark.MISSING: "-"}


def lines(findings: Sequence[Finding], encoding: str, *, bold: bool = False) -> list[str]:
    """The screen: a line a finding, wrapped, then how to get what is missing.

    Args:
        findings: in order.
        encoding: of where it will be written; what it cannot show is written in ASCII.
        bold: whether what needs attention is made so, by ANSI's codes.
    """
    marks = _MARKS if _shows(encoding, "".join(_MARKS.values())) else _ASCII
    label = max(len(finding.key) for finding in findings)
    found = []
    for finding in findings:
        head = f"{marks[finding.mark]} {finding.key:{label}}  "
        width = WIDTH - len(head)
        words = "".join(c if c.isprintable() else " " for c in finding.text)  # a manifest may hold a terminal's codes
        text = textwrap.wrap(words, width, break_on_hyphens=False, break_long_words=False) or [""]
        found += _bold(
            [f"{head}{text[0]}", *(" " * len(head) + line for line in text[1:])],
            bold and (finding.key == "run" or finding.mark is Mark.WARNING),
        )
    wanted = remedies(findings)
    if wanted:
        found += ["", *_bold(["to get"], bold)]
        aim = max(len(remedy.aim) for remedy in wanted)
        found += [f"  {remedy.aim:{aim}}  {remedy.command}" for remedy in wanted]  # not wrapped: they are copied
    return [line.encode(encoding, "backslashreplace").decode(encoding) for line in found]


def remedies(findings: Sequence[Finding]) -> list[Remedy]:
    """Each once, first those without which nothing runs."""
    each = {remedy.command: remedy for finding in findings for remedy in finding.remedies}
    return sorted(each.values(), key=lambda remedy: not remedy.needed)


def report(findings: Sequence[Finding], *, runs: bool) -> dict[str, Any]:
    """The same for programs: findings by their keys."""
    return {
        "schema": SCHEMA,
        "runs": runs,
        "findings": {f.key: {"mark": str(f.mark), "text": f.text, "facts": dict(f.facts)} for f in findings},
        "remedies": [{"aim": r.aim, "command": r.command, "needed": r.needed} for r in remedies(findings)],
    }


def _shows(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _bold(texts: list[str], on: bool) -> list[str]:
    return [f"\x1b[1m{text}\x1b[0m" for text in texts] if on else texts
