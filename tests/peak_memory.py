"""MiB of anonymous memory that segmenting takes at most, and MiB that its schedule states.

``peak_memory.py SLICES CLASSES [imported] [apart]``: with a plan of our own, or with that of an
nnU-Net beside a body-part model; all classes of one decoder, or a decoder each, of one tier.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from tiny_networks import TINY, make_encoder

from clnet.anatomy.vocabulary import vocabulary
from clnet.model.artefact import DecoderInfo
from clnet.model.body_part import BodyPartConfig, BodyPartModel, build_body_part_network
from clnet.model.decoder import Channel, DecoderConfig, build_decoder
from clnet.model.inference import LoadedDecoder, SlidingWindow
from clnet.model.nnunet.plan import NnunetPlan
from clnet.model.plan import Plan
from clnet.model.segmentation import SegmentationModel

OWN = Plan((3.0, 3.0, 3.0), (32, 32, 32))
IMPORTED = NnunetPlan(spacing=(5.0, 6.0, 5.5), patch_size=(32, 32, 32))


def anonymous() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell")


def body_parts() -> BodyPartModel:
    network = build_body_part_network(BodyPartConfig(widths=(4, 4)), seed=0).eval()
    return BodyPartModel(network, (0.0, 1.0), (0.0, 1.0), 0.001)


def decoder_of(group: str, names: list[str], seed: int) -> LoadedDecoder:
    config = DecoderConfig(
        group, "organ", tuple(Channel(n, (n,)) for n in names), widths=(4, 4), heads=1
    )
    info = DecoderInfo(config, "0" * 64, TINY, learned=tuple(names))
    decoder = build_decoder(config, TINY, seed).eval()
    if len(names) == 1:
        with torch.no_grad():
            decoder.heads[0].bias[1] += 100  # claims every voxel, as nothing else takes more
    return LoadedDecoder(f"{group}@1", decoder, info, 0, f"{seed:064x}")


def main(slices: int, classes: int, *, imported: bool, apart: bool) -> None:
    torch.set_num_threads(1)
    names = [a.id for a in vocabulary().predicted][:classes]
    if apart:
        decoders = [decoder_of(f"body/{n}", [n], seed) for seed, n in enumerate(names)]
    else:
        decoders = [decoder_of("body/all", names, 0)]
    model = SegmentationModel(
        make_encoder(),
        IMPORTED if imported else OWN,
        body_parts() if imported else None,
        decoders,
        window=SlidingWindow(overlap=0.0, precision="float32"),
    )
    # finer than the plan where decoders stand apart: their claims are large, their sums small
    affine = np.diag(
        [-1.0, -1.0, 1.0, 1.0] if apart else [-3.0, -3.0, 2.5 if imported else 3.0, 1.0]
    )
    side = 192 if apart else 96

    def scan(depth: int) -> np.ndarray:
        return np.random.default_rng(0).integers(-900, 900, (side, side, depth)).astype(np.int16)

    model.segment(scan(9 if apart else 33), affine)  # what libraries keep from their first use
    ct = scan(slices)
    before, most = anonymous(), [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], anonymous())
            time.sleep(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    effort = model.segment(ct, affine, memory_budget=200 << 20).effort
    done.set()
    watching.join()
    print(most[0] - before, effort.schedule.memory / 2**20)


if __name__ == "__main__":
    words = sys.argv[3:]
    main(int(sys.argv[1]), int(sys.argv[2]), imported="imported" in words, apart="apart" in words)
