"""Mistakes that students make: each a small change of the textbook's solution.

With each stand the item and the parts of it that lose their points, and words of the message that
name the cause.
"""

from typing import NamedTuple


class Mistake(NamedTuple):
    """A change of one answer: `where` is an item's number, or a function of hw4p1."""

    name: str
    where: str
    item: str
    lost: tuple[str, ...]
    said: str
    old: str
    new: str


def of(where: str, item: str, *rows: tuple) -> list[Mistake]:
    """Mistakes in one answer: name, parts that lose points, words of the message, old, new."""
    return [Mistake(name, where, item, tuple(lost.split(", ")), said, old, new)
            for name, lost, said, old, new in rows]


WHOLE_1A = """
        batch, steps, size = hidden.size()
        e = torch.bmm(hidden, hidden.transpose(1, 2)) / size**0.5
        later = torch.ones(steps, steps, dtype=torch.bool).triu()
        {}
"""
MASKED = 'alpha = torch.softmax(e.masked_fill(later, float("-inf")), dim=2)\n        '

HW04 = [
    *of("1a", "1a",
        ("attention sees itself", "mask", "sees itself", "keys = hidden[:, :t]",
         "keys = hidden[:, : t + 1]"),
        ("scores without scale", "scale", "not divided by sqrt", " / (size ** 0.5)", ""),
        ("divided by N/2", "scale", "divided by N/2, not by its square root", "size ** 0.5",
         "size"),
        ("divided by sqrt(N)", "scale", "N is not N/2", "size ** 0.5", "(2 * size) ** 0.5"),
        ("softmax over the stories", "scale", "wrong axis", "softmax(e, dim=1)",
         "softmax(e, dim=0)"),
        ("position 0 sees itself", "zero context", "position 0 looks at itself",
         "torch.zeros(batch, size, dtype=hidden.dtype, device=hidden.device)", "hidden[:, 0]"),
        ("sees the last position only", "scale", "come from no softmax", "keys = hidden[:, :t]",
         "keys = hidden[:, t - 1 : t]"),
        ),
    *[Mistake(name, "1a", "1a", tuple(lost.split(", ")), said, "", WHOLE_1A.format(code))
      for name, lost, said, code in (
        ("no mask at all", "mask, zero context, padding", "no causal mask",
         "context = torch.softmax(e, dim=2) @ hidden"),
        ("NaN at position 0", "zero context", "position 0 has nothing to look at",
         MASKED + "context = alpha @ hidden"),
        ("-1e9 at position 0", "zero context", "-1e9 in all places of a row",
         "context = torch.softmax(e.masked_fill(later, -1e9), dim=2) @ hidden"),
        ("masked scores are zero", "mask, zero context, padding", "-inf before the softmax",
         "context = torch.softmax(e.masked_fill(later, 0.0), dim=2) @ hidden"),
        ("mask after the softmax", "scale, padding", "masked afterwards",
         "context = torch.softmax(e, dim=2).masked_fill(later, 0.0) @ hidden"),
        ("softmax over the rows", "mask, scale, zero context", "a softmax over nothing",
         'alpha = torch.softmax(e.masked_fill(later, float("-inf")), dim=1)\n'
         "        context = alpha @ hidden"),
        ("the mask is the wrong way round", "mask, scale, zero context, padding",
         "what is before is masked",
         "context = torch.softmax(e.masked_fill(~later, -1e9), dim=2) @ hidden"),
    )],
    *of("2", "2",
        ("targets are the inputs", "targets", "targets are the inputs", "stories[i][t + 1]",
         "stories[i][t]"),
        ("padding with 0 counts", "padding", "padded with 0",
         "torch.full((len(stories), longest), -100, dtype=torch.long)",
         "torch.zeros((len(stories), longest), dtype=torch.long)"),
        ("inputs padded with -100", "padding", "inputs are padded with -100",
         "inputs = torch.zeros((len(stories), longest), dtype=torch.long)",
         "inputs = torch.full((len(stories), longest), -100, dtype=torch.long)"),
        ("lengths of whole stories", "lengths, inputs, targets, padding", "one token less",
         "len(stories[i]) - 1\n        longest", "len(stories[i])\n        longest"),
        ("lengths of padded rows", "lengths", "all lengths are the longest",
         "        inputs = torch.zeros(",
         "        lengths = torch.full_like(lengths, longest)\n        inputs = torch.zeros("),
        ("rows are positions", "inputs, targets, padding", "two dimensions are exchanged",
         "                targets[i, t] = stories[i][t + 1]\n",
         "                targets[i, t] = stories[i][t + 1]\n"
         "        inputs, targets = inputs.T, targets.T\n"),
        ("targets go back", "targets", "go back in time", "stories[i][t + 1]",
         "stories[i][max(t - 1, 0)]"),
        ),
    *of("1", "1",
        ("no gradient", "gradient", "no gradient comes through", "hidden = lstm_out",
         "hidden = lstm_out.detach()"),
        ("last state everywhere", "hidden states, minibatch, states, gradient", "h_n",
         "hidden = lstm_out", "hidden = lstm_out[:, -1:].expand(-1, lstm_out.shape[1], -1)"),
        ("read from the end", "hidden states, minibatch, states, gradient", "from its end",
         "self.lstm(embedded)", "self.lstm(embedded.flip(1))"),
        ("zeros as first state", "states", "zeros are given to self.lstm",
         "self.lstm(embedded)", "self.lstm(embedded, tuple(torch.zeros(self.lstm.num_layers, "
         "len(inputs), self.lstm.hidden_size, dtype=embedded.dtype) for _ in range(2)))"),
        ("state not reset", "states", "go on into the next one",
         "lstm_out, _ = self.lstm(embedded)",
         "old = getattr(self, 'old', None)\n"
         "        old = old if old and old[0].shape[1] == len(inputs) else None\n"
         "        lstm_out, self.old = self.lstm(embedded, old)"),
        ("time and stories exchanged", "hidden states, minibatch, states, gradient",
         "two dimensions are exchanged", "self.lstm(embedded)",
         "self.lstm(embedded.transpose(0, 1))"),
        ),
    Mistake("lengths are not said to be unsorted", "1", "1", ("minibatch",),
            "stories come in any order", "", """
        embedded = self.embedding(inputs)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True)
        out, _ = self.lstm(packed)
        hidden, _ = pad_packed_sequence(out, batch_first=True)
    """),
    Mistake("sorted and not sorted back", "1", "1", ("minibatch",),
            "undo the sorting", "", """
        order = torch.argsort(lengths, descending=True, stable=True)
        packed = pack_padded_sequence(self.embedding(inputs[order]), lengths[order],
                                      batch_first=True)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
    """),
    Mistake("packed result is not turned back", "1", "1",
            ("hidden states", "minibatch", "states", "gradient"), "turn it back", "", """
        packed = pack_padded_sequence(self.embedding(inputs), lengths, batch_first=True,
                                      enforce_sorted=False)
        hidden, _ = self.lstm(packed)
    """),
    *of("3", "3",
        ("mean of batch means", "batch means", "mean of the minibatches' means",
         "losses += per_token[y != -100].tolist()",
         "losses.append(per_token[y != -100].mean().item())"),
        ("padding counts", "batch means, all tokens", "padded positions are counted",
         "per_token[y != -100].tolist()", "per_token.flatten().tolist()"),
        ("sum, not mean", "batch means, all tokens, states", "divide by their number",
         "sum(losses) / len(losses)", "sum(losses)"),
        ("divided by stories", "batch means, all tokens, states", "number of stories",
         "sum(losses) / len(losses)", "sum(losses) / len(stories)"),
        ("last minibatch dropped", "batch means, all tokens, states", "last minibatch is left out",
         "range(0, len(stories), batch_size)",
         "range(0, max(1, len(stories) - batch_size), batch_size)"),
        ("bits", "batch means, all tokens, states", "bits, not nats",
         "sum(losses) / len(losses)", "sum(losses) / len(losses) / math.log(2)"),
        ),
    Mistake("one state for all minibatches", "3", "3", ("states",), "one state goes through", "",
            """
        total, count, kept = 0.0, 0, State()
        for x, y, n, _ in minibatches:
            total += model(x, n, y, kept).item() * n.sum().item()
            count += n.sum().item()
        mean = total / count
    """),
    *of("4", "4",
        ("gradients pile up", "zero_grad", "pile up", "optimizer.zero_grad()\n",
         "\n"),
        ("no clipping", "clipping", "not clipped",
         "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)", "pass"),
        ("clipped by value", "clipping", "clip_grad_value_",
         "clip_grad_norm_(model.parameters(), 1.0)", "clip_grad_value_(model.parameters(), 1.0)"),
        ("clipped before backward", "clipping", "clip it when it is computed",
         "loss.backward()\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
         "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        loss.backward()"),
        ("no step", "update, zero_grad, clipping", "no step is made", "optimizer.step()",
         "pass"),
        ("each tensor clipped", "clipping", "each tensor's norm",
         "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
         "[torch.nn.utils.clip_grad_norm_([p], 1.0) for p in model.parameters()]"),
        ("gradient always of norm 1", "update, zero_grad", "stretched to 1",
         "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
         "n = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)\n"
         "        [p.grad.div_(n) for p in model.parameters()]"),
        ("backward comes last", "update, zero_grad, clipping", "",
         "loss.backward()\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
         "        optimizer.step()",
         "optimizer.step()\n        loss.backward()"),
        ),
    *of("5", "5",
        ("not divided by the sum", "probabilities", "not divided by their sum",
         " / exponentials.sum()", ""),
        ("sigmoid", "probabilities", "sigmoid", "probs = exponentials / exponentials.sum()",
         "probs = torch.sigmoid(logits)"),
        ("logarithms", "probabilities", "logarithms", "probs = exponentials / exponentials.sum()",
         "probs = torch.log_softmax(logits, 0)"),
        ),
    *of("6", "6",
        ("sorted the wrong way", "greedy", "least probable", "torch.argmax(logits)",
         "torch.argsort(torch.log_softmax(logits, 0))[0]"),
        ("never drawn", "sampling", "most probable token is taken",
         "torch.multinomial(p, num_samples=1).item()", "p.argmax().item()"),
        ("drawn by scores", "sampling", "wants probabilities, not scores",
         "torch.multinomial(p, num_samples=1)", "torch.multinomial(logits, num_samples=1)"),
        ("drawn alike", "sampling", "drawn alike", "torch.multinomial(p, num_samples=1)",
         "torch.multinomial((p > 0).float(), num_samples=1)"),
        ),
    *of("6a", "6a",
        ("penalty adds", "sign", "added, not subtracted", "logits[w] - fpenalty",
         "logits[w] + fpenalty"),
        ("counted once", "counts", "counts once", "fpenalty * tokens.count(w)", "fpenalty"),
        ("without the prompt", "prompt", "over all of s", "for w in set(tokens):\n",
         "tokens = tokens[3:]\n        for w in set(tokens):\n"),
        ("without the last token", "prompt", "over all of s", "for w in set(tokens):\n",
         "tokens = tokens[:-1]\n        for w in set(tokens):\n"),
        ("after the softmax", "order", "after the softmax", "for w in set(tokens):\n",
         "logits = torch.softmax(logits, 0)\n        for w in set(tokens):\n"),
        ("not when greedy", "order", "when greedy", "for w in set(tokens):\n",
         "for w in set(tokens) if not sampling.greedy else []:\n"),
        ),
    *of("7", "7",
        ("perplexity of base 2", "perplexity", "2 to the power", "math.e ** nats", "2 ** nats"),
        ("the loss itself", "perplexity", "this is the loss itself", "math.e ** nats", "nats"),
        ("mean over stories", "loss, perplexity", "mean of the stories' means",
         "compute_loss(loaded.model, corpus.stories, args.B)",
         "sum(compute_loss(loaded.model, [s], 1) for s in corpus.stories) / len(corpus.stories)"),
        ),
]

