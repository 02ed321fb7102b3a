"""Body-part models: where on the body a slice is; one is frozen before the first decoder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence

from clnet.data_catalog import Catalog
from clnet.decoders_registry import BodyPartRecord, DatasetUse, Lineage, Registry

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

        The order of slices is learned without labels; hips and skull, labelled in at least one
        whole body, say where 0 and 1 are.

        Args:
            dataset: ref of one dataset or of several.
            name: of the model; a name that is there already gets its next version.
            steps: of the optimiser.
            seed: of weights and sampling.
            progress: told the fraction done and the loss.

        Raises:
            NotFound: a dataset that is not there.
            Incompatible: a dataset that was withdrawn.
            InputError: no whole body with hips and skull labelled.
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
