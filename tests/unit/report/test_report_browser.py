"""The page in a browser: Chromium without a window, if there is one (make browser)."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from synthetic_files import write_model, write_target, write_trajectories
from synthetic_run import SyntheticRun

from ddmd_mpi.report import structure
from ddmd_mpi.report.compare import write_comparison
from ddmd_mpi.report.write import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--enable-logging=stderr",
    "--v=0",
    "--no-first-run",
    "--hide-scrollbars",
    "--virtual-time-budget=8000",
]
#: Says what the browser made of the page; colours are counted in a copy of the canvas.
PROBE = """
<script>
function report(colours) {
  document.body.dataset.probe = JSON.stringify({
    images: [...document.images].map(i => [i.alt, i.naturalWidth]),
    colours: colours,
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    loaded: performance.getEntriesByType("resource").filter(e => !/^(data|blob):/.test(e.name)).map(e => e.name),
  });
}
function count(image) {
  const copy = document.createElement("canvas");
  copy.width = image.naturalWidth; copy.height = image.naturalHeight;
  const context = copy.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, copy.width, copy.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
}
window.addEventListener("load", () => setTimeout(() => {
  const place = document.getElementById("viewer");
  if (!place || !place.view) return report(0);
  const image = new Image();
  image.onload = () => report(count(image));
  image.src = place.view.pngURI();
}, 500));
</script>
"""


def look(page, tmp_path, width=1000, probe=PROBE):
    """What the browser shows of a page, and what it says on its console."""
    probed = tmp_path / "probed.html"
    probed.write_text(page.replace("</body>", f"{probe}</body>"))
    done = subprocess.run(
        [BROWSER, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom",
         probed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&quot;", '"')), re.findall(r".*CONSOLE.*", done.stderr)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a run with everything that can be drawn of it."""
    run = SyntheticRun(n_rounds=12).write(tmp_path_factory.mktemp("looked_at"))
    write_trajectories(run, np.random.default_rng(0))
    write_model(run / "models", np.random.default_rng(0))
    write_target(run, np.random.default_rng(1))
    paths = write_report(run)
    return (run / "report.html").read_text(), [path for path in paths if path.suffix == ".png"]


browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: make browser")
library = pytest.mark.skipif(not structure.LIBRARY.is_file(), reason="3Dmol.js is not installed: make viewer")


@browser
@library
def test_every_figure_is_drawn_and_the_structure_can_be_turned(page, tmp_path):
    html, plots = page
    found, said = look(html, tmp_path)
    assert said == []
    assert found["loaded"] == [], "the page needs no network"
    assert len(found["images"]) == len(plots)
    assert all(width > 100 for _, width in found["images"])
    assert found["colours"] > 20, "the canvas is not blank"


@browser
def test_nothing_is_wider_than_a_phone(page, tmp_path):
    found, said = look(page[0], tmp_path, width=500)
    assert said == []
    assert found["overflow"] <= 0


@browser
def test_an_error_on_the_console_is_noticed(page, tmp_path):
    wrong = PROBE + '<script>console.error("wrong")</script><img src="data:image/png;base64,AAAA">'
    found, said = look(page[0], tmp_path, probe=wrong)
    assert any("wrong" in line for line in said)
    assert 0 in [width for _, width in found["images"]]


@browser
def test_a_page_without_the_library_shows_the_picture(tmp_path, monkeypatch, page):
    run = SyntheticRun(n_rounds=8).write(tmp_path / "run")
    write_trajectories(run, np.random.default_rng(0))
    write_target(run, np.random.default_rng(1))
    monkeypatch.setattr(structure, "LIBRARY", tmp_path / "nothing.js")
    write_report(run)
    html = (run / "report.html").read_text()
    assert "3Dmol.js is not installed" in html
    found, said = look(html, tmp_path)
    assert said == []
    assert found["colours"] == 0
    assert ["Best structure on the target", 1350] in found["images"]


@browser
def test_a_comparison_is_drawn(tmp_path):
    runs = [SyntheticRun(n_rounds=4, seed=seed).write(tmp_path / str(seed)) for seed in range(3)]
    for run in runs:
        write_trajectories(run, np.random.default_rng(0))
    html = write_comparison(runs, tmp_path / "compared")[0].read_text()
    found, said = look(html, tmp_path)
    assert said == []
    assert [name for name, width in found["images"] if width > 100] == ["Best RMSD", "Coverage of states"]
    assert found["overflow"] <= 0
