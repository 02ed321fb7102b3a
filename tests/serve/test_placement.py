"""Where decoders run."""

from __future__ import annotations

import pytest

from clnet.errors import InputError
from clnet.serve import LOCAL, Placement, own

REFS = ("abdomen/liver@3", "abdomen/spleen@1")


def test_decoders_are_local_unless_told_otherwise() -> None:
    assert Placement().of("abdomen/liver@3") == LOCAL


def test_a_version_outweighs_its_group() -> None:
    placement = Placement({"abdomen/liver": own(2), "abdomen/liver@3": LOCAL})
    assert placement.of("abdomen/liver@3") == LOCAL
    assert placement.of("abdomen/liver@4") == own(2)


def test_rules_are_read_as_a_command_line_has_them() -> None:
    read = Placement.parse(["abdomen/liver=own:2", "abdomen/spleen=own", "bone/sacrum=local"])
    assert read == Placement(
        {"abdomen/liver": own(2), "abdomen/spleen": own(1), "bone/sacrum": LOCAL}
    )
    assert str(read.of("abdomen/liver@3")) == "own:2"


@pytest.mark.parametrize("text", ["abdomen/liver", "=own", "a=remote", "a=own:x", "a=local:2"])
def test_a_rule_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="GROUP=own"):
        Placement.parse([text])


def test_no_replicas_are_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        own(0)


def test_a_rule_about_no_decoder_is_refused() -> None:
    Placement({"abdomen/liver": own(1), "abdomen/spleen@1": LOCAL}).check(REFS)
    with pytest.raises(InputError, match=r"chest/heart.*abdomen/liver"):
        Placement({"chest/heart": own(1)}).check(REFS)
