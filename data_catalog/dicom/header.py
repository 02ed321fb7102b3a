"""Read DICOM headers that nobody vouches for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clnet.errors import CaseRejected

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["is_dicom", "numbers", "parsing", "read_header"]

UNDEFINED = 0xFFFFFFFF
"""Length of an element that ends with a delimiter."""

DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's preamble; files without it (pre-1993) are not read."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path, *, pixels: bool = False, tags: list[str] | None = None) -> Dataset:
    """The data elements of a file, pixel data only if asked for.

    Raises:
        CaseRejected: not DICOM, damaged, or deflated (whose size nobody knows before).
    """
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    with parsing(path):
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax in DEFLATED:
            raise CaseRejected(
                str(path), "file", "deflated DICOM is not read; inflate it", "file.format"
            )
        header = dcmread(path, stop_before_pixels=not pixels, specific_tags=tags)
        if not pixels and _is_cut(header):  # pixels are counted where they are decoded
            raise CaseRejected(
                str(path), "file", "truncated: it ends within a data element", "file.unreadable"
            )
        return header


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Read elements of a file, most of which are only parsed when they are looked at.

    Raises:
        CaseRejected: damaged.
    """
    try:
        with warnings.catch_warnings():
            # values outside of their representation are common and judged where they are used
            warnings.simplefilter("ignore")
            yield
    except CaseRejected:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file makes the parser raise anything
        raise CaseRejected(
            str(path),
            "file",
            f"unreadable or no DICOM ({type(error).__name__}: {error})",
            "file.unreadable",
        ) from None


def _is_cut(header: Dataset) -> bool:
    """Whether the last element is shorter than it says, which the parser does not mind."""
    last = list(header.keys())[-1:]
    element: Any = header.get_item(last[0]) if last else None
    value, length = getattr(element, "value", None), getattr(element, "length", UNDEFINED)
    return isinstance(value, bytes) and length != UNDEFINED and len(value) < length


def numbers(dataset: Dataset, tag: str, count: int, path: Path) -> list[float]:
    """`count` numbers of a data element.

    Raises:
        CaseRejected: it is missing or holds something else.
    """
    try:
        value: Any = dataset.get(tag)
        values = [float(v) for v in (value if count > 1 else [value])]
    except (TypeError, ValueError):
        values = []
    if len(values) != count:
        raise CaseRejected(str(path), tag, f"missing, or not {count} numbers")
    return values
