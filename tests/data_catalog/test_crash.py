"""A contribution that dies at any moment leaves the old catalog, or the new one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_scans import MAPPING, TERMS, case

from clnet.data_catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import os, shutil, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tiny_scans import MAPPING, TERMS, case
from clnet.data_catalog import Catalog
import clnet.data_catalog.shelf as module

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment, root, source = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
cases = [case(source, "a", 1), case(source, "b", 2), case(source, "c", 3)]
progress = None
if moment == "after the first case":
    progress = die
elif moment == "before the manifest":
    module.write_manifest = die
elif moment == "before the rename":
    module.publish = die
elif moment == "after the rename":
    publish = module.publish
    module.publish = lambda *paths: (publish(*paths), die())
elif moment == "while staged cases are removed":
    remove = shutil.rmtree

    def half(path, **options):
        staged = [*Path(path).glob(".staging/*/case.zarr"), *Path(path).glob("*/case.zarr")]
        remove(staged[0] if staged else path, **options)
        if staged:
            die()

    shutil.rmtree = half
Catalog(root).contribute("s/d", cases, MAPPING, TERMS, progress)
"""


@pytest.mark.parametrize(
    ("moment", "versions"),
    [
        ("after the first case", 1),
        ("before the manifest", 1),
        ("before the rename", 1),
        ("after the rename", 2),
    ],
)
def test_kill_9_leaves_a_valid_catalog(tmp_path: Path, moment: str, versions: int) -> None:
    catalog = Catalog(tmp_path / "catalog")
    old = catalog.contribute("s/d", [case(tmp_path / "old", "a")], MAPPING, TERMS)
    child = CHILD.format(tests=str(ROOT / "tests"))
    arguments = [moment, str(catalog.root), str(tmp_path / "new")]
    done = subprocess.run([sys.executable, "-c", child, *arguments], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(catalog.list()) == versions
    assert catalog.get("s/d@1").sha256 == old.sha256
    for dataset in catalog.list():
        dataset.verify()

    cases = [case(tmp_path / "new", name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))]
    again = catalog.contribute("s/d", cases, MAPPING, TERMS)
    assert again.ref == "s/d@2"
    again.verify()
    assert sorted(p.name for p in (catalog.root / "s" / "d").iterdir()) == [".lock", "1", "2"]


def test_a_case_that_was_half_removed_is_none(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    child = CHILD.format(tests=str(ROOT / "tests"))
    moment = "while staged cases are removed"
    arguments = [moment, str(catalog.root), str(tmp_path / "new")]
    done = subprocess.run([sys.executable, "-c", child, *arguments], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    catalog.get("s/d@1").verify()
    names = {"a": 1, "b": 2, "c": 3, "d": 4}
    cases = [case(tmp_path / "new", name, seed) for name, seed in names.items()]
    more = catalog.contribute("s/d", cases, MAPPING, TERMS)
    more.verify()
    assert more.ref == "s/d@2"
    assert sorted(p.name for p in (catalog.root / "s" / "d").iterdir()) == [".lock", "1", "2"]
