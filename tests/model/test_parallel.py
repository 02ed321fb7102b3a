"""Several workers train one encoder: the same weights everywhere, those of the whole batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from clnet.anatomy import LabelContract, LabelEntry, Patch
from clnet.errors import JobFailed
from clnet.model.decoder import Channel, DecoderConfig, build_decoder
from clnet.model.encoder import EncoderConfig, build_encoder
from clnet.model.parallel import SOLO, Workers, all_workers
from clnet.model.pretraining import EncoderTraining, pretrain
from clnet.model.training import Patches, Recipe, Trainee

TINY = EncoderConfig((4, 8), ((1, 1, 1), (2, 2, 2)), ((3, 3, 3),) * 2, (1, 1))
LIVER = LabelContract((LabelEntry(1, "organ", "liver", ("liver",)),))


def patches(t: int) -> list[Patch]:
    """Two patches of boxes; in odd batches the second is unlabelled."""
    found = []
    for number in range(2):
        rng = np.random.default_rng(2 * t + number)
        labels = np.zeros((8, 8, 8), np.uint8)
        labels[2:6, 2:6, 2:6] = 1
        image = (labels + rng.normal(0, 0.1, labels.shape)).astype(np.float32)
        known = LIVER if not (t % 2 and number) else LabelContract(())
        found.append(Patch(image, {"organ": labels}, known, np.arange(8.0), f"case-{number}"))
    return found


def trained(workers: Workers, stream: Patches = patches) -> dict[str, torch.Tensor]:
    recipe = Recipe(steps=4, warm_up=0, learning_rate=1e-2)
    config = DecoderConfig("abdomen/liver", "organ", (Channel("liver", ("liver",)),), (4,), heads=1)
    decoder = build_decoder(config, TINY, 1)
    training = EncoderTraining(
        build_encoder(TINY, 0), [Trainee("abdomen/liver", decoder, recipe)], recipe
    )
    pretrain(training, stream, workers=workers, precision="float32")
    return training.state()


def averaged(workers: Workers) -> dict[str, torch.Tensor]:
    """Gradients of a weight that both workers have, and of one that only the first has."""
    both, one = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    both.grad = torch.full((2,), 1.0 + workers.rank)
    if workers.rank == 0:
        one.grad = torch.full((2,), 5.0)
    cpu = torch.device("cpu")
    assert workers.average([both], True, cpu)
    assert workers.average([one], workers.rank == 0, cpu)
    assert not workers.average([torch.nn.Parameter(torch.zeros(2))], False, cpu)
    assert workers.any(workers.rank == 1, cpu)
    assert both.grad is not None
    assert one.grad is not None
    return {"mean.both": both.grad, "mean.one": one.grad}


def endless(t: int) -> list[Patch]:
    """:func:`patches`, the second without a finite voxel from batch 1 on."""
    first, second = patches(0)
    return [first, replace(second, image=second.image + (np.inf if t else 0.0))]


def failed(workers: Workers) -> str:
    try:
        trained(workers, endless)
    except JobFailed as error:
        return str(error)
    return ""


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    workers = all_workers()
    torch.save(averaged(workers) | trained(workers), f"{folder}/{rank}.pt")
    Path(folder, f"{rank}.txt").write_text(failed(workers))
    dist.barrier()
    dist.destroy_process_group()


def test_two_workers_average_their_gradients_and_end_alike(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["mean.both"].tolist() == [1.5, 1.5]
    assert first["mean.one"].tolist() == [5.0, 5.0]
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    for rank in range(2):  # only the second worker saw the patch
        why = (tmp_path / f"{rank}.txt").read_text()
        assert "abdomen/liver was not finite at batch 1" in why, rank
    alone = trained(SOLO)
    learned = "encoder.weights.stages.0.0.conv.weight"
    before = build_encoder(TINY, 0).state_dict()[learned.removeprefix("encoder.weights.")]
    assert not torch.equal(first[learned], before)
    assert first.keys() - {"mean.both", "mean.one"} == alone.keys()


def test_alone_nothing_is_shared() -> None:
    assert SOLO.share([1, 2, 3]) == [1, 2, 3]
    assert all_workers() == SOLO
    assert [Workers(rank, 2).share([1, 2, 3, 4]) for rank in range(2)] == [[1, 3], [2, 4]]
