"""Bodies as bytes: JSON objects and pictures, or BodyError with the reason; none trusts a byte."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from collections.abc import Iterable
from typing import Any

from kb.normalise import clean

IMAGE_PIXELS = 300
"""Width and height of the picture that is asked for (``image_size=large``)."""
DEEPEST = 50
"""Objects and lists within each other; PubChem's have about ten."""

class BodyError(ValueError):
    """The body is not what its kind has to be: it was cut off, or is something else."""


class ContentError(BodyError):
    """The body is whole and well formed, but what it says cannot be true, or is about something else."""


def _no_constant(name: str) -> float:
    raise BodyError(f"{name} in JSON")


def load_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; NaN and Infinity, which JSON does not have, are refused."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except BodyError:
        raise
    except (ValueError, RecursionError) as error:
        raise BodyError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise BodyError("JSON, but not an object")
    if _is_deep(document):
        raise ContentError(f"objects more than {DEEPEST} deep")
    return _cleaned(document) if b"\\ud" in body.lower() else document


def _cleaned(value: Any) -> Any:
    """The value with lone surrogates, which are no characters, replaced."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _cleaned(inner) for key, inner in value.items()}
    return [_cleaned(inner) for inner in value] if isinstance(value, list) else value


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for one in level:
            for value in one.values() if isinstance(one, dict) else one:
                if isinstance(value, dict | list):
                    inner.append(value)
        if not inner:
            return False
        level = inner
    return True


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_png(body: bytes) -> tuple[int, int]:
    """Width and height of a complete PNG of the size asked for, with something drawn on it.

    Every chunk's CRC must be right, IHDR first and alone, IEND last, and the picture must decode.
    """
    if body[:8] != PNG_SIGNATURE:
        raise BodyError("not a PNG")
    at, kinds = 8, list[bytes]()
    while at < len(body) and kinds[-1:] != [b"IEND"]:
        if len(body) < at + 12:
            raise BodyError("a PNG chunk is cut short")
        length, kind = struct.unpack(">I4s", body[at : at + 8])
        data = body[at + 8 : at + 8 + length]
        told = int.from_bytes(body[at + 8 + length :][:4], "big")
        if len(body) < at + 12 + length or zlib.crc32(kind + data) != told:
            raise BodyError("a PNG chunk is cut short or its checksum is wrong")
        if (kind == b"IHDR") != (not kinds):
            raise ContentError("a PNG without a header, or with two")
        if not kinds:
            _check_header(data)
        _check_chunk(kind, length)
        kinds.append(kind)
        at += 12 + length
    if kinds[-1:] != [b"IEND"] or at != len(body):
        raise BodyError("a PNG without a proper end")
    _decode(body)
    return IMAGE_PIXELS, IMAGE_PIXELS


def _check_chunk(kind: bytes, length: int) -> None:
    """Refuse a chunk that a decoder must know and does not, and a palette that is none (PNG specification, §11)."""
    if kind[:1].isupper() and kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
        raise ContentError("a PNG with an unknown critical chunk")
    if (kind == b"PLTE" and (length % 3 or not 0 < length <= 768)) or (kind == b"tRNS" and length > 256):
        raise ContentError("a PNG whose palette is none")


def _check_header(data: bytes) -> None:
    if len(data) != 13:
        raise BodyError("a PNG without a header")
    width, height = struct.unpack(">II", data[:8])
    if (width, height) != (IMAGE_PIXELS, IMAGE_PIXELS):
        raise ContentError(f"a PNG of {width} x {height} pixels, not {IMAGE_PIXELS} x {IMAGE_PIXELS}")


def _decode(body: bytes) -> None:
    from PIL import Image, UnidentifiedImageError

    damaged = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, SyntaxError, Warning,
               UnidentifiedImageError, OverflowError, zlib.error, struct.error)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of decompression bombs
            with Image.open(io.BytesIO(body), formats=("PNG",)) as picture:
                blank = picture.convert("RGB").getcolors(1) is not None
    except damaged as error:
        raise BodyError(f"a PNG that does not decode: {type(error).__name__}") from None
    if blank:
        raise ContentError("a PNG with nothing on it")
