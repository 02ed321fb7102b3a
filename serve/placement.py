"""Where each decoder of a release runs: beside the encoder, or in replicas of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from clnet.errors import InputError

__all__ = ["LOCAL", "Local", "Own", "Placement", "own"]


@dataclass(frozen=True, slots=True)
class Local:
    """In the encoder replica: no features leave the process."""

    def __str__(self) -> str:
        return "local"


@dataclass(frozen=True, slots=True)
class Own:
    """In a deployment of its own.

    Attributes:
        replicas: how many copies run.
    """

    replicas: int = 1

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise InputError(f"placement own({self.replicas}): at least one replica expected")

    def __str__(self) -> str:
        return f"own:{self.replicas}"


LOCAL = Local()


def own(replicas: int = 1) -> Own:
    """A deployment of its own with this many replicas."""
    return Own(replicas)


@dataclass(frozen=True, slots=True)
class Placement:
    """Which decoders have a deployment of their own; all others are local.

    Attributes:
        rules: decoder version (``abdomen/liver@3``) or group (``abdomen/liver``) to its place.
            A version outweighs its group.
    """

    rules: Mapping[str, Local | Own] = field(default_factory=dict)

    def of(self, ref: str) -> Local | Own:
        """The place of decoder version `ref`."""
        group = ref.partition("@")[0]
        return self.rules.get(ref, self.rules.get(group, LOCAL))

    def check(self, refs: Iterable[str]) -> None:
        """Make sure that every rule speaks of a decoder of the release.

        Raises:
            InputError: a rule names neither a version nor a group among `refs`.
        """
        known = {name for ref in refs for name in (ref, ref.partition("@")[0])}
        for name in self.rules:
            if name not in known:
                raise InputError(
                    f"placement of {name}: the release has no such decoder; "
                    f"it has {', '.join(sorted(known)) or 'none'}"
                )

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Placement:
        """Rules as written on a command line: ``abdomen/liver=own:2``, ``chest/lung=local``.

        Raises:
            InputError: a rule is not of that form.
        """
        rules: dict[str, Local | Own] = {}
        for text in texts:
            name, _, place = text.partition("=")
            kind, _, count = place.partition(":")
            if name and kind == "local" and not count:
                rules[name] = LOCAL
            elif name and kind == "own" and (count.isdigit() or not count):
                rules[name] = Own(int(count or 1))
            else:
                raise InputError(
                    f"placement {text!r}: write GROUP=local, GROUP=own or GROUP=own:REPLICAS"
                )
        return cls(rules)
