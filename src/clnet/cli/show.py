"""Records on a terminal, as a table, as lines or as JSON; and a progress bar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

__all__ = ["listing", "progress", "record"]

PIPE_WIDTH = 200


def listing(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows that have the same keys; `empty` is said on stderr where there is none."""
    if as_json:
        typer.echo(json.dumps([dict(row) for row in rows], indent=1, default=str))
        return
    if not rows:
        typer.echo(empty, err=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)


def record(values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one record, nested values indented."""
    if as_json:
        typer.echo(json.dumps(dict(values), indent=1, default=str))
        return
    for line in _lines(values, ""):
        typer.echo(line)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr for the block; gives the callback to tell (fraction, text)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=1.0, text="")

        def tell(fraction: float, text: str) -> None:
            bar.update(task, completed=fraction, text=text)

        yield tell


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def _lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    width = max((len(str(key)) for key in values), default=0)
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            yield f"{indent}{key}"
            for item in value:
                yield from _lines(item if isinstance(item, Mapping) else {"": item}, indent + "  ")
                yield ""
        else:
            yield f"{indent}{key!s:<{width}}  {_cell(value) or '-'}"
