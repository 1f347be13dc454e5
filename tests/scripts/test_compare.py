import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from noise2pose.reports.figures import sample_errors
from noise2pose.reports.pages import write_report
from noise2pose.reports.runs import load_run
from scripts.compare import main
from tests.fake_runs import write_run
from tests.places import ROOT

SCRIPT = ROOT / "scripts" / "compare.py"
EMPTY = {"meta", "img", "br", "input"}
DRAWN = {"path", "polyline", "circle", "rect"}  # elements of a figure, which close themselves


class Page(HTMLParser):
    """Checks that tags close in order, and collects what a page shows and refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text, self.ids, self.labelled = [], [], "", set(), set()
        self.tags, self.handlers = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.open += [] if tag in EMPTY else [tag]
        self.tags.append(tag)
        self.sources += [values[key] for key in ("src", "srcset", "href") if key in values]
        self.handlers += [key for key in values if key.startswith("on")]
        self.ids |= {values["id"]} if "id" in values else set()
        self.labelled |= {values["aria-labelledby"]} if "aria-labelledby" in values else set()
        assert tag != "img" or values["alt"]

    def handle_startendtag(self, tag, attrs):
        assert tag in DRAWN
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two comparable runs, one of another protocol, one not tested."""
    folder = tmp_path_factory.mktemp("compare")
    write_run(folder / "slow", method="A <b>|*bold*|</b> method", mpjpe=60.0)
    write_run(folder / "fast", mpjpe=70.0)
    write_run(folder / "easy", mpjpe=40.0, keypoints_2d="gt", num_samples=1)
    (write_run(folder / "new") / "test.json").unlink()
    runs = [load_run(folder / name) for name in ("fast", "slow", "easy", "new")]
    page = write_report(runs, folder / "report", title="Toys & <games>", note="One seed.")
    return page.parent


def test_the_page_is_whole_and_needs_nothing_beside_it(report):
    page = Page((report / "index.html").read_text())
    anchors = {source[1:] for source in page.sources if source.startswith("#")}
    assert anchors and anchors <= page.ids, "the row of every run leads to its commands"
    assert {source for source in page.sources if source[0] != "#"} == {
        f"../{n}/" for n in ("fast", "slow", "easy", "new")
    }
    assert page.labelled and page.labelled <= page.ids
    for words in (
        "Toys & <games>",
        "One seed.",
        "NOT COMPARABLE",
        "A <b>|*bold*|</b> method",
        "--ckpt_path best",
        "abc1234",
    ):
        assert words in page.text


def test_the_best_of_a_protocol_is_bold_in_both(report):
    assert re.findall(r"<strong>(.*?)</strong>", (report / "index.html").read_text()) == ["60.0", "45.0"]
    assert re.findall(r"\| \*\*([\d.]+)\*\* ", (report / "report.md").read_text()) == ["60.0", "45.0"]


def test_oracle_numbers_stay_in_their_section(report):
    for name, heading in (("index.html", "<h2>"), ("report.md", "\n## ")):
        sections = (report / name).read_text().split(heading)
        holding = [section for section in sections if re.search(r"\b31\.2\b", section)]
        assert len(holding) == 1 and holding[0].startswith("Needs the ground truth to choose - not comparable")
        assert "41.8" in holding[0]


def test_every_picture_of_the_markdown_is_there(report):
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", (report / "report.md").read_text())
    # Error and loss of two protocols and of the untested run, samples and sparsification of two protocols.
    assert len(pictures) == 3 * 2 + 2 + 1 + 2
    for picture in pictures:
        assert ElementTree.fromstring((report / picture).read_text()).tag.endswith("svg")
    assert not list(report.rglob("*.partial"))


def test_markdown_shows_names_as_they_are(report):
    assert r"A \<b\>\|\*bold\*\|\</b\> method" in (report / "report.md").read_text()


def test_errors_of_samples_follow_the_protocol(tmp_path):
    every, some = write_run(tmp_path / "every"), write_run(tmp_path / "some", joints=[0, 1])
    np.testing.assert_allclose(sample_errors(load_run(every)), 50.0 * 16 / 17)
    np.testing.assert_allclose(sample_errors(load_run(some)), 25.0)


