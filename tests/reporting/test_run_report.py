"""The report: everything in one file, nothing asked from outside, and what the pictures are made of."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
import yaml
from report_runs import HOSTILE, checkpoints, run_folder, write_lines

from trl_amft.cli import report
from trl_amft.reporting.curves import moved_by_entropy, moved_by_evidence, tokens_per_second
from trl_amft.reporting.html_page import text
from trl_amft.reporting.panels import PANELS
from trl_amft.reporting.report_figures import mu_bounds
from trl_amft.reporting.run_folder import read_run
from trl_amft.reporting.run_report import distinct_names, short
from trl_amft.reporting.samples import as_text


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Links(HTMLParser):
    """What a page would load, and the text of the page."""

    def __init__(self, page: str):
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.loaded += [values[name] for name in ("src", "srcset", "data", "poster") if name in values]
        if tag == "link":
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = run_folder(tmp_path_factory.mktemp("run") / "quickstart")
    assert report.main([str(folder)]) == 0
    return folder / "report" / "report.html"


class TestPage:
    def test_nothing_is_loaded_from_outside(self, page):
        links = Links(page.read_text())
        assert links.loaded and all(link.startswith("data:") for link in links.loaded)
        assert "script" not in links.tags and "url(" not in page.read_text() and "@import" not in page.read_text()

    def test_text_of_a_model_stays_text(self, page):
        text = page.read_text()
        assert HOSTILE not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text

    def test_every_panel_is_there_as_png_and_inside(self, page):
        names = {path.stem for path in (page.parent / "figures").glob("*.png")}
        assert names == {panel.name for panel in PANELS}
        assert all(path.read_bytes().startswith(PNG_SIGNATURE) for path in (page.parent / "figures").iterdir())
        assert page.read_text().count("data:image/png") == len(PANELS)

    def test_what_it_tells(self, page):
        text = page.read_text()
        for part in (
            "Finished: 40 steps. Log: log.jsonl.",
            "0.100\u00a0±\u00a00.020",
            "trl_amft 0.1.0, trl 1.16.0",
            "mu_entropy_lr: 0.1",
            "right 1",
            "advantage 0.5",
            "Dead groups",
        ):
            assert part in text, part

    @pytest.mark.skipif(BROWSER is None, reason="needs a browser")
    @pytest.mark.parametrize("width", [1280, 400])
    def test_in_a_browser(self, page, width, tmp_path):
        command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        command += [f"--user-data-dir={tmp_path}", f"--window-size={width},900", "--virtual-time-budget=2000"]
        probe = page.read_text().replace("</body>", "<p id=probe></p></body>")
        copy = tmp_path / "probe.html"
        # Only this copy may run a script: it writes down how wide the page is, and every request that it made.
        script = (
            "<script>onload = () => document.getElementById('probe').textContent = 'wide ' + "
            "(document.documentElement.scrollWidth <= innerWidth) + ' requests ' + performance.getEntriesByType("
            "'resource').filter(entry => !entry.name.startsWith('data:')).length</script>"
        )
        policy = "script-src 'unsafe-inline'; default-src 'none'"
        copy.write_text(probe.replace("default-src 'none'", policy).replace("</body>", script + "</body>"))
        done = subprocess.run([*command, "--dump-dom", f"file://{copy}"], capture_output=True, text=True, timeout=120)
        assert "wide true requests 0" in done.stdout, done.stdout[-300:]
        assert "CONSOLE" not in done.stderr, done.stderr[-3000:]


class TestOtherRuns:
    def test_dead_run_with_checkpoints_only(self, tmp_path, capsys):
        folder = checkpoints(tmp_path / "dead", 30)
        report.main([str(folder), "--output", str(tmp_path / "out")])
        assert capsys.readouterr().out == f"report: {tmp_path / 'out' / 'report.html'}\n"
        text = (tmp_path / "out" / "report.html").read_text()
        assert "Not finished: step 30 of 40. Log: checkpoint-30/trainer_state.json" in text
        assert "the run was not started by the train command" in text

    def test_grpo_alone_has_only_its_panels(self, tmp_path):
        write_lines(tmp_path / "grpo" / "log.jsonl", [{"max_steps": 2}, {"step": 1, "reward": 0.5, "grad_norm": 1.0}])
        report.main([str(tmp_path / "grpo")])
        figures = tmp_path / "grpo" / "report" / "figures"
        assert {path.stem for path in figures.iterdir()} == {"reward", "grad_norm"}

    def test_comparison(self, tmp_path):
        first = run_folder(tmp_path / "first")
        second = run_folder(tmp_path / "second", steps=30, seed=4, method="sft")
        report.main([str(first), str(second), str(checkpoints(tmp_path / "third", 20))])
        text = (tmp_path / "report" / "report.html").read_text()
        assert "3 runs" in text and "30 (not finished)" in text and "No recipe in the folder of third" in text
        report.main([str(first), str(second), "--output", str(tmp_path / "two")])
        text = (tmp_path / "two" / "report.html").read_text()
        assert "<td>seed</td><td>3</td><td>4</td>" in text and "<td>method</td><td>default</td><td>sft</td>" in text
        assert "max_steps</td>" not in text, "only what differs"
        assert {path.name for path in (tmp_path / "two").iterdir()} == {
            "report.html",
            "figures",
            "figures-0",
            "figures-1",
        }

    def test_names_that_tell_runs_apart(self, tmp_path):
        runs = [read_run(checkpoints(tmp_path / name / "run", 5)) for name in ("a", "b")]
        assert distinct_names(runs) == ["a/run", "b/run"]
        assert distinct_names([runs[0], runs[0]])[1].endswith("run (2)")


class TestRefusals:
    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            ([], "required: RUN_DIR; for example"),
            (["no_run"], "run='no_run' is not a folder"),
            (["."], "run='.' holds no log"),
            (["--outptu", "x", "y"], "unrecognized arguments"),
        ],
    )
    def test_one_line_and_code_2(self, tmp_path, monkeypatch, capsys, argv, expected):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as caught:
            report.main(argv)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("\n") == 1 and error.startswith("error: ") and expected in error

    def test_folder_that_cannot_be_written(self, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        with pytest.raises(SystemExit):
            report.main([str(run_folder(tmp_path / "run")), "--output", str(tmp_path / "file" / "x")])
        assert "give another with --output" in capsys.readouterr().err


class TestNumbers:
    def test_terms_of_the_law_sum_up_to_the_weight(self, tmp_path):
        run = read_run(run_folder(tmp_path))
        entropy, evidence = moved_by_entropy(run), moved_by_evidence(run)
        assert entropy.steps == [15, 20, 25, 30, 35, 40]
        # Five steps of 0.1 x -0.2 each.
        assert entropy.values[:2] == pytest.approx([-0.1, -0.2])
        weights = {row["step"]: row["amft/mu"] for row in run.log if "amft/mu" in row}
        for step, by_entropy, by_evidence in zip(evidence.steps, entropy.values, evidence.values, strict=True):
            assert 0.5 + by_entropy + by_evidence == pytest.approx(weights[step])

    def test_the_law_of_the_paper_has_its_own_constants(self, tmp_path):
        """A recipe has what differs from the defaults, and they are not among that."""
        folder = run_folder(tmp_path, mixing_policy="amft_paper")
        recipe = yaml.safe_load((folder / "resolved_recipe.yaml").read_text())
        del recipe["mu_entropy_lr"]
        (folder / "resolved_recipe.yaml").write_text(yaml.safe_dump(recipe))
        assert moved_by_entropy(read_run(folder)).values[0] == pytest.approx(5 * 5e-4 * -0.2)

    def test_method(self, tmp_path):
        names = ({"mixing_policy": "gate"}, {"method": "sft", "mixing_policy": "fixed"}, {})
        found = [read_run(run_folder(tmp_path / str(n), **names[n])).method for n in range(3)]
        assert [*found, read_run(checkpoints(tmp_path / "c", 20)).method] == ["gate", "sft", "amft", "–"]

    def test_tokens_per_second(self, tmp_path):
        speed = tokens_per_second(read_run(run_folder(tmp_path)))
        # 100 labelled tokens in 2 seconds; after the warm-up 100 tokens of rollouts more.
        assert speed.values[0] == 50.0 and speed.values[-1] == 100.0

    def test_bounds_of_a_learned_weight_only(self, tmp_path):
        assert mu_bounds(read_run(run_folder(tmp_path / "a"))) == (0.0, 0.95)
        assert mu_bounds(read_run(run_folder(tmp_path / "b", mixing_policy="fixed"))) == ()
        assert mu_bounds(read_run(run_folder(tmp_path / "d", mixing_policy="amft_sources"))) == (0.0, 0.95)
        assert mu_bounds(read_run(run_folder(tmp_path / "e", mixing_policy="amft_paper"))) == (0.05, 0.95)
        assert mu_bounds(read_run(checkpoints(tmp_path / "c", 20))) == ()

    @pytest.mark.parametrize(
        ("value", "shown"), [(None, "–"), (float("nan"), "–"), (True, "–"), (1234, "1,234"), (0.123456, "0.1235")]
    )
    def test_short(self, value, shown):
        assert short(value) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": None}], "user: a\nassistant: "),
        ([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "b"}]}], "user: [image]b"),
        (["a", "b"], "a\nb"),
    ],
)
def test_prompts_of_every_form_are_text(value, text):
    assert re.sub(r"[\r]", "", as_text(value)) == text


def test_signs_that_no_page_may_hold():
    assert text("a\0b\x1b[0m\x7f\t<\n") == "a␀b␛[0m␡\t&lt;\n"
