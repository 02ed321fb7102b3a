"""Datasets: contributed to the catalog, known to the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clnet.data_catalog import (
    WITHDRAWN,
    Allowance,
    CaseSource,
    Catalog,
    Dataset,
    Execute,
    IntakeRules,
    Judgement,
    Recipe,
    Terms,
    fingerprint,
    load_recipe,
)
from clnet.data_catalog.bundles import Signer, open_bundle, read_private_key, write_bundle
from clnet.decoders_registry import Registry, Touched
from clnet.errors import AccessDenied, InputError, NotFound
from clnet.hub.access import OWNER, Access
from clnet.hub.stored_datasets import StoredDatasets

__all__ = ["Datasets", "licence_of"]

Progress = Callable[[float, str], None]


class Datasets(StoredDatasets):
    """Datasets of one hub, and what is taken in and withdrawn.

    Args:
        catalog, registry: of the hub.
        workers: gives what judges so many cases at once.
        access: whose hands they are in; a site sees and changes its own alone.
    """

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        workers: Callable[[int], Execute],
        access: Access = OWNER,
    ) -> None:
        super().__init__(catalog, registry, access)
        self._workers = workers

    def contribute(
        self,
        name: str,
        source: str | Path | Sequence[CaseSource],
        mapping: Mapping[str, Any] | str | Path | None = None,
        terms: Terms | str | None = None,
        progress: Progress | None = None,
        *,
        format: str | None = None,
        recipe: str | Path | Recipe | None = None,
        rules: IntakeRules | None = None,
        tell: Callable[[Judgement], None] | None = None,
        workers: int = 1,
    ) -> Dataset:
        """Store a new version of a dataset from the cases that pass validation.

        The others are quarantined: listed in ``dataset.validation``, not stored. Content that
        some version has already gives that version. A contribution that was killed goes on
        after its last finished case when it is made again. Scans that the site withdrew are
        at fault, unless `rules` accept ``duplicate.withdrawn``, which the journal keeps.

        Args:
            name: ``site/name``.
            source: a folder in one of the layouts that :func:`.format_names` lists, or the
                cases as files.
            mapping: what each source label means, or a YAML file that says so; by default the
                recipe's, or the names in the source where the vocabulary knows them.
            terms: licence and consent; a text is the licence alone; by default the recipe's.
            progress: told the fraction done and the case just stored.
            format: how the folder is laid out; recognised by default.
            recipe: of the public dataset that the folder is a copy of, see :meth:`recipes`;
                its id, or a YAML file of your own.
            rules: how strictly to judge.
            tell: given the report, whether the contribution is stored or refused.
            workers: cases at once, on the hub's Ray; one in this process by default. Each takes
                some hundred MiB, however large the scans are.

        Raises:
            CaseRejected: one case at fault refuses it all (it is the only one, or `rules` are
                strict): file, field, reason.
            ContributionRefused: several do.
            UnknownAnatomy: the mapping names an anatomy that the vocabulary does not know.
            InputError: a malformed name, mapping or licence, no case, or a folder that no
                format recognises.
            QuotaExceeded: the site would keep more than it may.
            AccessDenied: the name is another site's.
        """
        self._access.require_own(name)
        allowance, withdrawn = self._allowance(name), self.withdrawn()
        judged = _Heard(tell)
        meanings = Path(mapping) if isinstance(mapping, str) else mapping
        agreed = licence_of(terms) if isinstance(terms, str) else terms
        if isinstance(source, str | Path):
            known = recipe if isinstance(recipe, Recipe | None) else load_recipe(recipe)
            dataset = self._catalog.contribute_folder(
                name,
                Path(source),
                meanings,
                agreed,
                progress,
                format=format,
                recipe=known,
                rules=rules,
                tell=judged,
                allowance=allowance,
                withdrawn=withdrawn,
                execute=self._execute(workers),
            )
        elif format is not None or recipe is not None:
            raise InputError("format and recipe go with a folder; cases are given as files")
        elif meanings is None or agreed is None:
            raise InputError("cases given as files need a mapping and terms")
        else:
            dataset = self._catalog.contribute(
                name,
                source,
                meanings,
                agreed,
                progress,
                rules=rules,
                tell=judged,
                allowance=allowance,
                withdrawn=withdrawn,
                execute=self._execute(workers),
            )
        self._record(dataset)
        self._note_taken_again(dataset, judged)
        return dataset

    def bundle(
        self,
        ref: str,
        to: str | Path,
        key: str | Path,
        passphrase: str | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Write a version with all its voxels as one signed archive, for a hub without a link.

        Args:
            to: file to make.
            key: PEM file with the site's private Ed25519 key, see :meth:`.Sites.make_key`.
            passphrase: of the key.
            progress: told the fraction done and the case just written.

        Returns:
            The fingerprint of the key.

        Raises:
            NotFound: no such version.
            Incompatible: it was withdrawn.
            AlreadyExists: the file is there.
            InputError: the key cannot be read.
        """
        dataset = self._usable(ref)
        private = read_private_key(Path(key), passphrase)
        signed_by = write_bundle(dataset, Path(to), private, progress)
        self._registry.note("dataset.bundle", dataset.ref, key=signed_by)
        return signed_by

    def import_(
        self,
        bundle: str | Path,
        progress: Progress | None = None,
        *,
        accept: frozenset[str] = frozenset(),
        tell: Callable[[Judgement], None] | None = None,
    ) -> Dataset:
        """Store the version that a bundle holds, under its own name, version and hash.

        The signature must be by a registered key of the site that the name belongs to. Every
        case is judged as in a contribution; one at fault refuses the bundle. May be repeated.

        Args:
            accept: codes of errors that are overruled.
            tell: given the report, whether the bundle is stored or refused.

        Raises:
            InputError: not a bundle, or damaged.
            AccessDenied: the key is not registered, revoked, or another site's.
            IntegrityError: something is not what was signed.
            CaseRejected, ContributionRefused: cases at fault.
            Incompatible: the version was withdrawn here.
            AlreadyExists: the version is here with other content, or was erased.
            QuotaExceeded: the site would keep more than it may.
        """
        with open_bundle(Path(bundle), self._signer) as opened:
            said = opened.manifest
            self._access.require_own(said.name)
            self._registry.check_usable(said.ref)
            judged = _Heard(tell)
            dataset = self._catalog.import_bundle(
                opened,
                progress,
                accept=accept,
                tell=judged,
                allowance=self._allowance(said.name),
                withdrawn=self.withdrawn(),
            )
            self._record(dataset)
            self._note_taken_again(dataset, judged)
            self._registry.note("dataset.import", dataset.ref, key=opened.key)
        return dataset

    def validate_bundle(
        self,
        bundle: str | Path,
        progress: Progress | None = None,
        *,
        accept: frozenset[str] = frozenset(),
    ) -> Judgement:
        """Judge a bundle as :meth:`import_` would, and store nothing.

        Raises:
            InputError, AccessDenied, IntegrityError, Incompatible, AlreadyExists: as there.
        """
        with open_bundle(Path(bundle), self._signer) as opened:
            self._access.require_own(opened.manifest.name)
            self._registry.check_usable(opened.manifest.ref)
            return self._catalog.validate_bundle(opened, progress, accept, self.withdrawn())

    def _execute(self, workers: int) -> Execute | None:
        if workers < 1:
            raise InputError(f"{workers} workers: at least one is needed")
        return self._workers(workers) if workers > 1 else None

    def _record(self, dataset: Dataset) -> None:
        self._registry.record_dataset(
            dataset.ref,
            dataset.sha256,
            dataset.manifest.terms.model_dump(mode="json"),
            fingerprint=fingerprint(dataset),
        )
        self._registry.take_dataset(dataset.ref)

    def _note_taken_again(self, dataset: Dataset, judged: _Heard) -> None:
        """Write into the journal that scans came back which had been withdrawn."""
        if judged.taken_again:
            self._registry.note("dataset.again", dataset.ref, cases=list(judged.taken_again))

    def _allowance(self, name: str) -> Allowance | None:
        site = self._registry.quota_of(name.partition("/")[0])
        return None if site is None else Allowance(site.most_bytes, site.most_cases)

    def _signer(self, fingerprint: str) -> Signer:
        try:
            key = self._registry.key(fingerprint)
        except NotFound:
            raise AccessDenied(
                f"signed with key {fingerprint[:16]}..., which is not registered here; clnet "
                "sites key add does, once the site confirmed it by another way"
            ) from None
        if key.revoked is not None:
            raise AccessDenied(
                f"signed with key {fingerprint[:16]}... of {key.site}, revoked on "
                f"{key.revoked:%Y-%m-%d}; ask the site for a bundle signed with another"
            )
        return Signer(key.site, bytes.fromhex(key.public_key))

    def validate(
        self,
        name: str,
        source: str | Path | Sequence[CaseSource],
        mapping: Mapping[str, Any] | str | Path | None = None,
        progress: Progress | None = None,
        *,
        format: str | None = None,
        recipe: str | Path | Recipe | None = None,
        rules: IntakeRules | None = None,
        workers: int = 1,
    ) -> Judgement:
        """Judge what :meth:`contribute` would be given, and store nothing.

        Raises:
            UnknownAnatomy: the mapping names an anatomy that the vocabulary does not know.
            InputError: a malformed name or mapping, no case, or a folder that no format
                recognises.
        """
        self._access.require_own(name)
        meanings = Path(mapping) if isinstance(mapping, str) else mapping
        if not isinstance(source, str | Path):
            if meanings is None:
                raise InputError("cases given as files need a mapping")
            return self._catalog.validate(
                name,
                source,
                meanings,
                progress,
                rules,
                withdrawn=self.withdrawn(),
                execute=self._execute(workers),
            )
        known = recipe if isinstance(recipe, Recipe | None) else load_recipe(recipe)
        return self._catalog.validate_folder(
            name,
            Path(source),
            meanings,
            progress,
            format=format,
            recipe=known,
            rules=rules,
            withdrawn=self.withdrawn(),
            execute=self._execute(workers),
        )

    def withdraw(self, ref: str, reason: str, *, erase: bool = False) -> Touched:
        """Withdraw a version: nothing new may learn from it.

        Its record stays as a tombstone, so that lineage can still name it.

        Args:
            erase: also remove its voxels from this hub, with what was derived from them for
                training. Cases that other versions share stay with these.

        Returns:
            Every encoder, body-part model, decoder and release that must be made again
            without it.

        Raises:
            NotFound: no such version.
        """
        self._access.require_own(ref)
        withdrawn = self._registry.withdraw_dataset(self._exact(ref), reason)
        if erase:
            self._catalog.erase(withdrawn.dataset)
            self._registry.note("dataset.erase", withdrawn.dataset)
        return withdrawn

    def _exact(self, ref: str) -> str:
        """`ref` with a version; the registry also knows versions that are held elsewhere."""
        return ref if "@" in ref else self.get(ref).ref


class _Heard:
    """Passes a report on, and remembers the scans in it that had been withdrawn."""

    def __init__(self, tell: Callable[[Judgement], None] | None) -> None:
        self._tell = tell
        self.taken_again: tuple[str, ...] = ()

    def __call__(self, judgement: Judgement) -> None:
        accepted = (f for f in judgement.report.findings if f.severity != "error")
        self.taken_again = tuple(f.case for f in accepted if f.code == WITHDRAWN)
        if self._tell is not None:
            self._tell(judgement)


def licence_of(text: str) -> Terms:
    """Terms that are a licence alone.

    Raises:
        InputError: `text` is none.
    """
    try:
        return Terms(licence=text)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise InputError(f"licence {text!r}: {reason}") from None
