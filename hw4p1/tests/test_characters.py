"""hw04 and hw4p1 take the same characters for the same, and read a raw text alike."""

from pathlib import Path

import backstage.characters
import hw4lib.data.characters
import lstlm
import pytest
from hw4lib.data.text import runs, transcribed
from hypothesis import given
from hypothesis import strategies as st

BACKSTAGE = Path(backstage.characters.__file__).parent
DATA = Path(hw4lib.data.characters.__file__).parent
# Words with what is spelled in more ways than one, or not seen at all; and what parts words.
LETTERS = [*"aeizAEZéÉñßæŒﬁﬀĳｆＦſẛ", "e\u0301", *"\u00ad\u200b\u200d\ufeff\u2060\ufe0f"]
APOSTROPHES = [f"{mark}{end}" for mark in "'´’ʼ′`＇ˈ‛" for end in ("s", "LL", "ére")]
WORDS = st.builds(
    "x{}{}".format, st.lists(st.sampled_from(LETTERS), max_size=6).map("".join),
    st.sampled_from(["", "n’t", *APOSTROPHES]),
)
BETWEEN = st.sampled_from([*' \n,;:!?."()“”«»„–—‐-−…™', "\u00a0", " -- ", ". "])


def words(text: str) -> str:
    """The words of a text, as a transcript has them."""
    return " ".join(word for run in runs(text) for word, _ in run)


@pytest.mark.parametrize("name", ["characters.py", "raw_text.py"])
def test_both_systems_have_the_same_file(name):
    assert (BACKSTAGE / name).read_bytes() == (DATA / name).read_bytes()


@given(st.text())
def test_any_character_is_spelled_alike(text):
    assert backstage.characters.plain(text) == hw4lib.data.characters.plain(text)


@given(st.lists(st.builds("{}{}".format, WORDS, BETWEEN), max_size=20).map("".join))
def test_both_systems_find_the_same_words(text):
    """In the text, and in what hw04 makes of its tokens."""
    assert words(text) == words(lstlm.detokenize(lstlm.tokenize_text(text)))


@pytest.mark.parametrize(
    ("text", "transcript"),
    [
        ("  the old\tman \r\n", "THE OLD MAN"),
        ("\ufeffdon´t na\u00adïve", "DON'T NAIVE"),
        ("Straße, 5", "STRASSE, 5"),  # what no transcript has is for the tokenizer to refuse
        ("", ""),
    ],
)
def test_a_typed_text_as_a_transcript_has_it(text, transcript):
    assert transcribed(text) == transcript
