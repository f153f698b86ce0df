"""Utterances: files, statistics, normalisation, masks, batches."""

import numpy as np
import pytest
import torch
from hw4lib.data import ASRDataset, verify_dataloader
from hw4lib.data.spec_augment import AxisMask
from tests.asr.small import BINS, FRAMES, TEXTS, data_config, features_of, write_partition
from torch.testing import assert_close
from torch.utils.data import DataLoader


@pytest.fixture
def folder(tmp_path):
    """A partition `train` with transcripts and a `test` without."""
    write_partition(tmp_path, "train", TEXTS, features_of(FRAMES))
    write_partition(tmp_path, "test", None, features_of([20, 33], seed=1))
    return tmp_path


@pytest.fixture
def make(folder, tokenizers):
    def dataset(partition="train", train=True, stats=None, token_type="char", **changed):
        config = data_config(folder, **changed)
        return ASRDataset(partition, config, tokenizers[token_type], train, stats)

    return dataset


def test_what_a_dataset_has(make, folder, tokenizers):
    data = make()
    assert data.fbank_files == data.text_files == [f"u{i}.npy" for i in range(5)]
    assert data.fbank_dir == str(folder / "train" / "fbank")
    assert data.text_dir == str(folder / "train" / "text")
    assert len(data) == data.length == len(data.feats) == 5
    assert [feat.shape for feat in data.feats] == [(BINS, T) for T in FRAMES]
    assert data.feat_max_len == 70 and data.text_max_len == 15
    assert data.total_chars == data.total_tokens == sum(map(len, TEXTS))
    for text, shifted, golden in zip(
        TEXTS, data.transcripts_shifted, data.transcripts_golden, strict=True
    ):
        decode = tokenizers["char"].decode
        assert decode(shifted[1:]) == decode(golden[:-1]) == text
        assert (shifted[0], golden[-1]) == (data.sos_token, data.eos_token)


def test_global_statistics_are_those_of_all_frames(make, folder):
    """The course's update gives the last utterance's mean."""
    data = make()
    frames = np.concatenate(features_of(FRAMES), 1).astype(np.float64)
    assert_close(data.global_mean.numpy(), frames.mean(1).astype(np.float32))
    assert_close(data.global_std.numpy(), frames.std(1, ddof=1).astype(np.float32))
    assert data.global_mean.dtype == data.global_std.dtype == torch.float32
    last = features_of(FRAMES)[-1].mean(1)
    assert np.abs(data.global_mean.numpy() - last).max() > 1


def test_an_utterance_of_each_norm(make):
    raw = torch.from_numpy(features_of(FRAMES)[1])
    stats = (torch.linspace(-50, -30, BINS), torch.linspace(5, 9, BINS))
    expected = {
        "none": raw,
        "cepstral": (raw - raw.mean(1, keepdim=True)) / (raw.std(1, keepdim=True) + 1e-8),
        "global_mvn": (raw - stats[0][:, None]) / stats[1][:, None],
    }
    for norm, features in expected.items():
        feat, shifted, golden = make(norm=norm, stats=stats)[1]
        assert_close(feat, features)
        assert type(feat) is torch.Tensor and feat.dtype == torch.float32
        assert shifted.dtype == golden.dtype == torch.long and shifted.dim() == 1


def test_the_statistics_of_training_are_used_elsewhere(make):
    train = make()
    stats = (train.global_mean, train.global_std)
    feat, shifted, golden = make("test", False, stats)[0]
    raw = torch.from_numpy(features_of([20, 33], seed=1)[0])
    assert_close(feat, (raw - stats[0][:, None]) / stats[1][:, None])
    assert shifted is None and golden is None