def test_a_failed_report_leaves_the_old_one(tmp_path, monkeypatch):
    run = load_run(write_run(tmp_path / "toy", num_samples=1))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("noise2pose.reports.sections.sample_pictures", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report([run], tmp_path / "report")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    assert (tmp_path / "report" / "index.html").read_text() == "old"


def test_runs_without_curves_or_samples_are_compared_all_the_same(tmp_path, capsys):
    for name in ("a", "b"):
        folder = write_run(tmp_path / name)
        for missing in ("metrics.csv", "fit.json", "test_samples.npz"):
            (folder / missing).unlink()
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "No samples were kept by: a, b" in text and "not trained in this folder" in text
    assert str(tmp_path / "report" / "index.html") in capsys.readouterr().out


def test_a_run_given_twice_counts_once(tmp_path, capsys):
    folder = write_run(tmp_path / "toy", num_samples=1)
    assert main([str(folder), f"{folder}/", "--output", str(tmp_path / "report")]) == 0
    assert len(re.findall(r"^toy ", capsys.readouterr().out.split("Does the spread")[0], re.MULTILINE)) == 1


def test_broken_runs_and_places_end_with_one_clear_line(tmp_path, capsys):
    good, bad = write_run(tmp_path / "good", num_samples=1), write_run(tmp_path / "bad")
    (bad / "test.json").write_text("{")
    assert main([str(good), str(bad), "--output", str(tmp_path / "report")]) == 2
    assert re.fullmatch(r"error: \S*bad/test.json: not readable as JSON .*\n", capsys.readouterr().err)
    assert not (tmp_path / "report").exists()
    (tmp_path / "file").write_text("")
    assert main([str(good), "--output", str(tmp_path / "file")]) == 2
    assert re.fullmatch(r"error: \S*file/\S+ cannot be used .*\n", capsys.readouterr().err)


def test_help_teaches_and_loads_nothing_heavy():
    code = (
        f"import runpy, sys\nsys.argv = ['compare.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: print(sorted({'torch', 'matplotlib', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("[]\n") and "examples:" in done.stdout and "oracle" in done.stdout


def test_runs_of_one_name_are_told_apart(tmp_path, capsys):
    folders = [str(write_run(tmp_path / name)) for name in ("a/toy", "b/toy", "b/other")]
    assert main([*folders, "--output", str(tmp_path / "report")]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "DiffPose (release)" in line]
    assert {"a/toy", "b/toy", "other"} <= set(rows) and "toy" not in rows


def test_what_is_no_run_is_skipped_beside_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "refused").mkdir()
    (tmp_path / "runs" / "notes.txt").touch()
    assert main(["runs/a", "runs/notes.txt", "runs/refused"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "skipped, not the folder of a run: runs/notes.txt, runs/refused\n"
    assert "refused" not in printed.out
    assert main(["runs/refused"]) == 2
    assert "runs/refused: not the folder of a run (it holds none of config.yaml" in capsys.readouterr().err
    assert main(["runs/a", "runs/b"]) == 2
    assert "runs/b: no such run" in capsys.readouterr().err


def hostile(tmp_path, **changes):
    """A run whose names are markup."""
    name = "r<b onclick=alert(1)>'\" &amp;"
    method = "<img src=x onerror=alert(2)>\"'`|</script><script>alert(3)</script></style>]]>"
    config = "  init_args: {label: '<i>x</i>'}\n"
    people = {"toy": {f"<u>{i}</u>": 50.0 + i for i in range(7)}}
    joints = {"toy": {"<s>knee</s>": 50.0, "left_hip": 40.0}}
    about = {"per_person": people, "per_joint": joints, "device": "<em>cpu</em>", "commit": "<tt>", **changes}
    return write_run(tmp_path / name, method=method, config=config, **about)


def test_names_that_are_markup_stay_text(tmp_path):
    runs = [load_run(hostile(tmp_path)), load_run(write_run(tmp_path / "b", config="  init_args: {label: y}\n"))]
    page = write_report(runs, tmp_path / "report", title="<script>alert(4)</script>", note="</p><iframe>")
    parsed = Page(page.read_text())
    assert not {"img", "b", "i", "u", "s", "em", "tt", "iframe"} & set(parsed.tags) and parsed.tags.count("script") == 1
    assert not parsed.handlers and "<script>alert(4)</script>" in parsed.text and "<i>x</i>" in parsed.text
    for figure in (page.parent / "figures").iterdir():
        tags = {element.tag.split("}")[1] for element in ElementTree.fromstring(figure.read_text()).iter()}
        assert tags <= {"svg", "g", "title", "text", *DRAWN}
    policy = re.search(r"Content-Security-Policy\" content=\"(.*?)\"", page.read_text())
    assert policy and "default-src 'none'" in policy[1] and "script-src 'sha256-" in policy[1]


def test_seeds_are_one_row_with_their_range(tmp_path, capsys):
    for seed, error in enumerate((60.0, 64.0, 61.0)):
        write_run(tmp_path / f"mine_seed{seed}", mpjpe=error, seed=seed)
    write_run(tmp_path / "other", method="context encoder", mpjpe=70.0)
    assert main([*map(str, sorted(tmp_path.iterdir())), "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^mine +DiffPose \(release\).* 61\.0 \(60\.0-64\.0\)", printed, re.MULTILINE)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "61.0 (60.0-64.0)" in page and all(f"../mine_seed{seed}/" in page for seed in range(3))


def test_the_page_is_made_fast_and_small(tmp_path):
    runs = []
    for i in range(30):
        folder = write_run(tmp_path / f"run{i // 3}_seed{i % 3}", method=f"method {i // 3}", mpjpe=50.0 + i, seed=i % 3)
        steps = "".join(f"{e},{50 * e},{1000 / (e + 1)},{50 + 900 / (e + 1)}\n" for e in range(500))
        (folder / "metrics.csv").write_text(f"epoch,step,train/loss,val/toy/mpjpe\n{steps}")
        runs.append(load_run(folder))
    started = time.process_time()
    page = write_report(runs, tmp_path / "report")
    assert time.process_time() - started < 5.0 and page.stat().st_size < 1_500_000


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_rows_are_sorted_and_filtered_in_a_browser(tmp_path):
    for name, count in (("a", 999), ("b", 1_500_000), ("c", 20_000)):
        write_run(tmp_path / name, method=f"method {name}", parameters=count)
    page = write_report([load_run(tmp_path / name) for name in "abc"], tmp_path / "report")
    probe = """<script>
      const [table] = document.querySelectorAll("table");
      const rows = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
      const shown = () => rows().map((row) => row.querySelector("small").textContent);
      const heading = [...table.tHead.rows[0].cells].find((cell) => cell.textContent === "params").firstChild;
      const found = [];
      heading.click(); found.push(shown()); heading.click(); found.push(shown());
      const box = document.querySelector(".filter");
      box.value = "method B"; box.dispatchEvent(new Event("input")); found.push(shown());
      document.body.innerHTML = "<pre>" + found.map((one) => one.join("")).join(" ") + "</pre>";
    </script>"""
    text = re.sub("<meta http-equiv.*?>", "", page.read_text())
    page.write_text(text.replace("</body>", f"{probe}</body>"))
    command = [shutil.which("chromium"), "--headless", "--no-sandbox", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "<pre>acb bca b</pre>" in done.stdout
