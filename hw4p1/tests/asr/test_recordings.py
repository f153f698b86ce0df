"""From sound to features and to text: every kind of recording that somebody may have."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hw4lib import recognition
from hw4lib.data import recordings
from hw4lib.data.front_end import HOP, RATE, log_mel, mel_filters
from hw4lib.data.recordings import read_recording, recordings_of
from hw4lib.recognition import Recogniser, cut, joined, trimmed, with_sound
from torch.testing import assert_close

soundfile = pytest.importorskip("soundfile")


def sweep(seconds=1.0, rate=RATE, loudness=0.5) -> np.ndarray:
    """A tone that rises, and noise in its second half."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(t)) * 0.02 * (t > seconds / 2)
    tone = np.sin(2 * np.pi * (300 + 200 * t) * t)
    return (loudness * tone + noise).astype(np.float32)


# ---- Features


def slowly(samples: np.ndarray, frames: range) -> np.ndarray:
    """The features of some frames by their definition: a sum over samples for each frequency."""
    padded = np.pad(samples.astype(np.float64), 256)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    mels = [m * 45.245640471924965 / 81 for m in range(82)]  # 8 kHz is 45.2456
    hertz = [
        m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27) for m in mels
    ]
    power = np.zeros((80, len(frames)))
    for column, frame in enumerate(frames):
        part = padded[frame * 128 : frame * 128 + 512] * window
        for k in range(257):
            angle = 2 * np.pi * k * np.arange(512) / 512
            energy = (part @ np.cos(angle)) ** 2 + (part @ np.sin(angle)) ** 2
            f = k * 8000 / 256
            for band in range(80):
                low, middle, high = hertz[band : band + 3]
                weight = min((f - low) / (middle - low), (high - f) / (high - middle))
                power[band, column] += max(0.0, weight) * 2 / (high - low) * energy
    return power


def test_features_are_their_definition():
    samples, frames = sweep(0.15), range(0, 19, 9)
    found = log_mel(torch.from_numpy(samples))
    assert found.shape == (80, 1 + len(samples) // HOP) and found.dtype == torch.float32
    assert found.max() == 0 and found.min() >= -80
    power = slowly(samples, frames)
    expected = 10 * np.log10(np.maximum(power, 1e-10))
    shift = float(found[:, 0].max()) - expected[:, 0].max()  # the loudest is in another frame
    expected = np.maximum(expected + shift, -80)
    assert_close(found[:, list(frames)], torch.from_numpy(expected).float(), atol=1e-3, rtol=0)


def test_features_are_librosas():
    librosa = pytest.importorskip("librosa")
    samples = sweep(0.7)
    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=512, hop_length=HOP, n_mels=80
    )
    expected = librosa.power_to_db(power, ref=np.max, top_db=80)
    assert_close(log_mel(torch.from_numpy(samples)).numpy(), expected, atol=1e-2, rtol=0)


def test_bands_are_triangles_that_cover_the_spectrum():
    filters = mel_filters()
    assert filters.shape == (80, 257) and (filters >= 0).all()
    assert (filters[:, 2:256].sum(0) > 0).all() and (filters.sum(1) > 0).all()


def test_silence_after_sound_is_at_the_floor_and_loudness_does_not_matter():
    samples = torch.from_numpy(np.concatenate([sweep(0.3), np.zeros(8000, np.float32)]))
    found = log_mel(samples)
    assert (found[:, 45:] == -80).all()
    assert_close(log_mel(samples / 50), found, atol=1e-3, rtol=0)


# ---- Files


