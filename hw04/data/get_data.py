#!/usr/bin/env python3
"""Fetch GloVe 6B, TinyStories and WikiText-2 from their public homes, laid out as in the handout.

    python get_data.py                              # everything, beside this script
    python get_data.py tiny                         # the stories alone: a download of 22 MB
    python get_data.py tiny -same                   # the stories of the README's figures: 4.2 GB
    python get_data.py glove -dims 100              # the default vectors alone (the zip is 862 MB)
    python get_data.py wiki -from_file wiki=wikitext-2-v1.zip      # a file that you already have
    python get_data.py glove -url glove=https://my.mirror/glove.6B.zip
    python get_data.py -h                           # every flag, its default, and the addresses

A file that is already there is kept (`-force` replaces it). A download that was cut off goes on
where it stopped when the same command runs again. README.md beside this script says what the files
are. Exit status: 0; 2 when something is wrong that you can mend; 1 for a failing machine; 130 after
Ctrl-C.
"""

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import os
import queue
import re
import shutil
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import BinaryIO

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "code"))
from backstage.errors import UserError  # noqa: E402 - found by the line above
from backstage.lock import exclusive  # noqa: E402
from backstage.names import Spellings, names_file, write_names  # noqa: E402
from backstage.parser import Parser  # noqa: E402
from backstage.raw_text import mojibake_note, with_line_feeds  # noqa: E402
from backstage.shell import guarded, importing  # noqa: E402
from backstage.words import printable, tokenize_text  # noqa: E402

with importing(Path(sys.argv[0]).name, install="tqdm", least=0):  # or make_digests.py
    from tqdm import tqdm

BLOCK = 1 << 18  # bytes per read of a file
PIECE = 1 << 16  # bytes per read of a download
PATIENCE = 60.0  # seconds for an answer, and for each PIECE of a download
LONGEST = 24 * 3600.0  # seconds that a download may take in one go
LARGEST = 10 * 10**9  # bytes: no file of these sets is half as large
END_OF_STORY = "<|endoftext|>"
MAKE_ROOM = "make room or choose another folder with -o, then run the same command again"


@dataclass(frozen=True)
class Source:
    file: str  # what the download is called, with .part behind it, while it is on disk
    urls: tuple[str, ...]  # tried in this order
    targets: tuple[str, ...]  # what is made of it, below the data folder
    # "algorithm:digest" where one is published; else the SHA-256 is only printed.
    checksum: str | None = None


STORIES_URL = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main"
# No address could be tried when this was written: they are noted from memory, and no checksum is.
SOURCES = {
    "glove": Source(
        "glove.6B.zip",
        (
            "https://nlp.stanford.edu/data/glove.6B.zip",  # not reached when written
            "https://downloads.cs.stanford.edu/nlp/data/glove.6B.zip",  # not reached when written
        ),
        tuple(f"glove.6B/glove.6B.{dim}d.txt" for dim in (50, 100, 200, 300)),
    ),
    # The validation file has more tokens than we need, in 22 MB; of the training file's 2.2 GB 1 %
    # would do.
    "tiny": Source(
        "TinyStoriesV2-GPT4-valid.txt",
        (f"{STORIES_URL}/TinyStoriesV2-GPT4-valid.txt",),  # not reached when written
        ("tiny/tiny.train.tokens.4M", "tiny/tiny.valid.tokens.200K", "tiny/tiny.test.tokens.4M"),
    ),
    "wiki": Source(
        "wikitext-2-v1.zip",
        (
            "https://wikitext.smerity.com/wikitext-2-v1.zip",  # not reached when written
            # not reached when written
            "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip",
        ),
        tuple(f"wiki/wiki.{split}.tokens" for split in ("train", "valid", "test")),
    ),
}
# Each split of the stories ends with the story that brings it to this many tokens.
TINY_TOKENS = (4_000_000, 200_000, 200_000)  # train, valid, test
SAME_STORY = 40  # of two stories that begin with the same 40 tokens only the first is used
# The files in which `-same` looks for the stories of the README's figures, until it has all: the
# small ones first. 22 MB, 19 MB, 2.2 GB, 1.9 GB; not reached when written.
SAME_URLS = (
    f"{STORIES_URL}/TinyStoriesV2-GPT4-valid.txt",
    f"{STORIES_URL}/TinyStories-valid.txt",
    f"{STORIES_URL}/TinyStoriesV2-GPT4-train.txt",
    f"{STORIES_URL}/TinyStories-train.txt",
)
DIGESTS = HERE / "digests.json"  # of the files behind the README's figures, by make_digests.py
DIGEST_BYTES = 6  # of a story's SHA-256: no two of 10 million stories are alike by them
DIGEST_LETTERS = 8  # of these in base64


