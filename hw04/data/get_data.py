#!/usr/bin/env python3
"""Fetch GloVe 6B, TinyStories and WikiText-2 from their public homes, and lay them out as in the handout.

    python get_data.py                              # everything, beside this script
    python get_data.py tiny                         # the stories alone: a download of 22 MB
    python get_data.py tiny -same                   # the very stories of the README's figures: up to 4.2 GB
    python get_data.py glove -dims 100              # the default vectors alone (but the zip is 862 MB)
    python get_data.py wiki -from_file wiki=wikitext-2-v1.zip      # a file that you already have
    python get_data.py glove -url glove=https://my.mirror/glove.6B.zip
    python get_data.py -h                           # every flag, with its default, and the addresses

A file that is already there is kept (`-force` replaces it). A download that was cut off goes on where it
stopped when the same command runs again. README.md beside this script says what the files are.
Exit status: 0; 2 when something is wrong that you can mend; 130 after Ctrl-C.
"""

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import lzma
import os
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
BLOCK = 1 << 18  # bytes per read, and the most that a cut-off download has to fetch again
END_OF_STORY = "<|endoftext|>"


@dataclass(frozen=True)
class Source:
    file: str  # what the download is called, with .part behind it, while it is on disk
    urls: tuple[str, ...]  # tried in this order
    targets: tuple[str, ...]  # what is made of it, below the data folder
    checksum: str | None = None  # "algorithm:digest" where one is published; else the SHA-256 is only printed


