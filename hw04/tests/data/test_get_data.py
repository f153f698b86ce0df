"""get_data.py against a small web server on this machine: no test leaves it."""

import base64
import contextlib
import functools
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import get_data
import make_digests
import pytest
from holding import held

SCRIPT = Path(get_data.__file__)
GLOVE = {f"glove.6B.{dim}d.txt": f"the {dim}\ncat 0.5\n".encode() for dim in (50, 100, 200, 300)}
SPLITS = ("train", "valid", "test")
WIKI = {f"wiki.{split}.tokens": f" = {split} = \n a <unk> b \n".encode() for split in SPLITS}
STORIES = ["Tom's cat\nsat.", "I don't.", "Tom's cat\nsat.", "", "A “dog”!", "So…", "never used"]
RAW = "".join(f"{story}\n<|endoftext|>\n" for story in STORIES).encode()
DATA = os.environ.get("LSTLM_DATA")
TOKENISED = {
    "train.tokens.4M": "tom 's cat sat .\ni do n't .\n",
    "valid.tokens.200K": 'a " dog " !\n',
    "test.tokens.4M": "so ...\n",
}


def zipped(files, folder="", method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(folder + name)  # the same whatever the time is
            archive.writestr(entry, content, method)
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; `ranges`, `etag` and more can be set.

    `cut`: send that many bytes, then hang up. `busy`: status of all requests from a later byte on.
    `drip`: seconds before each byte of the content, `slow_head` before each of the rest.
    """

    def do_GET(self):
        server, body = self.server, self.server.files.get(self.path)
        server.asked.append((self.path, self.headers["Range"]))
        start = int((self.headers["Range"] or "bytes=0-")[6:-1]) if server.ranges else 0
        if start and server.busy:
            self.send_error(server.busy)
            return
        if body is None or start >= len(body):
            self.send_error(404 if body is None else 416, server.reason)
            return
        if server.slow_head:
            self.drip(b"HTTP/1.0 200 " + b"x" * 10000, server.slow_head)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if server.size is not None:
            self.send_header("Content-Length", str(server.size or len(body) - start))
        self.send_header("ETag", server.etag)
        self.end_headers()
        self.drip(body[start : server.cut], server.drip)
        server.sent.set()
        if server.stall:
            server.stall.wait(60)  # far longer than a busy machine takes

    def drip(self, content, seconds):
        """Send bytes, one at a time if they are to come slowly."""
        pieces = [bytes([byte]) for byte in content] if seconds else [content]
        with contextlib.suppress(OSError):  # the program has gone
            for piece in pieces:
                time.sleep(seconds)
                self.wfile.write(piece)
                self.wfile.flush()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.ranges, server.etag = {}, [], True, '"1"'
    server.cut, server.stall, server.sent = None, None, threading.Event()
    server.busy, server.reason, server.size, server.drip, server.slow_head = None, None, 0, 0, 0
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.drip = server.slow_head = 0
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def small_splits(monkeypatch):
    monkeypatch.setattr(get_data, "TINY_TOKENS", (8, 4, 2))


def run(capsys, folder, *args):
    """Exit status and what was written to stderr; an error is one line."""
    status = get_data.main([*map(str, args), "-o", str(folder)])
    error = capsys.readouterr().err
    assert error.count("\n") == (status == 2)
    return status, error


def files(folder):
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def tiny_files():
    return {f"tiny/tiny.{name}": text.encode() for name, text in TOKENISED.items()}


def under(folder, contents):
    return {f"{folder}/{name}": content for name, content in contents.items()}


def test_downloads_everything_into_the_layout_of_the_handout(server, tmp_path, capsys, monkeypatch):
    server.files = {"/g": zipped(GLOVE), "/t": RAW, "/w": zipped(WIKI, "wikitext-2/")}
    for name in get_data.SOURCES:
        source = replace(get_data.SOURCES[name], urls=(f"{server.url}/{name[0]}",))
        monkeypatch.setitem(get_data.SOURCES, name, source)
    assert run(capsys, tmp_path) == (0, "")
    assert files(tmp_path) == under("glove.6B", GLOVE) | tiny_files() | under("wiki", WIKI)


def test_dims_and_the_first_address_that_answers(server, tmp_path, capsys, monkeypatch):
    server.files["/here"] = zipped(GLOVE)
    source = replace(get_data.SOURCES["glove"], urls=(f"{server.url}/gone", f"{server.url}/here"))
    monkeypatch.setitem(get_data.SOURCES, "glove", source)
    assert run(capsys, tmp_path, "glove", "-dims", "100,300")[0] == 0
    assert sorted(files(tmp_path)) == ["glove.6B/glove.6B.100d.txt", "glove.6B/glove.6B.300d.txt"]


def cut_off(server, tmp_path, capsys):
    """A first run whose connection ends after 100 bytes."""
    server.files["/w"], server.cut = zipped(WIKI), 100
    status, error = run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w")
    assert status == 2 and "ended after 100 of" in error and "run the same command again" in error
    assert files(tmp_path)["wikitext-2-v1.zip.part"] == zipped(WIKI)[:100]
    server.cut = None


@pytest.mark.parametrize(
    ("change", "ranges_asked"),
    [
        ({}, ["bytes=100-"]),
        ({"ranges": False}, ["bytes=100-", None]),
        ({"etag": '"2"'}, ["bytes=100-", None]),
        ({"files": {"/w": zipped(WIKI | {"more": b"!"})}}, ["bytes=100-", None]),  # another size
    ],
)
def test_goes_on_where_it_stopped_or_starts_again(server, tmp_path, capsys, change, ranges_asked):
    cut_off(server, tmp_path, capsys)
    vars(server).update(change, asked=[])
    assert run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w") == (0, "")
    assert [asked for _, asked in server.asked] == ranges_asked
    assert files(tmp_path) == under("wiki", WIKI)


def test_starts_again_when_the_file_is_shorter_than_the_part(server, tmp_path, capsys):
    cut_off(server, tmp_path, capsys)
    server.files["/t"] = RAW[:90]
    (tmp_path / "wikitext-2-v1.zip.part").rename(tmp_path / "TinyStoriesV2-GPT4-valid.txt.part")
    note = {"url": f"{server.url}/t", "etag": '"1"', "size": 1000}
    (tmp_path / "TinyStoriesV2-GPT4-valid.txt.part.json").write_text(json.dumps(note))
    status, error = run(capsys, tmp_path, "tiny", "-url", f"tiny={server.url}/t")
    assert status == 2 and "too short" in error
    assert server.asked[-2:] == [("/t", "bytes=100-"), ("/t", None)]


def test_does_not_join_pieces_from_two_addresses(server, tmp_path, capsys):
    cut_off(server, tmp_path, capsys)
    server.files["/other"] = server.files["/w"]
    assert run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/other") == (0, "")
    assert server.asked[-1] == ("/other", None)


def test_ctrl_c_keeps_the_part_and_the_next_run_goes_on(server, tmp_path):
    server.files["/w"], server.cut, server.stall = zipped(WIKI), 100, threading.Event()
    command = [sys.executable, SCRIPT, "wiki", "-url", f"wiki={server.url}/w", "-o", tmp_path]
    # A shell lets what it starts in the background ignore Ctrl-C, and so would these tests'.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    part = tmp_path / "wikitext-2-v1.zip.part"
    assert server.sent.wait(60)
    while not part.exists():
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and f"{part} is kept" in error and "Traceback" not in error
    server.stall.set()
    server.cut, server.stall = None, None
    assert subprocess.run(command, timeout=60).returncode == 0
    assert files(tmp_path) == under("wiki", WIKI)


def test_checksum(server, tmp_path, capsys, monkeypatch):
    server.files["/w"] = zipped(WIKI)
    good = "md5:" + hashlib.md5(zipped(WIKI)).hexdigest()
    for checksum, status in ("sha256:" + "0" * 64, 2), (good, 0):
        source = replace(get_data.SOURCES["wiki"], urls=(f"{server.url}/w",), checksum=checksum)
        monkeypatch.setitem(get_data.SOURCES, "wiki", source)
        result, error = run(capsys, tmp_path, "wiki")
        assert result == status and ("not " + "0" * 64 in error) == (status == 2)
        assert files(tmp_path) == (under("wiki", WIKI) if status == 0 else {})


def test_without_a_published_checksum_the_digest_is_printed(server, tmp_path, capsys):
    server.files["/w"] = zipped(WIKI)
    assert get_data.main(["wiki", "-url", f"wiki={server.url}/w", "-o", str(tmp_path)]) == 0
    assert hashlib.sha256(zipped(WIKI)).hexdigest() in capsys.readouterr().out


def test_not_found_and_nobody_there(server, tmp_path, capsys):
    for url, reason in (f"{server.url}/gone", "404"), ("http://127.0.0.1:9/x", "refused"):
        status, error = run(capsys, tmp_path, "glove", "-url", f"glove={url}")
        assert status == 2 and url in error and reason in error and "-from_file glove=PATH" in error
    assert files(tmp_path) == {}


def damaged(content):
    """A zip whose directory is whole but whose first member is not."""
    return content[:60] + bytes(byte ^ 255 for byte in content[60:70]) + content[70:]


BIG = {name: os.urandom(1000) for name in WIKI}


FIRST = b"wiki.train.tokens"  # the name of the first member
DIRECTORY = b"PK\x01\x02"  # begins the first member's entry at the end of a zip


TWO_DISKS = b"PK\x06\x07" + bytes(12) + b"\x02\0\0\0"  # stands before a zip's last 22 bytes


def with_entry(place, value, files=BIG):
    """A zip whose entry for the first member has other bytes from a place on."""
    content = zipped(files)
    at = content.index(DIRECTORY) + place
    return content[:at] + value + content[at + len(value) :]


BAD_ZIPS = {
    "cut off": zipped(BIG)[:-50],
    "damaged": damaged(zipped(BIG)),
    "HTML": b"<html>sign in</html>",
    "another": zipped(GLOVE),
    "damaged bzip2": damaged(zipped(BIG, method=zipfile.ZIP_BZIP2)),
    "damaged LZMA": damaged(zipped(BIG, method=zipfile.ZIP_LZMA)),
    "encrypted": with_entry(8, b"\x01"),
    "unknown method": with_entry(10, b"\x63"),
    "a place before the file": with_entry(42, b"\xff\xff\xff\xff"),
    "a place behind the file": with_entry(42, b"\xff\xff\xff\x7f"),
    "another name in its head": zipped(BIG).replace(FIRST, b"wiki.trees.tokens", 1),
    "a name that is no UTF-8": with_entry(46, b"\xff\xfe").replace(
        DIRECTORY + b"\x14\x03\x14\x00\x00\x00", DIRECTORY + b"\x14\x03\x14\x00\x00\x08", 1
    ),
    "a part of several": zipped(BIG)[:-22] + TWO_DISKS + zipped(BIG)[-22:],
    "a folder": zipped({f"{name}/": b"" for name in WIKI}),
    "empty": zipped(dict.fromkeys(WIKI, b"")),
    "a name twice": zipped(WIKI | {f"old/{FIRST.decode()}": b"old"}),
}


@pytest.mark.parametrize("content", BAD_ZIPS.values(), ids=BAD_ZIPS)
def test_bad_zip_leaves_nothing(server, tmp_path, capsys, content):
    server.files["/w"] = content
    status, error = run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w")
    assert status == 2 and "zip" in error and str(tmp_path) in error
    assert files(tmp_path) == {}  # not even the download: the next run must fetch it anew


def damage_each_byte(folder, capsys, step):
    """Each byte of zips in turn is another: one line, or all is right, and half a file never."""
    small = {name: content * 3 for name, content in WIKI.items()}
    counts = {0: 0, 2: 0}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        whole = zipped(small, method=method)
        for place in range(method, len(whole), step):
            given = folder / "w.zip"
            given.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            args = ("wiki", "-force", "-from_file", f"wiki={given}")
            status, _ = run(capsys, folder / "out", *args)
            counts[status] += 1
            made = files(folder / "out")
            assert made.items() <= under("wiki", small).items()
            assert status == 2 or len(made) == 3
    assert min(counts.values()) > 20


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """No waiting for the disk, and no comparison with the README's files."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(get_data, "DIGESTS", tmp_path / "none")


def test_some_bytes_of_a_zip_are_damaged(tmp_path, capsys, quick):
    damage_each_byte(tmp_path, capsys, 13)


@pytest.mark.thorough
def test_any_byte_of_a_zip_is_damaged(tmp_path, capsys, quick):
    damage_each_byte(tmp_path, capsys, 1)


@pytest.mark.parametrize("folder", ["wikitext-2\\", "C:\\data\\wiki/", "\\\\host\\"])
def test_names_with_backslashes_are_paths_too(tmp_path, capsys, folder):
    (tmp_path / "w.zip").write_bytes(zipped(WIKI, folder))
    args = ("wiki", "-from_file", f"wiki={tmp_path}/w.zip")
    assert run(capsys, tmp_path / "out", *args) == (0, "")
    assert files(tmp_path / "out") == under("wiki", WIKI)


def test_a_reason_is_short_and_has_no_escape_codes(server, tmp_path, capsys):
    server.reason = "\x1b[31mgone\x9b2J" + "!" * 5000
    url = f"{server.url}/x"
    assert get_data.main(["wiki", "-url", f"wiki={url}", "-o", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "\\x1b[31mgone\\x9b2J!!!" in err and len(err) < 600
    assert out + err.removesuffix("\n") == "".join(filter(str.isprintable, out + err))


def test_a_trickle_is_cut_off_as_a_whole_and_what_came_is_kept(
    server, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(get_data, "PATIENCE", 0.5)  # far longer than a byte takes
    server.files["/w"], server.drip = zipped(WIKI), 0.02
    begin = time.monotonic()
    status, error = run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w")
    assert time.monotonic() - begin < 10
    assert status == 2 and "too slow" in error and "run the same command again" in error
    part = files(tmp_path)["wikitext-2-v1.zip.part"]
    assert 0 < len(part) < 100 and zipped(WIKI).startswith(part)
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.drip = 0
    assert run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w") == (0, "")
    assert server.asked[-1][1] == f"bytes={len(part)}-"
    assert files(tmp_path) == under("wiki", WIKI)


def test_slow_is_not_a_trickle_but_must_end_some_time(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(get_data, "PATIENCE", 0.5)
    monkeypatch.setattr(get_data, "PIECE", 1)
    server.files["/w"], server.drip = zipped(WIKI), 0.002  # for a second
    assert len(zipped(WIKI)) > 200
    assert run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w") == (0, "")
    monkeypatch.setattr(get_data, "LONGEST", 0.2)
    args = ("wiki", "-force", "-url", f"wiki={server.url}/w")
    status, error = run(capsys, tmp_path, *args)
    assert status == 2 and "too slow" in error and "wikitext-2-v1.zip.part" in files(tmp_path)


def test_an_answer_that_trickles_is_no_answer(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(get_data, "PATIENCE", 0.3)
    server.files["/w"], server.slow_head = zipped(WIKI), 0.02
    begin = time.monotonic()
    status, error = run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w")
    assert time.monotonic() - begin < 10
    assert status == 2 and "/w: the server is too slow" in error and files(tmp_path) == {}


def test_a_file_that_is_too_large_is_refused(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(get_data, "LARGEST", 1000)
    server.files["/w"], server.size = bytes(2000), 1001
    args = ("wiki", "-url", f"wiki={server.url}/w")
    for server.size in (1001, None):  # what it says, and what comes if it says nothing
        status, error = run(capsys, tmp_path, *args)
        assert status == 2 and "/w: more than 1,000 bytes" in error and files(tmp_path) == {}


@pytest.mark.parametrize("busy", [429, 503])
def test_a_busy_server_costs_no_part(server, tmp_path, capsys, busy):
    cut_off(server, tmp_path, capsys)
    server.busy = busy
    status, error = run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w")
    assert status == 2 and f"HTTP Error {busy}" in error
    assert files(tmp_path)["wikitext-2-v1.zip.part"] == zipped(WIKI)[:100]


@pytest.mark.parametrize("note", ["[" * 100000, "[]", "{}", '{"url": [1]}', "\xff"])
def test_a_damaged_note_of_a_part_starts_again(server, tmp_path, capsys, note):
    cut_off(server, tmp_path, capsys)
    (tmp_path / "wikitext-2-v1.zip.part.json").write_text(note, encoding="latin-1")
    assert run(capsys, tmp_path, "wiki", "-url", f"wiki={server.url}/w") == (0, "")
    assert files(tmp_path) == under("wiki", WIKI)


def test_two_at_once_do_not_write_one_part(tmp_path, capsys):
    (tmp_path / "raw.txt").write_bytes(RAW)
    args = ["tiny", "-from_file", f"tiny={tmp_path}/raw.txt"]
    with held(tmp_path / "out" / "tiny") as process:
        status, error = run(capsys, tmp_path / "out", *args)
    assert status == 2 and f"process {process} works on it" in error
    assert run(capsys, tmp_path / "out", *args) == (0, "")
    assert files(tmp_path / "out") == tiny_files()


@pytest.mark.parametrize("raw", [RAW[:30], b"\xff\xfe\x00"])
def test_bad_stories_leave_nothing(tmp_path, capsys, raw):
    (tmp_path / "raw.txt").write_bytes(raw)
    status, error = run(capsys, tmp_path, "tiny", "-from_file", f"tiny={tmp_path}/raw.txt")
    assert status == 2 and "raw.txt" in error
    assert files(tmp_path) == {"raw.txt": raw}  # a file of the user is never removed


def run_without(module, *args):
    """The script in a Python that lacks a module."""
    lines = [
        "import runpy, sys", f"sys.modules[{module!r}] = None",  # makes its import fail
        f"sys.argv = {[str(SCRIPT), *map(str, args)]}",
        f"runpy.run_path({str(SCRIPT)!r})['main']()",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True)


def test_stories_need_no_torch(tmp_path):
    (tmp_path / "raw.txt").write_bytes(RAW)
    given = f"tiny={tmp_path}/raw.txt"
    done = run_without("torch", "tiny", "-from_file", given, "-o", tmp_path)
    assert "get_data.py: error" in done.stderr and "too short, it needs 4,400,000" in done.stderr


def test_a_missing_package_is_named():
    done = run_without("tqdm", "-h")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "get_data.py: error: this Python has no tqdm" in done.stderr


def test_standard_output_may_be_closed(tmp_path):
    (tmp_path / "wiki.valid.tokens").write_text("a b")
    given = f"wiki={tmp_path}/wiki.valid.tokens"
    command = [sys.executable, SCRIPT, "wiki", "-from_file", given, "-o", tmp_path / "out"]
    shell = ["sh", "-c", 'exec "$0" "$@" >&-', *command]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "file", "content", "expected"),
    [
        ("glove", "my.zip", zipped(GLOVE), under("glove.6B", GLOVE)),
        ("glove", "glove.6B.100d.txt", b"the 1\n", {"glove.6B/glove.6B.100d.txt": b"the 1\n"}),
        ("tiny", "raw.txt", RAW, tiny_files()),
        # No member chooses where it goes.
        ("wiki", "w.zip", zipped(WIKI, "../../"), under("wiki", WIKI)),
        ("wiki", "wiki.valid.tokens", b"a b\n", {"wiki/wiki.valid.tokens": b"a b\n"}),
    ],
)
def test_from_file(tmp_path, capsys, name, file, content, expected):
    (tmp_path / file).write_bytes(content)
    assert run(capsys, tmp_path / "out", name, "-from_file", f"{name}={tmp_path / file}") == (0, "")
    assert files(tmp_path / "out") == expected
    assert (tmp_path / file).read_bytes() == content


def test_keeps_what_is_there_unless_forced(tmp_path, capsys):
    raw, valid = tmp_path / "raw.txt", tmp_path / "tiny" / "tiny.valid.tokens.200K"
    raw.write_bytes(RAW)
    valid.parent.mkdir()
    valid.write_text("mine")
    assert get_data.main(["tiny", "-from_file", f"tiny={raw}", "-o", str(tmp_path)]) == 0
    assert f"{valid}: already there, kept" in capsys.readouterr().out
    kept = {"tiny/tiny.valid.tokens.200K": b"mine", "raw.txt": RAW}
    assert files(tmp_path) == tiny_files() | kept
    assert run(capsys, tmp_path, "tiny", "-from_file", f"tiny={raw}", "-force") == (0, "")
    assert files(tmp_path) == tiny_files() | {"raw.txt": RAW}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, a disk that is full")
def test_a_full_disk_keeps_the_download_and_the_old_file(server, tmp_path, capsys):
    server.files["/w"] = zipped(WIKI)
    target = tmp_path / "wiki" / "wiki.valid.tokens"
    target.parent.mkdir()
    target.write_text("old")
    target.with_name(target.name + ".tmp").symlink_to("/dev/full")
    command = ("wiki", "-url", f"wiki={server.url}/w", "-force")
    status, error = run(capsys, tmp_path, *command)
    assert status == 2 and str(target) in error and "No space left" in error
    assert target.read_text() == "old" and "wikitext-2-v1.zip.part" in files(tmp_path)
    server.files.clear()  # the second run needs no server
    assert run(capsys, tmp_path, *command) == (0, "")
    assert files(tmp_path) == under("wiki", WIKI)


@pytest.fixture
def room(monkeypatch):
    """A function that has the disk seem to have room for so many bytes."""
    usage = shutil.disk_usage(Path())

    def have(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=free))

    return have


def test_too_small_a_disk_is_told_before_an_archive_is_unpacked(tmp_path, capsys, room):
    (tmp_path / "w.zip").write_bytes(zipped(WIKI))
    size = sum(map(len, WIKI.values()))
    largest = max(map(len, WIKI.values()))
    out = tmp_path / "out"
    command = ("wiki", "-from_file", f"wiki={tmp_path / 'w.zip'}")
    room(size - 1)
    status, error = run(capsys, out, *command)
    assert status == 2 and "make room or choose another folder with -o" in error
    assert f"wiki.train.tokens: {size} bytes are to be written, and the disk has room" in error
    assert files(out) == {}
    room(size)
    assert run(capsys, out, *command) == (0, "")
    assert files(out) == under("wiki", WIKI)
    room(largest - 1)  # each takes the place of one that is there
    assert run(capsys, out, *command, "-force")[0] == 2
    room(largest)
    assert run(capsys, out, *command, "-force") == (0, "")


def test_an_archive_that_claims_too_large_files_is_refused(tmp_path, capsys, monkeypatch, room):
    (tmp_path / "w.zip").write_bytes(zipped(WIKI))
    monkeypatch.setattr(get_data, "LARGEST", sum(map(len, WIKI.values())) - 1)
    room(0)
    command = ("wiki", "-from_file", f"wiki={tmp_path / 'w.zip'}")
    status, error = run(capsys, tmp_path / "out", *command)
    assert status == 2 and "a damaged zip file (more than" in error
    assert files(tmp_path / "out") == {}


def test_too_small_a_disk_is_told_before_a_download_and_a_copy(server, tmp_path, capsys, room):
    server.files["/w"] = zipped(WIKI)
    room(len(server.files["/w"]) - 1)
    command = ("wiki", "-url", f"wiki={server.url}/w")
    status, error = run(capsys, tmp_path / "out", *command)
    assert status == 2 and "wikitext-2-v1.zip.part: " in error and "the disk has room" in error
    assert files(tmp_path / "out") == {}
    (tmp_path / "wiki.valid.tokens").write_bytes(b"a b\n")
    command = ("wiki", "-from_file", f"wiki={tmp_path / 'wiki.valid.tokens'}")
    room(3)
    assert run(capsys, tmp_path / "out", *command)[0] == 2
    room(4)
    assert run(capsys, tmp_path / "out", *command) == (0, "")


def test_what_is_left_of_a_download_needs_no_room_for_what_is_there(
    server, tmp_path, capsys, room
):
    cut_off(server, tmp_path, capsys)
    left = len(server.files["/w"]) - 100
    room(left - 1)
    command = ("wiki", "-url", f"wiki={server.url}/w")
    status, error = run(capsys, tmp_path, *command)
    assert status == 2 and f"part: {left} bytes are to be written" in error
    assert len(files(tmp_path)["wikitext-2-v1.zip.part"]) == 100
    room(max(left, sum(map(len, WIKI.values()))))
    assert run(capsys, tmp_path, *command) == (0, "")
    assert files(tmp_path) == under("wiki", WIKI)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["books"], "there is no 'books'"),
        (["tiny", "-from_file", "tiny=/no/such.txt"], "/no/such.txt: no such file"),
        (["tiny", "-from_file", "wiki=x.zip"], "wiki, which is not among the names"),
        (["tiny", "-url", "tiny=ftp://x/y"], "not an http address"),
        (["wiki", "-same"], "-same is for tiny"),
        (["wiki", "-from_file", f"wiki={SCRIPT}", "-from_file", f"wiki={SCRIPT}"], "a second file"),
        (["tiny", "-from_file", f"tiny={SCRIPT}", "-from_file", f"tiny={SCRIPT}"], "a second file"),
        (["tiny", "-url", "tiny=http://x/y", "-from_file", f"tiny={SCRIPT}"], "give one of them"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, args, says):
    status, error = run(capsys, tmp_path, *args)
    assert status == 2 and says in error


@pytest.mark.parametrize(
    "args", [["-dims", "64"], ["-url", "books=http://x"], ["-from_file", "tiny"]]
)
def test_malformed_values(tmp_path, capsys, args):
    status, error = run(capsys, tmp_path, *args)
    assert status == 2 and args[1] in error and "get_data.py -h" in error


def test_help_states_defaults_and_addresses_without_loading_torch():
    lines = ["import sys, get_data", "try: get_data.main(['-h'])"]
    lines.append("finally: assert 'torch' not in sys.modules")
    command = [sys.executable, "-c", "\n".join(lines)]
    result = subprocess.run(command, cwd=SCRIPT.parent, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.count("(default: ") == 7
    assert "none of them was reached" in result.stdout
    assert all(url in result.stdout for source in get_data.SOURCES.values() for url in source.urls)


@pytest.fixture
def digests(tmp_path, monkeypatch):
    """The digests of small files; returns the path of the new digests.json."""
    folder, path = tmp_path / "known", tmp_path / "digests.json"
    for name, content in (tiny_files() | under("wiki", WIKI)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert make_digests.main([str(folder), "-o", str(path)]) == 0
    monkeypatch.setattr(get_data, "DIGESTS", path)
    return path


def raw(*stories):
    return "".join(f"{story}\n<|endoftext|>\n" for story in stories).encode()


def test_the_digests_hold_no_text_and_are_checked(digests, capsys):
    known = get_data.read_digests()
    counts = {name: len(record["stories"]) for name, record in known.items() if "tiny" in name}
    assert counts == dict(zip(get_data.SOURCES["tiny"].targets, (2, 1, 1), strict=True))
    first = hashlib.sha256(b"tom 's cat sat .").digest()[:6]
    assert base64.b64decode(known["tiny/tiny.train.tokens.4M"]["stories"][0]) == first
    digest = hashlib.sha256(WIKI["wiki.test.tokens"]).hexdigest()
    assert known["wiki/wiki.test.tokens"]["sha256"] == digest
    assert make_digests.main([str(digests.parent / "known"), "-o", str(digests), "--check"]) == 0
    (digests.parent / "known/tiny/tiny.test.tokens.4M").write_text("other\n")
    assert make_digests.main([str(digests.parent / "known"), "-o", str(digests), "--check"]) == 1
    assert make_digests.main([str(digests.parent)]) == 2
    assert "tiny.train.tokens.4M: no such file" in capsys.readouterr().err


def test_same_picks_the_stories_in_their_order_from_several_files(tmp_path, capsys, digests):
    (tmp_path / "a").write_bytes(raw("So…", "other", "Another one.", "I don't."))
    (tmp_path / "b").write_bytes(raw("A “dog”!", "I don't.", "", "Tom's cat\n\nsat.", "So..."))
    args = ["tiny", "-same", "-from_file", f"tiny={tmp_path}/a", "-from_file", f"tiny={tmp_path}/b"]
    assert get_data.main([*args, "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert files(tmp_path / "out") == tiny_files()
    assert "a: has 2 of the stories that were looked for, 2 are left" in out
    assert "b: has 2 of the stories that were looked for, 0 are left" in out
    assert "2 of 2 stories found, the README's to the bit" in out and "note" not in out


def test_same_says_which_stories_are_missing_and_writes_the_others(tmp_path, capsys, digests):
    (tmp_path / "a").write_bytes(raw("So…", "A “dog”!", "I don't."))
    args = ["tiny", "-same", "-from_file", f"tiny={tmp_path}/a", "-o", str(tmp_path / "out")]
    assert get_data.main(args) == 0
    out, train = capsys.readouterr().out, tmp_path / "out/tiny/tiny.train.tokens.4M"
    assert train.read_text() == "i do n't .\n"
    assert f"{train}: 1 of 2 stories found, not the README's: compare no figures" in out
    assert f"note: {train} lacks the stories 1, and was written without them" in out
    assert out.count("note") == 1


def test_same_writes_nothing_when_a_split_is_not_there_at_all(tmp_path, capsys, digests):
    (tmp_path / "a").write_bytes(raw("I don't.", "So…"))
    args = ["tiny", "-same", "-from_file", f"tiny={tmp_path}/a"]
    status, error = run(capsys, tmp_path / "out", *args)
    assert status == 2 and "tiny.valid.tokens.200K" in error and "none of its 1 stories" in error
    assert files(tmp_path / "out") == {}


def test_same_downloads_no_more_than_it_needs(server, tmp_path, capsys, digests, monkeypatch):
    server.files = {
        "/a.txt": raw("So…", "I don't.", "Tom's cat sat."), "/b.txt": raw("A “dog”!"),
        "/c.txt": RAW,
    }
    urls = tuple(f"{server.url}/{name}.txt" for name in "axbc")
    monkeypatch.setattr(get_data, "SAME_URLS", urls)
    status, error = run(capsys, tmp_path / "out", "tiny", "-same")  # the second address has no file
    assert status == 2 and "/x.txt: HTTP Error 404" in error
    assert sorted(files(tmp_path / "out")) == ["a.txt.part", "a.txt.part.json"]
    server.files["/x.txt"] = b"\xff\xfe"
    status, error = run(capsys, tmp_path / "out", "tiny", "-same")
    assert status == 2 and "x.txt.part: not UTF-8" in error
    assert "x.txt.part" not in files(tmp_path / "out")
    server.files["/x.txt"], server.asked[:] = b"x", []
    assert run(capsys, tmp_path / "out", "tiny", "-same") == (0, "")
    # a.txt is there, c.txt is not needed.
    assert [name for name, _ in server.asked] == ["/x.txt", "/b.txt"]
    assert files(tmp_path / "out") == tiny_files()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a.txt?download=true", "a.txt"), ("/get?path=/x/y.txt", "get"), ("/%1b[1m", "__1m"),
        ("/", "download"), ("/?x", "download"), ("/%2e%2e", ".."), ("/" + "a" * 300, "a" * 100),
        ("/a%2Fb%20c.txt", "b_c.txt"),
    ],
)
def test_a_part_is_called_what_the_path_of_its_address_ends_with(path, name):
    assert get_data.file_name(f"https://host:80{path}") == name


def test_same_takes_an_address_with_a_query(server, tmp_path, capsys, digests):
    address = "/get?file=/a/b.txt&key=x%2Fy"
    server.files[address], server.cut = RAW, 30
    args = ("tiny", "-same", "-url", f"tiny={server.url}{address}")
    assert run(capsys, tmp_path / "out", *args)[0] == 2
    assert sorted(files(tmp_path / "out")) == ["get.part", "get.part.json"]
    server.cut = None
    assert run(capsys, tmp_path / "out", *args) == (0, "")
    assert server.asked[-1] == (address, "bytes=30-")
    assert files(tmp_path / "out") == tiny_files()


def test_same_keeps_no_download_that_has_nothing(server, tmp_path, capsys, digests):
    server.files["/a.txt"] = raw("Other.")
    args = ("tiny", "-same", "-url", f"tiny={server.url}/a.txt")
    assert "none of its" in run(capsys, tmp_path / "out", *args)[1]
    assert files(tmp_path / "out") == {}


def test_raw_text_in_whatever_form(tmp_path, capsys):
    """A byte-order mark, other line ends, marks that touch a word: the same tokens."""
    odd = RAW.replace(b"\n<|endoftext|>\n", b"<|endoftext|>").replace(b"cat\nsat", b"cat\rsat")
    (tmp_path / "raw").write_bytes(b"\xef\xbb\xbf" + odd.replace(b"I don", b"I\r\ndon"))
    assert run(capsys, tmp_path / "out", "tiny", "-from_file", f"tiny={tmp_path}/raw") == (0, "")
    assert files(tmp_path / "out") == tiny_files()


def test_what_is_no_text_is_named_with_its_line(tmp_path, capsys):
    for odd, why in (b"na\xefve", "not UTF-8 text"), (b"a\0", "a zero byte"):
        (tmp_path / "raw").write_bytes(b"fine\nfine\n" + odd + RAW)
        status, error = run(
            capsys, tmp_path / "out", "tiny", "-from_file", f"tiny={tmp_path}/raw")
        assert status == 2 and f"{tmp_path}/raw: {why}" in error and "in line 3" in error


def test_utf8_that_was_encoded_twice_is_noted_with_its_line(tmp_path, capsys):
    (tmp_path / "raw").write_bytes("fine é\nschÃ¶n\ndonâ€™t\n".encode() + RAW)
    args = ["tiny", "-from_file", f"tiny={tmp_path}/raw", "-o", str(tmp_path / "out")]
    assert get_data.main(args) == 0
    printed = capsys.readouterr().out
    assert printed.count("looks like UTF-8") == 1
    assert printed.startswith(f"note: {tmp_path}/raw:2: 'schÃ¶n' looks like UTF-8")


def test_other_ways_say_whether_the_files_are_those_of_the_readme(tmp_path, capsys, digests):
    (tmp_path / "raw").write_bytes(RAW)
    (tmp_path / "wiki.valid.tokens").write_bytes(b"other\n")
    args = ["tiny", "wiki", "-from_file", f"tiny={tmp_path}/raw"]
    args += ["-from_file", f"wiki={tmp_path}/wiki.valid.tokens"]
    assert get_data.main([*args, "-o", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [line.endswith("the README's to the bit") for line in lines] == [True, True, True, False]
    assert lines[-1].endswith("6 bytes, not the README's: compare no figures")


def test_damaged_digests(tmp_path, capsys, digests):
    (tmp_path / "raw").write_bytes(RAW)
    for damaged in "[1]", '{"tiny', '{"tiny/x": {"stories": 3}}':
        digests.write_text(damaged)
        args = ["tiny", "-same", "-from_file", f"tiny={tmp_path}/raw"]
        status, error = run(capsys, tmp_path / "out", *args)
        assert status == 2 and str(digests) in error and "get it from the repository again" in error


def test_ranges():
    assert get_data.ranges([3]) == "3"
    assert get_data.ranges([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"
    assert get_data.ranges([*range(1, 30, 2)], most=2) == "1, 3 and 13 more ranges"


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="LSTLM_DATA names no folder with tiny/raw, tiny/ and wiki/")
def test_the_real_stories_are_found_by_their_digests(tmp_path, capsys):
    assert make_digests.main([DATA, "--check"]) == 0
    given = [f"-from_file=tiny={path}" for path in sorted(Path(DATA, "tiny/raw").glob("*.txt"))]
    assert len(given) == 3 and run(capsys, tmp_path, "tiny", "-same", *given) == (0, "")
    for name in get_data.SOURCES["tiny"].targets:
        assert (tmp_path / name).read_bytes() == Path(DATA, name).read_bytes()


@pytest.mark.parametrize("same", [False, True])
def test_names_are_written_beside_the_stories_to_train_on(capsys, tmp_path, monkeypatch, same):
    """Those of the train split alone; a file of other stories' names goes."""
    raw = tmp_path / "raw.txt"
    stories = ["A cat, Tom, and TV.", "So did Tom.", "My Ann.", "By Bob"]
    raw.write_text("".join(f"{story}\n<|endoftext|>\n" for story in stories))
    more = []
    if same:
        splits = (stories[:2], stories[2:3], stories[3:])
        known = {
            f"tiny/tiny.{name}": {
                "stories": [
                    get_data.story_digest(" ".join(get_data.tokenize_text(story)))
                    for story in split
                ],
                "sha256": "0",
            }
            for name, split in zip(TOKENISED, splits, strict=True)
        }
        monkeypatch.setattr(get_data, "read_digests", lambda: known)
        more = ["-same"]
    monkeypatch.setattr(get_data, "TINY_TOKENS", (12, 3, 2))
    names = tmp_path / "out" / "tiny" / "tiny.train.tokens.4M.names"
    names.parent.mkdir(parents=True)
    names.write_text("Old\n")
    status, _ = run(capsys, tmp_path / "out", "tiny", "-from_file", f"tiny={raw}", *more)
    assert status == 0
    assert names.read_text() == "Tom\nTV\n"
    assert len([*names.parent.iterdir()]) == 4
