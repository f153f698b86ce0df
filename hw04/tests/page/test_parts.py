"""The page's modules beside the program that they repeat, in a browser."""

import random
import unicodedata

import lstlm
import make_page
import pytest
import torch
from backstage.continuations import looping
from backstage.sampling import Sampling, restricted
from backstage.shown_words import describe_unknown
from backstage.words import detokenize, tokenize_text
from page_tables import tables
from pages import load_model, small_loaded, value
from small import KINDS, SAMPLE, make_stories

TEXTS = [
    "", " \t\n", "Once upon a time, there was a girl.", "\"Hi!\" she said. 'No,' he said.",
    "don't can't I'm you're they've we'll he'd dogs' o'clock rock'n'roll 'tis",
    "well-known e-mail - a -- b --- c", "wait... what?! (yes) [no] {so} 5% $3 #1", "Mom's cat's",
    "<unk> <eos> <b>",
    "“Curly,” ‘quotes’ – dashes — and… more", "x\u2028y\x1cz\x85w\u3000v", "ISN'T N'T 'S's",
    "3.14 1,000 a.b.c", "﻿begin ﬁne ½ ™ ² №", "İstanbul ΣΊΣΥΦΟΣ straße", "😀 👩‍👩‍👧 𝒳 x",
    "naïve der schöne Jäger Привет, мир! 你好 こんにちは",
    "soft\u00adhyphen zero\u200bwidth a\u0301",
    "he said, \"Come!\" and she asked, \"Where?\" he ran", "( a ) [ b ] \" c \" ' d '",
]


def random_texts(count: int) -> list[str]:
    """Texts of letters, marks, spaces and odd characters in random order, half of any script."""
    drawn = random.Random(0)
    pieces = [*"abtsmdIN'\"-.,!?()[]$% \n", "n't", "'s", "...", "’", "—", "é", "ß", "´", "\u200b"]
    planes = [chr(code) for code in range(0x30000)]
    known = [one for one in planes if unicodedata.category(one) not in ("Cn", "Co", "Cs")]
    texts = []
    for number in range(count):
        any_script = drawn.choices(known, k=8) if number % 2 else []
        texts.append("".join(drawn.choices(pieces + any_script, k=drawn.randint(1, 30))))
    return texts


@pytest.mark.parametrize("cased", [False, True])
def test_tokens_are_those_of_the_program(parts, cased):
    texts = TEXTS + random_texts(3000)
    script = """(texts, tables, cased) => {
        const tokenizer = new parts.Tokenizer(tables, cased);
        return texts.map((text) => tokenizer.tokenize(text));
    }"""
    found = value(parts, script, texts, tables(), cased)
    for text, tokens in zip(texts, found, strict=True):
        assert tokens == tokenize_text(text, cased), repr(text)


@pytest.mark.parametrize("cased", [False, True])
def test_readable_text_is_that_of_the_program(parts, cased):
    stories = (SAMPLE / "test.tokens").read_text("utf-8").splitlines()[:40]
    many = [story.split() for story in stories]
    many += [tokenize_text(text, cased) for text in TEXTS + random_texts(500)]
    names = {name.lower(): name for name in ("Omar", "TV", "iPad", "Nanny", "Ellie")}
    many += [*(story.split() for story in ("omar 's tv . ipad and omar", "__proto__ said"))]
    script = """(many, tables, cased, names) => many.map((tokens) => {
        const detokenizer = new parts.Detokenizer(new parts.Tokenizer(tables, cased, names));
        return tokens.map((token) => detokenizer.next(token)).join("");
    })"""
    found = value(parts, script, many, tables(), cased, names)
    for tokens, text in zip(many, found, strict=True):
        assert text == detokenize(tokens, cased, names), tokens
    assert "Omar's TV. IPad and Omar" in found or cased


def test_word_pieces_are_those_of_the_library(parts, bpe_trained):
    loaded = lstlm.load(bpe_trained).loaded
    tokens = [token for text in TEXTS + random_texts(200) for token in tokenize_text(text)]
    script = """(merges, tokens) => {
        const pieces = new parts.WordPieces(merges);
        return tokens.map((token) => [pieces.split([token]), pieces.spell(pieces.split([token]))]);
    }"""
    found = value(parts, script, make_page.merges(loaded), tokens)
    for token, (pieces, spelled) in zip(tokens, found, strict=True):
        assert pieces == loaded.bpe.split([[token]])[0], repr(token)
        assert spelled == loaded.bpe.spell(pieces) == f" {token}"