class BadFile(UserError):
    """The content of a file is wrong: if we downloaded it, it must go before the next try."""


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn a failure of the disk into a line that names the file.

    It may be full, or read-only, or a folder may be in the way.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; {MAKE_ROOM}") from error


def check_room(sizes: dict[Path, int]) -> None:
    """Raise UserError if the disk has too little room for files of so many bytes.

    They are written one after the other, each beside the one that it replaces.
    """
    first = next(iter(sizes))
    folder = next(folder for folder in first.absolute().parents if folder.exists())
    need = 0
    added = 0
    with disk(first):
        free = shutil.disk_usage(folder).free
        for path, size in sizes.items():
            need = max(need, added + size)
            added += size - (path.stat().st_size if path.exists() else 0)
    if free < need:
        why = f"{need:,} bytes are to be written, and the disk has room for {free:,}"
        raise UserError(f"{first}: {why}; {MAKE_ROOM}")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under its name only when it is complete and on the disk."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def bar(path: Path, size: int | None, start: int = 0) -> tqdm:
    """A progress bar on the terminal; nothing at all in a log file."""
    look = {"unit": "B", "unit_scale": True, "disable": None}
    return tqdm(desc=printable(path.name), total=size, initial=start, **look)


def say(text: str) -> None:
    """Print a line, with no control character of a file's name in it."""
    print(printable(text), flush=True)


def verify(path: Path, checksum: str | None) -> None:
    """Compare a download with its published checksum; without one, print what we have got."""
    algorithm, _, expected = (checksum or "sha256:").partition(":")
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if expected and digest.hexdigest() != expected:
        problem = f"its {algorithm} is {digest.hexdigest()} and not {expected}, the published one"
        remedy = "run the same command again, or give another address with -url"
        raise BadFile(f"{path}: {problem}; {remedy}")
    remark = "not compared: the table of addresses has no published one"
    if expected:
        remark = "as published"
    say(f"{path}: {algorithm} {digest.hexdigest()} ({remark})")


# --------------------------------------------------------------------------------------------------
# Downloads: NAME.part holds the bytes, NAME.part.json tells of which file
# --------------------------------------------------------------------------------------------------


def request(url: str, start: int) -> http.client.HTTPResponse:
    """Ask for a file from byte `start` on."""
    headers = {"User-Agent": "get_data.py"}
    if start:
        headers["Range"] = f"bytes={start}-"
    asked = urllib.request.Request(url, headers=headers)
    answer = urllib.request.urlopen(asked, timeout=PATIENCE)
    if not isinstance(answer, http.client.HTTPResponse):  # after a redirection
        raise ValueError("leads to what is no http address")
    return answer


def identity(url: str, headers: Message) -> dict:
    """What must not have changed since a partial download, lest pieces of two files be joined."""
    total = headers.get("Content-Range", "").rpartition("/")[2]
    total = total or headers.get("Content-Length", "")
    size = int(total) if total.isdigit() else None
    return {"url": url, "etag": headers.get("ETag"), "size": size}


