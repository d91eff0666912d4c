"""The journal of finished outputs: what counts, what a killed run leaves, who holds it."""

import pytest

from engines.errors import OutputNotWritableError
from engines.files import atomic_path
from runtime.journal import NAME, Journal, Stamp, remove_stale, stamp

GIVEN = Stamp(size=3, mtime_ns=5)


def finish(journal, output, text="whole", *, rename=True):
    temporary = output.with_suffix(".tmp")
    temporary.write_text(text)
    journal.write(output, temporary, output.with_suffix(".jpg"), GIVEN, "key")
    if rename:
        temporary.rename(output)


def test_what_is_written_is_known_by_the_next_run(tmp_path):
    with Journal(tmp_path) as journal:
        assert journal.standing(tmp_path / "a.png") is None
        finish(journal, tmp_path / "a.png")
    with Journal(tmp_path) as journal:
        entry = journal.standing(tmp_path / "a.png")
    assert (entry.given, entry.settings, entry.source) == (GIVEN, "key", str(tmp_path / "a.jpg"))
    assert entry.made == stamp(tmp_path / "a.png")


def test_killed_before_the_rename(tmp_path):
    with Journal(tmp_path) as journal:
        finish(journal, tmp_path / "a.png", rename=False)
        assert journal.standing(tmp_path / "a.png") is None


def test_another_file_under_the_name(tmp_path):
    with Journal(tmp_path) as journal:
        finish(journal, tmp_path / "a.png")
        (tmp_path / "a.png").write_text("edited since")
        assert journal.standing(tmp_path / "a.png") is None


def test_the_last_line_of_an_output_counts(tmp_path):
    with Journal(tmp_path) as journal:
        finish(journal, tmp_path / "a.png")
        finish(journal, tmp_path / "a.png", "another")
    with Journal(tmp_path) as journal:
        assert journal.standing(tmp_path / "a.png").made.size == len("another")


def test_torn_and_foreign_lines_are_passed_over(tmp_path):
    with Journal(tmp_path) as journal:
        finish(journal, tmp_path / "a.png")
    foreign = b'[]\n{"output": 3}\n\xff\n{"output": "a.png", "made": {"size": "x", "mtime_ns": 1}}\n'
    with (tmp_path / NAME).open("ab") as file:
        file.write(foreign + b'{"output": "b.p')
    with Journal(tmp_path) as journal:
        assert journal.standing(tmp_path / "a.png") is not None
        finish(journal, tmp_path / "b.png")
    with Journal(tmp_path) as journal:
        assert journal.standing(tmp_path / "b.png") is not None


def test_one_run_at_a_time(tmp_path):
    with Journal(tmp_path), pytest.raises(OutputNotWritableError, match=r"another run holds .*; wait for its end"):
        Journal(tmp_path)
    Journal(tmp_path).__exit__(None, None, None)


def test_a_journal_that_cannot_be_written(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(OutputNotWritableError, match="Is a directory; choose a folder that is writable, or leave out"):
        Journal(tmp_path)


def test_temporary_files_of_killed_runs_go_and_no_others(tmp_path):
    output = tmp_path / "a.b.png"
    with atomic_path(output) as temporary:
        stale = tmp_path / temporary.name.replace(temporary.name.split(".")[-3], "abcd1234")
        stale.touch()
        temporary.touch()
    others = [
        tmp_path / name for name in (".a.c.abcd1234.part.png", ".a.b.png", ".a.b.x.abcd1234.part.png", "part.png")
    ]
    for other in others:
        other.touch()
    remove_stale([output, tmp_path / "none" / "c.png"])
    assert not stale.exists()
    assert all(path.exists() for path in (output, *others))
