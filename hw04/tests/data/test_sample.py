"""The embedded corpus: its files are what the generator writes, and stories are as promised."""

import re

import make_sample
import pytest

OPENINGS = (
    "there was a girl", "there once was a boy", "one day , a bird", "once upon a time , an elf",
)
SPLITS = ("train", "valid", "test")
NAMES = make_sample.HERE / "sample" / "train.tokens.names"
WORD = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
CLITIC = re.compile(r"n't|'(s|m|d|re|ve|ll)")
INNER_APOSTROPHE = re.compile(r"[a-z0-9]+'(?!(s|m|d|re|ve|ll|t)$)[a-z0-9]+")
MARKS = {"...", ".", ",", "!", "?", '"', "'", "-", ":", ";"}
SOUNDS_LIKE_A_CONSONANT = re.compile(r"one(-|$)|once$|u(se|ni|kulele)|eu")
SILENT_H = re.compile(r"hour|hono|hones|heir")


def is_token(token: str) -> bool:
    """Tell whether a token keeps the conventions of the corpus."""
    shapes = (WORD, CLITIC, INNER_APOSTROPHE)
    return token in MARKS or any(shape.fullmatch(token) for shape in shapes)


def wants_an(word: str) -> bool:
    """Tell whether a word wants "an" before it."""
    vowel = word[0] in "aeiou" and not SOUNDS_LIKE_A_CONSONANT.match(word)
    return vowel or bool(SILENT_H.match(word))


@pytest.fixture(scope="module")
def told() -> dict[str, list[make_sample.Story]]:
    """The stories as the generator tells them."""
    return make_sample.corpus()


@pytest.fixture(scope="module", params=SPLITS)
def split(request) -> str:
    """Each of the three splits."""
    return request.param


def content(split: str) -> bytes:
    """The bytes of a file."""
    return (make_sample.HERE / "sample" / f"{split}.tokens").read_bytes()


@pytest.fixture(scope="module")
def stories(split) -> list[list[str]]:
    """The stories of a file, in tokens."""
    lines = content(split).decode("ascii").removesuffix("\n").split("\n")
    return [line.split(" ") for line in lines]


def test_file_is_what_the_generator_writes(split, told):
    assert content(split) == make_sample.as_bytes(told[split])


def test_file_ends_where_it_should(split):
    size = {"train": 1_000_000, "valid": 60_000, "test": 60_000}[split]
    assert size <= len(content(split)) < size + 3_000
    assert content(split).endswith(b"\n")


def test_tokens_keep_the_conventions(stories):
    assert [token for story in stories for token in story if not is_token(token)] == []


def test_conventions_can_fail():
    good = ["n't", "'s", "o'clock", "glow-worm", "...", "forget-me-nots", "3"]
    bad = ["", "Lily", "don't", "lily's", "end.", "..", "-x", "{name}", "[a|b]"]
    bad += ["caf\u00e9", "\u201c"]
    assert [token for token in good + bad if is_token(token)] == good


def test_clitics_follow_a_word(stories):
    pairs = [pair for story in stories for pair in zip(story, story[1:], strict=False)]
    assert [(a, b) for a, b in pairs if CLITIC.fullmatch(b) and not WORD.fullmatch(a)] == []


def test_quotes_are_balanced(stories):
    assert [story for story in stories if story.count('"') % 2] == []


def test_articles_agree(stories):
    pairs = [pair for story in stories for pair in zip(story, story[1:], strict=False)]
    articles = [pair for pair in pairs if pair[0] in ("a", "an")]
    assert [(a, b) for a, b in articles if (a == "an") != wants_an(b)] == []


def test_no_word_is_said_twice_in_a_row(stories):
    pairs = [pair for story in stories for pair in zip(story, story[1:], strict=False)]
    assert [a for a, b in pairs if a == b and WORD.fullmatch(a)] == []


def test_sentences_do_not_collide(stories):
    """No mark of punctuation follows another where a piece was left empty."""
    text = "\n".join(" ".join(story) for story in stories)
    assert re.findall(r"[.,!?] [.,!?] ", text) == []


def test_stories_end_with_a_final_mark(stories):
    ends = re.compile(r'[.!?]( ")?$')
    assert [story for story in stories if not ends.search(" ".join(story))] == []


def test_train_is_rich(told):
    tokens = [token for story in told["train"] for token in story.text.split()]
    assert len({token for token in tokens if WORD.fullmatch(token)}) >= 1_500


def test_lengths(told):
    lengths = [len(story.text.split()) for story in told["train"]]
    assert min(lengths) >= 40 and max(lengths) < 500
    assert sum(60 <= length <= 250 for length in lengths) > len(lengths) / 2
    assert sum(length < 150 for length in lengths) > len(lengths) / 20
    assert any(length >= 300 for length in lengths)


@pytest.mark.parametrize("opening", OPENINGS)
def test_openings_are_there(told, opening):
    assert any(story.text.startswith(opening) for split in SPLITS for story in told[split])


def test_once_upon_a_time_is_frequent(told):
    openings = [story.text.startswith("once upon a time") for story in told["train"]]
    assert sum(openings) > len(openings) / 4


def test_no_plot_and_character_in_two_splits(told):
    pairs = [(str(story.plot), str(story.character)) for split in SPLITS for story in told[split]]
    assert len(pairs) == len(set(pairs))


def test_no_story_is_told_twice():
    lines = [line for split in SPLITS for line in content(split).splitlines()]
    assert len(lines) == len(set(lines))


def test_plots_and_characters_are_many_and_distinct():
    plots, characters = make_sample.plots(), make_sample.characters()
    assert len(plots) == len({str(plot) for plot in plots}) >= 300
    assert len(characters) == len({str(character) for character in characters}) >= 100


def test_every_plot_has_a_lesson():
    assert all(make_sample.lessons(plot) for plot in make_sample.plots())


def test_another_seed_tells_other_stories(told):
    assert make_sample.corpus(make_sample.SEED + 1)["valid"][0].text != told["valid"][0].text


def test_command_line_writes_and_checks(tmp_path, monkeypatch, told):
    monkeypatch.setattr(make_sample, "corpus", lambda seed: told)
    folder = tmp_path / "new"
    command = ["-o", str(folder)]
    assert make_sample.main([*command, "--check"]) == 1
    assert not folder.exists()
    assert make_sample.main(command) == 0
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    files = {f"{split}.tokens": content(split) for split in SPLITS}
    assert written == files | {"train.tokens.names": NAMES.read_bytes()}
    assert make_sample.main([*command, "--check"]) == 0
    (folder / "test.tokens").write_text("once\n")
    assert make_sample.main([*command, "--check"]) == 1