@pytest.fixture
def save(tmp_path):
    def write(samples, name="a.wav", rate=RATE, **options):
        soundfile.write(tmp_path / name, samples, rate, **options)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_recording_is_read(save, name):
    samples, notes = read_recording(save(sweep(), name))
    assert notes == [] and samples.dtype == torch.float32
    assert_close(samples.numpy(), sweep(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_another_rate_is_resampled_and_said(save, rate):
    samples, notes = read_recording(save(sweep(rate=rate), rate=rate))
    assert notes == [f"resampled from {rate:,} Hz to 16,000"]
    assert abs(len(samples) - RATE) <= 2
    middle = slice(400, 7500)  # before the noise
    assert_close(samples[middle].numpy(), sweep()[middle], atol=5e-3, rtol=0)


def test_what_is_above_half_the_rate_is_not_folded_down(save):
    t = np.arange(44100) / 44100
    samples, _ = read_recording(save(0.5 * np.sin(2 * np.pi * 12_000 * t), rate=44100))
    assert samples[500:-500].abs().max() < 1e-3


def test_the_channels_are_averaged(save):
    both = np.stack([sweep(), 0.5 * sweep()], 1)
    samples, notes = read_recording(save(both))
    assert notes == ["the mean of its 2 channels"]
    assert_close(samples.numpy(), 0.75 * sweep(), atol=1e-4, rtol=0)


def test_silence_and_clipping_are_said(save):
    assert read_recording(save(np.zeros(RATE)))[1] == ["silence alone"]
    clipped = np.clip(sweep(loudness=3.0), -1, 1)
    (note,) = read_recording(save(clipped))[1]
    assert note.endswith("of its samples are clipped, which costs words")
    assert read_recording(save(sweep(loudness=0.9)))[1] == []


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_a_recording_without_a_word(save, seconds):
    with pytest.raises(ValueError, match=r"a\.wav: 0\.0\d s long, too short for a word"):
        read_recording(save(sweep(seconds)))


def test_what_is_no_recording(tmp_path, save, monkeypatch):
    (tmp_path / "text.wav").write_text("hello")
    (tmp_path / "empty.flac").write_bytes(b"")
    whole = save(sweep(), "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[:40])
    (tmp_path / "folder.wav").mkdir()
    for name in ("text.wav", "empty.flac", "cut.flac"):
        with pytest.raises(ValueError, match=f"{name}: not a sound file"):
            read_recording(tmp_path / name)
    for name in ("gone.wav", "folder.wav"):
        with pytest.raises(ValueError, match=f"{name}: no such file"):
            read_recording(tmp_path / name)
    nan = sweep()
    nan[5] = np.nan
    with pytest.raises(ValueError, match=r"a\.wav: a sample of it is no number"):
        read_recording(save(nan, subtype="FLOAT"))
    monkeypatch.setattr(recordings, "LONGEST", 0.5)
    with pytest.raises(ValueError, match=r"a\.wav: 0\.0 h long; cut it"):
        read_recording(save(sweep()))


def test_the_recordings_of_a_folder(tmp_path, save):
    for name in ("b.wav", "a.flac", ".c.wav"):
        save(sweep(0.2), name)
    (tmp_path / "notes.txt").write_text("")
    assert [path.name for path in recordings_of(tmp_path)] == ["a.flac", "b.wav"]
    assert recordings_of(tmp_path / "b.wav") == [tmp_path / "b.wav"]
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: a folder without .wav"):
        recordings_of(tmp_path / "none")


# ---- Long recordings


@pytest.mark.parametrize(("seconds", "longest"), [(5, 10), (10, 10), (10.1, 10), (600, 24), (9, 3)])
def test_parts_cover_a_recording_and_overlap_where_there_is_no_pause(seconds, longest):
    size, most = int(seconds * RATE), int(longest * RATE)
    spans = cut(torch.ones(size), most, most)
    assert spans[0][0] == 0 and spans[-1][1] == size
    assert all(end - begin == most for begin, end in spans[:-1]) and len(spans) > (size > most)
    shared = [end - begin for (_, end), (begin, _) in pairwise(spans)]
    assert set(shared) <= {min(2 * RATE, most // 2)}
    assert spans[-1][1] - spans[-1][0] <= most


def with_pauses(seconds: float, pauses: list[tuple[float, float]]) -> torch.Tensor:
    """Samples that are quiet from one second to another."""
    samples = torch.ones(int(seconds * RATE))
    for begin, end in pauses:
        samples[int(begin * RATE) : int(end * RATE)] = 1e-3
    return samples


def test_parts_end_in_pauses():
    samples = with_pauses(10, [(1.0, 1.5), (2.4, 2.8), (2.85, 2.9), (6.0, 6.4)])
    spans = cut(samples, 3 * RATE, 3 * RATE)
    assert spans[0] == (0, pytest.approx(2.7 * RATE, abs=400))  # after half of a part
    assert spans[1] == (spans[0][1], spans[0][1] + 3 * RATE)  # the next pause is too short
    assert spans[2][0] == spans[1][1] - 3 * RATE // 2
    assert spans[2][1] == pytest.approx(6.3 * RATE, abs=400)
    assert spans[3][0] == spans[2][1]


def test_parts_are_as_long_as_what_was_learned_where_pauses_permit_it():
    """Sentences of a second and two, 0.3 s apart, not two in one."""
    pauses = [(1.0, 1.3), (3.3, 3.6), (4.6, 4.9), (6.9, 7.2)]
    spans = cut(with_pauses(8.2, pauses), 4 * RATE, int(1.6 * RATE))
    ends = [(end - 0.1) * RATE for _, end in pauses]
    assert [end for _, end in spans] == [
        *(pytest.approx(end, abs=400) for end in ends[:3]), int(8.2 * RATE),
    ]  # fmt: skip


def test_a_long_pause_is_no_part():
    samples = with_pauses(20, [(3, 12)])
    spans = with_sound(samples, cut(samples, 4 * RATE, 2 * RATE))
    assert spans[0][0] == 0 and spans[-1][1] == 20 * RATE
    silent = [span for span in cut(samples, 4 * RATE, 2 * RATE) if span not in spans]
    assert silent and all(3 * RATE <= begin < end <= 12 * RATE for begin, end in silent)
    quiet, partly = (4 * RATE, 5 * RATE), (2 * RATE, 4 * RATE)
    assert with_sound(samples, [quiet, partly]) == [partly]


def test_little_silence_is_left_around_a_part():
    samples = with_pauses(3, [(0, 1), (1.4, 1.6), (2, 3)])
    assert_close(trimmed(samples), samples[int(0.95 * RATE) : int(2.35 * RATE)], atol=0, rtol=0)
    samples = with_pauses(1, [(0, 0.03), (0.9, 1)])
    assert_close(trimmed(samples), samples, atol=0, rtol=0)


def test_what_parts_have_in_common_comes_once_where_they_overlap():
    assert joined(["A B C D E", "D E F G", "F G H"], [True, True]) == "A B C D E F G H"
    assert joined(["A B C DO", "TWO C D E"], [True]) == "A B C D E"  # words cut at the seam
    assert joined(["A B", "C D"], [True]) == "A B C D"
    assert joined(["A B", "B C"], [False]) == "A B B C"  # said twice
    assert joined(["", "A", ""], [True, True]) == "A" and joined([""], []) == ""
    far = " ".join(f"W{i}" for i in range(20))
    assert joined([f"A {far}", f"{far[::-1]} A"], [True]).split().count("A") == 2


@pytest.fixture
def recogniser(asr_lab):
    trainer = asr_lab.trainer(dtype=torch.float32, max_len=126)
    trainer.config["data"]["norm"] = "cepstral"
    return Recogniser(trainer, None, {"beam_width": 1}, 12)


def test_a_recording_is_recognised_as_its_features_are(recogniser, save):
    path = save(sweep(0.9))
    text, notes = recogniser(path)
    feats = log_mel(read_recording(path)[0])[:8]
    feats = (feats - feats.mean(1, keepdim=True)) / (feats.std(1, keepdim=True) + 1e-8)
    batch = (feats.T[None], None, None, torch.tensor([feats.shape[1]]), None)
    (found,) = recogniser.trainer.recognize([batch], max_length=12)
    assert (text, notes) == (found["generated"], [])


def test_a_long_recording_is_cut_and_said(recogniser, save, monkeypatch):
    assert recogniser.longest() == RATE
    given = []

    def texts(parts):
        given.extend(parts)
        return ["A B", "B C", "C D"]

    monkeypatch.setattr(recogniser, "_texts", texts)
    monkeypatch.setattr(recognition, "SIDE_BY_SIDE", 3)
    text, notes = recogniser(save(sweep(1.9)))
    how = "of up to 1 s, at pauses or where there are none with an overlap"
    assert text == "A B C D" and notes == [f"cut into 3 parts {how}"]
    assert [len(part) for part in given] == [RATE, RATE, RATE * 9 // 10]
    monkeypatch.undo()
    assert recogniser(save(sweep(10)))[1] == [f"cut into 19 parts {how}"]


def test_the_usual_length_is_the_mean_of_the_training(recogniser):
    assert recogniser.usual() == recogniser.longest() == RATE
    recogniser.trainer.config["trained_on"] = {"frames": 500, "utterances": 8}
    assert recogniser.usual() == 500 * 128 // 8
    recogniser.trainer.config["trained_on"] = {"frames": 5000, "utterances": 8}
    assert recogniser.usual() == recogniser.longest()


def test_silence_has_no_text(recogniser, save):
    assert recogniser(save(np.zeros(RATE))) == ("", ["silence alone"])


def test_a_recording_of_which_no_frame_is_left_is_named(asr_lab, save):
    trainer = asr_lab.trainer(dtype=torch.float32, time_reduction=20)
    trainer.config["data"]["norm"] = "none"
    with pytest.raises(ValueError, match=r"a\.wav: utterance 0 of the batch has 13 frames"):
        Recogniser(trainer, None, {}, 9)(save(sweep(0.1)))


def test_a_model_of_more_bins_than_there_are(asr_lab):
    trainer = asr_lab.trainer()
    trainer.config["data"]["num_feats"] = 128
    with pytest.raises(ValueError, match="the model wants 128 bins, and recordings give 80"):
        Recogniser(trainer, None, {}, 9)
