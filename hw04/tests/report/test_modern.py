"""The recurrences of 2024, each beside a loop over its paper's equations."""

import json

import pytest
import torch
from backstage.state import State
from extensions import modern
from extensions.modern import ADDED, MatrixLSTM, MatrixLSTMLM, MinGRU, MinGRULM
from extensions.transformer import HEADS, TransformerLM
from lstlm import collate_stories
from small import make_stories

STORIES = make_stories([5, 1, 9, 9, 3, 2], 40)
INPUTS, TARGETS, LENGTHS = collate_stories(STORIES)


def random_weights(layer: torch.nn.Module, spread: float = 0.7) -> torch.nn.Module:
    """The layer in float64, with random weights and biases."""
    torch.manual_seed(1)
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=spread)
    return layer.double()


@pytest.mark.parametrize("T", [1, 2, 7, 8, 9])
def test_a_min_gru_is_that_of_the_paper(T):
    layer = random_weights(MinGRU(6))
    x = torch.randn(3, T, 6, dtype=torch.float64)
    h = torch.zeros(3, 8, dtype=torch.float64)
    expected = []
    for t in range(T):
        normed = layer.norm(x[:, t])
        z = torch.sigmoid(normed @ layer.gate.weight.T + layer.gate.bias).float().double()
        candidate = normed @ layer.candidate.weight.T + layer.candidate.bias
        h = (1 - z) * h + z * candidate
        expected.append(x[:, t] + layer.down(h))
    torch.testing.assert_close(layer.causal(x), torch.stack(expected, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spread", [0.3, 3])  # gates near one half, and wide open or shut
def test_an_mlstm_is_that_of_the_paper(spread):
    size, D, T = 8, 8 // HEADS, 11
    layer = random_weights(MatrixLSTM(size), spread)
    x = torch.randn(size, dtype=torch.float64) + torch.randn(T, size, dtype=torch.float64)
    C = torch.zeros(HEADS, D, D, dtype=torch.float64)
    n = torch.zeros(HEADS, D, dtype=torch.float64)
    expected = []
    for t in range(T):
        normed = layer.norm(x[t])
        q, k, v = layer.qkv(normed).view(3, HEADS, D)
        k = k / D**0.5
        i = layer.input_gate(normed).float().double().exp()  # (HEADS,)
        f = torch.sigmoid(layer.forget_gate(normed))
        read = torch.zeros(HEADS, D, dtype=torch.float64)
        for head in range(HEADS):
            C[head] = f[head] * C[head] + i[head] * torch.outer(v[head], k[head])
            n[head] = f[head] * n[head] + i[head] * k[head]
            below = max(abs(float((n[head] @ q[head]).detach())), 1)
            read[head] = C[head].detach() @ q[head] / below
            centred = read[head] - read[head].mean()
            read[head] = centred / (centred.square().mean() + 1e-5).sqrt()
        gate = torch.sigmoid(layer.output_gate(normed))
        expected.append((x[t] + layer.down(gate * read.flatten())).detach())
        C, n = C.detach(), n.detach()
    ours = layer.causal(x[None])[0].detach()
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [MinGRULM, MatrixLSTMLM])
def test_a_model_looks_back_only_and_goes_on_from_a_state(kind):
    torch.manual_seed(1)
    model = kind(torch.zeros(40, 8), 12, 2, tie=True).double().eval()
    whole = model(INPUTS, LENGTHS)
    later = INPUTS.clone()
    later[:, 5:] = 7
    torch.testing.assert_close(model(later, LENGTHS)[:, :5], whole[:, :5])
    state = State()
    first = model(INPUTS[2:4, :4], torch.tensor([4, 4]), state=state)
    torch.testing.assert_close(first, whole[2:4, :4])
    rest = model(INPUTS[2:4, 4:], LENGTHS[2:4] - 4, state=state)
    torch.testing.assert_close(rest, whole[2:4, 4:])


def test_they_are_as_large_as_a_transformer():
    sizes = {}
    with torch.device("meta"):
        for kind, N in ((TransformerLM, 512), (MinGRULM, 512), (MatrixLSTMLM, 384)):
            model = kind(torch.empty(4003, 256), N, 2, tie=True)
            sizes[kind] = sum(p.numel() for p in model.parameters())
    transformer = sizes[TransformerLM]
    assert all(abs(size - transformer) < 0.003 * transformer for size in sizes.values())


@pytest.mark.parametrize("name", ADDED)
def test_a_program_trains_and_evaluates(name, small_lm, tmp_path, capsys):
    path = tmp_path / "t.pt"
    flags = ["-tie", "-H", "1", "-EDim", "8", "-N", "16", "-E", "1", "-B", "8", "-lr", "0.02"]
    train = ["-train", *flags, *small_lm.corpora, "-model", str(path), "-with", name]
    assert modern.main(train) == 0
    capsys.readouterr()
    read = ["-evaluate", "-model", str(path), "-test_corpus", str(small_lm.valid), "-json"]
    assert modern.main([*read, "-with", name]) == 0
    nats = json.loads(capsys.readouterr().out)["nats"]
    said = json.loads((tmp_path / "t.log.jsonl").read_text().splitlines()[-1])["valid_nats"]
    assert nats == pytest.approx(said, abs=0.02)
    other = next(other for other in ADDED if other != name)
    assert modern.main([*read, "-with", other]) == 2
    assert f"no {other} file" in capsys.readouterr().err
