"""A crash at any point leaves the old state or the new one; concurrent writers lose nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from registry_shelf import Shelf, lineage, on_both

TESTS = Path(__file__).parents[1]

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.orm import Session
from registry_shelf import Shelf
from clnet.storage import ArtefactStore

class DyingStore(ArtefactStore):
    def put(self, data):
        super().put(data)
        os.kill(os.getpid(), signal.SIGKILL)

url, folder, moment = sys.argv[1:]
shelf = Shelf(url, Path(folder))
if moment == "before the rows":
    shelf.registry.artefacts = DyingStore(folder)
else:
    @event.listens_for(Session, "before_commit")
    def die(session):
        session.flush()
        os.kill(os.getpid(), signal.SIGKILL)
shelf.decoder("abdomen/liver", "killed")
"""


@on_both
@pytest.mark.parametrize("moment", ["before the rows", "before the commit"])
def test_a_killed_writer_leaves_at_most_an_orphan(shelf: Shelf, moment: str) -> None:
    folder = Path(shelf.store.path_hint("0" * 64)).parents[1]
    before = shelf.decoder("abdomen/liver", "before")
    writer = subprocess.run(
        [sys.executable, "-c", KILLED_WRITER, shelf.url, str(folder), moment],
        cwd=TESTS,
        check=False,
    )
    assert writer.returncode == -signal.SIGKILL
    report = shelf.registry.verify()
    assert report.ok
    assert len(report.orphans) == 1
    assert shelf.registry.decoders() == [before]
    retried = shelf.decoder("abdomen/liver", "killed")
    assert retried.ref == "abdomen/liver@2"
    assert retried.sha256 == report.orphans[0]
    assert shelf.registry.verify().orphans == ()


def test_verify_names_what_is_missing_or_damaged(shelf: Shelf) -> None:
    liver, spleen = shelf.decoder("abdomen/liver"), shelf.decoder("abdomen/spleen")
    Path(shelf.store.path_hint(liver.sha256)).unlink()
    Path(shelf.store.path_hint(spleen.sha256)).write_bytes(b"rotten")
    report = shelf.registry.verify()
    assert not report.ok
    assert {fault.refs for fault in report.faults} == {(liver.ref,), (spleen.ref,)}
    assert report.checked == 4


@on_both
def test_threads_adding_versions_of_one_group_take_every_number_once(shelf: Shelf) -> None:
    def add(number: int) -> int:
        return shelf.decoder("abdomen/liver", str(number)).version

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(add, range(18))) == list(range(1, 19))
    assert len(shelf.registry.decoders()) == 18


OPENING_WRITER = """
import sys
from pathlib import Path
from registry_shelf import Shelf

url, folder, number = sys.argv[1:]
with Shelf(url, Path(folder)).furnish() as shelf:
    for i in range(4):
        shelf.decoder("abdomen/liver", f"{number}.{i}")
"""


@on_both
def test_processes_may_open_an_empty_database_at_once(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "artefacts"
    command = [sys.executable, "-c", OPENING_WRITER, url, str(folder)]
    writers = [subprocess.Popen([*command, str(n)], cwd=TESTS) for n in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    with Shelf(url, folder) as shelf:
        assert [d.version for d in shelf.registry.decoders()] == list(range(1, 13))
        assert [e.ref for e in shelf.registry.encoders()] == ["encoder/starter@1"]
        assert shelf.registry.verify().ok


@on_both
def test_threads_creating_one_release_agree(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver")
    shelf.registry.add_encoder("other", b"other", {}, {}, lineage())
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: shelf.registry.create_release("1", "candidate"), range(8)))
    assert len({release.sha256 for release in made}) == 1
    assert len(shelf.registry.releases()) == 1
