"""Speech that is made: sentences, readers, files; and the tones where espeak-ng is not."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hw4lib.data import ASRDataset, speech
from hw4lib.data.front_end import RATE, log_mel
from hw4lib.data.recordings import read_recording
from hw4lib.data.speech import HELD_OUT, Utterance, make_speech, plan, short_sentences
from hw4lib.data.tones import LETTERS, tones
from tests.asr.small import data_config

SMALL = {"train": 4, "val": 2, "test": 3}


@pytest.fixture
def no_espeak(monkeypatch):
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)


# ---- Sentences


def test_sentences_are_short_and_there_once(tmp_path):
    path = tmp_path / "a.tokens"
    path.write_text("the cat sat . oh no . the cat sat . it was 3 to 0 . do n't go there , tim !\n")
    assert short_sentences(path) == ("THE CAT SAT", "DON'T GO THERE TIM")


def test_no_sentence_and_no_voice_of_test_is_in_training():
    planned = plan({"train": 2000, "val": 80, "test": 80})
    texts = {name: {u.text for u in utterances} for name, utterances in planned.items()}
    assert [len(found) for found in texts.values()] == [2000, 80, 80]
    assert not texts["train"] & (texts["val"] | texts["test"]) and not texts["val"] & texts["test"]
    voices = {name: {u.voice for u in utterances} for name, utterances in planned.items()}
    assert len(voices["train"]) == 36 and voices["test"] == set(HELD_OUT)
    assert voices["val"] <= voices["train"] and not voices["train"] & voices["test"]
    assert all(3 <= len(u.text.split()) <= 9 for u in planned["train"])
    assert len({u.rate for u in planned["train"]}) > 40
    assert plan(SMALL) == plan(SMALL)


def test_more_sentences_than_there_are():
    with pytest.raises(ValueError, match=r"100,000 sentences for train; there are [0-9],"):
        plan({"train": 100_000})


# ---- Tones


def bands_of(samples: np.ndarray) -> np.ndarray:
    """The spectrum of a sound in steps of 100 Hz, its sum 1."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    steps = (np.arange(len(power)) * RATE / len(samples) // 100).astype(int).clip(max=79)
    summed = np.bincount(steps, power, 80)
    return summed / summed.sum()


def test_each_letter_has_a_sound_of_its_own():
    spectra = [bands_of(tones(letter * 6, "one", 160, 40)) for letter in LETTERS]
    for i, one in enumerate(spectra):
        for other in spectra[:i]:
            assert np.abs(one - other).sum() > 0.3  # of 2 at most
    again = [bands_of(tones(letter * 6, "one", 160, 40)) for letter in LETTERS]
    assert all(np.array_equal(*pair) for pair in zip(spectra, again, strict=True))


