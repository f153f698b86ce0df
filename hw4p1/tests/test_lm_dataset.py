"""LMDataset: pairs, batches, statistics, prompts, and what data it cannot use."""

import hashlib
import re

import hw4lib.data
import numpy as np
import pytest
import torch
from hw4lib.data import LMDataset, verify_dataloader
from hw4lib.data.tokenizer_file import SPECIAL_TOKENS
from hw4lib.errors import UserError
from torch.utils.data import DataLoader

TEXTS = ["AN OWL", "IT'S", "A VERY LONG TRANSCRIPT", "SO"]


@pytest.fixture
def make(write_transcripts, tokenizers):
    """A function that makes the data set of some texts."""

    def make(texts: list[str], subset: float = 1.0, token_type: str = "char") -> LMDataset:
        root = write_transcripts(texts)
        return LMDataset(
            "train", {"root": str(root), "subset": subset, "batch_size": 3}, tokenizers[token_type]
        )

    return make


def test_exports():
    assert hw4lib.data.LMDataset is LMDataset


@pytest.mark.parametrize("token_type", ["char", "1k", "5k", "10k"])
def test_pairs_and_statistics(make, tokenizers, tmp_path, token_type):
    dataset, tokenizer = make(TEXTS, token_type=token_type), tokenizers[token_type]
    tokens = [tokenizer.encode(text) for text in TEXTS]
    assert isinstance(dataset, torch.utils.data.Dataset)
    assert dataset.partition == "train" and dataset.tokenizer is tokenizer
    assert dataset.config["batch_size"] == 3
    assert dataset.text_dir == str(tmp_path / "train")
    assert dataset.text_files == ["0000.npy", "0001.npy", "0002.npy", "0003.npy"]
    assert (dataset.pad_token, dataset.sos_token, dataset.eos_token) == (0, 3, 4)
    assert dataset.transcripts_shifted == [[3, *ids] for ids in tokens]
    assert dataset.transcripts_golden == [[*ids, 4] for ids in tokens]
    assert dataset.total_chars == sum(map(len, TEXTS)) == 34
    assert dataset.total_tokens == sum(map(len, tokens))
    assert dataset.text_max_len == max(map(len, tokens)) + 1
    average = dataset.avg_chars_per_token
    assert average == dataset.get_avg_chars_per_token() == 34 / dataset.total_tokens
    assert len(dataset) == dataset.length == 4


def test_items_are_shifted_by_one(make):
    dataset = make(TEXTS)
    for i, text in enumerate(TEXTS):
        shifted, golden = dataset[i]
        assert isinstance(shifted, torch.LongTensor) and isinstance(golden, torch.LongTensor)
        assert shifted.shape == golden.shape == (len(text) + 1,)
        assert shifted[0] == 3 and golden[-1] == 4 and torch.equal(shifted[1:], golden[:-1])


@pytest.mark.parametrize(("subset", "count"), [(1.0, 4), (1, 4), (0.75, 3), (0.7, 2), (0.25, 1)])
def test_a_subset_is_the_first_files_by_name(make, subset, count):
    dataset = make(TEXTS, subset)
    assert dataset.text_files == [f"{i:04d}.npy" for i in range(count)]
    assert len(dataset) == count and dataset.total_chars == sum(map(len, TEXTS[:count]))


@pytest.mark.parametrize(("subset", "count"), [(0.29, 29), (0.57, 57), (0.58, 58), (0.005, 0)])
def test_a_subset_is_as_large_as_it_says(make, subset, count):
    """Where the product of the two numbers is a little less: 0.29 * 100 = 28.999999999999996."""
    texts = ["A"] * 100
    if not count:
        with pytest.raises(UserError, match="none"):
            make(texts, subset)
    else:
        assert len(make(texts, subset)) == count


def test_a_third_of_three_files_is_one(make):
    assert len(make(TEXTS[:3], 1 / 3)) == 1
    assert len(make([], 2 / 3)) == 2


