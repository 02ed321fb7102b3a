"""Long commands in stages: a progress bar for each, a line when it is done, and its seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["Stages", "Tell"]

Tell = Callable[[float, str], None]
"""Told the fraction done, 0 to 1, and what is being done."""

QUIET_SECONDS = 20.0


class Stages:
    """Runs stages one after another and remembers how long each took.

    On a terminal each stage has a bar; elsewhere a line every 20 seconds. Either way one line
    stays: what was done, in how long, and what was reused.

    Attributes:
        seconds: stage title to seconds.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """One stage; the block tells its progress and what it made or reused."""
        start = time.monotonic()
        with Progress(
            TextColumn("[bold]{task.fields[title]:<10}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.description}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bar:
            running = Stage(title, bar, self.console)
            yield running
        self.seconds[title] = self.seconds.get(title, 0.0) + time.monotonic() - start
        seconds = f"{self.seconds[title]:6.1f} s"
        self.console.print(
            f"[green]✓[/] [bold]{title:<10}[/] {seconds}  {running.outcome}", highlight=False
        )


class Stage:
    """A stage that is running; call it to tell progress.

    Attributes:
        outcome: what the line that stays says.
    """

    def __init__(self, title: str, bar: Progress, console: Console) -> None:
        self.title = title
        self.outcome = ""
        self._bar = bar
        self._console = console
        self._task = bar.add_task("", total=1.0, title=title)
        self._said = time.monotonic()

    def __call__(self, fraction: float, text: str) -> None:
        """Tell the fraction done and what is being done."""
        self._bar.update(self._task, completed=fraction, description=text)
        if self._bar.disable and time.monotonic() - self._said > QUIET_SECONDS:
            self._said = time.monotonic()
            self._console.print(f"  {self.title}: {100 * fraction:.0f} %, {text}", highlight=False)

    def part(self, start: float, stop: float) -> Tell:
        """A teller for one part of the stage, from fraction `start` to `stop`."""
        return lambda fraction, text: self(start + fraction * (stop - start), text)