def test_rate_pitch_and_voice_of_tones():
    plain = tones("A CAT", "one", 160, 40)
    assert plain.dtype == np.float32 and 0.4 < np.abs(plain).max() < 0.6
    assert abs(len(plain) / RATE - 7 * 0.09) < 0.15
    assert len(tones("A CAT", "one", 80, 40)) > 1.6 * len(plain)
    low, high = (bands_of(tones("AAAAAA", "one", 160, pitch)) for pitch in (0, 99))
    assert np.abs(low - high).sum() > 0.3
    shifted = bands_of(tones("AAAAAA", "two", 160, 0))
    assert np.abs(low - shifted).sum() > 0.3
    frames = log_mel(torch.from_numpy(tones("A    A", "one", 160, 40)))
    middle = frames[:, frames.shape[1] // 2]
    assert middle.max() < -20  # a space is silent but for the room


# ---- Files


def test_what_is_written(tmp_path, no_espeak, tokenizers):
    root = tmp_path / "new" / "speech"
    record = make_speech(root, SMALL, {"train": "a", "val": "b", "test": "c"})
    assert record == json.loads((root / "source.json").read_text())
    assert record["utterances"] == {"a": 4, "b": 2, "c": 3}
    assert "no speech (espeak-ng is not installed)" in record["what"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["speech"]
    for name, planned in zip("abc", plan(SMALL).values(), strict=True):
        config = data_config(root, num_feats=80, norm="none")
        data = ASRDataset(name, config, tokenizers["char"], True)
        decode = tokenizers["char"].decode
        texts = [decode(golden[:-1]) for golden in data.transcripts_golden]
        assert texts == [utterance.text for utterance in planned]
        assert all(0.5 < T / 125 / (len(t) * 0.09) < 2 for T, t in zip(data.feat_lengths, texts,
                                                                     strict=True))  # fmt: skip
    sounds = sorted((root / "recordings").iterdir())
    assert [path.name[:5] for path in sounds] == ["00000", "00001", "00002"]
    samples, notes = read_recording(sounds[0])
    test = plan(SMALL)["test"]
    assert notes == [] and np.abs(samples.numpy() - tones(*test[0])).max() < 1e-3
    with pytest.raises(ValueError, match="speech: is there already"):
        make_speech(root, SMALL)


def test_nothing_is_left_of_speech_that_could_not_be_made(tmp_path, monkeypatch, no_espeak):
    def failing(utterance):
        raise OSError("no")

    monkeypatch.setattr(speech, "read_aloud", failing)
    with pytest.raises(OSError, match="no"):
        make_speech(tmp_path / "speech", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_error_ends_the_utterances_that_wait(tmp_path, monkeypatch, no_espeak):
    begun, threads = [], torch.get_num_threads()

    def failing(utterance):
        begun.append((utterance, torch.get_num_threads()))
        time.sleep(0.01)
        raise ValueError("no voice")

    monkeypatch.setattr(speech, "read_aloud", failing)
    with pytest.raises(ValueError, match="no voice"):
        make_speech(tmp_path / "speech", {"train": 400})
    assert 1 <= len(begun) < 200
    assert {number for _, number in begun} == {1}
    assert torch.get_num_threads() == threads


def test_the_reader_is_told_what_to_read(monkeypatch, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    calls = []

    def run(command, **options):
        calls.append(command)
        soundfile.write(command[command.index("-w") + 1], tones("A", "one", 160, 40), RATE)
        return speech.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(speech.shutil, "which", lambda name: "/bin/espeak-ng")
    monkeypatch.setattr(speech.subprocess, "run", run)
    samples = speech.read_aloud(Utterance("DON'T GO", "en-gb+f2", 150, 60))
    assert len(samples) == len(tones("A", "one", 160, 40))
    (command,) = calls
    assert command[:7] == ["espeak-ng", "-v", "en-gb+f2", "-s", "150", "-p", "60"]
    assert command[-2:] == ["--", "don't go"]
    failed = speech.subprocess.CompletedProcess([], 1, "", "no voice\n")
    monkeypatch.setattr(speech.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(ValueError, match=r"espeak-ng: cannot read a sentence \(no voice\)"):
        speech.read_aloud(Utterance("A", "x", 150, 60))


@pytest.mark.skipif(not speech.has_espeak(), reason="espeak-ng is not installed")
def test_espeak_reads_in_different_voices():
    one, other, slow = (
        speech.read_aloud(Utterance("ONCE UPON A TIME", voice, rate, 50))
        for voice, rate in (("en-us+m1", 160), ("en-gb+f2", 160), ("en-us+m1", 110))
    )
    assert 0.5 < len(one) / RATE < 3 and len(slow) > 1.2 * len(one)
    assert np.abs(bands_of(one.numpy()) - bands_of(other.numpy())).sum() > 0.3
    assert "espeak-ng 1." in speech.described()


def test_the_source_of_the_sentences_is_in_the_repository():
    assert all((speech.SAMPLE / name).is_file() for name in speech.SOURCES.values())
    assert isinstance(speech.SAMPLE, Path)
