"""The page in a real browser: it renders, complains of nothing, and answers pointer and keys."""

import pytest
import torch

from browser import Browser
from inspect_cases import a_text, series
from tidegate.inspect import report
from tidegate.nn import GRU

PHONE, DESK = 390, 1280


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    made = {"series": report(series()), "text": report(a_text())}
    return {name: page.save(folder / f"{name}.html") for name, page in made.items()}


def place(browser, element, across=0.5, down=0.5):
    """Where a part of an element is in the window."""
    browser.run(f"document.getElementById('{element}').scrollIntoView({{block: 'center'}})")
    script = f"(() => {{ const r = document.getElementById('{element}').getBoundingClientRect();"
    left, top, width, height = browser.run(
        script + " return [r.left, r.top, r.width, r.height] })()"
    )
    return left + across * width, top + down * height


def readout(browser) -> str:
    return browser.run("document.getElementById('readout').innerText")


@pytest.mark.parametrize("name", ["series", "text"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_page_renders_without_errors_or_requests(browser, pages, name, scheme, width):
    browser.open(pages[name], width, scheme=scheme)
    assert browser.run("document.querySelectorAll('h2').length") >= 9
    # Nothing sticks out at the side.
    assert browser.run("document.documentElement.scrollWidth") <= width
    colours = browser.run(
        "(() => { const c = document.getElementById('heat'), p = c.getContext('2d');"
        "const d = p.getImageData(0, 0, c.width, c.height).data, seen = new Set();"
        "for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);"
        "return seen.size })()"
    )
    assert colours > 20
    assert len(browser.screenshot(whole=False)) > 10_000
    assert browser.errors == []
    assert browser.requests == []


def test_hovering_a_step_says_what_was_kept_forgotten_and_taken(browser, pages):
    browser.open(pages["series"], DESK)
    assert "Point at a step" in readout(browser)
    browser.move(*place(browser, "heat", 2.5 / 24, 3.5 / 6))
    said = readout(browser)
    assert said.startswith("2024-02")
    assert "step 3 of 24" in said
    assert all(word in said for word in ("had", "kept", "forgot", "took", "has"))
    assert browser.run("window.gateReport.at") == {
        "step": 2, "unit": 3, "row": 0, "layer": 0, "shown": "kept",
    }  # fmt: skip
    assert browser.errors == []


def test_the_numbers_that_are_shown_are_those_of_the_gates(browser, tmp_path):
    made = report(series())
    browser.open(made.save(tmp_path / "page.html"), DESK)
    browser.run("window.gateReport.choose(10, 0, false)")
    layer = made.gates[0]
    unit = int(made.memory[0].leak_time.argmax())
    row = browser.run("document.querySelector('#readout tbody tr').innerText").split("\t")
    shown = [float(cell.replace("−", "-")) for cell in row[1:]]
    z, n, h = (a[10, 0, unit] for a in (layer.update, layer.new, layer.before))
    assert int(row[0]) == unit
    assert shown == pytest.approx(
        [h, z * h, (1 - z) * h, (1 - z) * n, z * h + (1 - z) * n], abs=0.02
    )


def test_keys_go_from_step_to_step_and_are_read_out(browser, pages):
    browser.open(pages["series"], DESK)
    for _ in range(12):
        browser.press("Tab")
        if browser.run("document.activeElement.id") == "field":
            break
    assert browser.run("document.activeElement.id") == "field"
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        browser.press(key)
    at = browser.run("window.gateReport.at")
    assert (at["step"], at["unit"]) == (2, 0)
    said = browser.run("document.getElementById('said').textContent")
    assert said.startswith("2024-02, step 3 of 24. Unit")
    browser.press("End")
    assert browser.run("window.gateReport.at.step") == 23
    browser.press("Escape")
    assert browser.run("window.gateReport.at.unit") == -1


def test_another_row_and_another_quantity_are_shown(browser, pages):
    browser.open(pages["series"], DESK)
    before = browser.run("document.getElementById('heat').toDataURL()")
    browser.run(
        "(() => { const r = document.getElementById('row'); r.value = '2';"
        "r.dispatchEvent(new Event('change')) })()"
    )
    other = browser.run("document.getElementById('heat').toDataURL()")
    assert other != before
    browser.run("document.querySelector('input[value=state]').click()")
    assert browser.run("window.gateReport.at.shown") == "state"
    assert browser.run("document.getElementById('heat').toDataURL()") != other
    assert browser.errors == []


def test_persian_runs_from_right_to_left(browser, pages):
    browser.open(pages["text"], DESK)
    first, last = browser.run(
        "(() => { const w = [...document.getElementById('words').children];"
        "return [w[0], w.at(-1)].map((word) => word.getBoundingClientRect().left) })()"
    )
    assert first > last
    browser.move(*place(browser, "heat", 0.99, 0.5))
    assert readout(browser).startswith("دانش")
    browser.run("document.getElementById('field').focus()")
    browser.press("ArrowLeft")
    assert browser.run("window.gateReport.at.step") == 1
    lit = browser.run("document.querySelector('#words .on').textContent")
    assert lit == "آموزان"


def test_a_word_can_be_pointed_at(browser, pages):
    browser.open(pages["text"], 320)
    # A sentence that is wider than the phone begins where it is read from.
    assert browser.run("document.querySelector('.scroll').scrollLeft") > 0
    browser.run("document.getElementById('words').children[4].click()")
    assert "token 5 of" in readout(browser)
    assert browser.errors == []


def test_pointing_at_a_token_shows_what_the_model_expects_after_it(browser, pages):
    item = a_text()
    browser.open(pages["text"], DESK)
    browser.run("document.getElementById('words').children[4].click()")
    said = readout(browser)
    assert "What the model expects next:" in said
    wanted = item.outcomes[0][4]
    shown = browser.run("[...document.querySelectorAll('#readout .choice')].map(c => c.innerText)")
    assert len(shown) == 3
    for line, name, chance in zip(shown, wanted.names, wanted.chances, strict=True):
        assert name in line
        assert f"{round(100 * chance)}%" in line
    came = wanted.truth
    other = browser.run("document.querySelector('#readout').innerText.includes('is not among')")
    assert other == (came not in wanted.names)
    browser.run("document.getElementById('field').focus()")
    browser.press("ArrowLeft")
    spoken = browser.run("document.getElementById('said').textContent")
    assert f"Likeliest next: {item.outcomes[0][5].names[0]}" in spoken
    browser.open(pages["series"], DESK)
    browser.run("window.gateReport.choose(3, -1, true)")
    assert "expects next" not in readout(browser)
    assert browser.errors == []


def test_a_page_at_rest_shows_the_step_at_which_least_was_kept(browser, tmp_path):
    made = report(series())
    browser.open(made.save(tmp_path / "page.html"), DESK)
    kept = made.gates[0].update[1:, 0].mean(-1)
    at = browser.run("window.gateReport.at.step")
    assert kept[at - 1] == pytest.approx(kept.min(), abs=0.005)
    said = readout(browser)
    assert "Point at a step" in said
    assert made.gates.labels[0][at] in said
    browser.run("window.gateReport.choose(0, -1, false)")
    assert "Point at a step" not in readout(browser)
    assert browser.errors == []


def test_a_column_of_several_steps_says_which(browser, tmp_path):
    made = report(GRU(1, 3), torch.zeros(501, 1, 1), lags=2)
    browser.open(made.save(tmp_path / "page.html"), DESK)
    browser.run("window.gateReport.choose(166, -1, false)")
    assert "steps 499 to 501 of 501" in readout(browser)
    assert browser.errors == []
