"""The bytes of a request body: media type, size and gzip checked before anything is parsed."""

from __future__ import annotations

import zlib

from flask import request

from app.kit.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

GZIP_WINDOW = 16 + zlib.MAX_WBITS
# A JSON batch compresses 10 to 30 times; a bomb about 1,000 times.
HIGHEST_RATIO = 200
SMALLEST_SUSPECT_BYTES = 1_048_576


def read(accepts: tuple[str, ...], *, limit: int) -> bytes:
    """Return the decompressed body of at most `limit` bytes.

    Raises UnsupportedMediaType for another content type or encoding, PayloadTooLarge above the
    limit (before and after decompression), BadRequest for a broken gzip stream.
    """
    if request.mimetype not in accepts:
        raise UnsupportedMediaType(f"send the body as {' or '.join(accepts)}")
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    # One byte more than allowed tells a body that is too large from one that just fits.
    raw = request.stream.read(limit + 1)
    if len(raw) > limit:
        raise _too_large(limit)
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"identity", ""}:
        return bytes(raw)
    if encoding != "gzip":
        raise UnsupportedMediaType("Content-Encoding may be gzip or identity")
    return _gunzipped(raw, limit=limit)


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


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body may have at most {limit} bytes, decompressed")
