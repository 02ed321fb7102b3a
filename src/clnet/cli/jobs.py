"""``clnet jobs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, RayOption, WorkspaceOption, open_hub
from clnet.cli.show import listing, record
from clnet.errors import InputError

if TYPE_CHECKING:
    from clnet.decoders_registry import JobRecord, JobStatus
    from clnet.platform.events import JobEvent
    from clnet.platform.jobs import DecoderJob, JobHandle

__all__ = ["app", "follow", "settings_of"]

app = typer.Typer(help="Training, pruning and updating.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of the job.")]


@app.command(
    epilog="Examples: clnet jobs submit abdomen/liver abdomen/spleen --dataset site-a/abdomen@1 "
    "--encoder starter --set epochs=20 --set focus=all --follow; "
    "clnet jobs submit abdomen/liver --dataset site-a/abdomen@1 --set kind=prune "
    "--set base=abdomen/liver@1 --set rates=[0.8,0.9] --set scope=channel; "
    "clnet jobs submit --file jobs.yaml"
)
def submit(
    decoders: Annotated[
        list[str] | None, typer.Argument(help="Anatomy groups, a decoder job each.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Dataset to learn from; may be repeated.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Frozen encoder.")] = "starter",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Field of the job; may be repeated."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="YAML list of jobs, instead of the above.")
    ] = None,
    wait: Annotated[bool, typer.Option("--follow", help="Show events up to the end.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue decoder jobs. Those whose streams are equal share one pass of the encoder.

    A process of its own works on them and goes on when this command ends.
    """
    if file is not None:
        values = _from_file(file)
    else:
        if not decoders or not dataset:
            raise InputError("name a decoder and a --dataset to learn from, or give --file")
        shared = {"dataset": tuple(dataset), "encoder": encoder} | settings_of(settings or [])
        values = [{"decoder": decoder} | shared for decoder in decoders]
    hub = open_hub(workspace, ray)
    handles = hub.jobs.submit([_job(each) for each in values])
    if not wait:
        listing([_row(handle.record) for handle in handles], as_json=as_json, empty="")
        return
    records = [follow(handle) for handle in handles]
    listing([_row(job) for job in records], as_json=as_json, empty="")
    if any(job.status != "succeeded" for job in records):
        raise typer.Exit(1)


@app.command("list", epilog="Example: clnet jobs list --status running")
def list_(
    status: Annotated[
        str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Jobs, oldest first."""
    rows = [_row(job) for job in open_hub(workspace).jobs.list(_status(status))]
    listing(rows, as_json=as_json, empty="no job: clnet jobs submit --help")


@app.command(epilog="Example: clnet jobs show 20261123-101500-a1b2c3")
def show(
    job_id: Id, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False
) -> None:
    """One job: what it should do and what became of it."""
    job = open_hub(workspace).jobs.get(job_id).record
    record(job.model_dump(mode="json"), as_json=as_json)


@app.command(epilog="Example: clnet jobs logs 20261123-101500-a1b2c3 --follow")
def logs(
    job_id: Id,
    wait: Annotated[bool, typer.Option("--follow", help="Wait for more, up to the end.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Events of a job: progress, metrics, results."""
    jobs = open_hub(workspace).jobs
    for event in jobs.get(job_id).events() if wait else jobs.logs(job_id):
        typer.echo(event.model_dump_json(exclude_none=True) if as_json else _line(event))


@app.command(epilog="Example: clnet jobs cancel 20261123-101500-a1b2c3")
def cancel(
    job_id: Id, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False
) -> None:
    """Stop a job; its neighbours in a pack go on."""
    handle = open_hub(workspace).jobs.get(job_id)
    handle.cancel()
    record(_row(handle.record), as_json=as_json)


def follow(handle: JobHandle) -> JobRecord:
    """Print a job's events on stderr up to its end; returns its record."""
    for event in handle.events():
        typer.echo(f"{handle.id} {_line(event)}", err=True)
    return handle.record


def settings_of(texts: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` texts as values; a value is read as YAML.

    Raises:
        InputError: a text without ``=``, or a value that is no YAML.
    """
    import yaml

    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: write NAME=VALUE")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {name}: {error}") from None
    return values


def _from_file(file: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{file}: {error}") from None
    jobs = values if isinstance(values, list) else [values]
    if not jobs or not all(isinstance(job, dict) for job in jobs):
        raise InputError(f"{file}: write a list of jobs, each with decoder, dataset, encoder ...")
    return jobs


def _job(values: dict[str, Any]) -> DecoderJob:
    from pydantic import ValidationError

    from clnet.platform.jobs import DecoderJob

    try:
        return DecoderJob.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"job {values.get('decoder', '?')}: {field}: {first['msg']}") from None


def _status(text: str | None) -> JobStatus | None:
    from typing import get_args

    from clnet.decoders_registry import JobStatus

    for status in get_args(JobStatus):
        if text == status:
            return text  # type: ignore[return-value]
    if text is not None:
        raise InputError(f"--status {text}: one of {', '.join(get_args(JobStatus))}")
    return None


def _row(job: JobRecord) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.spec.get("kind", job.kind),
        "decoder": job.spec.get("decoder"),
        "status": job.status,
        "results": list(job.results),
        "error": job.error,
        "created": f"{job.created:%Y-%m-%d %H:%M}",
    }


def _line(event: JobEvent) -> str:
    parts = [f"{event.at:%H:%M:%S}", f"{event.kind:<10}"]
    if event.fraction is not None:
        parts.append(f"{event.fraction:4.0%}")
    if event.loss is not None:
        parts.append(f"loss {event.loss:.3f}")
    if event.dsc:
        parts.append("DSC " + ", ".join(f"{name} {dsc:.2f}" for name, dsc in event.dsc.items()))
    parts += [event.message] if event.message else []
    parts += event.results
    return "  ".join(parts)