def open_url(url: str, start: int, before: dict) -> tuple[http.client.HTTPResponse, int]:
    """The answer of a server and the byte that it begins at.

    This is `start` if the same file can go on, else 0.
    """
    if start and before["url"] == url:
        try:
            answer = request(url, start)
        except urllib.error.HTTPError as error:
            if error.code == 429 or error.code >= 500:  # it is busy, and the part still good
                raise
        else:
            begins = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if answer.status == 206 and begins and identity(url, answer.headers) == before:
                return answer, start
            answer.close()
    return request(url, 0), 0


def in_thread(make: Callable[[], Iterable]) -> queue.Queue:
    """What `make` yields, made in a thread; then the error that ended it, or None.

    The timeout of a socket is for each of its reads, and an answer may trickle for ever. Who waits
    here can give up as a whole: the thread is left to itself then, and dies with the program.
    """
    made = queue.Queue(16)

    def run() -> None:
        try:
            for thing in make():
                made.put(thing)
            made.put(None)
        except Exception as error:
            made.put(error)

    threading.Thread(target=run, daemon=True).start()
    return made


def wait_for(made: queue.Queue, seconds: float) -> object:
    """The next of what `in_thread` makes. Raises its error, or TimeoutError."""
    try:
        thing = made.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise TimeoutError("the server is too slow") from None
    if isinstance(thing, Exception):
        raise thing
    return thing


def connect(
    name: str, urls: tuple[str, ...], start: int, before: dict
) -> tuple[dict, http.client.HTTPResponse, int]:
    """The first address that answers: the identity of its file, the answer, its first byte."""
    failures = []
    # The one that can go on comes first.
    for url in sorted(urls, key=lambda url: url != before.get("url")):
        try:
            made = in_thread(lambda url=url: [open_url(url, start, before)])
            answer, begin = wait_for(made, PATIENCE)
            about = identity(url, answer.headers)
            check_size(about["size"] or 0)
            return about, answer, begin
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures.append(f"{url}: {describe(error)}")
    address = f"another address (-url {name}=URL)"
    remedy = f"try again later, or give {address} or a file (-from_file {name}=PATH)"
    raise UserError(f"{'; '.join(failures)}; {remedy}")


def describe(error: Exception) -> str:
    """`HTTP Error 404: Not Found`, or the reason inside urllib's URLError, or the kind of error."""
    inner = error
    if not isinstance(error, urllib.error.HTTPError):
        inner = getattr(error, "reason", error)
    return str(inner)[:200] or type(inner).__name__


def check_size(size: int) -> None:
    """Raise ValueError for a file that is too large to be one of these."""
    if size > LARGEST:
        raise ValueError(f"more than {LARGEST:,} bytes: not the right file")


def read_partial(part: Path, note: Path, urls: tuple[str, ...]) -> tuple[int, dict]:
    """How many bytes an earlier run left, and the identity of the file that they belong to."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        before = json.loads(note.read_text())
        if before["url"] in urls:
            return part.stat().st_size, before
    return 0, {}


def receive(answer: http.client.HTTPResponse, about: dict, part: Path, start: int) -> None:
    """Write the rest of a download to `part`, from byte `start` on."""
    url = about["url"]
    size = about["size"]
    mode = "ab" if start else "wb"
    with disk(part), open(part, mode) as file, bar(part, size, start) as progress:
        for piece in arriving(answer, url, part):
            file.write(piece)
            progress.update(len(piece))
            if file.tell() > LARGEST:
                raise BadFile(f"{url}: more than {LARGEST:,} bytes; give another address with -url")
        if size not in (None, file.tell()):
            raise cut_off(url, f"ended after {file.tell():,} of {size:,} bytes", part)


def arriving(answer: http.client.HTTPResponse, url: str, part: Path) -> Iterator[bytes]:
    """The pieces of a download. Raises UserError if it breaks off, or comes too slowly.

    That is, if PATIENCE seconds bring no PIECE, or LONGEST seconds not all; only what is waited
    for the server counts.
    """
    made = in_thread(lambda: pieces_of(answer))
    total = 0.0
    waited = 0.0
    count = 0
    while True:
        begin = time.monotonic()
        try:
            piece = wait_for(made, min(PATIENCE - waited, LONGEST - total))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise cut_off(url, describe(error), part) from error
        if piece is None:
            return
        total += time.monotonic() - begin
        waited += time.monotonic() - begin
        count += len(piece)
        if count >= PIECE:
            waited = 0.0
            count = 0
        yield piece


def pieces_of(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What a server sends, as it comes. Who reads also closes, as closing waits for a reader."""
    with answer:
        while piece := answer.read1(PIECE):
            yield piece


