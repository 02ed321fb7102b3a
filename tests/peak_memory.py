"""MiB of anonymous memory that segmenting takes at most: ``peak_memory.py SLICES CLASSES``."""

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
from clnet.model.decoder import Channel, DecoderConfig, build_decoder
from clnet.model.inference import LoadedDecoder, SlidingWindow
from clnet.model.plan import Plan
from clnet.model.segmentation import SegmentationModel


def anonymous() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell")


def main(slices: int, classes: int) -> None:
    torch.set_num_threads(1)
    names = [a.id for a in vocabulary().predicted][:classes]
    config = DecoderConfig(
        "body/all", "organ", tuple(Channel(n, (n,)) for n in names), widths=(4, 4), heads=1
    )
    info = DecoderInfo(config, "0" * 64, TINY, learned=tuple(names))
    decoder = LoadedDecoder("body/all@1", build_decoder(config, TINY, 0).eval(), info, 0, "f" * 64)
    model = SegmentationModel(
        make_encoder(),
        Plan((3.0, 3.0, 3.0), (32, 32, 32)),
        None,
        [decoder],
        window=SlidingWindow(overlap=0.0, precision="float32"),
    )
    affine = np.diag([-3.0, -3.0, 3.0, 1.0])

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
    model.segment(ct, affine, memory_budget=200 << 20)
    done.set()
    watching.join()
    print(most[0] - before)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