# No address could be tried when this was written: they are noted from memory, and so no checksum is.
SOURCES = {
    "glove": Source(
        "glove.6B.zip",
        (
            "https://nlp.stanford.edu/data/glove.6B.zip",  # not reached when written
            "https://downloads.cs.stanford.edu/nlp/data/glove.6B.zip",  # not reached when written
        ),
        tuple(f"glove.6B/glove.6B.{dim}d.txt" for dim in (50, 100, 200, 300)),
    ),
    # The validation file has more tokens than we need, in 22 MB; of the training file's 2.2 GB 1 % would do.
    "tiny": Source(
        "TinyStoriesV2-GPT4-valid.txt",
        # not reached when written
        ("https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-valid.txt",),
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
SAME_STORY = 40  # two stories that begin with the same 40 tokens count as one: only the first is used
# The files in which `-same` looks for the stories of the README's figures, until it has all: the small ones first.
SAME_FILES = ("TinyStoriesV2-GPT4-valid", "TinyStories-valid", "TinyStoriesV2-GPT4-train", "TinyStories-train")
SAME_URLS = tuple(  # 22 MB, 19 MB, 2.2 GB, 1.9 GB; not reached when written
    f"https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/{name}.txt" for name in SAME_FILES
)
DIGESTS = HERE / "digests.json"  # of the files behind the README's figures, made by make_digests.py
DIGEST_BYTES, DIGEST_LETTERS = 6, 8  # of a story's SHA-256, and in base64: no two of 10 million stories are alike by it


class DataError(Exception):
    """Something that the user can mend. `main` prints it as one line and exits with status 2."""


class BadFile(DataError):
    """The content of a file is wrong: if we downloaded it, it must go before the next try."""


# ---------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn a failure of the disk (full, read-only, a folder in the way) into a line that names the file."""
    try:
        yield
    except OSError as error:
        hint = "make room or choose another folder with -o, then run the same command again"
        raise DataError(f"{path}: {error.strerror or error}; {hint}") from error


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
    return tqdm(desc=path.name, total=size, initial=start, unit="B", unit_scale=True, disable=None)


def verify(path: Path, checksum: str | None) -> None:
    """Compare a download with its published checksum; without one, print what we have got."""
    algorithm, _, expected = (checksum or "sha256:").partition(":")
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if expected and digest.hexdigest() != expected:
        problem = f"its {algorithm} is {digest.hexdigest()} and not {expected}, the published one"
        raise BadFile(f"{path}: {problem}; run the same command again, or give another address with -url")
    remark = "as published" if expected else "not compared: the table of addresses has no published one"
    print(f"{path}: {algorithm} {digest.hexdigest()} ({remark})")


# ---------------------------------------------------------------------------------------------------------
# Downloads: NAME.part holds the bytes, NAME.part.json tells of which file
# ---------------------------------------------------------------------------------------------------------


def request(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "get_data.py"} | ({"Range": f"bytes={start}-"} if start else {})
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)


def identity(url: str, headers: Message) -> dict:
    """What must not have changed since a partial download, lest pieces of two files be joined."""
    total = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return {"url": url, "etag": headers.get("ETag"), "size": int(total) if total.isdigit() else None}


def open_url(url: str, start: int, before: dict) -> tuple[http.client.HTTPResponse, int]:
    """The answer of a server and the byte that it begins at: `start` if the same file can go on, else 0."""
    if start and before["url"] == url:
        with contextlib.suppress(urllib.error.HTTPError):  # 416: the file is shorter now
            answer = request(url, start)
            begins = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if answer.status == 206 and begins and identity(url, answer.headers) == before:
                return answer, start
            answer.close()
    return request(url, 0), 0


def connect(name: str, urls: tuple[str, ...], start: int, before: dict) -> tuple[dict, http.client.HTTPResponse, int]:
    """The first address that answers: the identity of its file, the answer, and its first byte's place."""
    failures = []
    for url in sorted(urls, key=lambda url: url != before.get("url")):  # the one that can go on comes first
        try:
            answer, begin = open_url(url, start, before)
            return identity(url, answer.headers), answer, begin
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures.append(f"{url}: {describe(error)}")
    remedy = f"try again later, or give another address (-url {name}=URL) or a file (-from_file {name}=PATH)"
    raise DataError(f"{'; '.join(failures)}; {remedy}")


def describe(error: Exception) -> str:
    """`HTTP Error 404: Not Found`, or the reason inside urllib's URLError, or at least the kind of error."""
    inner = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
    return str(inner) or type(inner).__name__


def read_partial(part: Path, note: Path, urls: tuple[str, ...]) -> tuple[int, dict]:
    """How many bytes an earlier run left, and the identity of the file that they belong to."""
    try:
        before = json.loads(note.read_text())
        return (part.stat().st_size, before) if before["url"] in urls else (0, {})
    except (OSError, ValueError, KeyError, TypeError):
        return 0, {}


def receive(answer: http.client.HTTPResponse, about: dict, part: Path, start: int) -> None:
    """Write the rest of a download to `part`, from byte `start` on."""
    with disk(part), open(part, "ab" if start else "wb") as file, bar(part, about["size"], start) as progress:
        while block := read_block(answer, about["url"], part):
            file.write(block)
            progress.update(len(block))
        if about["size"] not in (None, file.tell()):
            raise cut_off(about["url"], f"ended after {file.tell():,} of {about['size']:,} bytes", part)


def read_block(answer: http.client.HTTPResponse, url: str, part: Path) -> bytes:
    try:
        return answer.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise cut_off(url, describe(error), part) from error


def cut_off(url: str, what: str, part: Path) -> DataError:
    return DataError(f"{url}: {what}; {part} is kept, run the same command again to go on from there")


def download(name: str, urls: tuple[str, ...], part: Path, note: Path) -> None:
    """Bring the file of a source to `part`, continuing what an earlier run began."""
    done, before = read_partial(part, note, urls)
    if done and done == before.get("size"):
        print(f"{name}: {part} is complete")
        return
    about, answer, start = connect(name, urls, done, before)
    print(f"{name}: {'going on with' if start else 'fetching'} {about['url']}")
    with answer, disk(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if not start:  # the old bytes go before the new note comes, lest they pass for the new file's
            part.unlink(missing_ok=True)
            note.write_text(json.dumps(about))
        try:
            receive(answer, about, part, start)
        except KeyboardInterrupt:
            print(f"\n{part} is kept: run the same command again to go on from there", file=sys.stderr)
            raise


# ---------------------------------------------------------------------------------------------------------
# From the file of a source to the files of the handout
# ---------------------------------------------------------------------------------------------------------


def unpack(path: Path, targets: list[Path]) -> None:
    """Write the targets from a zip that has them under any folder, or from one of them, already extracted."""
    if zipfile.is_zipfile(path):
        unzip(path, targets)
    elif target := next((target for target in targets if target.name == path.name), None):
        with open(path, "rb") as file:
            write_from(file, target, path.stat().st_size)
    else:
        names = ", ".join(target.name for target in targets)
        raise BadFile(f"{path}: not a zip file (or a damaged one), nor one of {names}; fetch it again")


def unzip(path: Path, targets: list[Path]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {Path(info.filename).name: info for info in archive.infolist()}
            if missing := [target.name for target in targets if target.name not in members]:
                raise BadFile(f"{path}: has no {', '.join(missing)}; is it the right file?")
            for target in targets:
                info = members[target.name]
                with archive.open(info) as member:
                    write_from(member, target, info.file_size)
    # A RuntimeError is an encrypted zip; NotImplementedError, one of a method unknown here, is one too.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise BadFile(f"{path}: a damaged zip file ({error}); fetch it again") from error


def write_from(file: BinaryIO, target: Path, size: int) -> None:
    with atomic(target) as out, bar(target, size) as progress:
        while block := file.read(BLOCK):
            out.write(block)
            progress.update(len(block))
    print(f"{target}: {size:,} bytes{compared(target)}")


def read_raw_stories(path: Path) -> Iterator[str]:
    """The stories of a raw text, of any size, in which each one ends with `<|endoftext|>`."""
    story = ""
    with open(path, encoding="utf-8-sig") as file:
        for line in file:
            *ended, rest = line.split(END_OF_STORY)
            for end in ended:
                yield story + end
                story = ""
            story += rest
    yield story


def tokenizer():
    """`tokenize_text` of lstlm.py. Imported only here, because it loads torch, which -h need not wait for."""
    code = HERE.parent / "code"
    sys.path.append(str(code))
    try:
        from lstlm import tokenize_text
    except ImportError as error:
        needs = f"tiny is tokenised with {code / 'lstlm.py'}, which could not be imported ({error})"
        raise DataError(f"{needs}; pip install -r requirements.txt") from error
    return tokenize_text


def distinct_stories(path: Path) -> Iterator[list[str]]:
    """The tokens of each story, in the order of the file, but none that begins like an earlier one."""
    tokenize_text = tokenizer()
    seen: set[tuple[str, ...]] = set()
    for text in read_raw_stories(path):
        tokens = tokenize_text(text)
        beginning = tuple(tokens[:SAME_STORY])
        if tokens and beginning not in seen:
            seen.add(beginning)
            yield tokens


def take(stories: Iterator[list[str]], wanted: int, path: Path) -> tuple[list[str], int]:
    """The next stories, one line each, until they have as many tokens as wanted; and how many they have."""
    lines, count = [], 0
    while count < wanted:
        tokens = next(stories, None)
        if tokens is None:
            need = f"it needs {sum(TINY_TOKENS):,} tokens in distinct stories, each ended by {END_OF_STORY}"
            raise BadFile(f"{path}: too short, {need}; is it the right file?")
        lines.append(" ".join(tokens))
        count += len(tokens)
    return lines, count


def tokenize_stories(path: Path, targets: list[Path]) -> None:
    """Cut the stories of a raw text into train, valid and test, and write those that are wanted."""
    stories = distinct_stories(path)
    try:
        splits = [take(stories, wanted, path) for wanted in TINY_TOKENS]
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: not UTF-8 text ({error.reason}); fetch it again") from error
    by_name = dict(zip((Path(name).name for name in SOURCES["tiny"].targets), splits, strict=True))
    for target in targets:
        lines, count = by_name[target.name]
        write_stories(target, lines)
        print(f"{target}: {len(lines):,} stories, {count:,} tokens{compared(target)}")


def write_stories(target: Path, lines: list[str]) -> None:
    with atomic(target) as out:
        out.write("".join(f"{line}\n" for line in lines).encode())


# ---------------------------------------------------------------------------------------------------------
# The very files behind the README's figures, known by their digests
# ---------------------------------------------------------------------------------------------------------


def story_digest(line: str) -> str:
    """A few letters that tell a tokenised story, its tokens joined by spaces, from the others."""
    return base64.b64encode(hashlib.sha256(line.encode()).digest()[:DIGEST_BYTES]).decode()


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_digests() -> dict[str, dict]:
    """By target: `sha256` of the file and, for stories, `stories`, the digests in their order."""
    try:
        known = json.loads(DIGESTS.read_text())
        for record in known.values():
            letters = "".join(record.get("stories", []))
            record["stories"] = [letters[i : i + DIGEST_LETTERS] for i in range(0, len(letters), DIGEST_LETTERS)]
        return known
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{DIGESTS}: not readable ({error}); get it from the repository again") from error


def compared(target: Path) -> str:
    """What to add to a line about a new file: whether it is the one that the README's figures are of."""
    known = read_digests() if DIGESTS.exists() else {}
    sha256 = known.get(f"{target.parent.name}/{target.name}", {}).get("sha256")
    if not sha256:
        return ""
    return ", the README's to the bit" if file_digest(target) == sha256 else ", not the README's: compare no figures"


def search(path: Path, missing: set[str], found: dict[str, str]) -> None:
    """Move the digests of the stories that a raw text has from `missing` to `found`, with the tokenised story."""
    tokenize_text = tokenizer()
    before = len(found)
    try:
        with bar(path, path.stat().st_size) as progress:
            for text in read_raw_stories(path):
                line = " ".join(tokenize_text(text))
                if (digest := story_digest(line)) in missing:
                    missing.remove(digest)
                    found[digest] = line
                if not missing:
                    break
                progress.update(len(text) + len(END_OF_STORY))
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: not UTF-8 text ({error.reason}); fetch it again") from error
    print(f"{path}: has {len(found) - before:,} of the stories that were looked for, {len(missing):,} are left")


def rebuild(args: argparse.Namespace, targets: list[Path]) -> None:
    """Write the splits of the README's figures, with their stories picked from raw texts by digest."""
    known = read_digests()
    wanted = {target: known[f"tiny/{target.name}"]["stories"] for target in targets}
    missing, found = {digest for digests in wanted.values() for digest in digests}, {}
    downloads = []
    for path, parts in raw_texts(args):
        try:
            search(path, missing, found)
        except BadFile:
            discard(*parts)
            raise
        downloads += parts
        if not missing:
            break
    for target, digests in wanted.items():
        if found.keys().isdisjoint(digests):
            raise DataError(f"{target}: not written, none of its {len(digests):,} stories was found; "
                            "name a file that has them with -from_file tiny=PATH, or cut other stories without -same")
    for target, digests in wanted.items():
        write_found(target, digests, found)
    discard(*downloads)  # not before: stopped and started again, the search needs all of them


def raw_texts(args: argparse.Namespace) -> Iterator[tuple[Path, list[Path]]]:
    """The files to look into, those of `-from_file` or else downloads, and what to remove of each afterwards."""
    if "tiny" in args.from_file:
        yield from ((path, []) for path in args.from_file["tiny"])
        return
    for url in (args.url["tiny"],) if "tiny" in args.url else SAME_URLS:
        part, note = (args.o / f"{url.rpartition('/')[2]}.part{end}" for end in ("", ".json"))
        download("tiny", (url,), part, note)
        verify(part, None)
        yield part, [part, note]


def write_found(target: Path, digests: list[str], found: dict[str, str]) -> None:
    """Write the stories of a split that were found, in its order, and say which were not."""
    write_stories(target, [found[digest] for digest in digests if digest in found])
    absent = [number for number, digest in enumerate(digests, 1) if digest not in found]
    print(f"{target}: {len(digests) - len(absent):,} of {len(digests):,} stories found{compared(target)}")
    if absent:
        print(f"note: {target} lacks the stories {ranges(absent)}, and was written without them")


def ranges(numbers: list[int], most: int = 10) -> str:
    """`3, 5-9` for 3, 5, 6, 7, 8, 9; no more than `most` such pieces."""
    starts = [n for n, before in zip(numbers, [None, *numbers], strict=False) if before != n - 1]
    ends = [n for n, after in zip(numbers, [*numbers[1:], None], strict=True) if after != n + 1]
    pieces = [f"{a}-{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True)]
    return ", ".join(pieces[:most]) + f" and {len(pieces) - most} more ranges" * (len(pieces) > most)


# ---------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------


def wanted_targets(name: str, args: argparse.Namespace) -> list[Path]:
    """The files to make; those that are there already are named and kept, unless -force."""
    targets = [args.o / target for target in SOURCES[name].targets]
    if name == "glove":
        targets = [target for target in targets if any(f".{dim}d." in target.name for dim in args.dims)]
    if name in args.from_file:  # of one extracted file only that one can be made
        names = {path.name for path in args.from_file[name]}
        targets = [target for target in targets if target.name in names] or targets
    kept = [] if args.force else [target for target in targets if target.exists()]
    for target in kept:
        print(f"{target}: already there, kept (-force replaces it)")
    return [target for target in targets if target not in kept]


def get(name: str, args: argparse.Namespace) -> None:
    """Make the files of one source, from a file of the user or from a download."""
    source, targets = SOURCES[name], wanted_targets(name, args)
    if name in args.url:  # another copy may well be packed differently: the published checksum is not for it
        source = replace(source, urls=(args.url[name],), checksum=None)
    if targets and name == "tiny" and args.same:
        rebuild(args, targets)
    elif targets and name in args.from_file:
        install(name, args.from_file[name][0], targets)
    elif targets:
        get_online(name, source, args.o, targets)


def get_online(name: str, source: Source, folder: Path, targets: list[Path]) -> None:
    """Download, install, and only then remove the download: a full disk or Ctrl-C must not cost it."""
    part, note = (folder / f"{source.file}.part{end}" for end in ("", ".json"))
    download(name, source.urls, part, note)
    try:
        verify(part, source.checksum)
        install(name, part, targets)
    except BadFile:
        discard(part, note)
        raise
    discard(part, note)


def discard(*paths: Path) -> None:
    for path in paths:
        path.unlink()


def install(name: str, path: Path, targets: list[Path]) -> None:
    (tokenize_stories if name == "tiny" else unpack)(path, targets)


def pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name not in SOURCES or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=..., with a NAME of {', '.join(SOURCES)}")
    return name, value


def dimensions(text: str) -> list[int]:
    dims = text.split(",")
    if not set(dims) <= {"50", "100", "200", "300"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of 50, 100, 200, 300, such as 50,100")
    return [int(dim) for dim in dims]


def parse(argv: list[str] | None) -> argparse.Namespace:
    addresses = "".join(f"\n  {name:6} {url}" for name, source in SOURCES.items() for url in source.urls)
    addresses += "".join(f"\n  {'-same':6} {url}" for url in SAME_URLS)
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="addresses (none of them was reached when this script was written):" + addresses,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="what to get: glove, tiny, wiki (default: all three)")
    add("-dims", type=dimensions, default="50,100,200,300", help="GloVe files to make (default: %(default)s)")
    add("-o", type=Path, default=HERE, metavar="DIR", help="where to write (default: the script's folder)")
    add("-force", action="store_true", help="replace files that are already there (default: keep them)")
    more = {"type": pair, "action": "append", "default": []}
    add("-url", metavar="NAME=URL", help="fetch NAME from another address (default: those below)", **more)
    what = "make NAME from a zip, an extracted file or raw stories on this disk (default: download)"
    add("-from_file", metavar="NAME=PATH", help=what, **more)
    what = "tiny: pick the very stories of the README's figures from all files of the set, or from each -from_file"
    add("-same", action="store_true", help=f"{what} (default: the first ones of one file)")
    args = parser.parse_args(argv)
    args.names = list(dict.fromkeys(args.names)) or list(SOURCES)
    args.url = dict(args.url)
    args.from_file = {name: [Path(path) for n, path in args.from_file if n == name] for name, _ in args.from_file}
    return args


def check(args: argparse.Namespace) -> None:
    """Refuse what would fail, or be ignored, only after a long download."""
    if unknown := [name for name in args.names if name not in SOURCES]:
        raise DataError(f"there is no {unknown[0]!r}: choose from {', '.join(SOURCES)}")
    if unused := [name for name in [*args.url, *args.from_file] if name not in args.names]:
        raise DataError(f"-url or -from_file is given for {unused[0]}, which is not among the names to get")
    for name, url in args.url.items():
        if name in args.from_file:
            raise DataError(f"-url {name}={url}: there is a -from_file for {name} too; give one of them")
        if not url.startswith(("http://", "https://")):
            raise DataError(f"-url {name}={url}: not an http address; a file is given with -from_file")
    if args.same and "tiny" not in args.names:
        raise DataError("-same is for tiny, which is not among the names to get")
    for name, paths in args.from_file.items():
        if len(paths) > 1 and not (name == "tiny" and args.same):
            raise DataError(f"-from_file {name}={paths[1]}: a second file; only tiny -same reads more than one")
        if absent := [path for path in paths if not path.is_file()]:
            raise DataError(f"-from_file {name}={absent[0]}: no such file; without -from_file it is downloaded")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        check(args)
        for name in args.names:
            get(name, args)
    except (DataError, OSError) as error:  # the text of an OSError names its file
        print(f"get_data.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("get_data.py: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
