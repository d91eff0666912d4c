"""What a check says. In: facts. Out: `Finding`s, marked, in words and as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Mark(StrEnum):
    """How a finding stands."""

    OK = "ok"
    WARNING = "warning"
    """It is there, and something is wrong with it."""
    MISSING = "missing"
    """It is not there."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """How to get what is missing."""

    aim: str
    """After "to get": "the CUDA provider"."""
    command: str
    """A shell command, or what to do in words."""
    needed: bool = False
    """Whether nothing runs before."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the screen, one entry of the JSON."""

    key: str
    """Of the JSON; the same in every version. "gpu.0" is the first of several."""
    mark: Mark
    text: str
    """For people."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For programs: numbers, words, lists."""
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    bundle: Path
    named: bool = True
    """Whether the bundle was named, on the command line or in the environment."""
    engine: str = "auto"
    device: str = "auto"
    check: bool = False
    """Whether every file of the bundle is hashed."""