@pytest.mark.parametrize(("norm", "fill"), [("global_mvn", 0.0), ("none", -80.0)])
def test_a_batch_has_time_second_and_silence_in_its_padding(make, norm, fill):
    data = make(norm=norm)
    items = [data[0], data[1], data[2]]
    feats, shifted, golden, feat_lengths, text_lengths = data.collate_fn(items)
    assert feats.shape == (3, 64, BINS) and feats.dtype == torch.float32
    assert feat_lengths.tolist() == [31, 64, 24] and text_lengths.tolist() == [6, 12, 3]
    for row, (feat, *_), T in zip(feats, items, [31, 64, 24], strict=True):
        assert torch.equal(row[:T], feat.T) and (row[T:] == fill).all()
    assert shifted.shape == golden.shape == (3, 12)
    assert (golden[0, 6:] == data.pad_token).all() and golden[0, 5] == data.eos_token


def test_a_batch_without_text(make):
    data = make("test", False, (torch.zeros(BINS), torch.ones(BINS)))
    feats, shifted, golden, feat_lengths, text_lengths = data.collate_fn([data[0], data[1]])
    assert feats.shape == (2, 33, BINS) and feat_lengths.tolist() == [20, 33]
    assert shifted is None and golden is None and text_lengths is None
    assert data.text_max_len == data.get_avg_chars_per_token() == 0
    assert not hasattr(data, "text_dir") and data.transcripts_golden == []


def test_fewer_bins_and_fewer_utterances(make):
    data = make(num_feats=5, subset=0.6)
    assert len(data) == 3 and data[0][0].shape == (5, 31) and data.feat_max_len == 64


def test_masks_are_for_training_only_and_keep_within_an_utterance(make):
    torch.manual_seed(0)
    train, other = make(specaug=True), make(specaug=True, train=False, stats=make().stats)
    items = [train[i] for i in range(5)]
    plain = make().collate_fn(items)[0]
    assert torch.equal(other.collate_fn(items)[0], plain)
    seen = []
    for _ in range(50):
        feats, *_, lengths, _ = train.collate_fn(items)
        changed = (feats != plain) & (feats == 0)
        assert torch.equal(torch.where(changed, plain, feats), plain)
        seen.append(changed)
    for row, T in enumerate(FRAMES):
        assert not any(mask[row, T:].any() for mask in seen)
        assert len({tuple(mask[row].flatten().tolist()) for mask in seen}) > 20
    assert any((mask[0, :31].any(0) != mask[1, :31].any(0)).any() for mask in seen)


def test_the_distribution_of_a_mask():
    """The widths 0 to range - 1 are equally frequent; each place can be blotted out."""
    torch.manual_seed(0)
    feats = torch.ones(4000, 12, 2)
    masked = AxisMask(4, 1)(feats, torch.full((4000,), 12), 0.0)[:, :, 0] == 0
    counts = torch.bincount(masked.sum(1), minlength=4)
    assert len(counts) == 4 and (counts - 1000).abs().max() < 120
    assert masked[:, :11].any(0).all()
    runs = (masked[:, 1:].int() - masked[:, :-1].int()).clamp(min=0).sum(1) + masked[:, 0]
    assert runs.max() == 1  # a single stretch
    short = AxisMask(40, 1)(torch.ones(50, 12, 2), torch.full((50,), 3), 0.0)
    assert (short[:, 3:] == 1).all()


def test_masks_can_be_drawn_again(make):
    data = make(specaug=True)
    batches = []
    for _ in range(2):
        torch.manual_seed(7)
        loader = DataLoader(data, 2, shuffle=True, collate_fn=data.collate_fn)
        batches.append([batch[0] for batch in loader])
    assert all(torch.equal(*pair) for pair in zip(*batches, strict=True))


def test_a_file_is_not_held_open_nor_in_memory(make):
    data = make()
    assert isinstance(data.feats[3], np.memmap) and data.feats[3] is not data.feats[3]


def test_verify_dataloader_prints_features(make, capsys):
    for data in (make(), make("test", False, make().stats)):
        verify_dataloader(DataLoader(data, 2, collate_fn=data.collate_fn))
    out = capsys.readouterr().out
    assert "features (2, 64, 8), shifted (2, 12), golden (2, 12), feature lengths (2,)" in out
    assert "features (2, 33, 8), feature lengths (2,)" in out
    assert "longest utterance: 70 frames" in out and "longest utterance: 33 frames" in out


# ---- Bad data


def replaced(folder, array):
    np.save(folder / "train" / "fbank" / "u1.npy", array)


