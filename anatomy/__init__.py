"""The vocabulary of anatomies, their groups and layers, and what a site's labels mean."""

from clnet.anatomy.contract import UNKNOWN, LabelContract, LabelEntry
from clnet.anatomy.mapping import LabelMapping, Meaning, load_mapping
from clnet.anatomy.parts_of_the_body import PartOfBody, part_of_body
from clnet.anatomy.patch import Patch
from clnet.anatomy.stratification import AnatomyGroup, Stratification, default_stratification
from clnet.anatomy.vocabulary import Anatomy, Vocabulary, vocabulary

__all__ = [
    "UNKNOWN",
    "Anatomy",
    "AnatomyGroup",
    "LabelContract",
    "LabelEntry",
    "LabelMapping",
    "Meaning",
    "PartOfBody",
    "Patch",
    "Stratification",
    "Vocabulary",
    "default_stratification",
    "load_mapping",
    "part_of_body",
    "vocabulary",
]