def test_the_nearest_word_is_that_of_the_program(parts):
    words = sorted({*(SAMPLE / "train.tokens").read_text("utf-8").split()})[:1500]
    unknown = ["elfling", "dgo", "zzz", "Zebra", "happines", "xylophone", "a", "wwaass", "réd", "1"]
    found = value(parts, "(all, words) => all.map((w) => parts.nearest(w, words))", unknown, words)
    for word, near in zip(unknown, found, strict=True):
        like = f", like {near}" if near else ""
        assert f"[{word} is unknown{like}]" == describe_unknown(word, ["", "", "", *words])


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_program(parts, kind):
    """Position by position, from the weights of the page; in WebAssembly and in JavaScript."""
    loaded = small_loaded(kind)
    model = make_page.rounded(loaded.model)
    ids = make_stories([9], 40)[0][:-1]
    with torch.no_grad():
        expected = model(torch.tensor([ids]), torch.tensor([len(ids)]))[0]  # (T, V)
    load_model(parts, loaded)
    script = """(ids) => {
        let state = model.empty();
        return ids.map((id) => {
            state = model.step(state, id);
            return [...model.logits(state)];
        });
    }"""
    found = [value(parts, script, ids)]
    parts.run("""void (model.products.kernel = (...sizes) =>
        model.products.productInJavaScript(...sizes))""")
    found.append(value(parts, script, ids))
    for logits in found:
        assert torch.tensor(logits) == pytest.approx(expected, abs=2e-5)


def test_the_kernel_is_webassembly_here(parts):
    load_model(parts, small_loaded("plain"))
    assert parts.run("model.products.memory instanceof WebAssembly.Memory")
    assert "native code" in parts.run("String(model.products.kernel)")


SETTINGS = [
    {}, {"fpenalty": 0.7}, {"fpenalty": -1.3}, {"temperature": 0.4}, {"temperature": 2.0},
    {"top_k": 1}, {"top_k": 5}, {"top_p": 0.5}, {"top_p": 0.9, "temperature": 0.8}, {"min_p": 0.2},
    {"min_p": 1.0}, {"fpenalty": 0.5, "temperature": 1.5, "top_k": 8, "top_p": 0.8, "min_p": 0.1},
]
NAMES = {"fpenalty": "penalty", "top_k": "topK", "top_p": "topP", "min_p": "minP"}


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_distribution_is_that_of_the_program(parts, settings):
    torch.manual_seed(3)
    logits = (3 * torch.randn(60)).tolist()
    logits[20] = logits[21] = max(logits)  # a tie at the top
    tokens = [1, 20, 5, 20, 7]
    sampling = Sampling(**settings)
    counts = torch.bincount(torch.tensor(tokens), minlength=60).double()
    z = torch.tensor(logits, dtype=torch.float64) - sampling.fpenalty * counts
    expected = torch.softmax(restricted(z, sampling), 0)
    plain = {
        "greedy": False, "temperature": 1, "topK": 0, "topP": 1, "minP": 0, "penalty": 0,
        **{NAMES.get(name, name): number for name, number in settings.items()},
    }
    found = value(parts, "(...all) => [...parts.distribution(...all)]", logits, tokens, plain)
    assert found == pytest.approx(expected.tolist(), abs=1e-12)


def test_drawn_words_have_the_frequency_of_their_probability(parts):
    script = """(probs, count) => {
        const random = parts.randomNumbers(4);
        const counts = probs.map(() => 0);
        for (let i = 0; i < count; i++) counts[parts.choose(probs, {}, random)]++;
        return counts;
    }"""
    probs = [0.5, 0, 0.3, 0.15, 0.05]
    counts = value(parts, script, probs, 20000)
    assert counts[1] == 0
    assert [count / 20000 for count in counts] == pytest.approx(probs, abs=0.012)


def test_loops_are_those_of_the_program(parts):
    drawn = random.Random(1)
    cases = [[], [5], [5] * 3, [1, 2] * 3, [9, 1, 2, 3, 1, 2, 3, 1, 2, 3], [*range(51)] * 3]
    cases += [[drawn.randint(1, 2) for _ in range(drawn.randint(1, 14))] for _ in range(300)]
    found = value(parts, "(cases) => cases.map((ids) => parts.looping(ids))", cases)
    assert found == [looping(ids) for ids in cases]
    assert len({*found}) > 3


def test_how_long_cells_remember(parts):
    """Three cells, of gates 1/2, 0.8 and 1, over 40 tokens."""
    gates = [gate for _ in range(40) for gate in (0.5, 0.8, 1.0)]
    lives = value(parts, "(g) => [...parts.halfLives(new Float32Array(g), 3)].map(String)", gates)
    assert lives[0] == "1"
    assert float(lives[1]) == pytest.approx(4, rel=0.05)  # 0.8^4 < 1/2
    assert lives[2] == "Infinity"
    kept = value(parts, "(g) => [...parts.stillKept(new Float32Array(g), 3, 10)]", gates)
    assert kept[10] == pytest.approx(1)
    # One step back: 1/2 is half still, and so on.
    assert [round(3 * share) for share in kept] == [1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3]
