"""What each function should give, in plain NumPy: slow, and independent of the reference."""

import math

import numpy as np

# ---- The first assignment


def lstm(weights: dict, layer: int, inputs: np.ndarray, start=None) -> np.ndarray:
    """The hidden states (T, N) of one layer over the vectors (T, In) of one story.

    Gates in PyTorch's order: input, forget, cell, output.
    """
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    W_ih, W_hh, b_ih, b_hh = (weights[f"lstm.{name}_l{layer}"] for name in names)
    N = W_hh.shape[1]
    h, c = (np.zeros(N), np.zeros(N)) if start is None else start
    states = []
    for x in inputs:
        i, f, g, o = (W_ih @ x + b_ih + W_hh @ h + b_hh).reshape(4, N)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def hidden_states(weights: dict, H: int, ids: list[int]) -> np.ndarray:
    """The states (T, N) of the last of H layers over a story's ids."""
    states = weights["embedding.weight"][np.asarray(ids)]
    for layer in range(H):
        states = lstm(weights, layer, states)
    return states


def lm_logits(weights: dict, H: int, inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Logits (B, T, V) of a minibatch; those of a hidden state of zeros at padding."""
    logits = np.tile(weights["output.bias"], (*inputs.shape, 1))
    for b, n in enumerate(lengths):
        states = hidden_states(weights, H, inputs[b, :n])
        logits[b, :n] = states @ weights["output.weight"].T + weights["output.bias"]
    return logits


def softmax(z: np.ndarray, axis: int = -1) -> np.ndarray:
    """Softmax along an axis."""
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def padded(stories: list[list[int]]) -> dict[str, np.ndarray]:
    """inputs, targets and lengths of stories."""
    lengths = np.array([len(story) - 1 for story in stories])
    inputs = np.zeros((len(stories), lengths.max()), np.int64)
    targets = np.full(inputs.shape, -100, np.int64)
    for b, story in enumerate(stories):
        inputs[b, : lengths[b]] = story[:-1]
        targets[b, : lengths[b]] = story[1:]
    return {"inputs": inputs, "targets": targets, "lengths": lengths}


def token_losses(table: np.ndarray, bias: np.ndarray, story: list[int]) -> np.ndarray:
    """Nats of each target of a story under the logits table[token] + bias."""
    p = softmax(table[story[:-1]] + bias)
    return -np.log(p[np.arange(len(story) - 1), story[1:]])


def bigram_gradient(
    table: np.ndarray, bias: np.ndarray, inputs: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of the mean loss over all targets that are not -100."""
    real = targets != -100
    x, y = inputs[real], targets[real]
    d = softmax(table[x] + bias)
    d[np.arange(len(y)), y] -= 1
    d /= len(y)
    d_table = np.zeros_like(table)
    np.add.at(d_table, x, d)
    return d_table, d.sum(0)


# ---- The second assignment: NumPy layers


def softmax_gradient(a: np.ndarray, d: np.ndarray, axis: int) -> np.ndarray:
    """By the Jacobian of each slice."""
    a, d = np.moveaxis(a, axis, -1), np.moveaxis(d, axis, -1)
    out = np.einsum("...m,...mn->...n", d, jacobians(a))
    return np.moveaxis(out, -1, axis)


def jacobians(a: np.ndarray) -> np.ndarray:
    """Equation 12: (..., C) -> (..., C, C)."""
    return a[..., None] * np.eye(a.shape[-1]) - a[..., :, None] * a[..., None, :]


def attention(Q, K, V, mask=None, eps: float = 1e10) -> tuple[np.ndarray, np.ndarray]:
    """Equation 14: the output and the weights."""
    scores = np.einsum("...le,...se->...ls", Q, K) / math.sqrt(Q.shape[-1])
    if mask is not None:
        scores = scores - eps * mask
    weights = softmax(scores)
    return np.einsum("...ls,...sv->...lv", weights, V), weights


def attention_gradients(Q, K, V, weights, d_output) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equations 15 to 19."""
    dV = np.einsum("...ls,...lv->...sv", weights, d_output)
    dA = np.einsum("...lv,...sv->...ls", d_output, V)
    dS = softmax_gradient(weights, dA, -1) / math.sqrt(Q.shape[-1])
    return np.einsum("...ls,...se->...le", dS, K), np.einsum("...ls,...le->...se", dS, Q), dV


def heads(x: np.ndarray, H: int) -> np.ndarray:
    """(N, L, E) -> (N, H, L, E/H)."""
    N, L, E = x.shape
    return np.einsum("nlhd->nhld", x.reshape(N, L, H, E // H))


def joined(x: np.ndarray) -> np.ndarray:
    """(N, H, L, D) -> (N, L, H D)."""
    N, H, L, D = x.shape
    return np.einsum("nhld->nlhd", x).reshape(N, L, H * D)


def merged(key_padding_mask, attn_mask, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Both masks as one of shape (N, H, L, S)."""
    mask = np.zeros(shape, bool)
    if key_padding_mask is not None:
        mask |= key_padding_mask[:, None, None]
    if attn_mask is not None:
        mask |= attn_mask[None, None]
    return mask


def multi_head(weights, H, query, key, value, mask, d_output) -> dict[str, np.ndarray]:
    """Output and gradients, of weights Wq, bq, Wk, bk, Wv, bv, Wo, bo and a mask (N, H, L, S)."""
    Wq, bq, Wk, bk, Wv, bv, Wo, bo = weights
    q, k, v = heads(query @ Wq.T + bq, H), heads(key @ Wk.T + bk, H), heads(value @ Wv.T + bv, H)
    o, a = attention(q, k, v, mask)
    joint = joined(o)
    d_joint = d_output @ Wo
    parts = attention_gradients(q, k, v, a, heads(d_joint, H))
    dq, dk, dv = (joined(d) for d in parts)

    def dW(d, x):
        return np.einsum("nlo,nli->oi", d, x)

    return {
        "output": joint @ Wo.T + bo, "d_query": dq @ Wq, "d_key": dk @ Wk, "d_value": dv @ Wv,
        "q_proj.dLdW": dW(dq, query), "k_proj.dLdW": dW(dk, key), "v_proj.dLdW": dW(dv, value),
        "out_proj.dLdW": dW(d_output, joint),
    }


# ---- The second assignment: the model


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """As nn.LayerNorm over the last dimension."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the share of a normal distribution below it."""
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def torch_attention(weights: dict, H: int, x: np.ndarray, mask: np.ndarray | None):
    """nn.MultiheadAttention of x with itself: output (B, T, E), weights (B, T, T)."""
    W, b = weights["mha.in_proj_weight"], weights["mha.in_proj_bias"]
    q, k, v = (heads(x @ part.T + c, H) for part, c in zip(
        np.split(W, 3), np.split(b, 3), strict=True
    ))
    o, a = attention(q, k, v, mask)
    out = joined(o) @ weights["mha.out_proj.weight"].T + weights["mha.out_proj.bias"]
    return out, a.mean(1)


def sinusoids(max_len: int, d_model: int, base: int = 10000) -> np.ndarray:
    """The table (1, max_len, d_model) of section 5.2.2."""
    t = np.arange(max_len)[:, None]
    angles = t / base ** (np.arange(0, d_model, 2) / d_model)
    table = np.zeros((1, max_len, d_model))
    table[0, :, 0::2] = np.sin(angles)
    table[0, :, 1::2] = np.cos(angles)[:, : d_model // 2]
    return table


def greedy(
    table, prompts, max_length: int, eos: int, temperature=1.0, penalty=1.0, frozen=True,
    of: str = "log_probs",
) -> tuple[np.ndarray, np.ndarray]:
    """Pseudocode 1, for a score_fn that is table[length, last token]: sequences, scores.

    Without `frozen` the scores of finished sequences go on. Scores are sums `of` log_probs, of
    probs or logits, or of "log_probs before EOS".
    """
    rows = [list(map(int, prompt)) for prompt in prompts]
    scores = np.zeros(len(rows))
    finished = np.zeros(len(rows), bool)
    while len(rows[0]) < max_length and not finished.all():
        for b, row in enumerate(rows):
            logits = table[len(row), row[-1]].copy()
            for token in set(row):
                logits[token] *= penalty if logits[token] <= 0 else 1 / penalty
            log_p = np.log(softmax(logits / temperature))
            token = int(log_p.argmax())
            values = {"probs": np.exp(log_p), "logits": logits / temperature}.get(of, log_p)
            last = token == eos and of == "log_probs before EOS"
            if not (finished[b] and frozen or last):
                scores[b] += values[token]
            row.append(token)
        finished |= np.array([row[-1] == eos for row in rows])
    return np.array(rows), scores
