"""What the README and CONTRIBUTING say is so: blocks run, targets and linked files exist."""

import re
import shlex
from pathlib import Path

import pytest

from tidegate.cli import main
from tidegate.data import load
from tidegate.forecast import GRUForecaster

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "README.fa.md", "CONTRIBUTING.md"]
README = (ROOT / "README.md").read_text("utf-8")
PERSIAN = (ROOT / "README.fa.md").read_text("utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    """The README's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """With the reader's file in it; and training is short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(GRUForecaster.__init__.__kwdefaults__, "steps", 5)
    sales = load("us_employment")
    sales[sales.unique_id.isin(sales.unique_id.unique()[:3])].to_csv("sales.csv", index=False)
    Path("poems.txt").write_text("the tide comes in\nthe tide goes out\n" * 40, "utf-8")


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.split()[1])
def test_the_python_blocks_run(block):
    exec(block, {})


@pytest.mark.parametrize("block", blocks("python", PERSIAN), ids=lambda block: block.split()[1])
def test_the_python_blocks_in_persian_run(block):
    exec(block, {})


def test_the_commands_run_one_after_the_other(capfd):
    for command in "".join(blocks("bash")).splitlines():
        assert main(shlex.split(command)[1:]) == 0, command
    written = {path.name for path in Path("tidegate-forecast").iterdir()}
    assert written == {"forecast.csv", "forecast.png", "model.safetensors"}
    assert Path("report.html").stat().st_size < 2e6
    assert "the " in capfd.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_the_targets_of_make_exist(page):
    named = set(re.findall(r"^(?:`?)make (\w+)", (ROOT / page).read_text("utf-8"), re.MULTILINE))
    rules = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert named
    assert named <= rules


@pytest.mark.parametrize("page", PAGES)
def test_the_linked_files_exist(page):
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text("utf-8"))
    assert all((ROOT / link).exists() for link in links if "://" not in link)