def test_the_digest_is_of_names_and_contents_as_they_were_read(make, tmp_path):
    dataset, digest = make(TEXTS), hashlib.sha256()
    for path in sorted((tmp_path / "train").iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
        path.unlink()
    assert dataset.sha256 == digest.hexdigest()


def test_collate_pads_both_sides_on_the_right(make):
    dataset = make(TEXTS)
    shifted, golden, lengths = dataset.collate_fn([dataset[i] for i in (3, 0, 1)])
    assert shifted.tolist() == [
        [3, 14, 10, 0, 0, 0, 0], [3, 9, 11, 6, 10, 21, 17], [3, 12, 8, 30, 14, 0, 0],
    ]
    assert golden.tolist() == [
        [14, 10, 4, 0, 0, 0, 0], [9, 11, 6, 10, 21, 17, 4], [12, 8, 30, 14, 4, 0, 0],
    ]
    assert isinstance(lengths, torch.LongTensor) and lengths.tolist() == [3, 7, 5]
    assert shifted.dtype == golden.dtype == torch.long


def test_a_dataloader_gives_every_transcript_once(make, capsys):
    dataset = make(TEXTS)
    loader = DataLoader(dataset, batch_size=3, shuffle=True, collate_fn=dataset.collate_fn)
    rows = [
        row[:n].tolist() for shifted, _, lengths in loader
        for row, n in zip(shifted, lengths, strict=True)
    ]
    assert sorted(rows) == sorted(dataset.transcripts_shifted)


def test_verify_dataloader_prints_sizes(make, capsys):
    dataset = make(TEXTS)
    loader = DataLoader(dataset, batch_size=3, collate_fn=dataset.collate_fn)
    capsys.readouterr()
    assert verify_dataloader(loader) is None
    report = capsys.readouterr().out
    for part in (
        "train", "2 batches of 3", "shifted (3, 23)", "golden (3, 23)", "lengths (3,)", "23 tokens",
        ": 1.00",
    ):
        assert part in report


# ---- Prompts
# --------------------------------------------------------------------------------------------------


def numbered(count: int) -> list[str]:
    """Different texts of two letters."""
    return [chr(65 + i // 26) + chr(65 + i % 26) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "stream"),
    [(267, [113, 190, 229, 53, 43, 166, 190, 63, 96, 52]), (7, [0, 1, 6, 6, 3, 5, 1, 5, 4, 0])],
)
def test_a_seed_means_the_prompts_of_the_course(make, count, stream):
    dataset = make(numbered(count))
    prompts, originals = dataset.sample_prompts(10, 1, seed=11785)
    assert prompts.dtype == torch.long and prompts.shape == (10, 2)
    assert prompts.tolist() == [dataset.transcripts_shifted[i][:2] for i in stream]
    assert [original.tolist() for original in originals] == [
        dataset.transcripts_golden[i] for i in stream
    ]
    assert all(isinstance(original, torch.LongTensor) for original in originals)


def test_a_seed_leaves_the_generator_as_it_was(make):
    dataset = make(numbered(7))
    np.random.seed(5)
    expected = np.random.randint(0, 1000, 3).tolist()
    np.random.seed(5)
    dataset.sample_prompts(4, 1, seed=1)
    assert np.random.randint(0, 1000, 3).tolist() == expected


def test_without_a_seed_the_generator_goes_on(make):
    dataset = make(numbered(60))
    np.random.seed(5)
    first, second = (dataset.sample_prompts(6, 2)[0].tolist() for _ in range(2))
    np.random.seed(5)
    indices = np.random.randint(0, 60, 12)
    assert first + second == [dataset.transcripts_shifted[i] for i in indices]


def test_shorter_transcripts_are_passed_over(make):
    dataset = make(TEXTS)  # of 6, 4, 22 and 2 tokens
    prompts, originals = dataset.sample_prompts(20, 6, seed=0)
    assert prompts.shape == (20, 7)
    assert {len(original) for original in originals} == {7, 23}


def test_too_few_prompts_are_announced(make, capsys):
    dataset = make(["AB"] * 100 + ["ABC"])
    prompts, originals = dataset.sample_prompts(60, 3, seed=0)
    assert 0 < len(prompts) == len(originals) < 60
    warning = f"warning: only {len(prompts)} of 60 prompts with 3 tokens found"
    assert warning in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="no transcript with 4 tokens"):
        dataset.sample_prompts(3, 4, seed=0)


# ---- Bad input
# --------------------------------------------------------------------------------------------------


def test_a_missing_partition(tmp_path, tokenizers):
    with pytest.raises(UserError, match=r"valid: no such folder; correct data\.root"):
        LMDataset("valid", {"root": str(tmp_path), "subset": 1.0}, tokenizers["char"])


@pytest.mark.parametrize("subset", [0, -0.5, 1.5])
def test_a_subset_that_is_no_share(make, subset):
    with pytest.raises(UserError, match=r"data\.subset"):
        make(TEXTS, subset)


def test_a_subset_of_no_file(make):
    with pytest.raises(UserError, match=r"0\.2 of its 4 \.npy files is none"):
        make(TEXTS, 0.2)


@pytest.mark.parametrize("token_type", ["char", "1k"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("An", "character 1 .*'n'"), ("CAFÉ", "character 3 .*'É'"), ("", "an empty transcript"),
        *(
            (f"ONE{token}TWO", f"it spells the special token {re.escape(token)}; take it out")
            for token in SPECIAL_TOKENS
        ),
    ],
)
def test_a_transcript_that_cannot_be_used_is_named(make, token_type, text, message):
    with pytest.raises(UserError, match=f"0001\\.npy: .*{message}"):
        make(["FINE", text], token_type=token_type)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text"])
def test_a_file_that_is_no_array_is_named(make, tmp_path, content):
    make(TEXTS)
    (tmp_path / "train" / "0001.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"0001\.npy: not a \.npy file"):
        make([])


def test_other_files_are_left_alone(make, tmp_path):
    make(TEXTS)
    for name in (".DS_Store", "._0001.npy", ".hidden.npy", "notes.txt"):
        (tmp_path / "train" / name).write_bytes(b"x")
    (tmp_path / "train" / "__MACOSX").mkdir()
    (tmp_path / "train" / "__MACOSX" / "._0001.npy").write_bytes(b"x")
    dataset = make([])
    assert len(dataset) == 4 and len(make([], 0.5)) == 2
    assert dataset.text_files == [f"{i:04d}.npy" for i in range(4)]


# ---- The course's data
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partition", "count", "chars", "longest"),
    [("train", 267, 45259, 260), ("val", 7, 1284, 235), ("test", 7, 1255, 211)],
)
def test_the_subset_of_the_course(real_data, tokenizers, partition, count, chars, longest):
    dataset = LMDataset(
        partition, {"root": real_data("hw4p1_data"), "subset": 1.0}, tokenizers["char"]
    )
    assert (len(dataset), dataset.total_chars, dataset.total_tokens) == (count, chars, chars)
    assert (dataset.text_max_len, dataset.avg_chars_per_token) == (longest, 1.0)
