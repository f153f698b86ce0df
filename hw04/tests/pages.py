"""Pages of the browser made for tests, and what is asked of them."""

import base64
import json
from pathlib import Path

import make_page
import torch
from backstage.checkpoint import Config, Loaded
from browser import Browser
from small import KINDS, make_model

FACTS = {"train_corpus": "a/corpus", "sample": False}
# The modules of the page without the page: what tests call by `parts.tokenize` and so on.
PARTS = (
    "Tokenizer", "Detokenizer", "WordPieces", "nearest", "Model", "distribution", "looping",
    "fromBase64", "halfLives", "stillKept", "randomNumbers", "choose",
)


def load_parts(browser: Browser) -> None:
    """Make the modules of the page known to the browser as `parts`."""
    modules = make_page.joined(make_page.MODULES[:-1])
    names = ", ".join(PARTS)
    browser.run(f"(() => {{ {modules}\n globalThis.parts = {{ {names} }}; }})()")


def value(browser: Browser, expression: str, *inputs):
    """The value of a JavaScript function of these inputs, given as JSON."""
    return browser.run(f"({expression})(...{json.dumps(inputs)})")


def small_loaded(kind: str, words: list[str] | None = None, V: int = 40) -> Loaded:
    """A small float32 model of this kind, with this vocabulary."""
    model = make_model(dtype=torch.float32, V=V, **KINDS[kind])
    for name, tensor in model.state_dict().items():
        if "bias" in name:  # zeros would hide a mistake
            tensor += 0.3 * torch.randn(tensor.shape)
    words = words or ["<unk>", "<bos>", "<eos>", *(f"w{i}" for i in range(3, V))]
    known = {name: value for name, value in KINDS[kind].items() if name in Config.__annotations__}
    config = Config(EDim=8, H=2, N=12, VSize=V, a=model.attention, **known)
    ids = {word: i for i, word in enumerate(words)}
    return Loaded(model.eval(), config, words, ids, FACTS, None)


def payload(loaded: Loaded) -> bytes:
    """What a page of this model holds."""
    return make_page.payload(loaded, make_page.describe(loaded, Path("m.pt"), None))


def write_page(loaded: Loaded, path: Path) -> Path:
    """Write the page of a model."""
    path.write_text(make_page.page(payload(loaded), 1000), "utf-8")
    return path


def load_model(browser: Browser, loaded: Loaded) -> None:
    """Make a model known to the browser as `model`."""
    encoded = base64.b64encode(payload(loaded)).decode()
    browser.run(f"void (globalThis.model = new parts.Model(parts.fromBase64('{encoded}')))")


def open_page(browser: Browser, path: Path) -> None:
    """Open a page, and wait until it shows what comes next, and has read its text."""
    browser.open(path.resolve().as_uri())
    browser.wait("performance.getEntriesByName('first word').length")
    browser.wait("document.getElementById('sum-nats').textContent !== '–'")


def type_text(browser: Browser, name: str, text: str) -> None:
    """Put a text into a field, as typing does."""
    script = """(name, text) => {
        const field = document.getElementById(name);
        field.value = text;
        field.dispatchEvent(new Event("input", { bubbles: true }));
    }"""
    value(browser, script, name, text)


def wait_for(browser: Browser, name: str, text: str) -> None:
    """Wait until the answer to this text stands in an element."""
    browser.wait(f"document.getElementById('{name}').dataset.text === {json.dumps(text)}")


def next_words(browser: Browser) -> list[tuple[str, float]]:
    """The words that the page shows as the most probable ones, with their probabilities."""
    rows = """[...document.querySelectorAll("#next-bars .row:not(.vacant)")].map((row) => [
        row.querySelector(".bar-label").textContent, Number(row.dataset.p)])"""
    return [(word, p) for word, p in browser.run(rows)]


def text_of(browser: Browser, name: str) -> str:
    """The text of an element."""
    return browser.run(f"document.getElementById('{name}').textContent")


def write_story(browser: Browser, text: str, timeout: float = 60, **settings) -> str:
    """Have the page write a story; returns it, with its beginning."""
    for setting, number in settings.items():
        type_text(browser, f"story-{setting}", str(number))
    type_text(browser, "story-text", text)
    browser.run("document.getElementById('story-write').click()")
    browser.wait("document.getElementById('story-stop').disabled", timeout)
    return text_of(browser, "story-words").removesuffix("∎")
