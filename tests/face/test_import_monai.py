"""An encoder from a MONAI bundle, by the command line; a decoder learns and segments on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai_bundles import configuration, write_bundle
from pack_work import registered
from tiny_hub import EXACT, contribute, tiny_job
from typer.testing import CliRunner

import clnet
from clnet.cli import app
from clnet.decoders_registry import Lineage
from clnet.model.body_part import (
    BodyPartConfig,
    BodyPartModel,
    build_body_part_network,
    encode_body_part_model,
)


def run(workspace: Path, *arguments: str):
    return CliRunner().invoke(app, arguments, env={"CLNET_WORKSPACE": str(workspace)})


def test_an_encoder_is_imported_once_with_its_terms(tmp_path: Path) -> None:
    write_bundle(tmp_path / "tiny_bundle")
    command = ["encoders", "import-monai", str(tmp_path / "tiny_bundle")]
    command += ["--licence", "CC-BY-4.0", "--window", "-1000", "1000", "--json"]
    for _ in range(2):
        told = run(tmp_path / "hub", *command)
        assert told.exit_code == 0, told.output
        assert '"encoder/tiny_bundle@1"' in told.stdout
    with clnet.connect(tmp_path / "hub") as hub:
        record = hub.encoders.get("tiny_bundle")
        assert record.plan["clip"] == [-1000.0, 1000.0]
        assert record.config["kind"] == "monai-segresnet"
        assert record.lineage.datasets[0].terms["licence"] == "CC-BY-4.0"
        assert record.lineage.config["imported_from"]["metadata"]["version"] == "0.2.4"


def test_a_bundle_that_cannot_be_imported_leaves_nothing(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", configuration(network_def={"_target_": "UNet"}))
    command = ("encoders", "import-monai", str(tmp_path / "bundle"), "--licence", "CC0-1.0")
    told = run(tmp_path / "hub", *command)
    assert isinstance(told.exception, clnet.InputError)
    with clnet.connect(tmp_path / "hub") as hub:
        assert hub.encoders.list() == []


@pytest.mark.slow
def test_a_decoder_learns_on_an_imported_encoder(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    with clnet.connect(tmp_path / "hub") as hub:
        network = build_body_part_network(BodyPartConfig(widths=(4, 4)), seed=0).eval()
        model = BodyPartModel(network, (0.0, 1.0), (0.0, 1.0), 0.001)
        lineage = Lineage(command="test", code_version="0")
        hub.registry.add_body_part_model("starter", encode_body_part_model(model), lineage)
        encoder = hub.encoders.import_monai(
            tmp_path / "bundle",
            "CC-BY-4.0",
            "mine",
            spacing=(6.0, 6.0, 6.0),
            window=(0.0, 500.0),
            patch_size=(16, 16, 16),
        )
        dataset = contribute(hub.workspace, "site-b/boxes", EXACT)
        job = tiny_job(
            "abdomen/kidneys", dataset=dataset, encoder=encoder.ref, body_part_model="starter"
        ).model_copy(update={"steps": 120, "learning_rate": 0.01, "heads": 2, "widths": (16, 16)})
        [(decoder, _)] = registered(hub.registry, hub.workspace.catalog(), job)
        assert decoder.encoder_ref == encoder.ref
        assert decoder.metrics["mean_dsc"] > 0.15  # on random features, after seconds
        release = hub.releases.create("first", [decoder.ref])
        assert "CC-BY-4.0" in release.terms.licences.values()
        image = hub.workspace.root / "sources" / "site-b" / "boxes" / "case-0.nii.gz"
        found = hub.segment(image, "first")
        states = {about["state"] for about in found.statistics()["anatomies"].values()}
        assert "present" in states
