"""Packed training: neighbours, interruptions and divergence leave a decoder's weights alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import TINY, boxes, make_decoder, make_encoder

from clnet.anatomy import LabelContract, LabelEntry
from clnet.errors import JobFailed
from clnet.model.decoder import Channel, Decoder, DecoderConfig, Supporter, build_decoder
from clnet.model.encoder import build_encoder
from clnet.model.pretraining import EncoderTraining, pretrain
from clnet.model.supporters import Supporters
from clnet.model.ticket import draw_ticket, prunable
from clnet.model.training import Distillation, FeatureCache, Recipe, Trainee, train_pack

RECIPE = Recipe(steps=6, warm_up=2, negatives=2)


def trainee(name: str, seed: int, **kwargs: object) -> Trainee:
    return Trainee(name, make_decoder(name, seed=seed), kwargs.pop("recipe", RECIPE), **kwargs)


def weights(trainee: Trainee) -> list[torch.Tensor]:
    return [v.clone() for v in trainee.decoder.state_dict().values()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["liver", "spleen", "pancreas"]),
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        st.integers(0, 1000),
    ),
    min_size=2,
    max_size=3,
    unique_by=lambda member: member[2],
)
"""Anatomy, widths and seed of the decoders of a pack."""


@settings(max_examples=6, deadline=None)
@given(MEMBERS)
def test_packing_is_invisible(members: list[tuple[str, tuple[int, int], int]]) -> None:
    def member(name: str, widths: tuple[int, int], seed: int) -> Trainee:
        config = DecoderConfig("abdomen/test", "organ", (Channel(name, (name,)),), widths, heads=2)
        return Trainee(str(seed), build_decoder(config, TINY, seed), RECIPE)

    encoder = make_encoder()
    pack = [member(*one) for one in members]
    train_pack(encoder, pack, boxes)
    for one, packed in zip(members, pack, strict=True):
        alone = member(*one)
        train_pack(encoder, [alone], boxes)
        assert equal(weights(alone), weights(packed))


def test_an_interrupted_training_ends_with_the_same_weights(encoder, stream) -> None:
    recipe = Recipe(steps=6, warm_up=2, ema=0.9)
    whole = trainee("liver", 1, recipe=recipe)
    train_pack(encoder, [whole], stream, augment_seed=3)
    first = trainee("liver", 1, recipe=recipe)
    train_pack(encoder, [first], stream, last=3, augment_seed=3)
    second = trainee("liver", 2, recipe=recipe)
    second.load_state(first.state())
    train_pack(encoder, [second], stream, first=3, augment_seed=3)
    assert equal(weights(whole), weights(second))
    assert equal(
        list(whole.finish().state_dict().values()), list(second.finish().state_dict().values())
    )


def test_training_learns(encoder, stream) -> None:
    losses: list[float] = []
    liver = trainee("liver", 1, recipe=Recipe(steps=60, warm_up=5, learning_rate=1e-2))
    train_pack(encoder, [liver], stream, on_batch=lambda t, seen: losses.append(seen["liver"]))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_cached_features_change_nothing(encoder, stream) -> None:
    def periodic(t: int):
        return stream(t % 2)

    plain, cached = trainee("liver", 1), trainee("liver", 1)
    train_pack(encoder, [plain], periodic)
    cache = FeatureCache(period=2, max_bytes=10**9)
    train_pack(encoder, [cached], periodic, cache=cache)
    assert cache.bytes > 0
    assert equal(weights(plain), weights(cached))


def test_cut_weights_never_regrow(encoder, stream) -> None:
    member = trainee("liver", 1)
    ticket = draw_ticket(member.decoder, 0.8)
    pruned = Trainee("liver", member.decoder, RECIPE, ticket=ticket)
    train_pack(encoder, [pruned], stream)
    for name, weight in prunable(pruned.decoder).items():
        assert not weight[~ticket.mask[name]].any()


def test_a_diverging_decoder_leaves_its_neighbours_alone(encoder, stream) -> None:
    good, alone, bad = trainee("liver", 1), trainee("liver", 1), trainee("spleen", 2)
    with torch.no_grad():
        next(bad.decoder.parameters()).fill_(math.nan)
    train_pack(encoder, [bad, good], stream)
    train_pack(encoder, [alone], stream)
    assert bad.diverged
    assert not good.diverged
    assert equal(weights(good), weights(alone))


def test_the_encoder_stays_frozen(encoder, stream) -> None:
    before = [v.clone() for v in encoder.state_dict().values()]
    train_pack(encoder, [trainee("liver", 1)], stream)
    assert equal(before, list(encoder.state_dict().values()))


def test_a_supporter_stays_frozen_and_is_used(encoder, stream) -> None:
    supporter = make_decoder("liver").eval().requires_grad_(False)
    config = DecoderConfig(
        "abdomen/gallbladder",
        "organ",
        (Channel("spleen", ("spleen",)),),
        (4, 4),
        heads=2,
        supporters=(Supporter("0" * 64, 2),),
    )
    supporters = Supporters({"0" * 64: supporter})
    leaning = Trainee("gb", build_decoder(config, TINY, 5), RECIPE, supporters=supporters)
    before = [v.clone() for v in supporter.state_dict().values()]
    gates = [float(s.gate.detach()) for s in leaning.decoder.support]
    train_pack(encoder, [leaning], stream)
    assert gates == [0.5, 0.5]
    assert [float(s.gate.detach()) for s in leaning.decoder.support] != gates
    assert equal(before, list(supporter.state_dict().values()))


def test_distillation_keeps_an_unlabelled_sibling(encoder, stream) -> None:
    def liver_only(t: int):
        return [
            replace(
                p,
                contract=LabelContract(p.contract.entries[:1]),
                labels={"organ": (p.labels["organ"] == 1).astype("uint8")},
            )
            for p in stream(t)
        ]

    teacher = make_decoder("liver", "spleen", seed=3).eval().requires_grad_(False)
    images = torch.stack([torch.from_numpy(p.image)[None] for p in stream(0)])

    def drift(distillation: Distillation | None) -> float:
        recipe = Recipe(steps=30, warm_up=2, negatives=1, learning_rate=5e-3)
        learner = Trainee(
            "g", make_decoder("liver", "spleen", seed=3), recipe, distillation=distillation
        )
        train_pack(encoder, [learner], liver_only)
        features = encoder(images)
        spleen = learner.finish()(features)[0].softmax(1)[:, 2]
        return float((spleen - teacher(features)[0].softmax(1)[:, 2]).detach().abs().mean())

    assert drift(Distillation(teacher)) < drift(None)


def test_distillation_keeps_how_members_share_a_union_and_leaves_exact_labels_alone(
    encoder, stream
) -> None:
    teacher = make_decoder("liver", "spleen", seed=3).eval().requires_grad_(False)
    together = LabelEntry(1, "organ", "both", ("liver", "spleen"), None)

    def united(t: int):
        return [
            replace(
                p,
                contract=LabelContract((together,)),
                labels={"organ": (p.labels["organ"] > 0).astype("uint8")},
            )
            for p in stream(t)
        ]

    def learned(patches, distillation: Distillation | None) -> Decoder:
        recipe = Recipe(steps=30, warm_up=2, negatives=1, learning_rate=5e-3)
        learner = Trainee(
            "g", make_decoder("liver", "spleen", seed=3), recipe, distillation=distillation
        )
        train_pack(encoder, [learner], patches)
        return learner.finish()

    def drift(distillation: Distillation | None) -> float:
        features = encoder(torch.stack([torch.from_numpy(p.image)[None] for p in stream(0)]))
        inside = torch.stack([torch.from_numpy(p.labels["organ"] > 0) for p in stream(0)])
        shares = [
            decoder(features)[0][:, 1:].softmax(1)[:, 0][inside]
            for decoder in (learned(united, distillation), teacher)
        ]
        return float((shares[0] - shares[1]).detach().abs().mean())

    assert drift(Distillation(teacher)) < 0.7 * drift(None)
    alone, held = (learned(stream, each).state_dict() for each in (None, Distillation(teacher)))
    assert all(torch.equal(alone[name], held[name]) for name in alone)


def test_pretraining_teaches_the_encoder_and_resumes_bit_for_bit(stream) -> None:
    def fresh(seed: int) -> EncoderTraining:
        recipe = Recipe(steps=4, warm_up=1, ema=0.9)
        return EncoderTraining(
            build_encoder(TINY, seed), [trainee("liver", 1), trainee("spleen", 2)], recipe
        )

    whole = fresh(0)
    start = [v.clone() for v in whole.encoder.state_dict().values()]
    pretrain(whole, stream)
    assert not equal(start, list(whole.encoder.state_dict().values()))
    first, second = fresh(0), fresh(9)
    pretrain(first, stream, last=2)
    second.load_state(first.state())
    pretrain(second, stream, first=2)
    assert equal(
        list(whole.finish().state_dict().values()), list(second.finish().state_dict().values())
    )


def test_a_pretraining_ends_at_the_batch_at_which_a_teacher_diverges(stream) -> None:
    wild = Recipe(steps=30, warm_up=0, learning_rate=1e20)
    training = EncoderTraining(build_encoder(TINY, 0), [trainee("liver", 1, recipe=wild)], wild)
    done: list[int] = []
    with pytest.raises(JobFailed, match=r"liver was not finite at batch 1: .* below 1e\+20"):
        pretrain(training, stream, precision="float32", on_batch=lambda t, losses: done.append(t))
    assert done == [0]


def test_a_teacher_teaches_the_encoder_by_its_weight(stream) -> None:
    def gradient(**weights: float) -> torch.Tensor:
        recipe = Recipe(steps=1, warm_up=0, gradient_clip=1e9)
        training = EncoderTraining(
            build_encoder(TINY, 0),
            [trainee(name, seed, recipe=recipe) for seed, name in enumerate(weights)],
            recipe,
            weights,
        )
        found: list[torch.Tensor] = []

        def keep(*_: object) -> None:
            found.extend(p.grad.flatten().clone() for p in training.encoder.parameters())

        training.optimizer.register_step_pre_hook(keep)
        pretrain(training, stream, precision="float32")
        return torch.cat(found)

    alike, liver = gradient(liver=1.0, spleen=1.0), gradient(liver=1.0)
    threefold = gradient(liver=3.0, spleen=1.0)
    assert liver.norm() > 0
    torch.testing.assert_close(threefold, alike + 2 * liver, rtol=1e-4, atol=1e-5)
