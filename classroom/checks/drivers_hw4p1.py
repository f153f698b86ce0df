"""The second assignment: what calls a student's functions, each by itself.

A driver gets `program`, a function that imports a module of the student's by name, and what a case
gives; it returns what came, by name. Those of the NumPy layers do not import PyTorch.
"""

import contextlib
import io
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

# ---- NumPy layers


def linear(program, given: dict) -> dict:
    """Forward and backward, `times` times with other numbers before the last."""
    layer = program("mytorch.nn.linear").Linear(*given["sizes"])
    layer.init_weights(given["W"], given["b"])
    for A, dLdZ in given["calls"]:
        Z = layer.forward(A)
        dLdA = layer.backward(dLdZ)
    return {"Z": Z, "dLdA": dLdA, "dLdW": layer.dLdW, "dLdb": layer.dLdb}


def linear_forward(program, given: dict) -> dict:
    """Forward alone."""
    layer = program("mytorch.nn.linear").Linear(*given["sizes"])
    layer.init_weights(given["W"], given["b"])
    return {"Z": layer.forward(given["A"])}


def linear_kept(program, given: dict) -> dict:
    """What is left of the arrays that a layer was given."""
    layer = program("mytorch.nn.linear").Linear(*given["sizes"])
    W, b, A, dLdZ = (given[name].copy() for name in ("W", "b", "A", "dLdZ"))
    layer.init_weights(W, b)
    layer.forward(A)
    layer.backward(dLdZ)
    return {"W": W, "b": b, "A": A, "dLdZ": dLdZ}


def softmax(program, given: dict) -> dict:
    """Forward and backward along a dimension."""
    layer = program("mytorch.nn.activation").Softmax(given["dim"])
    A = layer.forward(given["Z"].copy())
    return {"A": np.array(A), "dLdZ": layer.backward(given["dLdA"].copy())}


def softmax_forward(program, given: dict) -> dict:
    """Forward alone."""
    return {"A": program("mytorch.nn.activation").Softmax(given["dim"]).forward(given["Z"].copy())}


def softmax_refuses(program, given: dict) -> dict:
    """1 if a dimension that there is not is a ValueError."""
    layer = program("mytorch.nn.activation").Softmax(given["dim"])
    return {"refused": refuses(lambda: layer.forward(given["Z"].copy()))}


def attention_layer(program):
    """A new ScaledDotProductAttention."""
    return program("mytorch.nn.scaled_dot_product_attention").ScaledDotProductAttention()


def attention(program, given: dict) -> dict:
    """Forward and backward of queries, keys, values, with or without a mask."""
    layer = attention_layer(program)
    arrays = [given[name].copy() for name in ("Q", "K", "V")]
    output = layer.forward(*arrays, mask=given.get("mask"))
    dQ, dK, dV = layer.backward(given["d_output"].copy())
    return {"output": output, "dQ": dQ, "dK": dK, "dV": dV}


def attention_forward(program, given: dict) -> dict:
    """Forward alone."""
    arrays = [given[name].copy() for name in ("Q", "K", "V")]
    return {"output": attention_layer(program).forward(*arrays, mask=given.get("mask"))}


def multi_head_layer(program, given: dict):
    """A MultiHeadAttention with the weights of a case."""
    layer = program("mytorch.nn.multi_head_attention").MultiHeadAttention(*given["sizes"])
    layer.init_weights(*given["weights"])
    return layer


def multi_head(program, given: dict) -> dict:
    """Forward and backward, with the gradients of the projections."""
    layer = multi_head_layer(program, given)
    inputs = [given[name].copy() for name in ("query", "key", "value")]
    masks = given.get("key_padding_mask"), given.get("attn_mask")
    output = layer.forward(*inputs, *masks)
    found = {"output": np.array(output)}
    gradients = layer.backward(given["d_output"].copy())
    found |= dict(zip(("d_query", "d_key", "d_value"), gradients, strict=True))
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        found[f"{name}.dLdW"] = getattr(layer, name).dLdW
    return found


def multi_head_forward(program, given: dict) -> dict:
    """Forward alone."""
    layer = multi_head_layer(program, given)
    inputs = [given[name].copy() for name in ("query", "key", "value")]
    return {"output": layer.forward(*inputs, given.get("key_padding_mask"), given.get("attn_mask"))}


def multi_head_helpers(program, given: dict) -> dict:
    """The three methods by themselves."""
    layer = multi_head_layer(program, given)
    x = given["x"]  # (N, L, E)
    layer.N, layer.L, layer.E = x.shape
    layer.S = given["key_padding_mask"].shape[1]
    heads = layer._split_heads(x)
    mask = layer._merge_masks(given["key_padding_mask"], given["attn_mask"])
    joined = layer._concat_heads(given["y"])
    return {"_split_heads": heads, "_merge_masks": mask, "_concat_heads": joined}


def refuses(call) -> int:
    """1 if a call raises ValueError, else 0."""
    try:
        call()
    except ValueError:
        return 1
    except NotImplementedError:
        raise
    except Exception:  # refused by something else, later
        return 0
    return 0


# ---- Data


def make_dataset(program, given: dict):
    """The LMDataset of texts, which are written into files first."""
    from checks.stand_ins import Tokens

    root = Path(tempfile.mkdtemp(dir="."))
    folder = root / given["partition"]
    folder.mkdir()
    for name, text in given["files"].items():
        np.save(folder / name, np.array(text))
    (folder / "notes.txt").write_text("no transcript")
    config = {"root": str(root), "subset": given["subset"], "batch_size": 4}
    with contextlib.redirect_stderr(io.StringIO()):
        module = program("hw4lib.data.lm_dataset")
        return module.LMDataset(given["partition"], config, Tokens())


def dataset_texts(program, given: dict) -> dict:
    """What a dataset has after it has read its files."""
    dataset = make_dataset(program, given)
    found = {"count": len(dataset.text_files)}
    for number, name in enumerate(dataset.text_files):
        found[f"name {number}"] = list(map(ord, name))
    for kind in ("shifted", "golden"):
        for number, ids in enumerate(getattr(dataset, f"transcripts_{kind}")):
            found[f"{kind} {number}"] = list(ids)
    return found


def dataset_numbers(program, given: dict) -> dict:
    """What a dataset counts."""
    dataset = make_dataset(program, given)
    names = ("total_chars", "total_tokens", "text_max_len", "avg_chars_per_token")
    return {name: getattr(dataset, name) for name in names} | {"len": len(dataset)}


def dataset_batch(program, given: dict) -> dict:
    """Items of a dataset, and a batch of them."""
    import torch

    dataset = make_dataset(program, given)
    items = [dataset[i] for i in given["numbers"]]
    if not all(isinstance(x, torch.LongTensor) for item in items for x in item):
        raise TypeError("dataset[i] should be two LongTensors")
    shifted, golden, lengths = dataset.collate_fn(items)
    found = {
        "shifted": shifted, "golden": golden, "lengths": lengths,
        "first shifted": items[0][0], "first golden": items[0][1],
    }
    return {name: rows for name, rows in found.items() if isinstance(rows, torch.Tensor)}


# ---- The model


def masks(program, given: dict) -> dict:
    """Both masks."""
    import torch

    module = program("hw4lib.model.masks")
    inputs, lengths = torch.tensor(given["inputs"]), torch.tensor(given["lengths"])
    return {"PadMask": module.PadMask(inputs, input_lengths=lengths)}


def causal_mask(program, given: dict) -> dict:
    """The causal mask."""
    import torch

    module = program("hw4lib.model.masks")
    return {"CausalMask": module.CausalMask(torch.tensor(given["inputs"]))}


def positions(program, given: dict) -> dict:
    """The table, and what is added to inputs."""
    import torch

    layer = program("hw4lib.model.positional_encoding").PositionalEncoding(*given["sizes"])
    if "pe" not in dict(layer.named_buffers()):
        raise AttributeError("pe is not a buffer")
    return {"pe": layer.pe, "output": layer(torch.tensor(given["x"]))}


def positions_refuse(program, given: dict) -> dict:
    """1 if a sequence that is too long is a ValueError."""
    import torch

    layer = program("hw4lib.model.positional_encoding").PositionalEncoding(*given["sizes"])
    return {"refused": refuses(lambda: layer(torch.tensor(given["x"])))}


def with_weights(module, weights: dict):
    """A module in float64 with the weights of a case, which are all that it has."""
    import torch

    module = module.double()
    module.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return module


def sublayer(program, given: dict) -> dict:
    """One of the two sublayers, in evaluation."""
    import torch

    module = getattr(program("hw4lib.model.sublayers"), given["class"])(*given["sizes"], 0.3)
    module = with_weights(module, given["weights"]).eval()
    x = torch.tensor(given["x"])
    if given["class"] == "FeedForwardLayer":
        return {"output": module(x)}
    masks = [None if m is None else torch.tensor(m) for m in given["masks"]]
    output, weights = module(x, *masks)
    return {"output": output, "weights": weights}


def sublayer_dropout(program, given: dict) -> dict:
    """1 if what a sublayer adds in training is dropped as a whole, and the rates that it has."""
    import torch

    module = getattr(program("hw4lib.model.sublayers"), given["class"])(*given["sizes"], 1.0)
    module.double().train()
    x = torch.tensor(given["x"])
    attends = given["class"] == "SelfAttentionLayer"
    inner, name = (module.mha, "dropout") if attends else (module.ffn[2], "p")
    rates = [float(module.dropout.p), float(getattr(inner, name))]
    setattr(inner, name, 0.0)
    output = module(x)[0] if attends else module(x)
    return {"dropped": int(torch.equal(output, x)), "rates": rates}


def put_in(program, names: dict) -> None:
    """Let modules of the student's have stand-ins, by `module.name`."""
    for place, stand_in in names.items():
        module, _, name = place.rpartition(".")
        with contextlib.suppress(AttributeError):
            setattr(program(f"hw4lib.model.{module}"), name, stand_in)


def decoder_layer(program, given: dict) -> dict:
    """A layer of two simple stand-ins for its sublayers."""
    import torch

    from checks import stand_in_layers

    for module in ("sublayers", "decoder_layers"):
        put_in(program, {
            f"{module}.SelfAttentionLayer": stand_in_layers.Attention,
            f"{module}.FeedForwardLayer": stand_in_layers.FeedForward,
        })
    layer = program("hw4lib.model.decoder_layers").SelfAttentionDecoderLayer(*given["sizes"])
    made = [layer.self_attn.made_with, layer.ffn.made_with]
    layer.double().eval()
    masks = [None if m is None else torch.tensor(m) for m in given["masks"]]
    output, weights = layer(torch.tensor(given["x"]), *masks)
    return {"output": output, "weights": weights, "sizes": made[0] + made[1]}


def make_transformer(program, given: dict, **options):
    """A DecoderOnlyTransformer with simple stand-ins for what is in it."""
    import torch

    from checks import stand_in_layers

    def constant(name: str):
        return lambda *_, **__: torch.tensor(given[name])

    for module in ("transformers", "decoder_layers"):
        put_in(program, {f"{module}.SelfAttentionDecoderLayer": stand_in_layers.Layer})
    for module in ("transformers", "positional_encoding"):
        put_in(program, {f"{module}.PositionalEncoding": stand_in_layers.Positions})
    for module in ("transformers", "masks"):
        put_in(program, {
            f"{module}.CausalMask": constant("causal_mask"),
            f"{module}.PadMask": constant("pad_mask"),
        })
    module = program("hw4lib.model.transformers")
    return module.DecoderOnlyTransformer(**given["options"], **options).double()


def transformer(program, given: dict) -> dict:
    """Logits and maps of a padded batch, in evaluation."""
    import torch

    model = with_weights(make_transformer(program, given), given["weights"]).eval()
    logits, maps = model(torch.tensor(given["ids"]), torch.tensor(given["lengths"]))
    return {"logits": logits} | {name: maps[name] for name in sorted(maps)}


def transformer_score(program, given: dict) -> dict:
    """The scores of the next token after prompts; 1 if training is refused."""
    import torch

    model = with_weights(make_transformer(program, given), given["weights"])
    ids = torch.tensor(given["ids"])
    refused = refuses(lambda: model.train().score(ids))
    refused += refuses(lambda: model.train()(ids))
    return {"scores": model.eval().score(ids), "refused": refused}


def transformer_options(program, given: dict) -> dict:
    """Parameters with and without tying, and the layers that are left when all are dropped."""
    import torch

    def count(model) -> int:
        return sum(p.numel() for p in model.parameters())

    free = count(make_transformer(program, given))
    tied = make_transformer(program, given, weight_tying=True)
    random.seed(0)
    dropping = make_transformer(program, given, layer_drop_rate=0.999999).train()
    batch = torch.tensor(given["ids"]), torch.tensor(given["lengths"])
    left = len(dropping(*batch)[1])
    evaluated = len(dropping.eval()(*batch)[1])
    return {"free": free, "tied": count(tied), "left": left, "in evaluation": evaluated}


# ---- Decoding


def greedy(program, given: dict) -> dict:
    """Sequences and scores of greedy decoding."""
    import torch

    from checks.stand_ins import Scripted, Tokens

    module = program("hw4lib.decoding.sequence_generator")
    generator = module.SequenceGenerator(
        Scripted(given["table"]), Tokens(), given["max_length"], "cpu"
    )
    sequences, scores = generator.generate_greedy(torch.tensor(given["prompts"]), **given["how"])
    return {"length": sequences.shape[1], "sequences": sequences, "scores": scores}


# ---- Training


@contextlib.contextmanager
def make_trainer(program, given: dict):
    """An LMTrainer of a model that sees one token, which writes no files."""
    from checks import stand_in_layers
    from checks.stand_ins import Tokens

    module = program("hw4lib.trainers.lm_trainer")
    base = program("hw4lib.trainers.base_trainer").BaseTrainer
    with mock.patch.multiple(base, **stand_in_layers.BASE, create=True):
        model = stand_in_layers.OneToken(given["table"], given["bias"])
        yield module.LMTrainer(model, Tokens(), given["config"], "run", "config.yaml", "cpu")


def train_epoch(program, given: dict) -> dict:
    """Weights and metrics after an epoch of training, and how often the schedule was stepped."""
    import torch

    from checks import stand_in_layers

    with make_trainer(program, given) as trainer:
        trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=given["rate"])
        trainer.scheduler = stand_in_layers.Schedule()
        trainer.model.eval()
        with contextlib.redirect_stderr(io.StringIO()):
            metrics, _ = trainer._train_epoch(stand_in_layers.Loader(given["batches"]))
        weights = torch.cat([trainer.model.table, trainer.model.bias[None]])
        return {
            "weights": weights, "ce_loss_token": metrics["ce_loss_token"],
            "schedule steps": trainer.scheduler.steps, "training": int(trainer.model.trained),
        }


def validate_epoch(program, given: dict) -> dict:
    """Metrics of validation, how far it changed the weights, and whether it left training mode."""
    from checks import stand_in_layers

    with make_trainer(program, given) as trainer:
        trainer.model.train()
        with contextlib.redirect_stderr(io.StringIO()):
            metrics, _ = trainer._validate_epoch(stand_in_layers.Loader(given["batches"]))
        names = ("ce_loss_token", "ce_loss_char", "perplexity_token", "perplexity_char")
        changed = (trainer.model.table.detach().numpy() - given["table"]).any()
        return {name: metrics[name] for name in names} | {
            "changed": int(changed), "training": int(trainer.model.training)
        }


def generate(program, given: dict) -> dict:
    """The texts of `generate`, as the codes of their letters, and their scores."""
    from checks import stand_in_layers

    with make_trainer(program, given) as trainer:
        loader = stand_in_layers.Loader(given["batches"], given["prompts"])
        trainer.continue_prompts = stand_in_layers.Continue(given["continued"])
        texts = trainer.generate(loader, given["how"])
        found = {"count": len(texts)}
        for number, text in enumerate(texts):
            for key in ("prompt", "original", "generated"):
                found[f"{key} {number}"] = list(map(ord, text[key]))
            found[f"score {number}"] = text["score"]
        return found


def train_all(program, given: dict) -> dict:
    """What `train` calls: the epochs that it logs, and the files that it saves, in their order."""
    from checks import stand_in_layers

    with make_trainer(program, given) as trainer:
        def validate(loader):
            trainer.validated += 1
            return {"ce_loss_char": given["losses"][trainer.validated - 1]}, {}

        trainer._train_epoch = lambda loader: ({"ce_loss_char": 9.0}, {})
        trainer._validate_epoch = validate
        trainer._generate_and_save = trainer._show_epoch = lambda *_, **__: []
        refused = refuses(lambda: trainer.train([], [], 1))
        trainer.optimizer, trainer.scheduler = SimpleNamespace(), stand_in_layers.Schedule()
        trainer.train([], [], len(given["losses"]))
        return {
            "refused": refused, "logged": trainer.logged, "best saved": trainer.saved["best"],
            "last saved": trainer.saved["last"], "best_metric": trainer.best_metric,
            "current_epoch": trainer.current_epoch,
        }


DRIVERS = {
    each.__name__: each for each in (
        linear, linear_forward, linear_kept, softmax, softmax_forward, softmax_refuses, attention,
        attention_forward, multi_head, multi_head_forward, multi_head_helpers, dataset_texts,
        dataset_numbers, dataset_batch, masks, causal_mask, positions, positions_refuse, sublayer,
        sublayer_dropout, decoder_layer, transformer, transformer_score, transformer_options,
        greedy, train_epoch, validate_epoch, generate, train_all,
    )
}
