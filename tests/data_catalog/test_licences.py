"""Licences: known ones alone, however they are typed, and never one that loses what it asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.licenses import canonicalize_license_expression
from tiny_scans import MAPPING, case
from typer.testing import CliRunner

import clnet
from clnet.cli import app
from clnet.data_catalog import Terms
from clnet.data_catalog.licence import spdx_expression
from clnet.decoders_registry.terms import implied_by
from clnet.errors import InputError

KINDS = ("BY", "BY-NC", "BY-SA", "BY-ND", "BY-NC-SA", "BY-NC-ND")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("CC BY-NC 4.0", "CC-BY-NC-4.0"),
        ("cc by 4.0", "CC-BY-4.0"),
        ("CC-BY-NC4.0", "CC-BY-NC-4.0"),
        ("CC_BY-SA-NC v3.0", "CC-BY-NC-SA-3.0"),
        ("CC-BY-3.0-igo", "CC-BY-3.0-IGO"),
        ("cc0 1.0", "CC0-1.0"),
        ("apache-2.0", "Apache-2.0"),
        ("GPL-3.0", "GPL-3.0"),
        ("licenseref-Hospital-A", "LicenseRef-Hospital-A"),
        ("LicenseRef-CC-BY-4.0", "LicenseRef-CC-BY-4.0"),
        ("CC BY 4.0 AND (MIT or LicenseRef-x)", "CC-BY-4.0 AND (MIT OR LicenseRef-x)"),
    ],
)
def test_usual_spellings_become_the_identifier(typed: str, meant: str) -> None:
    assert spdx_expression(typed) == meant
    assert Terms(licence=typed, obligations=frozenset()).licence == meant


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("CC-BY-NC-ND", "did you mean CC-BY-NC-ND-4.0"),
        ("cc by", "did you mean CC-BY-4.0"),
        ("CC0", "did you mean CC0-1.0"),
        ("CC BY 3.0 DE", "did you mean CC-BY-3.0-DE"),
        ("WTFPL2", "did you mean WTFPL"),
        ("Apache 2.0", "did you mean Apache-2.0"),
        ("ODbL", "did you mean ODbL-1.0"),
        ("free for research, ask us", "LicenseRef-NAME"),
        ("LicenseRef-our terms", "LicenseRef-NAME"),
        ("MIT AND", "spdx.org"),
        ("((((", "spdx.org"),
        (" ", "spdx.org"),
    ],
)
def test_what_is_no_known_licence_is_refused_with_the_nearest(typed: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Terms(licence=typed, obligations=frozenset())


@given(
    st.sampled_from(KINDS), st.sampled_from(" -_"), st.sampled_from(["", " ", "-"]), st.booleans()
)
def test_no_spelling_of_creative_commons_loses_an_obligation(
    kind: str, between: str, before: str, lower: bool
) -> None:
    typed = f"CC{between}{kind.replace('-', between)}{before}4.0"
    found = spdx_expression(typed.lower() if lower else typed)
    assert found == f"CC-{kind}-4.0"
    assert implied_by(found) == set(kind.split("-"))


@given(st.text(max_size=60))
def test_any_text_is_a_known_licence_or_refused(text: str) -> None:
    try:
        found = spdx_expression(text)
    except ValueError:
        return
    assert canonicalize_license_expression(found) == found == spdx_expression(found)


def test_terms_of_ones_own_say_what_they_demand() -> None:
    for licence in ("LicenseRef-ours", "CC-BY-4.0 AND LicenseRef-ours"):
        with pytest.raises(ValueError, match=r"ours demands is not known by its name"):
            Terms(licence=licence)
        assert Terms(licence=licence, obligations=frozenset()).obligations == frozenset()
        stored = Terms(licence=licence, obligations=frozenset({"NC"})).model_dump(mode="json")
        assert Terms(**stored).obligations == {"NC"}


def test_the_command_line_asks_for_it_too(tmp_path: Path) -> None:
    source = tmp_path / "source"
    case(source, "c1")
    (tmp_path / "mapping.yaml").write_text(str(MAPPING))

    def contribute(*options: str) -> tuple[int, str]:
        command = ["datasets", "contribute", "site/d", "--source", str(source)]
        command += ["--mapping", str(tmp_path / "mapping.yaml"), *options]
        told = CliRunner().invoke(app, [*command, "--workspace", str(tmp_path / "hub")])
        return told.exit_code, told.output + repr(told.exception)

    for options, says in (
        (("--licence", "CC-BY-NC-ND"), "--licence: 'CC-BY-NC-ND' is not a licence"),
        (("--licence", "LicenseRef-ours"), "--obligation: what LicenseRef-ours demands"),
        (("--licence", "LicenseRef-ours", "--obligation", "pay"), "--obligations"),
    ):
        code, said = contribute(*options)
        assert code != 0
        assert says in said
    assert contribute("--licence", "LicenseRef-ours", "--obligation", "none")[0] == 0
    assert contribute("--licence", "CC BY-NC 4.0")[0] == 0
    hub = clnet.connect(tmp_path / "hub")
    assert hub.datasets.terms("site/d@1").obligations == ()
    assert hub.datasets.terms("site/d@2").obligations == ("BY", "NC")
    assert hub.datasets.record("site/d@2").terms["licence"] == "CC-BY-NC-4.0"


def test_python_is_told_the_same(tmp_path: Path) -> None:
    hub = clnet.connect(tmp_path / "hub")
    cases = [case(tmp_path / "source", "c1")]
    with pytest.raises(InputError, match=r"did you mean CC-BY-NC-4\.0"):
        hub.datasets.contribute("site/d", cases, MAPPING, "CC-BY-NC")
    with pytest.raises(InputError, match="is not known by its name"):
        hub.datasets.contribute("site/d", cases, MAPPING, "LicenseRef-ours")
    assert hub.datasets.list() == ()
