"""The page as a person uses it, in a browser; the page's model beside the program."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import lstlm
import make_page
import pytest
from browser import Browser
from pages import (
    next_words,
    open_page,
    small_loaded,
    text_of,
    type_text,
    wait_for,
    write_page,
    write_story,
)
from small import SAMPLE, SMALL

TEXT = "Once upon a time, Lily's zyxzy cat said hi! She was happy."


def make(folder: Path, model: Path | None, *flags) -> tuple[Path, Path, str]:
    """Run make_page.py: its page, the model that this has, and what was printed."""
    page, weights = folder / "page.html", folder / "page.pt"
    flags = [*flags, "-o", page, "-weights", weights, *(["-model", model] if model else [])]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        make_page.main([str(flag) for flag in flags])
    return page, weights, printed.getvalue()


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory) -> tuple[Path, lstlm.LanguageModel]:
    """The page of a small trained model, and the model that it has."""
    page, weights, _ = make(tmp_path_factory.mktemp("page"), trained / "m.pt")
    return page, lstlm.load(weights)


@pytest.fixture
def page(browser, made) -> Browser:
    """The browser with that page."""
    open_page(browser, made[0])
    return browser


def check_next_words(browser: Browser, model: lstlm.LanguageModel, texts: list[str]) -> float:
    """The ten words and probabilities of the page are the program's; the largest difference."""
    worst = 0.0
    for text in texts:
        type_text(browser, "next-text", text)
        expected = model.next_words(text)
        wait_for(browser, "next-bars", text)
        found = next_words(browser)
        shown = [(re.sub("^∎ the end$", "<eos>", word), p) for word, p in found]
        assert [p for _, p in shown] == pytest.approx([p for _, p in expected], abs=1e-3)
        for (word, p), (other, q) in zip(shown, expected, strict=True):
            assert word.replace("▁", "Ġ") == other or p == pytest.approx(q, abs=1e-6)
            worst = max(worst, abs(p - q))
    return worst


def check_surprise(browser: Browser, model: Path, text: str, folder: Path) -> float:
    """The sums of a text are those of -evaluate; returns the difference in nats."""
    type_text(browser, "surprise-text", text)
    words = lstlm.tokenize_text(text, lstlm.load(model).loaded.config.cased)
    corpus = folder / "corpus"
    corpus.write_text(" ".join(words) + "\n", "utf-8")
    flags = ["-evaluate", "-json", "-precision", "fp32", "-model", model, "-test_corpus", corpus]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert lstlm.main([str(flag) for flag in flags]) == 0
    row = json.loads(printed.getvalue().splitlines()[0])
    n_unknown = round(row["unk_share"] * row["n_tokens"])
    count = f"{row['n_tokens']:,}, {n_unknown:,}"
    wait_for(browser, "surprise-sums", text)
    assert text_of(browser, "sum-tokens") == count
    nats = float(text_of(browser, "sum-nats"))
    assert nats == pytest.approx(row["nats"], abs=1e-3)
    assert float(text_of(browser, "sum-bpc")) == pytest.approx(row["bpc"], abs=1e-3)
    perplexity = float(text_of(browser, "sum-perplexity").replace(",", ""))
    assert perplexity == pytest.approx(row["ppl"], rel=1e-3, abs=0.006)
    return abs(nats - row["nats"])


def check_greedy(browser: Browser, model: lstlm.LanguageModel, text: str, count: int) -> str:
    """The greedy story of the page is the program's; returns what the page says of it.

    The page ends a loop, where the program goes on to `count` tokens.
    """
    found = write_story(browser, text, temperature=0, maximum=count)
    begun = model.readable(model.tokens(text))
    expected = begun + model.generate(text, max_tokens=count, greedy=True)
    said = text_of(browser, "story-status")
    assert expected.startswith(found) if "a loop" in said else expected == found
    return said


# ---- In short -----------------------------------------------------------------------------------


