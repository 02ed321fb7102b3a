"""MiB of anonymous memory that segmenting takes at most, and MiB that its schedule states.

``peak_memory.py SLICES CLASSES [imported]``: with a plan of our own, or with that of an nnU-Net
beside a body-part model.
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


def main(slices: int, classes: int, *, imported: bool) -> None:
    torch.set_num_threads(1)
    names = [a.id for a in vocabulary().predicted][:classes]
    config = DecoderConfig(
        "body/all", "organ", tuple(Channel(n, (n,)) for n in names), widths=(4, 4), heads=1
    )
    info = DecoderInfo(config, "0" * 64, TINY, learned=tuple(names))
    decoder = LoadedDecoder("body/all@1", build_decoder(config, TINY, 0).eval(), info, 0, "f" * 64)
    model = SegmentationModel(
        make_encoder(),
        IMPORTED if imported else OWN,
        body_parts() if imported else None,
        [decoder],
        window=SlidingWindow(overlap=0.0, precision="float32"),
    )
    affine = np.diag([-3.0, -3.0, 2.5 if imported else 3.0, 1.0])

    def scan(depth: int) -> np.ndarray:
        return np.random.default_rng(0).integers(-900, 900, (96, 96, depth)).astype(np.int16)

    model.segment(scan(33), affine)  # what libraries keep from their first use
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
    main(int(sys.argv[1]), int(sys.argv[2]), imported="imported" in sys.argv[3:])
