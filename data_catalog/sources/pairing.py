"""Images and labels put together to cases, whatever is missing, doubled or damaged."""

from __future__ import annotations

from pathlib import Path

from clnet.data_catalog.segment import SEGMENTS, read_segments
from clnet.data_catalog.source import CaseSource, Labels
from clnet.data_catalog.sources.folder import SourceFolder, some
from clnet.data_catalog.validation import Finding, finding, from_rejection
from clnet.data_catalog.volume import Stored
from clnet.errors import CaseRejected, InputError

__all__ = ["Pairing"]


class Pairing:
    """What a folder holds of each case, filled in while it is gone through.

    One file at fault keeps its own case out, with a finding, and no other.

    Args:
        folder: the source.
        looks_for: what belongs in it, for messages.
    """

    def __init__(self, folder: Path, looks_for: str) -> None:
        self._folder = folder
        self._looks_for = looks_for
        self._images: dict[str, Path] = {}
        self._maps: dict[str, Path] = {}
        self._masks: dict[str, dict[str, Path]] = {}
        self._findings: list[Finding] = []
        self._broken: set[str] = set()

    def __contains__(self, case: str) -> bool:
        """Whether something was found of a case."""
        return any(case in found for found in (self._images, self._maps, self._masks, self._broken))

    def image(self, case: str, path: Path) -> None:
        """A file is the CT of a case."""
        self._add(self._images, case, path, case)

    def label_map(self, case: str, path: Path) -> None:
        """A file has all labels of a case."""
        self._add(self._maps, case, path, case)

    def mask(self, case: str, name: str, path: Path) -> None:
        """A file shows one label of a case."""
        self._add(self._masks.setdefault(case, {}), name, path, case)

    def fault(self, case: str, rejection: CaseRejected) -> None:
        """Something keeps a case out."""
        self._broken.add(case)
        self._findings.append(from_rejection(rejection, case))

    def left_out(self, what: str, names: list[str]) -> None:
        """Note what belongs to no case, if there is something."""
        if names:
            told = f"{what} left out ({len(names)}): {some(names)}"
            self._findings.append(finding("source.left-out", str(self._folder), "", told))

    def cases(self, *, test_images: bool = False) -> SourceFolder:
        """The cases that are whole; the others are findings.

        Args:
            test_images: images without labels are to be expected, and only noted.

        Raises:
            InputError: nothing in the folder is a case, whole or not.
        """
        whole: list[CaseSource] = []
        unlabelled: list[str] = []
        labelled = self._maps.keys() | self._masks.keys()
        for case in sorted(self._images.keys() | labelled):
            if case in self._broken:
                continue
            if test_images and case not in labelled:
                unlabelled.append(case)
                continue
            try:
                source = CaseSource(case, self._image_of(case), self._labels_of(case))
            except CaseRejected as rejection:
                self.fault(case, rejection)
            else:
                if case not in self._broken:
                    whole.append(source)
        if not whole and not self._broken:
            raise InputError(
                f"{self._folder}: no case: looked for {self._looks_for}; images: "
                f"{len(self._images)} found, cases with labels: {len(labelled)} found"
            )
        self.left_out("images without labels", unlabelled)
        return SourceFolder(whole, findings=tuple(self._findings))

    def _add(self, found: dict[str, Path], key: str, path: Path, case: str) -> None:
        other = found.setdefault(key, path)
        if other is not path:
            reason = f"{_apart(other, path)} is also of case {case}; keep one of them"
            self.fault(case, CaseRejected(str(path), "file", reason, "case.ambiguous"))

    def _image_of(self, case: str) -> Path:
        if case in self._images:
            return self._images[case]
        beside = self._maps[case] if case in self._maps else next(iter(self._masks[case].values()))
        raise CaseRejected(
            str(beside), "image", f"labels of case {case}, but no image", "case.no-image"
        )

    def _labels_of(self, case: str) -> Labels:
        masks = self._masks.get(case)
        if case not in self._maps:
            if not masks:
                raise CaseRejected(
                    str(self._images[case]), "labels", f"none for case {case}", "case.no-labels"
                )
            return self._read_masks(case, masks)
        path = self._maps[case]
        if masks:
            raise CaseRejected(
                str(path), "labels", "one label map and masks as well", "case.ambiguous"
            )
        return dict(read_segments(path)) if path.name.endswith(SEGMENTS) else path

    def _read_masks(self, case: str, masks: dict[str, Path]) -> dict[str, Path | Stored]:
        """Masks by name; every damaged one is told."""
        found: dict[str, Path | Stored] = {}
        for name, path in masks.items():
            try:
                found[name] = _mask(path)
            except CaseRejected as rejection:
                self.fault(case, rejection)
        return found


def _mask(path: Path) -> Path | Stored:
    """A file that shows one label: the file itself, or the only segment in it."""
    if not path.name.endswith(SEGMENTS):
        return path
    segments = list(read_segments(path).values())
    if len(segments) > 1:
        raise CaseRejected(str(path), "segments", f"{len(segments)} segments; one is expected")
    return segments[0]


def _apart(other: Path, path: Path) -> str:
    """The name of `other`, with its folder where that is what tells it from `path`."""
    return other.name if other.name != path.name else f"{other.parent.name}/{other.name}"
