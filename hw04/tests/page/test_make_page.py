"""make_page.py as a person runs it: what it writes, what it says, what it refuses."""

import base64
import contextlib
import io
import json
import re
import zlib
from pathlib import Path

import lstlm
import make_page
import pytest
import torch
from backstage.shell import guarded
from pages import payload, small_loaded
from small import KINDS, SAMPLE


def run(*flags) -> tuple[int, str, str]:
    """Its status, and what it printed and complained of."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = guarded("make_page.py", lambda: make_page.main([str(flag) for flag in flags]))
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory) -> tuple[Path, str]:
    """The page of a small model, and what was printed."""
    folder = tmp_path_factory.mktemp("page")
    corpus = ["-corpus", trained / "valid.tokens"]
    model = ["-model", trained / "m.pt", "-weights", folder / "page.pt"]
    status, out, err = run(*model, *corpus, "-o", folder / "new" / "page.html")
    assert status == 0, err
    return folder / "new" / "page.html", out


def held(text: str) -> tuple[dict, bytes]:
    """The JSON and the numbers that a page holds."""
    data = base64.b64decode(re.search(r'id="model">([^<]*)</script>', text)[1])
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    size = int.from_bytes(data[:4], "little")
    return json.loads(data[4 : 4 + size]), data[4 + size : -4]


def test_what_it_prints(page, trained):
    """The losses are those of -evaluate with the model as it is, and with that of the page."""
    path, printed = page
    first, second, third = printed.splitlines()
    losses = re.search(r"([\d.]+) nats per token, ([\d.]+) with 8 bits: ([+-][\d.]+)$", first)
    for number, model in enumerate((trained / "m.pt", path.parents[1] / "page.pt"), 1):
        loaded = lstlm.load(model).loaded
        stories = lstlm.tokenize_corpus(trained / "valid.tokens", loaded.token2idx)
        loss = lstlm.compute_loss(loaded.model, stories, 8)
        assert float(losses[number]) == pytest.approx(loss, abs=1e-4)
    assert abs(float(losses[3])) < 0.01
    assert second.endswith("page.pt: the page's model")
    assert re.search(r"page\.html: [\d.]+ MB; open it in a browser$", third)


def test_the_page_holds_the_model(page, trained):
    text = page[0].read_text("utf-8")
    head, numbers = held(text)
    model = lstlm.load(page[0].parents[1] / "page.pt").loaded
    assert head["words"] == model.words
    about = head["tensors"]["w_hh0"]
    shape = about["rows"], -(-about["columns"] // 16) * 16
    size = shape[0] * shape[1]
    whole = torch.frombuffer(bytearray(numbers), dtype=torch.int8, count=size, offset=about["at"])
    scales = torch.frombuffer(
        bytearray(numbers), dtype=torch.float32, count=shape[0], offset=about["scales"]
    )
    weight = whole.view(shape)[:, : about["columns"]] * scales[:, None]
    assert torch.equal(weight, model.model.lstm.weight_hh_l0)
    assert (weight - lstlm.load(trained / "m.pt").model.lstm.weight_hh_l0).abs().max() < 0.02


def test_the_same_model_gives_the_same_page(page, trained, tmp_path):
    flags = ["-model", trained / "m.pt", "-corpus", trained / "valid.tokens"]
    assert run(*flags, "-o", tmp_path / "again.html")[0] == 0
    assert (tmp_path / "again.html").read_bytes() == page[0].read_bytes()


def test_nothing_in_the_page_points_elsewhere(page):
    """No address but those of XML, no source, and a policy that allows no network."""
    text = page[0].read_text("utf-8")
    assert {*re.findall(r"\w+://[^\s'\"<)]*", text)} == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"""\s(?:src|srcset|action)=|url\(|@import""", text)
    assert {*re.findall(r"""href=["'](.)""", text)} == {"#", "d"}  # "d": of data:, the icon
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules and "font-src" not in rules
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:"} & {*policy.split()}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_model_is_rounded_whole(kind):
    """All that is trained is in the page, each matrix within half a step of its rows."""
    loaded = small_loaded(kind)
    model = make_page.rounded(loaded.model)
    head, _ = held(f'id="model">{base64.b64encode(payload(loaded)).decode()}</script>')
    numbers = sum(
        about["size"] if "size" in about else about["rows"] * about["columns"]
        for about in head["tensors"].values()
    )
    known = dict(loaded.model.named_parameters())
    bias = len(loaded.words) if loaded.model.tied else 0  # no parameter there
    assert numbers == sum(x.numel() for x in known.values()) + bias
    for name, weight in model.named_parameters():
        before = known[name]
        step = before.abs().amax(-1, keepdim=True) / 127 if before.dim() == 2 else torch.zeros(1)
        assert ((weight - before).abs() <= step / 2 + 1e-6).all(), name
    assert model is not loaded.model


def test_the_code_that_it_shows_is_that_of_the_program(page):
    import html

    text = html.unescape(page[0].read_text("utf-8"))
    for file, name in make_page.SHOWN:
        line, source = make_page.source_of(file, name)
        assert source in text
        first = (make_page.CODE / file).read_text("utf-8").splitlines()[line - 1]
        assert first.strip() == source.splitlines()[0]
    links = {*re.findall(r'href="#(code-\w+)"', text)}
    assert links == {*re.findall(r'<details id="(code-\w+)"', text)}


@pytest.mark.parametrize(("flags", "said"), [
    (["-model", "none.pt"], "none.pt: no such model"),
    (["-model", SAMPLE / "test.tokens"], "lstlm file"),
    (["-o", "m.pt", "-model", "m.pt"], "two flags name one file"),
    (["-o", "a.html", "-weights", "a.html"], "two flags name one file"),
    (["-o", "."], "a folder; name a file"),
    (["-corpus", "none.tokens", "-o", "a.html"], "none.tokens: cannot be read"),
    (["-mdel", "m.pt"], "-h lists the flags"),
])
def test_a_mistake_is_one_line(flags, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*flags)
    assert (status, err.count("\n")) == (2, 1)
    assert said in err
    assert [*tmp_path.iterdir()] == []


def test_what_it_cannot_make_a_page_of(tmp_path, tiny_flags):
    with contextlib.redirect_stdout(io.StringIO()):
        assert lstlm.main(tiny_flags("-E", 1, "-bidirectional")) == 0
    status, _, err = run("-model", tmp_path / "m.pt", "-o", tmp_path / "page.html")
    assert (status, err.count("\n")) == (2, 1)
    assert "a -bidirectional model has to see what comes next" in err
    assert not (tmp_path / "page.html").exists()


def test_a_large_page_is_noted(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(make_page, "LARGEST", 1000)
    out = run("-model", trained / "m.pt", "-o", tmp_path / "page.html")[1]
    assert "note: 1 MB are much to send around" in out


# ---- Colours ------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """The relative luminance of #rrggbb or #rgb (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


PAIRS = [
    ("ink", "panel"), ("ink", "paper"), ("soft", "panel"), ("soft", "paper"), ("accent", "panel"),
    ("accent", "paper"), ("on-accent", "accent"), ("keep-line", "panel"),
    ("ink", "heat-colour"), ("ink", "plus-colour"), ("ink", "minus-colour"),
]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_text_can_be_read_on_each_colour(theme, pair):
    style = (make_page.PAGE / "page.css").read_text("utf-8")
    colours = {}
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)[: theme + 1]:
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block))
    light, dark = sorted((luminance(colours[name]) for name in pair), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
