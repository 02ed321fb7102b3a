"""How a job ends, for the registry and for whoever follows its events."""

from __future__ import annotations

from collections.abc import Sequence

from clnet.decoders_registry import Registry
from clnet.errors import ClnetError, Incompatible
from clnet.platform.events import EventLog
from clnet.platform.workspace import Workspace

__all__ = ["HOPELESS", "end_job", "reason_of", "why_hopeless"]

HOPELESS = (ClnetError, ValueError, TypeError, LookupError)
"""What would only be raised again if it were tried again; what memory or a device raise is not."""


def end_job(
    job_id: str,
    workspace: Workspace,
    registry: Registry,
    status: str,
    *,
    error: str | None = None,
    results: Sequence[str] = (),
) -> None:
    """Write how a job ended, for the registry and for whoever follows its events."""
    try:
        registry.update_job(job_id, status=status, error=error, results=results)  # type: ignore[arg-type]
    except Incompatible:  # it was ended before
        return
    log = EventLog(workspace.job_folder(job_id))
    log.append(status, message=error or "", results=tuple(results))


def reason_of(error: Exception) -> str:
    """The last line of what a worker died of, without Ray's frames."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def why_hopeless(error: Exception) -> str:
    """One of :data:`HOPELESS` in words; of an error that is none of ours, its kind too."""
    return str(error) if isinstance(error, ClnetError) else f"{type(error).__name__}: {error}"
