"""What is handed in: no litter, and no numbers of text that the model was trained on."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import run_lm
from hw4lib.handin import pack
from tests.tiny import write_data

LITTER = [
    "._linear.py", ".DS_Store", "__MACOSX/x.py", "__pycache__/linear.pyc", "nn/._softmax.py",
    "nn/.ipynb_checkpoints/a.py", "nn/linear.pyc", "Thumbs.db", "desktop.ini", "linear.py~",
    ".linear.py.swp", ".git/config",
]


def test_nobody_s_work_is_not_packed(tmp_path):
    for name in [*LITTER, "nn/linear.py", "nn/data.DS_Storey"]:
        (tmp_path / "mytorch" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mytorch" / name).write_text("x")
    packed = pack("handin", {"mytorch": tmp_path / "mytorch"})
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as tar:
        names = [member.name for member in tar if member.isfile()]
        folders = [member.name for member in tar if member.isdir()]
    assert sorted(names) == ["handin/mytorch/nn/data.DS_Storey", "handin/mytorch/nn/linear.py"]
    assert sorted(folders) == ["handin/mytorch", "handin/mytorch/nn"]


def put(root: str, partition: str, texts: list[str]) -> Path:
    """A folder with these texts as a partition."""
    folder = Path(root, partition)
    folder.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        np.save(folder / f"new-{i}.npy", np.array(text))
    return folder


def read(partition: str) -> list[str]:
    return [np.load(path).item() for path in sorted(Path("data", partition).iterdir())]


def test_what_it_was_trained_on_is_no_test(trained_run, fails, says):
    shutil.copytree("data/train", "same/test")
    said = fails("handin", "--data", "same")
    words = "same/test: the model was trained on these very transcripts; give other text to test on"
    assert words in said and not Path("handin.tar").exists()
    assert "note: the model was trained on these very transcripts\n" in says(
        "evaluate", "--data", "same"
    )


def test_copies_under_other_names_are_found(trained_run, fails):
    put("copied", "test", [*read("test"), read("train")[7], "ALL NEW"])
    words = "copied/test: the model was trained on 1 of its 8 transcripts, such as new-6.npy; give"
    assert words in fails("handin", "--data", "copied")


def test_a_few_alike_are_noted(trained_run, says):
    new = [f"A CAT SAT ON {'A ' * i}MAT" for i in range(14)]
    put("few", "test", [*new, read("train")[3]])
    words = "note: the model was trained on 1 of its 15 transcripts, such as new-14.npy\n"
    assert words in says("handin", "--data", "few")
    assert Path("handin.tar").exists()


def test_words_and_characters_are_the_same_text(trained_run, fails):
    folder = put("other", "test", [])
    text = read("train")[0]
    np.save(folder / "words.npy", np.array(text.split()))
    np.save(folder / "characters.npy", np.array(list(text)))
    assert "trained on 2 of its 2 transcripts" in fails("handin", "--data", "other")


def test_a_test_that_chose_the_epoch_is_noted(trained_run, says):
    shutil.copytree("data/val", "chosen/test")
    words = "note: the best epoch was chosen on these very transcripts, by validation\n"
    assert words in says("handin", "--data", "chosen")


def test_a_test_of_its_own_needs_no_word(trained_run, says):
    assert "trained on" not in says("handin")
    assert "trained on" not in says("evaluate")


@pytest.mark.parametrize("change", [
    lambda: shutil.rmtree("data/train"),
    lambda: Path("data/train/000.npy").write_bytes(b"damaged"),
    lambda: Path("data/train/000.npy").unlink(),
])
def test_a_training_that_is_no_longer_there_is_noted(trained_run, says, change):
    change()
    words = "note: data/train has not, or no longer, what the model was trained on, so no "
    assert words in says("handin")


def test_a_share_of_the_training_is_compared_as_it_was_taken(begun, fails, says):
    half = ["--config", "small.yaml", "--data", "data", "--set", "data.subset=0.5"]
    assert run_lm.main(["train", *half]) == 0
    texts = read("train")
    short = sorted(texts[20:], key=len)[:10]  # for which the model has room
    put("seen", "test", texts[:20] * 2)  # of the test too a half is taken
    put("unseen", "test", short * 2)
    assert "trained on 20 of its 20 transcripts" in fails("handin", "--data", "seen")
    assert "note" not in says("handin", "--data", "unseen").partition("texts, mytorch/")[0]


def test_data_of_another_folder_is_not_mistaken(trained_run, says):
    write_data(Path("again"))  # the same texts, under the same names
    assert "trained on" not in says("handin", "--data", "again")
