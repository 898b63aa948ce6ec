"""The site builds without a warning, its generated page is what the code says, and its metrics are the logged ones."""

import dataclasses
import re
import runpy
import subprocess
import sys
from pathlib import Path

from trl_amft.amft_config import AMFTConfig
from trl_amft.cli.recipes_page import recipes_page
from trl_amft.evaluation.held_out import HeldOutResult
from trl_amft.mixing import MIXING_POLICIES
from trl_amft.reporting.panels import TIME_PARTS


ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_reference_of_recipes_is_up_to_date():
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert text == recipes_page(ROOT / "recipes"), "run python scripts/write_docs.py"


def test_reference_names_every_field_of_this_package():
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    own = set(AMFTConfig.__dataclass_fields__) - set(AMFTConfig.__mro__[1].__dataclass_fields__)
    assert own and all(f"| `{name}` |" in text for name in own)
    assert all(f"`{name}`" in text for name in MIXING_POLICIES)


def test_checking_finds_a_page_that_is_out_of_date(tmp_path, monkeypatch, capsys):
    script = runpy.run_path(str(ROOT / "scripts" / "write_docs.py"))
    monkeypatch.setattr(sys, "argv", ["write_docs.py", "--check"])
    assert script["main"]() == 0
    stale = tmp_path / "recipes.md"
    stale.write_text("old")
    monkeypatch.setitem(script["main"].__globals__, "PAGE", stale)
    assert script["main"]() == 1 and "run python scripts/write_docs.py" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["write_docs.py"])
    assert script["main"]() == 0 and stale.read_text().startswith("# Recipes")


def test_metrics_of_time_and_evaluation_are_the_logged_ones():
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    logged = {f"held_out/{entry.name}" for entry in dataclasses.fields(HeldOutResult)} | {"held_out/seconds"}
    assert set(re.findall(r"`((?:time|held_out)/\w+)`", text)) == logged | set(TIME_PARTS) | {"time/step"}


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    listed = set(re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)\n```", index, re.DOTALL).group(1).split())
    linked = set(re.findall(r"\]\((\w+)\.md\)", index))
    assert pages == listed == linked


def test_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "quickstart.html").read_text(encoding="utf-8")
    # Links may lead elsewhere; nothing may be loaded from there.
    assert not re.findall(r'(?:src|<link[^>]*href)="https?://[^"]+"', text)
