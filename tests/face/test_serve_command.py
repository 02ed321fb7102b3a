"""``clnet serve`` in a process of its own, from start to stop."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import clnet
from clnet.serve import SegmentationClient


@pytest.mark.slow
def test_a_release_is_served_until_the_process_is_told_to_stop(
    furnished: clnet.Hub, scan: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("a secret of many letters\n", encoding="utf-8")
    command = [
        Path(sys.executable).with_name("clnet"),
        *("serve", "--port", "0", "--token-file", token),
        *("--place", "abdomen/liver=own:1", "--workspace", furnished.workspace.root),
    ]
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            found = re.fullmatch(r"serving release 2026\.11 at (http://127\.0\.0\.1:\d+)\n", told)
            assert found, (tmp_path / "log").read_text()
            with SegmentationClient(found[1], token.read_text().strip()) as client:
                served = client.segment(scan).statistics()
            process.stdout.readline()  # how to stop it
            before = (tmp_path / "log").read_text()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stdout.read() == ""  # it stops in silence
    assert (tmp_path / "log").read_text() == before
    in_process = furnished.segment(scan).statistics()
    assert served["anatomies"] == in_process["anatomies"]