def test_the_page_says_what_the_program_says(page, made, tmp_path):
    """From its own file, without a request to any network and without a complaint."""
    path, model = made
    check_next_words(page, model, ["Once upon a time", "the cat", "", "zyxzy , the"])
    assert check_greedy(page, model, "once upon a time", 40)
    check_surprise(page, path.with_name("page.pt"), TEXT, tmp_path)
    assert [url.partition(":")[0] for url in page.requests] == ["file", "blob"]
    assert page.errors == []


def test_a_word_is_chosen_and_taken_back(page, made):
    type_text(page, "next-text", "once upon")
    page.wait("document.querySelectorAll('#next-tokens .token').length === 2")
    word = next_words(page)[1][0]
    page.run("document.querySelectorAll('#next-bars button')[1].click()")
    page.wait("document.querySelectorAll('#next-tokens .token').length === 3")
    assert page.run("document.querySelectorAll('#next-tokens .token')[2].textContent") == word
    page.run("document.getElementById('next-undo').click()")
    assert page.run("document.getElementById('next-text').value") == "once upon"


def test_unknown_words_are_marked_with_the_nearest_one(page, made):
    type_text(page, "next-text", "the litle zyxzy")
    page.wait("document.querySelectorAll('#next-tokens .unknown').length === 2")
    shown = page.run("[...document.querySelectorAll('#next-tokens li')].map((e) => e.textContent)")
    assert shown == ["the", "litle is unknown, like little", "zyxzy is unknown"]


def test_a_seed_gives_a_story_again(page, made):
    story = write_story(page, "the", seed=3)
    assert write_story(page, "the", seed=4) != story
    assert write_story(page, "the", seed=3) == story
    assert write_story(page, "the", topK=1, seed=9) == write_story(page, "the", temperature=0)


def test_what_was_drawn_stands_beside_what_was_likely(page, made):
    write_story(page, "once upon a", seed=1, temperature=2)
    page.run("document.getElementById('story-words').focus()")
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.press(key)
    card = "document.getElementById('story-card')"
    drawn = page.run("document.querySelectorAll('#story-words .word')[3].textContent")
    assert page.run(f"{card}.querySelector('h3').textContent") == drawn
    assert page.run(f"{card}.querySelector('.marked .bar-label').textContent") == drawn.lower()
    shares = page.run(f"[...{card}.querySelectorAll('.row:not(.vacant)')].map((r) => +r.dataset.p)")
    assert len(shares) in (5, 6)
    assert shares[:5] == sorted(shares[:5], reverse=True)


def test_inside_follows_the_word_that_is_pointed_at(page, made):
    names = "[...document.querySelectorAll('#inside-layers canvas')].map((c) => c.ariaLabel)"
    page.run("document.querySelectorAll('#inside-words .word')[4].click()")
    before = page.run(names)
    word = page.run("document.querySelectorAll('#inside-words .word')[4].textContent")
    assert [re.sub(" after .*", "", name) for name in before] == [
        "input gate", "forget gate", "output gate", "what it holds"
    ]
    assert all(f"after {word}: mean" in name for name in before)
    page.run("document.querySelectorAll('#inside-words .word')[9].click()")
    assert page.run(names) != before
    page.run("document.querySelector('[name=inside-mode][value=left]').click()")
    assert "still keep half" in text_of(page, "inside-status")
    type_text(page, "cell-number", "5")
    assert re.fullmatch(r"Cell \d+ of layer 1", text_of(page, "cell-title"))
    assert re.search(r"after [\d.]+ tokens of this text", text_of(page, "cell-said"))


NASTY = [
    "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "{{script}}",
    "\u202eevil", "<!--", "]]>", "&amp;", "a\0b", "' onmouseover='", "\\u003c", "__proto__",
    "constructor",
]


