"""The bytes of a request body: media type, size and gzip checked before anything is parsed."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from typing import IO

from flask import request
from werkzeug.exceptions import HTTPException

from app.kit.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

GZIP_WINDOW = 16 + zlib.MAX_WBITS
# A JSON batch compresses 10 to 30 times; a bomb about 1,000 times.
HIGHEST_RATIO = 200
SMALLEST_SUSPECT_BYTES = 1_048_576
# The largest body that any route takes; who sends more finds his connection closed.
MOST_DISCARDED_BYTES = 67_108_864
# How long a client may pause in the middle of a body, and of one that is refused already.
LONGEST_PAUSE_S = 20.0
LONGEST_REFUSED_PAUSE_S = 3.0


def read(accepts: tuple[str, ...], *, limit: int) -> bytes:
    """Return the decompressed body of at most `limit` bytes.

    Raises UnsupportedMediaType for another content type or encoding, PayloadTooLarge above the
    limit (before and after decompression), BadRequest for a broken gzip stream and for a body that
    ends before its announced end.
    """
    if request.mimetype not in accepts:
        raise UnsupportedMediaType(f"send the body as {' or '.join(accepts)}")
    if request.mimetype_params.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType("send the body in UTF-8")
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    with _pausing_at_most(LONGEST_PAUSE_S):
        raw = _bytes_of(request.stream, limit=limit)
    # The front of an NDJSON body reads like a whole one.
    if request.content_length is not None and len(raw) < request.content_length:
        raise _broken()
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"identity", ""}:
        return raw
    if encoding != "gzip":
        raise UnsupportedMediaType("Content-Encoding may be gzip or identity")
    return _gunzipped(raw, limit=limit)


def _bytes_of(stream: IO[bytes], *, limit: int) -> bytes:
    # One byte more than allowed tells a body that is too large from one that just fits. A stream may
    # give less than it is asked for before its end (PEP 3333), so one read is not enough.
    chunks: list[bytes] = []
    missing = limit + 1
    while missing and (chunk := _read(stream, missing)):
        chunks.append(chunk)
        missing -= len(chunk)
    if not missing:
        raise _too_large(limit)
    return b"".join(chunks)


def _read(stream: IO[bytes], count: int) -> bytes:
    try:
        return stream.read(count)
    except HTTPException as error:
        # A body above the last wall keeps its 413; else the connection has broken off.
        raise (error if error.code == 413 else _broken()) from None
    # gunicorn has an error of its own for each way to break the rules of chunks.
    except Exception:  # noqa: BLE001
        raise _broken() from None


def discard_rest() -> None:
    """Read what is still to come of a refused body.

    A server that answers and closes while the client is still sending breaks the connection, and the
    client never reads why it was refused.
    """
    if not request.environ.get("wsgi.input_terminated"):
        return
    stream, left = request.environ["wsgi.input"], MOST_DISCARDED_BYTES
    with contextlib.suppress(BadRequest), _pausing_at_most(LONGEST_REFUSED_PAUSE_S):
        while left > 0 and (chunk := _read(stream, min(left, 65_536))):
            left -= len(chunk)


@contextlib.contextmanager
def _pausing_at_most(seconds: float) -> Iterator[None]:
    """Bound each wait for the client; gunicorn lends us its socket for that and has no such bound itself."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        yield
        return
    before = connection.gettimeout()
    connection.settimeout(seconds)
    try:
        yield
    finally:
        connection.settimeout(before)


def _gunzipped(raw: bytes, *, limit: int) -> bytes:
    reader = zlib.decompressobj(GZIP_WINDOW)
    try:
        text = reader.decompress(raw, limit + 1)
    except zlib.error:
        raise BadRequest("the body is no gzip stream", code="broken_gzip") from None
    if len(text) > limit or reader.unconsumed_tail:
        raise _too_large(limit)
    if not reader.eof or reader.unused_data:
        raise BadRequest("the gzip stream is cut or has more behind its end", code="broken_gzip")
    if len(text) > SMALLEST_SUSPECT_BYTES and len(text) > HIGHEST_RATIO * len(raw):
        raise PayloadTooLarge(f"the body grows more than {HIGHEST_RATIO} times when decompressed")
    return text


def _broken() -> BadRequest:
    return BadRequest("the body ends too early or is not chunked as HTTP asks", code="broken_body")


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body may have at most {limit} bytes, decompressed")
