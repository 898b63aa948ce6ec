"""What README and docs name is there: files, links, headings, flags of commands, fields of recipes, make targets."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from trl_amft.cli import console
from trl_amft.cli.arguments import RecipeParser


ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md")))
    if path.is_file()
]
PLACES = ("trl_amft", "recipes", "scripts", "docs", "tests", "benchmarks", "examples")
NAMED_FILE = re.compile(rf"(?<![\w./-])((?:{'|'.join(PLACES)})/[\w./*{{}},-]*\w/?)")
FLAG = re.compile(r"(?<![\w-])--([a-zA-Z][\w-]*)")
# Programs of others, whose options are not ours to check.
FOREIGN = (
    *("pip", "pytest", "git", "make", "pre-commit", "ruff", "mypy", "sphinx-build", "vllm", "tensorboard", "trl"),
    *("python", "accelerate", "sbatch", "torchrun"),
)


def code(page: Path) -> list[str]:
    """Lines of code blocks, continued lines joined, and spans of code."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?:^|\n)\n((?: {4}\S.*\n)+)", text)
    blocks = "\n".join([*fences, *indented]).replace("\\\n", " ").splitlines()
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line.strip() for line in blocks] + re.findall(r"`([^`\n]+)`", rest)


@cache
def recipe_fields() -> frozenset[str]:
    return frozenset(vars(RecipeParser(prog="train.py").parse_known_args([])[0])) | {"recipe", "smoke", "help"}


@cache
def options_of(script: str) -> frozenset[str]:
    """Options that the source of a script, or of the command behind it, names."""
    name = Path(script).stem
    sources = [ROOT / script, *ROOT.glob(f"trl_amft/cli/{name}*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.is_file())
    own = {flag.replace("-", "_") for flag in FLAG.findall(text)} | {"help"}
    # These pass fields of a recipe on.
    return frozenset(own | (recipe_fields() if "parse_recipe" in text else set()))


def script_of(line: str) -> tuple[str, str] | None:
    """The script of this project that a command line runs, and what stands after it."""
    found = re.search(r"((?:scripts|benchmarks|tests)/[\w/]+\.py|recipes/slurm/train\.sbatch)(.*)", line)
    if found:
        return found.group(1), found.group(2)
    found = re.match(rf"(?:.* )?amft ({'|'.join(console.COMMANDS)})(.*)", line)
    return (f"scripts/{found.group(1)}.py", found.group(2)) if found else None


def headings(page: Path) -> set[str]:
    """Anchors as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
class TestPage:
    def test_relative_links_resolve(self, page):
        broken = []
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            place = (page.parent / path).resolve() if path else page
            if not place.exists() or (anchor and anchor not in headings(place)):
                broken.append(target)
        assert not broken

    def test_files_that_it_names_exist(self, page):
        missing = []
        for name in (name for line in code(page) for name in NAMED_FILE.findall(line)):
            if "outputs/" in name or "..." in name:
                continue
            if not (list(ROOT.glob(name)) if "*" in name else (ROOT / name.rstrip("/")).exists()):
                missing.append(name)
        assert not missing

    def test_flags_that_it_names_are_known(self, page):
        unknown = []
        for line in code(page):
            command = script_of(line)
            if command is None:
                continue
            script, rest = command
            fields = script.endswith("train.py") or script.endswith(".sbatch")
            known = recipe_fields() if fields else options_of(script)
            unknown += [(script, flag) for flag in FLAG.findall(rest) if flag.replace("-", "_") not in known]
        assert not unknown

    def test_flags_in_the_text_are_known_to_some_command(self, page):
        sources = [*ROOT.glob("scripts/*.py"), *ROOT.glob("benchmarks/*.py")]
        scripts = [path.relative_to(ROOT).as_posix() for path in sources]
        known = recipe_fields().union(*map(options_of, scripts))
        # Of the launcher and of the tools around.
        known |= {"config_file", "num_processes", "nodes", "fix", "cov", "version", "all_files", "no_deps", "logdir"}
        unknown = []
        for line in code(page):
            words = line.split()
            if script_of(line) or (
                words and words[0] in (*FOREIGN, "python", "accelerate", "sbatch", "SERVER_NODES=1")
            ):
                continue
            unknown += [flag for flag in FLAG.findall(line) if flag.replace("-", "_") not in known]
        assert not unknown

    def test_make_targets_exist(self, page):
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = {word for line in code(page) for word in re.findall(r"(?:^|[;&] *)make ([a-z][\w-]*)", line)}
        assert named <= targets

    def test_commands_can_be_read_by_a_shell(self, page):
        for line in code(page):
            if script_of(line) and line.startswith(("python", "accelerate", "sbatch", "amft")):
                shlex.split(line)


def test_the_tree_of_the_readme_is_the_tree():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tree,) = (block for block in blocks if block.startswith("trl_amft/\n"))
    missing, folder = [], ""
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
        path = ROOT / (name if not line.startswith(" ") else f"{folder}{name}")
        missing += [] if path.exists() else [str(path.relative_to(ROOT))]
    assert not missing


def test_recipes_name_fields_that_exist():
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            named = re.findall(r"^([a-z_]+):", block, re.MULTILINE)
            assert set(named) <= recipe_fields(), (page.name, set(named) - recipe_fields())