def test_a_strangers_words_are_text(browser, tmp_path):
    words = ["<unk>", "<bos>", "<eos>", *NASTY, *(f"w{i}" for i in range(25))]
    loaded = small_loaded("plain", words, len(words))
    loaded.model.output.bias.data[3 : 3 + len(NASTY)] += 9  # so that they come up
    loaded.facts["train_corpus"] = "<b>corpus</b>"
    open_page(browser, write_page(loaded, tmp_path / "page.html"))
    count = browser.run("document.querySelectorAll('*').length")
    shown = {word for word, _ in next_words(browser)}
    assert len(shown & {*NASTY}) >= 9
    type_text(browser, "next-text", "w1 w2")
    write_story(browser, "w1", maximum=20)
    assert browser.run("document.querySelectorAll('img, script').length") == 1
    assert "<b>corpus</b>" in text_of(browser, "card")
    assert browser.run("document.querySelectorAll('*').length") < count + 200
    assert browser.errors == []


def damaged(page: Path, how: str) -> bytes:
    """The bytes of a page with a part of it lost or changed."""
    data = page.read_bytes()
    begins = {"script": data.index(b"<script>"), "style": data.index(b"<style>")}
    begins["model"] = data.index(b'id="model">')
    at = {
        "script": begins["script"] + 5000, "style": begins["style"] + 2000,
        "model": begins["model"] + 3000, "end": len(data) - 200, "tag": begins["model"] + 5,
    }
    kind, _, where = how.partition(" ")
    if kind == "cut":
        return data[: at[where]]
    return data[: at[where]] + (b"x" if data[at[where]] != ord("x") else b"y") + data[
        at[where] + 1 :
    ]


LATER = pytest.mark.thorough  # without its script the page says it by itself, after two seconds
SCRIPTLESS = [pytest.param(how, marks=LATER) for how in ("change script", "cut script")]


@pytest.mark.parametrize("how", [
    "change model", "change end", "change style", "change tag", "cut model", "cut end", *SCRIPTLESS
])
def test_a_damaged_file_says_so(browser, made, tmp_path, how):
    path = tmp_path / "page.html"
    path.write_bytes(damaged(made[0], how))
    browser.open(path.as_uri())
    script = """(() => {
        const trouble = document.getElementById("trouble");
        const at = trouble && getComputedStyle(trouble);
        return at && at.visibility === "visible" && trouble.textContent;
    })()"""
    said = browser.wait(script, 10)
    assert "damaged" in said
    assert "Get it again" in said


# ---- Longer -------------------------------------------------------------------------------------

CELLS = [
    ["-cell", "gru"], ["-cell", "rnn"], ["-a"], ["-a", "bilinear", "-cell", "gru"],
    ["-a", "additive"], ["-tie", "-H", 2, "-EDim", 24], ["-tie", "-a", "-EDim", 24],
    ["-positions", "-H", 3], ["-cased"],
]


@pytest.mark.thorough
@pytest.mark.parametrize("flags", CELLS, ids=lambda flags: " ".join(map(str, flags)))
def test_the_page_of_each_kind_of_model(browser, trained, tmp_path, flags):
    corpora = ["-train_corpus", trained / "train.tokens", "-valid_corpus", trained / "valid.tokens"]
    model = tmp_path / "m.pt"
    known = [*SMALL, *corpora, "-model", model, "-E", 1, *flags]
    with contextlib.redirect_stdout(io.StringIO()):
        assert lstlm.main(["-train", *map(str, known)]) == 0
    check_page(browser, model, tmp_path)


@pytest.mark.thorough
def test_the_page_of_a_model_of_word_pieces(browser, bpe_trained, tmp_path):
    check_page(browser, bpe_trained, tmp_path)


