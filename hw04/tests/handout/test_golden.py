"""A tiny float32 model with a fixed seed says the same words everywhere."""

import adapter
import torch
from backstage.sampling import Sampling
from backstage.state import State
from lstlm import EOS, LSTMLM, detokenize, encode, generate_next_token, next_token_logits

STORIES = [
    "once upon a time , a small owl could not sleep . "
    "so she counted the stars until the sun came up .",
    "one day , a fox lost his red hat . the wind had it . "
    "the wind gave it back , and the fox said thank you .",
    "there was a boat that was afraid of water . it stayed on the sand , and a crab moved in .",
]
GOLDEN = {
    "once upon a time": "Once upon a time, a small owl could not sleep. "
    "So she counted the stars until the sun came up.",
    "one day": "One day, a fox lost his red hat. The wind had it. "
    "The wind gave it back, and the fox said thank you.",
    "there was a boat": "There was a boat that was afraid of water. "
    "It stayed on the sand, and a crab moved in.",
}


def tiny_model() -> tuple[LSTMLM, list[str]]:
    """A model of the three stories; its words and weights depend on nothing but this file."""
    torch.manual_seed(0)
    words = ["<unk>", "<bos>", "<eos>", *dict.fromkeys(" ".join(STORIES).split())]
    model = LSTMLM(torch.zeros(len(words), 16), 32, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    ids = encode([story.split() for story in STORIES], {word: i for i, word in enumerate(words)})
    for _ in range(120):
        adapter.gradient_step(model, optimizer, ids, 512)
    return model.eval(), words


def test_greedy_text_is_golden_and_no_choice_is_a_near_tie():
    model, words = tiny_model()
    for beginning, golden in GOLDEN.items():
        ids = [1, *(words.index(word) for word in beginning.split())]
        state = State()
        while ids[-1] != EOS and len(ids) < 60:
            probs = torch.softmax(next_token_logits(model, ids, Sampling()), 0)
            best = probs.topk(2).values
            assert best[0] > 1.5 * best[1]  # rounding cannot turn it round
            ids.append(generate_next_token(model, ids, greedy=True, state=state))
        assert detokenize([words[i] for i in ids[1:-1]]) == golden
