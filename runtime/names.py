"""Names of outputs. In: a template, and inputs. Out: a path each, or a named error before anything runs."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engines.errors import SettingsError
from runtime.inputs import Input

DEFAULT = "{stem}.{ext}"
FIELDS = ("stem", "name", "parent", "index", "width", "height", "scale", "seed", "steps", "ext")
"""stem, name: the input's, without and with its suffix; parent: its folder, relative to the given one; index: from 1;
width, height: of the result; ext: the format's."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template that was checked."""

    text: str
    fields: frozenset[str]

    @property
    def needs_size(self) -> bool:
        """Whether the inputs' sizes must be known."""
        return bool(self.fields & {"width", "height"})

    def path(self, given: Input, values: Mapping[str, object]) -> Path:
        """The output's path, relative to the output folder; the input's folder is kept under it, where the template
        does not name it.

        Raises:
            SettingsError: the name is empty or leads out of the folder, or a value has another form than the template
                asks for.
        """
        fields = {"stem": given.path.stem, "name": given.path.name, "parent": given.parent.as_posix(), **values}
        try:
            text = self.text.format_map(fields)
        except ValueError as error:
            raise SettingsError(f"--name {self.text} cannot be filled in ({error}); check its formats") from error
        name = PurePosixPath(text)
        if name.is_absolute() or ".." in name.parts or "\\" in text or not name.name or "\0" in text:
            raise SettingsError(
                f"--name {self.text} gives {text!r} for {given.path}, which leads out of the output folder or names no "
                "file; give a relative path without .."
            )
        return (Path() if "parent" in self.fields else given.parent) / name


def parse_template(text: str) -> Template:
    """Checks a template's fields.

    Raises:
        SettingsError: braces that do not close, or an unknown field.
    """
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
        formats = [form for _, _, form, _ in string.Formatter().parse(text) if form]
    except ValueError as error:
        raise SettingsError(f"--name {text} is no template ({error}); write braces that are meant as {{{{") from error
    for name in names:
        if name not in FIELDS:
            raise SettingsError(f"--name {text} has the unknown field {{{name}}}; known are {', '.join(FIELDS)}")
    if any("{" in form for form in formats):
        raise SettingsError(f"--name {text} has a field within a format; write the format as numbers")
    return Template(text=text, fields=frozenset(names))


def check_collisions(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Whether every output is its own file, and none is an input.

    Raises:
        SettingsError: the first two that are one.
    """
    seen: dict[Path, Path] = {}
    originals = {path.resolve(): path for path in inputs}
    for output, source in zip(outputs, inputs, strict=True):
        real = output.resolve()
        if real in seen:
            raise SettingsError(
                f"two results would both be written to {output}, of {seen[real]} and {source}; give them different "
                "names, with --name {stem}_{index}.{ext} for example"
            )
        if real in originals:
            raise SettingsError(f"the result of {source} would replace the input {output}; choose another place")
        seen[real] = source