def check_page(browser: Browser, model: Path, folder: Path) -> None:
    """All that the page computes is what the program computes, and nothing is complained of."""
    page, weights, _ = make(folder, model)
    rounded = lstlm.load(weights)
    open_page(browser, page)
    check_next_words(browser, rounded, ["Once upon a time", "", "the zyxzy cat", "Lily's dog"])
    check_greedy(browser, rounded, "Once upon a time", 60)
    check_surprise(browser, weights, TEXT, folder)
    config = rounded.loaded.config
    strips = browser.run("document.querySelectorAll('#inside-layers canvas').length")
    assert strips == config.H * {"lstm": 4, "gru": 4, "rnn": 1}[config.cell]
    if config.a:
        browser.run("document.querySelectorAll('#inside-words .word')[5].click()")
        browser.run("document.querySelector('[name=inside-mode][value=attention]').click()")
        assert re.search(r"it looks at .* with [\d.]+%", text_of(browser, "inside-status"))
    assert browser.errors == []


def check_nothing_moves(browser: Browser, page: Path, width: int) -> None:
    """Neither while the page loads nor while a story appears."""
    browser.window(width, 900)
    open_page(browser, page)
    browser.run("""void (globalThis.shifts = [], new PerformanceObserver((list) => {
        for (const { value, sources } of list.getEntries()) {
            shifts.push([value, ...sources.map(({ node }) => node?.id || node?.className)]);
        }
    }).observe({ type: "layout-shift", buffered: true }))""")
    browser.run("document.getElementById('story').scrollIntoView()")
    lengths = []
    for seed in range(6):
        write_story(browser, "once upon a time", temperature=1, seed=seed, maximum=400)
        lengths.append(browser.run("document.querySelectorAll('#story-words .word').length"))
    browser.run("new Promise((resolve) => setTimeout(resolve, 300))")
    assert browser.run("shifts") == []
    assert max(lengths) > 40


@pytest.mark.thorough
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_moves(browser, made, width):
    check_nothing_moves(browser, made[0], width)


@pytest.mark.thorough
@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1920, 3840])
def test_no_width_needs_scrolling_sideways(browser, made, width):
    browser.window(width, 900)
    open_page(browser, made[0])
    write_story(browser, "once upon a time")
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.thorough
def test_links_open_the_code(page, made):
    for link in page.run("[...document.querySelectorAll('.links a')].map((a) => a.hash)"):
        page.run(f"document.querySelector('a[href=\"{link}\"]').click()")
        page.wait(f"document.querySelector('{link}').open")
    assert "def generate_next_token(" in text_of(page, "code-generate_next_token")


@pytest.mark.thorough
@pytest.mark.usefixtures("started")  # which skips where there is no browser
def test_without_webassembly_it_works_too(made, tmp_path):
    browser = Browser(tmp_path, "--js-flags=--jitless")
    try:
        open_page(browser, made[0])
        assert browser.run("typeof WebAssembly") == "undefined"
        check_next_words(browser, made[1], ["Once upon a time"])
        assert browser.errors == []
    finally:
        browser.close()


# ---- The shipped model --------------------------------------------------------------------------

TINY = Path(os.environ.get("LSTLM_DATA", SAMPLE.parent)) / "tiny" / "tiny.test.tokens.4M"
BEGINNINGS = ["jack and his mom", "sara and ben", "Once upon a time"]
AXE = "axe-core@4.11.0"
WABT = "wabt@1.0.37"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> tuple[Path, Path, str]:
    """The page of the shipped model, the model that it has, and what was printed."""
    corpus = TINY if TINY.exists() else SAMPLE / "test.tokens"
    return make(tmp_path_factory.mktemp("shipped"), None, "-corpus", corpus)


