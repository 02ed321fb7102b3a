"""Learning within one process: what an interrupted one left behind is gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_hub import furnish, tiny_job

from clnet.hub import connect
from clnet.learning import learn, made_by
from clnet.platform.jobs import enqueue

pytestmark = pytest.mark.slow


def test_equal_jobs_left_behind_are_not_queued_again(tmp_path: Path) -> None:
    furnish(tmp_path)
    with connect(tmp_path) as hub:
        liver, spleen = tiny_job("abdomen/liver"), tiny_job("abdomen/spleen")
        enqueue([liver.model_copy(update={"command": "an earlier run"})], hub.workspace)
        made = learn(hub, [spleen, liver])
        assert [record.group for record in made] == ["abdomen/spleen", "abdomen/liver"]
        assert len(hub.registry.jobs()) == 2
        assert made_by(hub, liver) == made[1]
        assert made_by(hub, liver.model_copy(update={"seed": 9})) is None
        assert learn(hub, []) == []
