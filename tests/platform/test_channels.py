"""Which channels a decoder gets from what its data labels."""

from __future__ import annotations

import pytest

from clnet.anatomy.stratification import default_stratification
from clnet.errors import InputError
from clnet.model.decoder import Channel
from clnet.platform.channels import channels_for, taught

KIDNEYS = default_stratification()["abdomen/kidneys"]
LEFT, RIGHT = ("kidney_left",), ("kidney_right",)
BOTH = ("kidney_left", "kidney_right")


def names(labels: dict[tuple[str, ...], int], asked: tuple[str, ...] = ()) -> list[str]:
    return [channel.name for channel in channels_for(KIDNEYS, labels, asked)]


def test_exact_labels_give_a_channel_each() -> None:
    assert names({RIGHT: 9, LEFT: 9, ("liver",): 9}) == ["kidney_left", "kidney_right"]


def test_a_union_that_is_all_the_data_knows_gives_one_channel() -> None:
    assert channels_for(KIDNEYS, {BOTH: 9}) == (Channel("kidney", BOTH),)


def test_a_union_beside_an_exact_label_of_its_member_gives_leaves() -> None:
    labels = {BOTH: 9, LEFT: 9}
    assert names(labels) == ["kidney_left", "kidney_right"]
    seen = taught(channels_for(KIDNEYS, labels), labels)
    assert seen.learned == LEFT
    assert seen.unions == (BOTH,)


def test_a_union_that_reaches_beyond_the_group_teaches_nothing() -> None:
    with pytest.raises(InputError, match="label none of kidney_left, kidney_right"):
        names({("kidney_left", "liver"): 9})


def test_composites_may_be_asked_for() -> None:
    labels = {LEFT: 9, RIGHT: 9}
    assert names(labels, ("kidney",)) == ["kidney"]
    assert taught(channels_for(KIDNEYS, labels, ("kidney",)), labels).learned == BOTH


@pytest.mark.parametrize(
    ("asked", "message"),
    [("liver", "not of this group"), ("kidney_right", "no training case labels kidney_right")],
)
def test_what_cannot_be_taught_is_refused(asked: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        names({LEFT: 9}, (asked,))