def npm(package: str, folder: Path) -> Path:
    """The folder of a package of npm, fetched for the test alone."""
    if not shutil.which("npm"):
        pytest.skip("no npm here, which fetches what this test needs")
    command = ["npm", "install", "--prefix", folder, "--no-save", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm could not fetch {package}")
    return folder / "node_modules" / package.rpartition("@")[0]


@pytest.mark.slow
def test_what_eight_bits_cost(shipped):
    page, _, printed = shipped
    cost = re.search(r"nats per token, .* with 8 bits: ([+-][\d.]+)", printed)
    assert float(cost[1]) <= 0.01, printed
    assert page.stat().st_size <= 15e6
    print(printed)


@pytest.mark.slow
def test_the_shipped_model_in_the_page(browser, shipped, tmp_path):
    page, weights, _ = shipped
    model = lstlm.load(weights)
    mark = "performance.getEntriesByName('first word')[0].startTime / 1000"
    opened = []
    for _ in range(3):  # other programs may be busy
        open_page(browser, page)
        opened.append(browser.run(mark))
    said = [check_greedy(browser, model, text, 200) for text in BEGINNINGS]
    assert said[0].startswith("200 tokens, as long as it may be")
    stories = (SAMPLE / "test.tokens").read_text("utf-8").splitlines()[:3]
    texts = [" ".join(story.split()[:n]) for story in stories for n in (1, 7, 30, 80)]
    worst = check_next_words(browser, model, texts)
    text = lstlm.detokenize(stories[0].split())
    off = [check_surprise(browser, weights, one, tmp_path) for one in (text, TEXT)]
    rate = max(float(re.search(r"([\d,]+) tokens/s", one)[1].replace(",", "")) for one in said)
    print(
        f"first word {min(opened):.2f} s, {rate:.0f} tokens/s, probabilities within {worst:.1e}, "
        f"surprise within {max(off):.1e} nats"
    )
    assert min(opened) <= 1.5
    assert rate >= 100
    assert [url.partition(":")[0] for url in browser.requests] == ["file", "blob"] * 3
    assert browser.errors == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280, 3840])
def test_nothing_moves_in_a_large_page(browser, shipped, width):
    """It is painted before its model is read."""
    check_nothing_moves(browser, shipped[0], width)


@pytest.mark.slow
def test_stop_and_typing_while_it_writes(browser, shipped):
    """A story stops at once, and the next word does not wait for it."""
    open_page(browser, shipped[0])
    type_text(browser, "story-maximum", "500")
    type_text(browser, "story-penalty", "1")
    browser.run("document.getElementById('story-write').click()")
    count = "document.querySelectorAll('#story-words .word').length"
    browser.wait(f"{count} > 10")
    type_text(browser, "next-text", "the cat and")
    wait_for(browser, "next-bars", "the cat and")
    assert not browser.run("document.getElementById('story-stop').disabled")
    browser.run("document.getElementById('story-stop').click()")
    stopped = browser.run(count)
    assert "stopped" in text_of(browser, "story-status")
    browser.run("new Promise((resolve) => setTimeout(resolve, 300))")
    assert browser.run(count) == stopped


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 360])
@pytest.mark.parametrize("dark", [False, True])
def test_accessibility(browser, shipped, tmp_path_factory, width, dark):
    """As axe-core judges it, with a story written and all that opens open."""
    axe = (npm(AXE, tmp_path_factory.getbasetemp() / "npm") / "axe.min.js").read_text("utf-8")
    browser.window(width, 900, dark=dark)
    open_page(browser, shipped[0])
    write_story(browser, "once upon a time", seed=1)
    for name in ("story", "surprise", "inside"):
        browser.run(f"document.querySelectorAll('#{name}-words .word')[6].click()")
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.wait("document.getAnimations().length === 0")  # what fades in has no contrast yet
    browser.run(f"{axe}; 0")
    script = "axe.run().then((all) => all.violations.map((one) => [one.id, one.nodes[0].html]))"
    assert browser.run(script, 120) == []


@pytest.mark.slow
def test_the_kernel_is_what_its_source_says(tmp_path):
    wabt = npm(WABT, tmp_path)
    out = tmp_path / "kernel.wasm"
    source = make_page.PAGE / "kernel.wat"
    subprocess.run(["node", wabt / "bin" / "wat2wasm", source, "-o", out], check=True)
    assert out.read_bytes() == (make_page.PAGE / "kernel.wasm").read_bytes()


