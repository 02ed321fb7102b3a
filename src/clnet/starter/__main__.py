"""``python -m clnet.starter``: make the starter release and write it where the package ships it."""

from __future__ import annotations

import argparse
from pathlib import Path

from clnet.hub import connect
from clnet.stages import Stages
from clnet.starter import write_figures
from clnet.starter.make import make_starter
from clnet.starter.recipe import load_recipe

MAX_BYTES = 25 * 10**6


def main() -> None:
    """Make, and export."""
    parser = argparse.ArgumentParser(prog="python -m clnet.starter", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("work-starter"))
    parser.add_argument("--real-data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--recipe", type=Path, help="another starter.yaml")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("release"))
    arguments = parser.parse_args()
    stages = Stages()
    real = arguments.real_data if arguments.real_data.is_dir() else None
    with connect(arguments.workspace) as hub:
        release, figures = make_starter(hub, load_recipe(arguments.recipe), stages, real)
        with stages.stage("export") as stage:
            size = hub.releases.export(release.name, arguments.to)
            write_figures(arguments.to, figures)
            stage.outcome = f"{arguments.to}, {size / 10**6:.1f} MB"
    if size > MAX_BYTES:
        raise SystemExit(f"the release has {size} bytes, more than {MAX_BYTES}")


if __name__ == "__main__":
    main()
