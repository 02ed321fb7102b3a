"""YAML as people should be able to trust it: a key written twice is an error, not a loss."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["load_yaml"]


def load_yaml(text: str) -> Any:
    """Parse one YAML (or JSON) document of plain values.

    Raises:
        yaml.YAMLError: the text is not YAML, or a map holds the same key twice.
    """
    return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a subclass of the safe loader


# libyaml is a C library that some builds of PyYAML lack; it reads ten times as fast
class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} is written twice", key.start_mark
                    )
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping
