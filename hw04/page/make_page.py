#!/usr/bin/env python3
"""Make one HTML file that holds a model and runs it in a browser, without server or network.

    python make_page.py                              # the shipped model, into build/lstlm.html
    python make_page.py -model MODEL -o FILE.html    # any other that generates
    python make_page.py -corpus FILE                 # also print what 8 bits cost on this corpus
    python make_page.py -weights FILE.pt             # also write the model that the page has

The page holds each matrix as whole numbers of -127 to 127 and a scale a row, base64-encoded:
8.7 million parameters are 11.8 MB. Its sources stand beside this file: page.html, page.css, the
modules that are joined into its script, and kernel.wat, the one loop that is WebAssembly. Exit
status: 0; 2 when something is wrong that you can mend; 1 for a failing machine.
"""

import argparse
import ast
import base64
import copy
import hashlib
import html
import json
import math
import re
import sys
import zlib
from pathlib import Path

PAGE = Path(__file__).resolve().parent
HW04 = PAGE.parent
CODE = HW04 / "code"
sys.path.extend(map(str, (CODE, PAGE)))  # the latter too, as python -P does not look there
import lstlm  # noqa: E402 - found by the line above
import torch  # noqa: E402
from backstage.checkpoint import Loaded, save_model  # noqa: E402
from backstage.errors import UserError  # noqa: E402
from backstage.files import atomic_write  # noqa: E402
from backstage.parser import Parser  # noqa: E402
from backstage.shell import guarded  # noqa: E402
from page_tables import tables  # noqa: E402
from torch import Tensor  # noqa: E402

LARGEST = 15e6  # bytes of a page that can still be sent around
COLUMNS = 16  # a row of the page's matrices is a multiple of so many bytes
# Each uses only what stands before it.
MODULES = (
    "text", "pieces", "nearest", "products", "model", "sampling", "telling", "jobs",
    "dom", "words", "bars", "word_card", "next_word", "story", "surprise", "memory", "strips",
    "inside", "card", "app",
)
# The functions of which the page shows the source.
SHOWN = (
    ("lstlm.py", "LSTMLM.forward"), ("lstlm.py", "LSTMLM.attend"), ("lstlm.py", "compute_loss"),
    ("lstlm.py", "next_token_logits"), ("lstlm.py", "generate_next_token"), ("lstlm.py", "use"),
    ("lstlm.py", "evaluate"), ("backstage/sampling.py", "restricted"),
    ("backstage/one_step.py", "lstm_cell"), ("backstage/continuations.py", "looping"),
)


# ---- The model in 8 bits ------------------------------------------------------------------------


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix (n, K) as whole numbers (n, K) of -127 to 127, and a scale for each row (n,)."""
    scale = weight.abs().amax(1).clamp(min=1e-30) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def matrices_of(model: lstlm.LSTMLM) -> dict[str, Tensor]:
    """The weights that the page has in 8 bits, by the name they have there."""
    found = {"embedding": model.embedding.weight}
    if not model.tied:
        found["output"] = model.output.weight
    for number, (w_ih, w_hh, _, _) in enumerate(model.layer_weights()):
        found |= {f"w_ih{number}": w_ih, f"w_hh{number}": w_hh}
    for name in ("W", "U"):
        if hasattr(model, name):
            found[name] = getattr(model, name)
    return {name: weight.detach() for name, weight in found.items()}


def vectors_of(model: lstlm.LSTMLM) -> dict[str, Tensor]:
    """What the page has in 32 bits."""
    found = {"bias": model.output.bias}
    for number, (_, _, b_ih, b_hh) in enumerate(model.layer_weights()):
        found |= {f"b_ih{number}": b_ih, f"b_hh{number}": b_hh}
    if hasattr(model, "v"):
        found["v"] = model.v
    return {name: vector.detach() for name, vector in found.items()}


def rounded(model: lstlm.LSTMLM) -> lstlm.LSTMLM:
    """A copy of the model with the weights that the page has."""
    model.one_step = None  # made again when it is asked for
    model = copy.deepcopy(model)
    with torch.no_grad():
        for weight in matrices_of(model).values():
            whole, scale = quantised(weight)
            weight.copy_(whole * scale[:, None])
    return model


# ---- The bytes that the page holds --------------------------------------------------------------


class Block:
    """Bytes that grow; each piece begins at a multiple of 16."""

    def __init__(self):
        self.bytes = bytearray()

    def add(self, tensor: Tensor) -> int:
        """Append a tensor's numbers; returns where they begin."""
        self.bytes += bytes(-len(self.bytes) % COLUMNS)
        begin = len(self.bytes)
        self.bytes += tensor.numpy().tobytes()
        return begin


def payload(loaded: Loaded, card: dict) -> bytes:
    """What the page knows of a model: the length of a JSON text, that, the numbers, a CRC-32.

    All that may be a stranger's, such as the words, is in here, and so never markup.
    """
    block = Block()
    tensors = {}
    for name, weight in matrices_of(loaded.model).items():
        whole, scale = quantised(weight)
        whole = torch.nn.functional.pad(whole, (0, -whole.shape[1] % COLUMNS))
        rows, columns = weight.shape
        tensors[name] = {
            "rows": rows, "columns": columns, "at": block.add(whole), "scales": block.add(scale),
        }
    for name, vector in vectors_of(loaded.model).items():
        tensors[name] = {"size": len(vector), "at": block.add(vector.float())}
    config = loaded.config
    head = {
        "words": loaded.words, "merges": merges(loaded), "cased": config.cased, "tables": tables(),
        "names": {**loaded.names},
        "cell": config.cell, "attention": config.a, "positions": config.positions,
        "layers": len(loaded.model.layer_weights()), "tensors": tensors, "card": card,
    }
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    text += b" " * (-(len(text) + 4) % COLUMNS)
    data = len(text).to_bytes(4, "little") + text + bytes(block.bytes)
    return data + zlib.crc32(data).to_bytes(4, "little")


def merges(loaded: Loaded) -> list[list[str]] | None:
    """The pairs of word pieces that are joined, in their order; None for a model of words."""
    if loaded.bpe is None:
        return None
    pairs = json.loads(loaded.bpe.text)["model"]["merges"]
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs]


def describe(loaded: Loaded, path: Path, cost: dict | None) -> dict:
    """What the model's card says."""
    config, facts = loaded.config, loaded.facts
    wanted = ("E", "B", "lr", "seed", "epoch", "device", "torch", "valid_nats", "sample")
    return {
        "file": path.name, "parameters": sum(x.numel() for x in loaded.model.parameters()),
        "H": config.H, "N": config.N, "EDim": config.EDim, "tie": config.tie,
        "dropout": config.dropout, "tokenizer": config.tokenizer, "cost": cost,
        "train_corpus": facts["train_corpus"], "valid_corpus": facts.get("valid_corpus"),
        **{name: facts[name] for name in wanted if name in facts},
    }


# ---- The file -----------------------------------------------------------------------------------


def joined(modules: tuple[str, ...]) -> str:
    """The text of modules, one behind the other, without what they import and export."""
    parts = []
    for name in modules:
        text = (PAGE / f"{name}.js").read_text("utf-8")
        text = re.sub(r"^import [^;]*;\n", "", text, flags=re.MULTILINE)
        parts.append(re.sub(r"^export ", "", text, flags=re.MULTILINE).strip())
    kernel = base64.b64encode((PAGE / "kernel.wasm").read_bytes()).decode()
    return "\n\n".join(parts).replace("kernel.wasm in base64", kernel)


def script() -> str:
    """The one script, which is that of the page and of its worker."""
    return f'"use strict";\n(() => {{\n{joined(MODULES)}\n}})();\n'


def source_of(file: str, name: str) -> tuple[int, str]:
    """The first line of a function of the program, and its text."""
    text = (CODE / file).read_text("utf-8")
    nodes = ast.parse(text).body
    for part in name.split("."):
        node = next((one for one in nodes if getattr(one, "name", None) == part), None)
        if node is None:
            raise UserError(f"{CODE / file}: no {name}; mend SHOWN in make_page.py")
        nodes = node.body
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    return node.lineno, "\n".join(line[node.col_offset :] for line in lines)


