"""The house: the parts at the root are one package, and none hides the standard library."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "anatomy",
    "data_catalog",
    "decoders_registry",
    "model",
    "platform",
    "serve",
    "storage",
    "tune_spaces",
)
STANDARD = "import platform, sysconfig; print(platform.__file__); platform.machine()"


def committed_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


@pytest.fixture(scope="session")
def committed() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is committed cannot be listed")
    return committed_files()


def run(*arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_standard_library(file: str) -> bool:
    return Path(file).resolve().is_relative_to(Path(os.__file__).resolve().parent)


def test_platform_is_the_standard_librarys_with_the_root_on_the_path() -> None:
    assert in_standard_library(run("-c", STANDARD).strip())


def test_platform_is_the_standard_librarys_under_python_m() -> None:
    # `-m` puts the working directory first on sys.path; timeit runs our statement from there
    told = run("-m", "timeit", "-n", "1", "-r", "1", STANDARD)
    assert in_standard_library(told.splitlines()[0])


def platform_in_worker() -> str:
    import platform

    return platform.__file__


@pytest.mark.slow
def test_platform_is_the_standard_librarys_in_a_ray_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from clnet.platform.ray_runtime import ray_runtime

    monkeypatch.chdir(ROOT)
    with ray_runtime(num_cpus=1):
        import ray

        assert in_standard_library(ray.get(ray.remote(platform_in_worker).remote()))


def test_platform_is_a_namespace_folder() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_reached_through_a_relative_link(part: str, committed: list[Path]) -> None:
    link = ROOT / "src" / "clnet" / part
    assert link in committed
    assert link.is_symlink()
    assert os.readlink(link) == f"../../{part}"


def test_parts_are_importable_as_one_package() -> None:
    told = run(
        "-c",
        "import importlib\n"
        f"for part in {PARTS!r}:\n"
        "    module = importlib.import_module('clnet.' + part)\n"
        "    print(part, *module.__path__)",
    )
    for line in told.splitlines():
        part, folder = line.split(maxsplit=1)
        assert Path(folder).resolve() == ROOT / part


def imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def test_nobody_imports_a_part_by_its_bare_name(committed: list[Path]) -> None:
    bare = set(PARTS) - {"platform"}  # that name is the standard library's
    for path in committed:
        if path.suffix == ".py" and path.is_file():
            names = {name.partition(".")[0] for name in imported_names(ast.parse(path.read_text()))}
            assert not names & bare, f"{path}: import parts as clnet.<part>"


def test_the_arrows_of_the_house_hold() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_file_names_a_package_registry(committed: list[Path]) -> None:
    # spelled apart, so that this file does not find itself
    hosts = ["pypi" + ".org", "pytorch" + ".org/whl", "pythonhosted" + ".org", "npmjs" + ".org"]
    for path in committed:
        if path.is_file() and path.stat().st_size < 1 << 20:
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not [host for host in hosts if host in text], path
