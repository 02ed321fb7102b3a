"""What only hub admins may know, in files of their own, away from what sites are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from clnet.data_catalog.validation import CrossSiteDuplicate
from clnet.storage import atomic_write

__all__ = ["dump_duplicates", "parse_duplicates", "read_duplicates", "write_duplicates"]

_LIST = TypeAdapter(list[CrossSiteDuplicate])


def dump_duplicates(found: Sequence[CrossSiteDuplicate]) -> bytes:
    """As they are stored."""
    return _LIST.dump_json(list(found), indent=1) + b"\n"


def parse_duplicates(data: bytes) -> list[CrossSiteDuplicate]:
    """What was stored."""
    return _LIST.validate_json(data)


def write_duplicates(
    folder: Path, name: str, version: int, found: Sequence[CrossSiteDuplicate]
) -> None:
    """Write down which scans of a version another site has too."""
    target = folder / "duplicates" / name / f"{version}.json"
    atomic_write(target, dump_duplicates(found))


def read_duplicates(folder: Path) -> dict[str, list[CrossSiteDuplicate]]:
    """Everything written so far, by ``site/name@version``."""
    home = folder / "duplicates"
    return {
        f"{path.parent.relative_to(home).as_posix()}@{path.stem}": parse_duplicates(
            path.read_bytes()
        )
        for path in sorted(home.glob("*/*/[!.]*.json"))
    }
