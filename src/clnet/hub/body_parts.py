"""Body-part models: where on the body a slice is; one is frozen before the first decoder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clnet.data_catalog import Catalog
from clnet.decoders_registry import BodyPartRecord, DatasetUse, Lineage, Registry

if TYPE_CHECKING:
    from clnet.data_catalog import Terms

__all__ = ["BodyParts"]


class BodyParts:
    """Body-part models of one hub."""

    def __init__(self, catalog: Catalog, registry: Registry) -> None:
        self._catalog = catalog
        self._registry = registry

    def list(self) -> list[BodyPartRecord]:
        """Every version, by name."""
        return self._registry.body_part_models()

    def get(self, ref: str) -> BodyPartRecord:
        """``bpr/starter@1`` or ``starter``; without a version the newest.

        Raises:
            NotFound: there is none.
        """
        return self._registry.body_part_model(ref)

    def train(
        self,
        dataset: str | Sequence[str],
        name: str = "body-parts",
        steps: int = 1500,
        seed: int = 0,
        progress: Callable[[float, str], None] | None = None,
    ) -> BodyPartRecord:
        """Train a body-part model in this process, minutes on a small machine.

        The order of slices is learned without labels. Bones of known height, labelled and whole
        in some cases, say where 0 and 1 are: hips and skull, or vertebrae between them.

        Args:
            dataset: ref of one dataset or of several.
            name: of the model; a name that is there already gets its next version.
            steps: of the optimiser.
            seed: of weights and sampling.
            progress: told the fraction done and the loss.

        Raises:
            NotFound: a dataset that is not there.
            Incompatible: a dataset that was withdrawn.
            InputError: no case with two such bones.
        """
        import torch

        from clnet.model.body_part import encode_body_part_model
        from clnet.model.numerics import numerics_class
        from clnet.platform.body_parts import BODY_PART_PLAN, make_body_part_model
        from clnet.platform.register import code_version

        refs = [dataset] if isinstance(dataset, str) else dataset
        datasets = [self._catalog.get(ref) for ref in refs]
        for found in datasets:
            self._registry.check_usable(found.ref)
        stores = [self._catalog.plan_store(one, BODY_PART_PLAN.to_dict()) for one in datasets]
        model = make_body_part_model(stores, BODY_PART_PLAN.spacing, steps, seed, progress)
        lineage = Lineage(
            command=shlex.join(sys.argv),
            code_version=code_version(),
            seeds={"body_part_model": seed},
            datasets=tuple(
                DatasetUse(
                    ref=one.ref,
                    sha256=one.sha256,
                    terms=one.manifest.terms.model_dump(mode="json"),
                )
                for one in datasets
            ),
            numerics=numerics_class(torch.device("cpu")),
            config={"steps": steps, "plan": BODY_PART_PLAN.to_dict()},
        )
        return self._registry.add_body_part_model(name, encode_body_part_model(model), lineage)

    def import_bpreg(
        self, folder: str | Path, terms: Terms | str, name: str = "bpreg", *, command: str = ""
    ) -> BodyPartRecord:
        """Bring the public ``bpreg`` model; doing it again adds nothing.

        Args:
            folder: where ``bpreg`` keeps it: ``model.pt`` and ``inference-settings.json``.
            terms: licence of the model and of what it learned from; a text is the licence alone.
            name: of the model.

        Raises:
            NotFound: folder or file is not there.
            IntegrityError: a file that holds more than weights; it was not loaded.
            Incompatible: weights of another network.
            InputError: settings that do not say where pelvis and eyes score.
        """
        from clnet.hub.datasets import licence_of
        from clnet.platform.body_parts import import_bpreg

        return import_bpreg(
            self._registry,
            Path(folder),
            licence_of(terms) if isinstance(terms, str) else terms,
            name,
            command or shlex.join(sys.argv),
        )
