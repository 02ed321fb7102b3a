"""``clnet encoders``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clnet.cli.jobs import follow, settings_of
from clnet.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    ObligationOption,
    RayOption,
    WorkspaceOption,
    open_hub,
)
from clnet.cli.show import listing, record
from clnet.cli.terms import terms_of

__all__ = ["app"]

app = typer.Typer(help="Frozen encoders.", no_args_is_help=True)

DatasetOption = Annotated[
    list[str], typer.Option(help="Whole-body dataset to learn from; may be repeated.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Field of the job; may be repeated."),
]


@app.command("list", epilog="Example: clnet encoders list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Every version of every encoder."""
    rows = [
        {
            "ref": encoder.ref,
            "spacing_zyx_mm": encoder.plan.get("spacing"),
            "features": encoder.config.get("features"),
            "created": f"{encoder.created:%Y-%m-%d %H:%M}",
            "sha256": encoder.sha256,
        }
        for encoder in open_hub(workspace).encoders.list()
    ]
    listing(rows, as_json=as_json, empty="no encoder yet: clnet releases import starter brings one")


@app.command(epilog="Example: clnet encoders show encoder/starter@1")
def show(
    ref: Annotated[str, typer.Argument(help="encoder/name@version; the newest without @.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """One encoder: its plan, its shape, and how it came to be."""
    encoders = open_hub(workspace).encoders
    encoder = encoders.get(ref)
    terms = encoders.terms(encoder.ref).model_dump(mode="json")
    record(encoder.model_dump(mode="json") | {"terms": terms}, as_json=as_json)


@app.command(
    epilog="Examples: clnet encoders train whole-body --dataset ref/whole-body@1 --follow; "
    "clnet encoders train whole-body --dataset ref/whole-body@1 --set workers=4 "
    "--set batch_size=8 --set spacing=[1.5,1.5,1.5] --set 'teacher_weights={bone: 3}'"
)
def train(
    name: Annotated[str, typer.Argument(help="Of the encoder; one that is there gets a version.")],
    dataset: DatasetOption,
    settings: SettingsOption = None,
    wait: Annotated[bool, typer.Option("--follow", help="Show events up to the end.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    ray: RayOption = None,
) -> None:
    """Queue the training of a general encoder; it goes on from its checkpoint if interrupted.

    `clnet jobs` shows and cancels it like any other job.
    """
    hub = open_hub(workspace, ray)
    handle = hub.encoders.submit(tuple(dataset), name, **settings_of(settings or []))
    if not wait:
        typer.echo(handle.id)
        return
    job = follow(handle)
    typer.echo(", ".join(job.results) or job.error)
    if job.status != "succeeded":
        raise typer.Exit(1)


@app.command(epilog="Example: clnet encoders plan --dataset ref/whole-body@1 --set features=16")
def plan(
    dataset: DatasetOption,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Show the plan and the network that a training on these datasets would use."""
    hub = open_hub(workspace)
    made, network = hub.encoders.plan(tuple(dataset), **settings_of(settings or []))
    record({"plan": made.to_dict(), "network": network.to_dict()}, as_json=as_json)


@app.command(
    "import-nnunet",
    epilog="Example: clnet encoders import-nnunet "
    "Dataset291/nnUNetTrainer__nnUNetPlans__3d_fullres --licence Apache-2.0 "
    "--attribution 'Wasserthal et al. 2023' --obligation BY --orientation RAS",
)
def import_nnunet(
    folder: Annotated[
        Path, typer.Argument(help="nnU-Net v2 result folder: plans.json, dataset.json, fold_*.")
    ],
    licence: Annotated[
        str, typer.Option(help="Of model and data: SPDX identifier, or LicenseRef-NAME.")
    ],
    name: Annotated[str | None, typer.Option(help="Of the encoder; the dataset's.")] = None,
    fold: Annotated[str | None, typer.Option(help="0 to 4 or all; the only one there.")] = None,
    checkpoint: Annotated[
        str, typer.Option(help="File in the fold's folder.")
    ] = "checkpoint_final.pth",
    mapping: Annotated[
        Path | None, typer.Option(help="YAML: label to anatomy or ignore (see docs/labels.md).")
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(help="Axis codes that scans were turned to first, such as RAS."),
    ] = None,
    body_part_model: Annotated[
        str, typer.Option(help="What decoders on this encoder measure their ranges with.")
    ] = "starter",
    attribution: Annotated[str, typer.Option(help="Whom to name, and how.")] = "",
    consent: Annotated[str, typer.Option(help="On what ground the data may be used.")] = "",
    obligation: ObligationOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Bring a network that nnU-Net v2 trained: a frozen encoder, and its decoder."""
    imported = open_hub(workspace).encoders.import_nnunet(
        folder,
        terms_of(None, licence, attribution or None, consent or None, obligation),
        name,
        fold=fold,
        checkpoint=checkpoint,
        mapping=mapping,
        orientation=orientation,
        body_part_model=body_part_model,
    )
    values = {
        "encoder": imported.ref,
        "decoder": imported.decoder.ref,
        "anatomies": len(imported.decoder.anatomies),
        "licence": licence,
        "next": f"clnet releases create NAME {imported.decoder.ref}",
    }
    record(values, as_json=as_json)


@app.command(
    "import-monai",
    epilog="Example: clnet encoders import-monai wholeBody_ct_segmentation --licence Apache-2.0 "
    "--spacing 1.5 1.5 1.5 --window -1000 1000",
)
def import_monai(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle: configs, models.")],
    licence: Annotated[
        str, typer.Option(help="Of model and data: SPDX identifier, or LicenseRef-NAME.")
    ],
    name: Annotated[str | None, typer.Option(help="Of the encoder; the folder's.")] = None,
    spacing: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="mm along the network's axes; the bundle's Spacingd."),
    ] = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(help="HU that become 0 and 1; the bundle's ScaleIntensityRanged."),
    ] = None,
    orientation: Annotated[
        str | None, typer.Option(help="Axis codes such as RAS; the bundle's Orientationd.")
    ] = None,
    patch_size: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Voxels of a window; the inferer's.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="File in configs; inference.")] = None,
    weights: Annotated[str, typer.Option(help="File in models.")] = "model.pt",
    attribution: Annotated[str, typer.Option(help="Whom to name, and how.")] = "",
    consent: Annotated[str, typer.Option(help="On what ground the data may be used.")] = "",
    obligation: ObligationOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Bring the encoder of a MONAI bundle's SegResNet, frozen; no code of the bundle is run."""
    encoder = open_hub(workspace).encoders.import_monai(
        bundle,
        terms_of(None, licence, attribution or None, consent or None, obligation),
        name,
        spacing=spacing,
        window=window,
        orientation=orientation,
        patch_size=patch_size,
        config=config,
        weights=weights,
    )
    values = {
        "encoder": encoder.ref,
        "plan": encoder.plan,
        "licence": licence,
        "next": f"clnet jobs submit GROUP --dataset DATASET --encoder {encoder.ref}",
    }
    record(values, as_json=as_json)