def cut_off(url: str, what: str, part: Path) -> UserError:
    """The error of a download that did not come to its end."""
    remedy = "run the same command again to go on from there"
    return UserError(f"{url}: {what}; {part} is kept, {remedy}")


def download(name: str, urls: tuple[str, ...], part: Path, note: Path) -> None:
    """Bring the file of a source to `part`, continuing what an earlier run began."""
    done, before = read_partial(part, note, urls)
    if done and done == before.get("size"):
        say(f"{name}: {part} is complete")
        return
    about, answer, start = connect(name, urls, done, before)
    check_room({part: (about["size"] or start) - start})
    say(f"{name}: {'going on with' if start else 'fetching'} {about['url']}")
    with disk(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if not start:  # the old bytes go first, lest they pass for those of the new note's file
            part.unlink(missing_ok=True)
            note.write_text(json.dumps(about))
        try:
            receive(answer, about, part, start)
        except BadFile:
            discard(part, note)
            raise
        except KeyboardInterrupt:
            remedy = "run the same command again to go on from there"
            print(printable(f"{part} is kept: {remedy}"), file=sys.stderr)
            raise


# --------------------------------------------------------------------------------------------------
# From the file of a source to the files of the handout
# --------------------------------------------------------------------------------------------------


def unpack(path: Path, targets: list[Path]) -> None:
    """Write the targets from a zip, or from one of them, already extracted.

    The zip may have them under any folder.
    """
    with damaged(path):
        is_zip = zipfile.is_zipfile(path)
    if is_zip:
        unzip(path, targets)
    elif target := next((target for target in targets if target.name == path.name), None):
        check_room({target: path.stat().st_size})
        with open(path, "rb") as file:
            write_from(file, path, target, path.stat().st_size)
    else:
        names = ", ".join(target.name for target in targets)
        why = f"not a zip file (or a damaged one), nor one of {names}; fetch it again"
        raise BadFile(f"{path}: {why}")


def unzip(path: Path, targets: list[Path]) -> None:
    """Write the targets from a zip."""
    with damaged(path):
        archive = zipfile.ZipFile(path)
    with archive:
        members = find_members(archive, path, targets)
        sizes = {target: info.file_size for target, info in members.items()}
        with damaged(path):
            check_size(sum(sizes.values()))
        check_room(sizes)
        for target, info in members.items():
            with damaged(path):
                member = archive.open(info)
            with member:
                write_from(member, path, target, info.file_size)


@contextlib.contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Let whatever is raised as a zip is read be a BadFile.

    A damaged or crafted one makes zipfile raise errors of a dozen kinds, some of which it does not
    document, and others in each version.
    """
    try:
        yield
    except Exception as error:
        why = f"a damaged zip file ({describe(error)})"
        raise BadFile(f"{path}: {why}; fetch it again") from error


def find_members(
    archive: zipfile.ZipFile, path: Path, targets: list[Path]
) -> dict[Path, zipfile.ZipInfo]:
    """The member of a zip for each target, under any folder, behind either kind of slash."""
    named: dict[str, list[zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        named.setdefault(re.split(r"[/\\]", info.filename)[-1], []).append(info)
    missing = [target.name for target in targets if target.name not in named]
    if missing:
        raise BadFile(f"{path}: has no {', '.join(missing)}; is it the right file?")
    for target in targets:
        if len(named[target.name]) > 1:
            raise BadFile(f"{path}: has {target.name} more than once; is it the right file?")
    return {target: named[target.name][0] for target in targets}


def write_from(file: BinaryIO, path: Path, target: Path, size: int) -> None:
    """Copy an open file of this size, which is `path` or a part of it, to its target."""
    if not size:
        raise BadFile(f"{path}: its {target.name} is empty; is it the right file?")
    with atomic(target) as out, bar(target, size) as progress:
        while block := read_block(file, path):
            out.write(block)
            progress.update(len(block))
    say(f"{target}: {size:,} bytes{compared(target)}")


def read_block(file: BinaryIO, path: Path) -> bytes:
    """The next bytes of an open file, which is `path` or a part of it; none at its end."""
    with damaged(path):
        return file.read(BLOCK)


def read_raw_stories(path: Path) -> Iterator[str]:
    """The stories of a raw text, of any size, in which each one ends with `<|endoftext|>`."""
    story = ""
    for line in read_raw_lines(path):
        *ended, rest = line.split(END_OF_STORY)
        for end in ended:
            yield story + end
            story = ""
        story += rest
    yield story


def read_raw_lines(path: Path) -> Iterator[str]:
    """The lines of a raw text, of any size; notes the first that seems to be encoded twice."""
    note = ""
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                why = f"not UTF-8 text ({error.reason} in line {number}); fetch it again"
                raise BadFile(f"{path}: {why}") from None
            if "\0" in line:
                raise BadFile(f"{path}: a zero byte in line {number}, so no text; fetch it again")
            if not note:
                note = mojibake_note(line, path, number - 1)
                if note:
                    print(note)
            yield with_line_feeds(line)


def distinct_stories(path: Path) -> Iterator[tuple[list[str], str]]:
    """The tokens and the text of each story, in the order of the file.

    None begins like an earlier one.
    """
    seen: set[tuple[str, ...]] = set()
    for text in read_raw_stories(path):
        tokens = tokenize_text(text)
        beginning = tuple(tokens[:SAME_STORY])
        if tokens and beginning not in seen:
            seen.add(beginning)
            yield tokens, text


def take(
    stories: Iterator[tuple[list[str], str]], wanted: int, path: Path
) -> tuple[list[str], int, list[str]]:
    """The next stories, one line each, until they have as many tokens as wanted.

    Also says how many they have, and which names.
    """
    lines = []
    count = 0
    spellings = Spellings()
    while count < wanted:
        tokens, text = next(stories, (None, ""))
        if tokens is None:
            need = f"{sum(TINY_TOKENS):,} tokens in distinct stories, each ended by {END_OF_STORY}"
            raise BadFile(f"{path}: too short, it needs {need}; is it the right file?")
        lines.append(" ".join(tokens))
        count += len(tokens)
        spellings.add(text)
    return lines, count, spellings.names()


def tokenize_stories(path: Path, targets: list[Path]) -> None:
    """Cut the stories of a raw text into train, valid and test, and write those that are wanted."""
    stories = distinct_stories(path)
    splits = [take(stories, wanted, path) for wanted in TINY_TOKENS]
    names = [Path(name).name for name in SOURCES["tiny"].targets]
    by_name = dict(zip(names, splits, strict=True))
    for target in targets:
        lines, count, spelled = by_name[target.name]
        write_stories(target, lines)
        write_train_names(target, spelled)
        say(f"{target}: {len(lines):,} stories, {count:,} tokens{compared(target)}")


def write_train_names(target: Path, names: list[str]) -> None:
    """Write the names that the stories to train on have, if there are any, beside their tokens."""
    if target.name != Path(SOURCES["tiny"].targets[0]).name:
        return
    with disk(names_file(target)):
        names_file(target).unlink(missing_ok=True)  # those of other stories
        if names:
            write_names(target, names)


def write_stories(target: Path, lines: list[str]) -> None:
    """Write a story a line."""
    with atomic(target) as out:
        out.write("".join(f"{line}\n" for line in lines).encode())


# --------------------------------------------------------------------------------------------------
# The very files behind the README's figures, known by their digests
# --------------------------------------------------------------------------------------------------


def story_digest(line: str) -> str:
    """A few letters that tell a tokenised story, its tokens joined by spaces, from the others."""
    return base64.b64encode(hashlib.sha256(line.encode()).digest()[:DIGEST_BYTES]).decode()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_digests() -> dict[str, dict]:
    """By target: `sha256` of the file and, for stories, `stories`, the digests in their order."""
    try:
        known = json.loads(DIGESTS.read_text())
        for record in known.values():
            letters = "".join(record.get("stories", []))
            starts = range(0, len(letters), DIGEST_LETTERS)
            record["stories"] = [letters[start : start + DIGEST_LETTERS] for start in starts]
        return known
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        remedy = "get it from the repository again"
        raise UserError(f"{DIGESTS}: not readable ({error}); {remedy}") from error


def compared(target: Path) -> str:
    """What to add to a line about a new file: whether the README's figures are of it."""
    known = read_digests() if DIGESTS.exists() else {}
    sha256 = known.get(f"{target.parent.name}/{target.name}", {}).get("sha256")
    if not sha256:
        return ""
    if file_digest(target) == sha256:
        return ", the README's to the bit"
    return ", not the README's: compare no figures"


def search(
    path: Path, missing: set[str], found: dict[str, str], train: set[str], spellings: Spellings
) -> None:
    """Move the digests of the stories that a raw text has from `missing` to `found`.

    There each has its tokenised story. The words of those to `train` on are counted in `spellings`.
    """
    before = len(found)
    with bar(path, path.stat().st_size) as progress:
        for text in read_raw_stories(path):
            line = " ".join(tokenize_text(text))
            digest = story_digest(line)
            if digest in missing:
                missing.remove(digest)
                found[digest] = line
                if digest in train:
                    spellings.add(text)
            if not missing:
                break
            progress.update(len(text) + len(END_OF_STORY))
    count = len(found) - before
    left = f"{len(missing):,} are left"
    say(f"{path}: has {count:,} of the stories that were looked for, {left}")


def rebuild(args: argparse.Namespace, targets: list[Path]) -> None:
    """Write the splits of the README's figures: stories picked from raw texts by digest."""
    known = read_digests()
    wanted = {target: known[f"tiny/{target.name}"]["stories"] for target in targets}
    missing = {digest for digests in wanted.values() for digest in digests}
    train = {*wanted.get(args.o / SOURCES["tiny"].targets[0], ())}
    found = {}
    spellings = Spellings()
    downloads = []
    for path, parts in raw_texts(args):
        try:
            search(path, missing, found, train, spellings)
        except BadFile:
            discard(*parts)
            raise
        downloads += parts
        if not missing:
            break
    for target, digests in wanted.items():
        if found.keys().isdisjoint(digests):
            discard(*downloads)  # which will not have it the next time either
            raise UserError(
                f"{target}: not written, none of its {len(digests):,} stories was found; name a "
                "file that has them with -from_file tiny=PATH, or cut other stories without -same"
            )
    for target, digests in wanted.items():
        write_found(target, digests, found)
        write_train_names(target, spellings.names())
    discard(*downloads)  # not before: stopped and started again, the search needs all of them


def raw_texts(args: argparse.Namespace) -> Iterator[tuple[Path, list[Path]]]:
    """The files to look into, and what to remove of each afterwards.

    They are those of `-from_file` or else downloads.
    """
    if "tiny" in args.from_file:
        yield from ((path, []) for path in args.from_file["tiny"])
        return
    urls = SAME_URLS
    if "tiny" in args.url:
        urls = (args.url["tiny"],)
    for url in urls:
        part, note = partial_files(args.o, file_name(url))
        download("tiny", (url,), part, note)
        verify(part, None)
        yield part, [part, note]


def file_name(url: str) -> str:
    """What the download of an address is called: the end of its path, without a query."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", name)[-100:] or "download"


def partial_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Where the bytes of a download are until it is done, and the note on them."""
    return folder / f"{name}.part", folder / f"{name}.part.json"


def write_found(target: Path, digests: list[str], found: dict[str, str]) -> None:
    """Write the stories of a split that were found, in its order, and say which were not."""
    write_stories(target, [found[digest] for digest in digests if digest in found])
    absent = [number for number, digest in enumerate(digests, 1) if digest not in found]
    share = f"{len(digests) - len(absent):,} of {len(digests):,}"
    say(f"{target}: {share} stories found{compared(target)}")
    if absent:
        say(f"note: {target} lacks the stories {ranges(absent)}, and was written without them")


def ranges(numbers: list[int], most: int = 10) -> str:
    """`3, 5-9` for 3, 5, 6, 7, 8, 9; no more than `most` such pieces."""
    starts = [n for n, before in zip(numbers, [None, *numbers], strict=False) if before != n - 1]
    ends = [n for n, after in zip(numbers, [*numbers[1:], None], strict=True) if after != n + 1]
    pieces = [f"{a}-{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True)]
    text = ", ".join(pieces[:most])
    if len(pieces) > most:
        text += f" and {len(pieces) - most} more ranges"
    return text


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def wanted_targets(name: str, args: argparse.Namespace) -> list[Path]:
    """The files to make; those that are there already are named and kept, unless -force."""
    targets = [args.o / target for target in SOURCES[name].targets]
    if name == "glove":
        names = {f"glove.6B.{dim}d.txt" for dim in args.dims}
        targets = [target for target in targets if target.name in names]
    if name in args.from_file:  # of one extracted file only that one can be made
        names = {path.name for path in args.from_file[name]}
        targets = [target for target in targets if target.name in names] or targets
    kept = [] if args.force else [target for target in targets if target.exists()]
    for target in kept:
        say(f"{target}: already there, kept (-force replaces it)")
    return [target for target in targets if target not in kept]


def get(name: str, args: argparse.Namespace) -> None:
    """Make the files of one source, from a file of the user or from a download."""
    source = SOURCES[name]
    targets = wanted_targets(name, args)
    # Another copy may well be packed differently: the published checksum is not for it.
    if name in args.url:
        source = replace(source, urls=(args.url[name],), checksum=None)
    if not targets:
        return
    with exclusive(args.o / name, "give another folder with -o"):
        if name == "tiny" and args.same:
            rebuild(args, targets)
        elif name in args.from_file:
            install(name, args.from_file[name][0], targets)
        else:
            get_online(name, source, args.o, targets)


def get_online(name: str, source: Source, folder: Path, targets: list[Path]) -> None:
    """Download, install, and only then remove the download, lest a full disk or Ctrl-C cost it."""
    part, note = partial_files(folder, source.file)
    download(name, source.urls, part, note)
    try:
        verify(part, source.checksum)
        install(name, part, targets)
    except BadFile:
        discard(part, note)
        raise
    discard(part, note)


def discard(*paths: Path) -> None:
    """Remove files."""
    for path in paths:
        path.unlink(missing_ok=True)


def install(name: str, path: Path, targets: list[Path]) -> None:
    """Make the targets of the file of their source."""
    if name == "tiny":
        tokenize_stories(path, targets)
    else:
        unpack(path, targets)


def pair(text: str) -> tuple[str, str]:
    """The two sides of NAME=VALUE."""
    name, _, value = text.partition("=")
    if name not in SOURCES or not value:
        why = f"is not NAME=..., with a NAME of {', '.join(SOURCES)}"
        raise argparse.ArgumentTypeError(f"{text!r} {why}")
    return name, value


def dimensions(text: str) -> list[int]:
    """Sizes of GloVe vectors, with commas between them."""
    dims = text.split(",")
    if not set(dims) <= {"50", "100", "200", "300"}:
        why = "is not a list of 50, 100, 200, 300, such as 50,100"
        raise argparse.ArgumentTypeError(f"{text!r} {why}")
    return [int(dim) for dim in dims]


def parse(argv: list[str] | None) -> argparse.Namespace:
    lines = [f"{name:6} {url}" for name, source in SOURCES.items() for url in source.urls]
    lines += [f"{'-same':6} {url}" for url in SAME_URLS]
    addresses = "addresses (none of them was reached when this script was written):"
    parser = Parser("get_data.py", __doc__)
    parser.epilog = "\n  ".join([addresses, *lines])
    add = parser.add_argument
    what = "what to get: glove, tiny, wiki (default: all three)"
    add("names", nargs="*", metavar="NAME", help=what)
    what = "GloVe files to make (default: %(default)s)"
    add("-dims", type=dimensions, default="50,100,200,300", help=what)
    what = "where to write (default: the script's folder)"
    add("-o", type=Path, default=HERE, metavar="DIR", help=what)
    what = "replace files that are already there (default: keep them)"
    add("-force", action="store_true", help=what)
    pairs = {"type": pair, "action": "append", "default": []}
    what = "fetch NAME from another address (default: those below)"
    add("-url", metavar="NAME=URL", help=what, **pairs)
    what = "make NAME from a zip, an extracted file or raw stories on this disk (default: download)"
    add("-from_file", metavar="NAME=PATH", help=what, **pairs)
    what = (
        "tiny: pick the very stories of the README's figures from all files of the set, or from "
        "each -from_file (default: the first ones of one file)"
    )
    add("-same", action="store_true", help=what)
    args = parser.parse_args(argv)
    args.names = list(dict.fromkeys(args.names)) or list(SOURCES)
    args.url = dict(args.url)
    given = args.from_file
    args.from_file = {}
    for name, path in given:
        args.from_file.setdefault(name, []).append(Path(path))
    return args


def check(args: argparse.Namespace) -> None:
    """Refuse what would fail, or be ignored, only after a long download."""
    unknown = [name for name in args.names if name not in SOURCES]
    if unknown:
        raise UserError(f"there is no {unknown[0]!r}: choose from {', '.join(SOURCES)}")
    unused = [name for name in [*args.url, *args.from_file] if name not in args.names]
    if unused:
        why = "which is not among the names to get"
        raise UserError(f"-url or -from_file is given for {unused[0]}, {why}")
    for name, url in args.url.items():
        flag = f"-url {name}={url}"
        if name in args.from_file:
            raise UserError(f"{flag}: there is a -from_file for {name} too; give one of them")
        if not url.lower().startswith(("http://", "https://")):
            raise UserError(f"{flag}: not an http address; a file is given with -from_file")
    if args.same and "tiny" not in args.names:
        raise UserError("-same is for tiny, which is not among the names to get")
    for name, paths in args.from_file.items():
        if len(paths) > 1 and not (name == "tiny" and args.same):
            why = "a second file; only tiny -same reads more than one"
            raise UserError(f"-from_file {name}={paths[1]}: {why}")
        absent = [path for path in paths if not path.is_file()]
        if absent:
            why = "no such file; without -from_file it is downloaded"
            raise UserError(f"-from_file {name}={absent[0]}: {why}")


def get_all(args: argparse.Namespace) -> None:
    """Get what the command line names."""
    check(args)
    for name in args.names:
        get(name, args)


def main(argv: list[str] | None = None) -> int:
    return guarded("get_data.py", lambda: get_all(parse(argv)), argv)


if __name__ == "__main__":
    sys.exit(main())
