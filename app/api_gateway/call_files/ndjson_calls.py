"""Lines of NDJSON as calls: as they are, but for what they leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from app.api_gateway.call_files.call_file import CallFile, CallLine
from app.api_gateway.call_files.forms import constants_of
from app.kit.errors import Fault


class NdjsonCalls(CallFile):
    """An NDJSON file, each line an item of the wire form; blank lines do not count."""

    def calls(self) -> Iterator[CallLine]:
        constants = constants_of(self._form)
        for line, raw, fault in self._lines.raw_records():
            if fault is not None:
                yield CallLine(line, b"", [fault])
            else:
                yield self._call(line, raw, constants)

    def _call(self, line: int, raw: bytes, constants: Mapping[str, Any]) -> CallLine:
        item = _object(raw)
        if isinstance(item, Fault):
            return CallLine(line, b"", [item])
        try:
            is_changed = self._complete(item, line, constants)
        except ValueError as error:
            return CallLine(line, b"", [Fault("/started_at", "invalid_time", str(error))])
        return CallLine(line, to_json(item) if is_changed else raw, [])

    def _start_texts(self) -> Iterator[str]:
        for _, raw, fault in self._lines.raw_records():
            item = {} if fault is not None else _object(raw)
            if not isinstance(item, Fault):
                started_at = item.get("started_at") or self._form.constants.get("started_at")
                if isinstance(started_at, str):
                    yield started_at

    def _skip_one(self) -> bool:
        return next(self._lines.raw_records(), None) is not None

    def _complete(self, item: dict[str, Any], line: int, constants: Mapping[str, Any]) -> bool:
        """Add what the line leaves out, move its time; return whether that changed anything."""
        is_changed = _fill_in(item, constants)
        id_, started_at, prefix = item.get("id"), item.get("started_at"), self._form.id_prefix
        if id_ is None:
            item["id"], is_changed = self._generated_id(line), True
        elif prefix and isinstance(id_, str):
            item["id"], is_changed = prefix + id_, True
        if isinstance(started_at, str) and not self._clock.leaves(started_at):
            item["started_at"], is_changed = self._clock.text(started_at)[1:-1], True
        return is_changed


def _fill_in(item: dict[str, Any], constants: Mapping[str, Any]) -> bool:
    is_changed = False
    for name, value in constants.items():
        present = item.get(name)
        if present is None:
            item[name], is_changed = value, True
        elif isinstance(value, dict) and isinstance(present, dict):
            is_changed = _fill_in(present, value) or is_changed
    return is_changed


def _object(raw: bytes) -> dict[str, Any] | Fault:
    try:
        item = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        return Fault("", "json_invalid", str(error))
    if not isinstance(item, dict):
        return Fault("", "not_an_object", "must be a JSON object")
    return item
