"""MiB of anonymous memory that segmenting takes at most, and MiB that its schedule states.

``peak_memory.py SLICES CLASSES [imported] [apart | aware]``: with a plan of our own, or with that
of an nnU-Net beside a body-part model; all classes of one decoder, a decoder each of one tier, or
two decoders of all classes of which the more certain decides.
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
from clnet.model.policy import MergePolicy
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


def main(slices: int, classes: int, *, imported: bool, apart: bool, aware: bool) -> None:
    torch.set_num_threads(1)
    names = [a.id for a in vocabulary().predicted][:classes]
    if apart:
        decoders = [decoder_of(f"body/{n}", [n], seed) for seed, n in enumerate(names)]
    else:
        decoders = [decoder_of(f"body/all-{seed}", names, seed) for seed in range(1 + aware)]
    model = SegmentationModel(
        make_encoder(),
        IMPORTED if imported else OWN,
        body_parts() if imported else None,
        decoders,
        MergePolicy(anomaly_aware=aware),
        window=SlidingWindow(overlap=0.0, precision="float32"),
    )
    # finer than the plan where there are several decoders: large claims, small sums
    fine = apart or aware
    affine = np.diag(
        [-1.0, -1.0, 1.0, 1.0] if fine else [-3.0, -3.0, 2.5 if imported else 3.0, 1.0]
    )
    side = 192 if fine else 96

    def scan(depth: int) -> np.ndarray:
        return np.random.default_rng(0).integers(-900, 900, (side, side, depth)).astype(np.int16)

    model.segment(scan(9 if fine else 33), affine)  # what libraries keep from their first use
    ct = scan(slices)
    before, most = anonymous(), [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], anonymous())
            time.sleep(0.002)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    effort = model.segment(ct, affine, memory_budget=(60 if aware else 200) << 20).effort
    done.set()
    watching.join()
    print(most[0] - before, effort.schedule.memory / 2**20)


if __name__ == "__main__":
    words = sys.argv[3:]
    kinds = {kind: kind in words for kind in ("imported", "apart", "aware")}
    main(int(sys.argv[1]), int(sys.argv[2]), **kinds)