HW4P1 = [
    *of("Linear.forward", "linear",
        ("no bias", "two dimensions, any dimensions, kept", "bias is missing", " + self.b", "")),
    *of("Linear.backward", "linear",
        ("one batch dimension only", "any dimensions, kept", "flatten the leading ones",
         "np.reshape(dLdZ, (-1, self.W.shape[0]))", "dLdZ"),
        ("weights accumulate", "kept", "each takes its place",
         "self.dLdW = np.dot(dZ.T, flat)",
         "self.dLdW = getattr(self, 'dLdW', 0) + np.dot(dZ.T, flat)"),
        ("gradient of W transposed", "two dimensions, any dimensions, kept", "shape of W",
         "np.dot(dZ.T, flat)", "np.dot(flat.T, dZ)"),
        ("mean for the bias", "two dimensions, any dimensions, kept", "equation 10 sums",
         "np.sum(dZ, axis=0)", "np.mean(dZ, axis=0)"),
        ("input changed in place", "kept", "dLdZ was given, and is changed", "return self.dLdA",
         "dLdZ *= 2\n        return self.dLdA"),
        ),
    *of("Softmax.forward", "softmax",
        ("no maximum taken off", "stable", "exp() of a large number",
         "Z - np.max(Z, axis=self.dim, keepdims=True)", "Z"),
        ("always the last axis", "any dimension", "along another dimension",
         "shifted = Z - np.max(Z, axis=self.dim, keepdims=True)\n        e = np.exp(shifted)\n"
         "        self.A = e / np.sum(e, axis=self.dim, keepdims=True)",
         "e = np.exp(Z - Z.max(axis=-1, keepdims=True))\n"
         "        self.A = e / np.sum(e, axis=-1, keepdims=True)"),
        ("bad dimension is not refused", "any dimension", "ValueError",
         "raise ValueError(\"dim is out of range\")", "return Z"),
        ),
    *of("Softmax.backward", "softmax",
        ("softmax gradient without the sum", "any dimension, backward", "the sum is missing",
         "np.diag(a[i]) - np.outer(a[i], a[i])", "np.diag(a[i] * (1 - a[i]))"),
        ("no gradient", "any dimension, backward", "gradient is zero",
         "out[i] = d[i] @ J", "pass"),
        ),
    *of("ScaledDotProductAttention.forward", "attention",
        ("no scale", "forward, mask, backward, any dimensions", "not divided by sqrt(d_k)",
         " / np.sqrt(self.d_k)", ""),
        ("mask inverted", "mask", "wrong way round", "np.where(mask, scores - self.eps, scores)",
         "np.where(mask, scores, scores - self.eps)"),
        ("mask ignored", "mask", "mask is ignored", "if mask is not None", "if False"),
        ("softmax over queries", "forward, mask, backward, any dimensions", "wrong axis",
         "self.softmax.forward(scores)",
         "np.exp(scores) / np.exp(scores).sum(-2, keepdims=True)"),
        ("four dimensions only", "any dimensions", "more leading dimensions",
         "np.swapaxes(K, -1, -2)", "np.transpose(K, (0, 1, 3, 2))"),
        ),
    *of("ScaledDotProductAttention.backward", "attention",
        ("no 1/sqrt(d) in backward", "mask, backward, any dimensions",
         "in the gradients of Q and K", " / np.sqrt(self.d_k)", ""),
        ("Q and K exchanged", "mask, backward, any dimensions", "order is dQ, dK, dV",
         "return dQ, dK, dV", "return dK, dQ, dV"),
        ("softmax left out", "mask, backward, any dimensions", "backward is left out",
         "self.softmax.backward(dA)", "dA"),
        ),
    *of("MultiHeadAttention._merge_masks", "multi_head",
        ("a mask is taken for granted", "masks", "both are optional",
         "if attn_mask is not None", "if len(attn_mask)"),
        ),
    Mistake("both masks have to agree", "MultiHeadAttention._merge_masks", "multi_head",
            ("forward", "backward", "helpers"), "either is enough", "", """
        pads = np.zeros((self.N, self.S), bool) if key_padding_mask is None else key_padding_mask
        ahead = np.zeros((self.L, self.S), bool) if attn_mask is None else attn_mask
        both = pads[:, None, :] & ahead[None]
        if key_padding_mask is None or attn_mask is None:
            both = pads[:, None, :] | ahead[None]
        return np.repeat(both[:, None], self.num_heads, axis=1)
    """),
    *of("MultiHeadAttention._split_heads", "multi_head",
        ("reshape alone", "forward, backward, masks, helpers", "",
         "return np.stack(heads, axis=1)", "return x.reshape(N, self.num_heads, L, size)"),
        ),
    *of("MultiHeadAttention.forward", "multi_head",
        ("no output projection", "forward, backward, masks", "",
         "self.out_proj.forward(self._concat_heads(heads))", "self._concat_heads(heads)"),
        ),
    *of("LMDataset.__init__", "dataset",
        ("files are not sorted", "transcripts, statistics, batches", "",
         "sorted(n for n in os.listdir(self.text_dir) if n.endswith(\".npy\"))",
         "sorted((n for n in os.listdir(self.text_dir) if n.endswith(\".npy\")), reverse=True)"),
        ("no EOS", "transcripts, batches", "no EOS", "ids + [self.eos_token]", "ids"),
        ("EOS counts as a token", "statistics", "count as tokens", "+= len(ids)\n",
         "+= len(ids) + 1\n"),
        ),
    *of("LMDataset.collate_fn", "dataset",
        ("golden padded with -100", "batches", "padded with -100",
         "padded_golden = torch.full((len(batch), T), self.pad_token, dtype=torch.long)",
         "padded_golden = torch.full((len(batch), T), -100, dtype=torch.long)"),
        ),
    *of("PadMask", "masks",
        ("pad mask inverted", "PadMask", "wrong way round", "return mask", "return ~mask"),
        ("one position too many", "PadMask", "one position too many", "int(input_lengths[n]) :",
         "int(input_lengths[n]) - 1 :"),
        ),
    *of("CausalMask", "masks",
        ("diagonal masked", "CausalMask", "diagonal is masked",
         "i.unsqueeze(0) > i.unsqueeze(1)", "i.unsqueeze(0) >= i.unsqueeze(1)"),
        ("the past is masked", "CausalMask", "the past is masked",
         "i.unsqueeze(0) > i.unsqueeze(1)", "i.unsqueeze(0) < i.unsqueeze(1)"),
        ),
    *of("PositionalEncoding.create_pe_table", "positions",
        ("exponent doubled", "table, forward", "the exponent is 4i/d", "(i / d_model)",
         "(2 * i / d_model)"),
        ("sine and cosine exchanged", "table, forward", "exchanged",
         "sin(torch.tensor(angle))\n                if i + 1 < d_model:\n"
         "                    P[t, i + 1] = torch.cos(",
         "cos(torch.tensor(angle))\n                if i + 1 < d_model:\n"
         "                    P[t, i + 1] = torch.sin("),
        ),
    *of("PositionalEncoding.forward", "positions",
        ("too long is not refused", "forward", "ValueError", "x.size(1) > self.pe.size(1)",
         "False"),
        ),
    *of("SelfAttentionLayer.forward", "sublayers",
        ("no norm", "attention", "there is no norm", "x = self.norm(x)", "pass"),
        ("no residual", "attention, dropout", "input is not added",
         "residual + self.dropout(out)", "self.dropout(out)"),
        ("masks not passed on", "attention", "attn_mask is not passed on",
         "attn_mask=attn_mask, ", ""),
        ),
    Mistake("post-norm", "FeedForwardLayer.forward", "sublayers", ("feed-forward", "dropout"),
            "the norm comes last", "", "return self.norm(x + self.dropout(self.ffn(x)))"),
    *of("FeedForwardLayer.forward", "sublayers",
        ("normed input added", "feed-forward, dropout", "add what came in",
         "residual = x\n        x = self.norm(x)", "x = self.norm(x)\n        residual = x"),
        ),
    *of("SelfAttentionDecoderLayer.forward", "decoder_layer",
        ("masks lost", "layer", "masks are not passed on", ", key_padding_mask, attn_mask)", ")"),
        ),
    *of("DecoderOnlyTransformer.forward", "transformer",
        ("no causal mask", "forward, score", "causal mask is missing",
         "causal_mask = CausalMask(padded_targets)",
         "causal_mask = CausalMask(padded_targets) & False"),
        ("no final norm", "forward, score", "final norm is missing", "x = self.norm(x)", "pass"),
        ("no positions", "forward, score", "positions are not added",
         "x = self.positional_encoding(x)", "pass"),
        ),
    *of("DecoderOnlyTransformer.score", "transformer",
        ("scores of the first token", "score", "after the first token", "logits[:, -1, :]",
         "logits[:, 0, :]"),
        ),
    *of("SequenceGenerator.generate_greedy", "greedy",
        ("scores go on after EOS", "scores", "stays as it is",
         "torch.where(finished, scores, scores + token_scores)", "scores + token_scores"),
        ("stops one early", "sequences, temperature, penalty", "one token early",
         "range(self.max_length - x.size(1))", "range(self.max_length - x.size(1) - 1)"),
        ("no temperature", "temperature", "temperature is not used",
         "logits = logits / temperature", "pass"),
        ),
    *of("LMTrainer.__init__", "trainer",
        ("padding counts", "training, accumulation", "ignore_index",
         "ignore_index=tokenizer.pad_id,", ""),
        ("smoothing ignored", "training", "label_smoothing",
         "label_smoothing=config.get(\"loss\", {}).get(\"label_smoothing\", 0.0),", ""),
        ),
    *of("LMTrainer._train_epoch", "trainer",
        ("gradients of batches pile up", "training, accumulation", "clear them after each update",
         "self.scheduler.step()\n                self.optimizer.zero_grad()",
         "self.scheduler.step()"),
        ("loss not divided", "accumulation", "not divided by gradient_accumulation_steps",
         "(loss / size).backward()", "loss.backward()"),
        ),
    *of("LMTrainer._validate_epoch", "trainer",
        ("stays in training mode", "validation", "still in training mode", "self.model.eval()",
         "pass"),
        ),
]