GOOD = features_of([64])[0]
NAN = GOOD.copy()
NAN[2, 7] = np.nan


@pytest.mark.parametrize(("array", "message"), [
    (GOOD.T.copy(), r"u1\.npy: \(64, 8\) has time first"),
    (GOOD[:5], r"u1\.npy: 5 bins, but data\.num_feats is 8"),
    (np.zeros((9, 20), np.float32), r"u1\.npy: 9 bins, but u0\.npy has 8"),
    (NAN, r"u1\.npy: bin 2 of frame 7 is nan"),
    (GOOD[:, :0], r"u1\.npy: no frames"),
    (GOOD.astype(int), r"u1\.npy: an array of int64"),
    (GOOD[0], r"u1\.npy: an array of float32 and shape \(64,\)"),
    (np.array([{}]), r"u1\.npy: an array of object"),
])  # fmt: skip
def test_bad_features_are_named(make, folder, array, message):
    replaced(folder, array)
    with pytest.raises(ValueError, match=message):
        make()


def test_damaged_features_are_named(make, folder):
    path = folder / "train" / "fbank" / "u1.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(ValueError, match=r"u1\.npy: of another size than its header says"):
        make()
    path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"u1\.npy: not a \.npy file"):
        make()
    path.write_bytes(content)
    data = make()
    path.unlink()
    with pytest.raises(ValueError, match=r"u1\.npy: cannot be read any more"):
        data[1]


def test_hidden_files_are_no_utterances(make, folder):
    """As macOS leaves them beside each file that it copies."""
    for kind in ("fbank", "text"):
        for name in ("._u0.npy", "._u9.npy", ".DS_Store"):
            (folder / "train" / kind / name).write_bytes(b"Mac OS X")
    data = make()
    assert data.fbank_files == data.text_files == [f"u{i}.npy" for i in range(5)]


def test_missing_and_extra_transcripts_are_named(make, folder):
    (folder / "train" / "text" / "u3.npy").rename(folder / "u3.npy")
    with pytest.raises(ValueError, match=r"u3 has features but no transcript \(5 .*, 4 with tran"):
        make()
    (folder / "u3.npy").rename(folder / "train" / "text" / "u9.npy")
    with pytest.raises(ValueError, match="u3 has features but no transcript"):
        make()
    (folder / "train" / "text" / "u9.npy").rename(folder / "train" / "text" / "u3.npy")
    (folder / "train" / "fbank" / "u4.npy").unlink()
    with pytest.raises(ValueError, match="u4 has text but no features"):
        make()


@pytest.mark.parametrize(("changed", "message"), [
    ({"norm": "mvn"}, "data.norm 'mvn': choose one of global_mvn, cepstral, none"),
    ({"subset": 0}, "data.subset 0"), ({"subset": 0.1}, "0.1 of its 5 .npy files is none"),
    ({"partition": "dev"}, "fbank: no such folder"), ({"train": False}, "give them as global_sta"),
    ({"stats": (torch.zeros(3), torch.ones(3))}, "global_stats: not 8 finite numbers"),
])  # fmt: skip
def test_what_a_dataset_refuses(make, changed, message):
    with pytest.raises(ValueError, match=message):
        make(**changed)


def test_the_courses_subset(real_data, tokenizers):
    """The numbers of the course's files, counted by another program."""
    root = real_data("hw4p2_data")
    config = data_config(root, num_feats=80)
    train = ASRDataset("train-clean-100", config, tokenizers["1k"], True)
    assert (len(train), train.feat_max_len, sum(train.feat_lengths)) == (28, 2047, 47585)
    assert (train.total_chars, train.total_tokens, train.text_max_len) == (6656, 2203, 103)
    frames = np.concatenate([np.array(feat, np.float64) for feat in train.feats], 1)
    assert_close(train.global_mean.numpy(), frames.mean(1).astype(np.float32))
    test = ASRDataset("test-clean", config, tokenizers["1k"], False, train.stats)
    assert len(test) == 2 and test.feat_max_len == 1305 and test.text_max_len == 0