def shown_code() -> str:
    """The functions as parts of the page that open."""
    parts = []
    for file, name in SHOWN:
        line, text = source_of(file, name)
        short = name.rpartition(".")[2]
        parts.append(
            f'<details id="code-{short}"><summary><code>{name}()</code> '
            f"<span>hw04/code/{file}, line {line}</span></summary>"
            f'<pre tabindex="0" role="region" aria-label="{name}"><code>{html.escape(text)}'
            "</code></pre></details>"
        )
    return "\n".join(parts)


def sha256(text: str) -> str:
    """How a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page(data: bytes, parameters: int) -> str:
    """The whole file, of the bytes of a model with so many parameters."""
    style = (PAGE / "page.css").read_text("utf-8")
    code = script()
    policy = (  # no network at all: nothing but these very bytes, and a worker made of them
        f"default-src 'none'; script-src {sha256(code)} 'wasm-unsafe-eval'; style-src "
        f"{sha256(style)}; worker-src blob:; img-src data:; base-uri 'none'; form-action 'none'"
    )
    encoded = base64.b64encode(data).decode()
    lines = "\n".join(encoded[i : i + 4096] for i in range(0, len(encoded), 4096))
    text = (PAGE / "page.html").read_text("utf-8")
    # Each in one go, as what is put in may hold what looks like a mark.
    size = f"{parameters / 1e6:.1f} million" if parameters > 1e6 else f"{parameters:,}"
    values = {
        "policy": policy, "style": style, "size": size, "code": shown_code(), "script": code,
        "model": lines,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: values[mark[1]], text)


# ---- The command line ---------------------------------------------------------------------------


def cost_of_rounding(loaded: Loaded, model: lstlm.LSTMLM, corpus: Path) -> dict:
    """The mean nats per target token of a corpus with the weights as they are, and as rounded."""
    stories = lstlm.tokenize_corpus(
        corpus, loaded.token2idx, loaded.facts.get("stories", "auto"), loaded.config.cased,
        loaded.bpe,
    )
    before, after = (lstlm.compute_loss(one, stories, 32, True) for one in (loaded.model, model))
    return {"corpus": corpus.name, "before": round(before, 5), "after": round(after, 5)}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser("make_page.py", __doc__)
    default = HW04.parent / "build" / "lstlm.html"
    parser.add_argument(
        "-model", type=Path, default=CODE / "lm_model.pt", help="the model (default the shipped)"
    )
    parser.add_argument(
        "-o", type=Path, default=default, help="the page (default build/lstlm.html)"
    )
    what = "print what 8 bits cost on this corpus (default none)"
    parser.add_argument("-corpus", type=Path, help=what)
    what = "write the page's model here, for lstlm.py -model (default nowhere)"
    parser.add_argument("-weights", type=Path, help=what)
    args = parser.parse_args(argv)
    written = [path.resolve() for path in (args.o, args.weights) if path]
    read = [path.resolve() for path in (args.model, args.corpus) if path]
    if len({*written, *read}) < len(written) + len(read):
        raise UserError("two flags name one file; give one another name")
    for path in written:
        if path.is_dir():
            raise UserError(f"{path}: a folder; name a file")
    return args


def main(argv: list[str] | None = None) -> None:
    """Write the page."""
    args = parse_args(argv)
    loaded = lstlm.load(args.model).loaded
    model = rounded(loaded.model)
    cost = None
    if args.corpus:
        cost = cost_of_rounding(loaded, model, args.corpus)
        print(
            f"{args.corpus}: {cost['before']:.4f} nats per token, {cost['after']:.4f} with 8 bits: "
            f"{cost['after'] - cost['before']:+.4f}"
        )
    if args.weights:
        args.weights.parent.mkdir(parents=True, exist_ok=True)
        save_model(
            args.weights, model, loaded.config, loaded.words, loaded.facts, loaded.bpe,
            [*loaded.names.values()],
        )
        print(f"{args.weights}: the page's model")
    card = describe(loaded, args.model, cost)
    data = page(payload(loaded, card), card["parameters"]).encode()
    args.o.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(args.o, lambda file: file.write(data))
    print(f"{args.o}: {len(data) / 1e6:.1f} MB; open it in a browser")
    if len(data) > LARGEST:
        millions = math.ceil(len(data) / 1e6)
        print(f"note: {millions} MB are much to send around; a smaller -N or -VSize helps")


if __name__ == "__main__":
    sys.exit(guarded("make_page.py", main))
