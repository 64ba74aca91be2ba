"""How far an import came, on disk: what a run after an interruption needs to go on exactly.

Before each commit the journal notes what will be true after it. A run that finds such a note reads
that one batch again: either all of its calls are there, then the note is true, or none of them is.
Notes are appended, so that no note can destroy the shift, without which the calls would be others.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.api_gateway.call_files import ImportFault, Place
from app.api_gateway.service.import_tally import Tally
from app.kit.errors import Conflict

FOLDER = "imports"
MICROSECOND = timedelta(microseconds=1)


class ImportRunning(Conflict):
    """Another process runs the same import at this moment."""

    code = "import_running"


@dataclass(frozen=True, slots=True)
class Note:
    """What is true when everything before `place` was read."""

    place: Place | None = None
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Course:
    """An import as its journal knows it; `claimed` was noted before a commit that perhaps never came."""

    options: str
    shift: timedelta = timedelta()
    done: Note = field(default_factory=Note)
    claimed: Note | None = None
    is_finished: bool = False


class Journal:
    """The journal of one import, a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from the same import. Raises ImportRunning, ImportFault."""
        with _told(self._path.parent):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ImportRunning("the same import is running in another process") from None
            yield
        finally:
            os.close(lock)

    def read(self) -> Course | None:
        """Return what was noted, None when nothing was; a line that was cut off does not count."""
        if not self._path.parent.exists():
            return None
        with _told(self._path.parent):
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        course = None
        for line in text.split("\n"):
            with suppress(ValueError, KeyError, TypeError):
                course = _followed(course, json.loads(line))
        return course

    def begin(self, course: Course) -> None:
        """Write the journal anew, durably. Raises ImportFault when that is not possible."""
        draft = self._path.with_suffix(".new")
        with _told(self._path.parent):
            with draft.open("w", encoding="utf-8") as file:
                file.write(_line(_course_as_json(course)))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)

    def claim(self, note: Note) -> None:
        """Note what is true once the coming commit has succeeded; the claim before has been."""
        self._append({"claimed": _note_as_json(note)})

    def finish(self) -> None:
        """Note that the last claim is true and the file is at its end."""
        self._append({"finished": True})

    def _append(self, kept: Mapping[str, Any]) -> None:
        with _told(self._path.parent), self._path.open("a", encoding="utf-8") as file:
            file.write(_line(kept))


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        rule = f"the position of the import cannot be kept in {folder}: {error.strerror}"
        raise ImportFault("DEVGUARD_HOME", rule) from None


def _followed(course: Course | None, kept: dict[str, Any]) -> Course | None:
    """Return the course after one more line of its journal."""
    if "options" in kept:
        claimed = kept["claimed"]
        return Course(
            options=kept["options"],
            shift=timedelta(microseconds=kept["shift_us"]),
            done=_note_from_json(kept["done"]),
            claimed=None if claimed is None else _note_from_json(claimed),
        )
    if course is None:
        return None
    if "finished" in kept:
        return replace(course, done=course.claimed or course.done, claimed=None, is_finished=True)
    claimed_now = _note_from_json(kept["claimed"])
    return replace(course, done=course.claimed or course.done, claimed=claimed_now)


def _course_as_json(course: Course) -> dict[str, Any]:
    return {
        "options": course.options,
        "shift_us": course.shift // MICROSECOND,
        "done": _note_as_json(course.done),
        "claimed": None if course.claimed is None else _note_as_json(course.claimed),
    }


def _note_as_json(note: Note) -> dict[str, Any]:
    place = None if note.place is None else asdict(note.place)
    return {"place": place, "tally": note.tally.as_json()}


def _note_from_json(kept: Mapping[str, Any]) -> Note:
    place = None if kept["place"] is None else Place(**kept["place"])
    return Note(place, Tally.from_json(kept["tally"]))


def _line(kept: Mapping[str, Any]) -> str:
    return json.dumps(kept, separators=(",", ":")) + "\n"
