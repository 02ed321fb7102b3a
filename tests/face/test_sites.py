"""Sites on a hub: tokens, namespaces, quotas, bundles and the journal, as people use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_release import add_decoder, add_release
from typer.testing import CliRunner, Result

import clnet
from clnet.cli import app
from clnet.decoders_registry import DatasetUse, Lineage
from clnet.hub.site_hub import SiteHub

MAPPING = {"1": "liver", "2": "spleen"}


def run(hub: clnet.Hub, *arguments: object, **env: str) -> Result:
    return CliRunner().invoke(
        app,
        [str(a) for a in arguments],
        env={"CLNET_WORKSPACE": str(hub.workspace.root), "COLUMNS": "300", **env},
    )


def told(hub: clnet.Hub, *arguments: object, **env: str) -> Any:
    result = run(hub, *arguments, "--json", **env)
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    return json.loads(result.stdout)


def contribute(name: str, site: Path, *options: object) -> list[object]:
    mapping = site / "mapping.yaml"
    licence = ["--licence", "CC-BY-NC-4.0"]
    return [
        "datasets",
        "contribute",
        name,
        "--source",
        site,
        "--mapping",
        mapping,
        *licence,
        *options,
    ]


@pytest.fixture
def token(hub: clnet.Hub) -> str:
    """Of site-a; site-b has a dataset of its own."""
    told(hub, "sites", "add", "site-a", "--title", "Hospital A")
    told(hub, "sites", "add", "site-b")
    made: str = told(hub, "sites", "token", "add", "site-a", "--label", "ingest")["token"]
    return made


def test_a_site_sees_and_changes_only_its_own(
    hub: clnet.Hub, token: str, site: Path, tmp_path: Path
) -> None:
    hub.datasets.contribute("site-b/secret", site, MAPPING, "CC-BY-4.0")
    with clnet.connect(hub.workspace.root, token=token) as mine:
        assert isinstance(mine, SiteHub)
        assert mine.site.name == "site-a"
        assert mine.datasets.list() == ()
        own = mine.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0")
        assert [d.ref for d in mine.datasets.list()] == ["site-a/d@1"]
        assert mine.usage().cases == 2
        for refused in (
            lambda: mine.datasets.contribute("site-b/d", site, MAPPING, "CC-BY-4.0"),
            lambda: mine.datasets.validate("site-b/d", site, MAPPING),
            lambda: mine.datasets.withdraw("site-b/secret@1", "no"),
            lambda: mine.datasets.withdraw("site-ab/d@1", "no"),
            lambda: mine.datasets.cross_site_duplicates(),
        ):
            with pytest.raises(clnet.AccessDenied):
                refused()
        for hidden in (
            lambda: mine.datasets.get("site-b/secret"),
            lambda: mine.datasets.get("site-a/nothing"),
            lambda: mine.datasets.fingerprint("site-b/secret"),
            lambda: mine.datasets.touched_by("site-b/secret@1"),
            lambda: mine.datasets.terms("site-b/secret@1"),
            lambda: mine.datasets.record("site-b/secret@1"),
            lambda: mine.datasets.usage("site-b"),
            lambda: mine.datasets.export("site-b/secret@1", tmp_path / "out"),
            lambda: mine.datasets.bundle("site-b/secret@1", tmp_path / "out", tmp_path / "k"),
        ):
            with pytest.raises(clnet.NotFound) as caught:
                hidden()
            assert "secret" not in str(caught.value).replace("dataset site-b/secret", "")
        mine.datasets.withdraw(own.ref, "wish of the site")
        lines = mine.audit()
        assert {line.actor for line in lines} == {"site-a (ingest)"}
        assert {line.subject for line in lines} == {"site-a/d@1"}
    assert len(hub.datasets.list()) == 2


def test_the_command_line_acts_for_the_site_whose_token_is_set(
    hub: clnet.Hub, token: str, site: Path, tmp_path: Path
) -> None:
    hub.datasets.contribute("site-b/secret", site, MAPPING, "CC-BY-4.0")
    (tmp_path / "token").write_text(token + "\n")
    for env in ({"CLNET_TOKEN": token}, {"CLNET_TOKEN_FILE": str(tmp_path / "token")}):
        assert told(hub, *contribute("site-a/d", site), **env)["ref"] == "site-a/d@1"
        assert [d["ref"] for d in told(hub, "datasets", "list", **env)] == ["site-a/d@1"]
        shown = told(hub, "datasets", "show", "site-a/d", **env)
        assert shown["obligations"] == ["BY", "NC"]
        denied = run(hub, *contribute("site-b/d", site), **env)
        assert isinstance(denied.exception, clnet.AccessDenied)
        hidden = run(hub, "datasets", "show", "site-b/secret", **env)
        assert isinstance(hidden.exception, clnet.NotFound)
        for command in (["sites", "list"], ["jobs", "list"], ["audit", "list"]):
            assert isinstance(run(hub, *command, **env).exception, clnet.AccessDenied)
    key = told(hub, "sites", "token", "list", "site-a")[0]["id"]
    told(hub, "sites", "token", "revoke", key)
    after = run(hub, "datasets", "list", CLNET_TOKEN=token)
    assert isinstance(after.exception, clnet.AccessDenied)
    assert token not in after.output


def test_a_quota_refuses_in_words(hub: clnet.Hub, token: str, site: Path) -> None:
    told(hub, "sites", "quota", "site-a", "--most-cases", 1)
    refused = run(hub, *contribute("site-a/d", site), CLNET_TOKEN=token)
    assert isinstance(refused.exception, clnet.QuotaExceeded)
    assert "would keep 2 cases, its quota is 1" in str(refused.exception)
    told(hub, "sites", "quota", "site-a", "--most-bytes", "1KiB")
    assert isinstance(run(hub, *contribute("site-a/d", site)).exception, clnet.QuotaExceeded)
    assert hub.datasets.list() == ()
    told(hub, "sites", "quota", "site-a", "--most-bytes", "1GiB", "--most-cases", 2)
    told(hub, *contribute("site-a/d", site), CLNET_TOKEN=token)
    shown = told(hub, "sites", "show", "site-a")
    assert (shown["cases"], shown["datasets"]) == (2, ["site-a/d@1"])
    assert 0 < shown["bytes"] < shown["most_bytes"] == 2**30


def test_a_bundle_goes_from_site_to_hub(
    hub: clnet.Hub, token: str, site: Path, tmp_path: Path
) -> None:
    key, file = tmp_path / "site-a.pem", tmp_path / "d.clnet"
    public = told(hub, "sites", "key", "make", key)["public_key"]
    with clnet.connect(tmp_path / "at-the-site") as there:
        dataset = told(there, *contribute("site-a/d", site))
        made = told(there, "datasets", "bundle", "site-a/d@1", "--to", file, "--key", key)
        assert (made["ref"], made["bytes"]) == ("site-a/d@1", file.stat().st_size)
    stranger = run(hub, "datasets", "import", file)
    assert isinstance(stranger.exception, clnet.AccessDenied)
    assert "not registered" in str(stranger.exception)
    found = told(hub, "sites", "key", "add", "site-a", public, "--label", "laptop")
    assert found["fingerprint"] == made["key"]
    assert run(hub, "datasets", "import", file, "--dry-run").exit_code == 0
    assert hub.datasets.list() == ()
    imported = told(hub, "datasets", "import", file)
    assert (imported["ref"], imported["sha256"]) == ("site-a/d@1", dataset["sha256"])
    assert told(hub, "datasets", "import", file, CLNET_TOKEN=token)["ref"] == "site-a/d@1"
    assert told(hub, "datasets", "fingerprint", "site-a/d")["cases"] == 2
    assert hub.audit("site-a/d@1")[0].detail == {"key": made["key"]}
    told(hub, "datasets", "withdraw", "site-a/d@1", "--reason", "consent revoked", "--erase")
    again = run(hub, "datasets", "import", file)
    assert isinstance(again.exception, clnet.Incompatible), "a replay brings nothing back"
    told(hub, "sites", "key", "revoke", found["fingerprint"][:12])
    revoked = run(hub, "datasets", "import", file)
    assert isinstance(revoked.exception, clnet.AccessDenied)
    assert "revoked" in str(revoked.exception)


def test_another_sites_token_imports_no_bundle_of_ours(
    hub: clnet.Hub, token: str, site: Path, tmp_path: Path
) -> None:
    hub.sites.add_key("site-b", hub.sites.make_key(tmp_path / "b.pem"))
    hub.datasets.contribute("site-b/d", site, MAPPING, "CC-BY-4.0")
    hub.datasets.bundle("site-b/d", tmp_path / "b.clnet", tmp_path / "b.pem")
    denied = run(hub, "datasets", "import", tmp_path / "b.clnet", CLNET_TOKEN=token)
    assert isinstance(denied.exception, clnet.AccessDenied)


def test_terms_follow_and_withdrawal_names_what_they_reached(hub: clnet.Hub, site: Path) -> None:
    dataset = hub.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-NC-4.0")
    add_release(hub.registry)
    use = DatasetUse(
        ref=dataset.ref,
        sha256=dataset.sha256,
        terms=dataset.manifest.terms.model_dump(mode="json"),
    )
    decoder = add_decoder(
        hub.registry,
        "abdomen/pancreas",
        ["pancreas"],
        favour=0,
        learned_from=Lineage(command="test", code_version="0", datasets=(use,)),
    )
    hub.releases.create("learned", [decoder.ref])
    assert "NC" in told(hub, "releases", "show", "learned")["terms"]["obligations"]
    assert run(hub, "releases", "show", "learned").stdout.count("NC") >= 1
    terms = told(hub, "decoders", "show", decoder.ref)["terms"]
    assert terms["sources"]["NC"] == ["site-a/d@1"]
    assert told(hub, "encoders", "show", decoder.encoder_ref)["terms"]["conflicts"] == []
    touched = told(hub, "datasets", "withdraw", "site-a/d@1", "--reason", "consent revoked")
    assert (touched["decoders"], touched["releases"]) == ([decoder.ref], ["learned"])
    shown = told(hub, "datasets", "show", "site-a/d@1")
    assert (shown["withdrawn"], shown["erased"]) == ("consent revoked", False)
    refused = run(hub, "releases", "create", "more", decoder.ref)
    assert isinstance(refused.exception, clnet.Incompatible)
    assert "site-a/d@1 (consent revoked)" in str(refused.exception)
    job = clnet.DecoderJob(
        decoder="abdomen/liver",
        dataset="site-a/d@1",
        encoder=decoder.encoder_ref,
        body_part_model=decoder.body_part_model_ref,
    )
    for learn in (
        lambda: hub.jobs.submit(job),
        lambda: hub.encoders.submit(("site-a/d@1",), "wide"),
        lambda: hub.body_parts.train("site-a/d@1"),
    ):
        with pytest.raises(clnet.Incompatible, match="withdrawn"):
            learn()


def test_the_journal_is_printed_and_verified(hub: clnet.Hub, token: str, site: Path) -> None:
    head = told(hub, "audit", "verify")["head"]
    told(hub, *contribute("site-a/d", site), CLNET_TOKEN=token)
    printed = run(hub, "audit", "list").stdout
    assert "site-a (ingest)" in printed
    assert token not in printed
    check = told(hub, "audit", "verify", "--head", head)
    assert check["ok"]
    assert check["lines"] > 3
    wrong = run(hub, "audit", "verify", "--head", "f" * 64)
    assert wrong.exit_code == 1
    assert "cut off" in wrong.stdout
