"""Mistakes that were written before anybody looked at the grader's cases, and graded then.

They are changes of the textbook's solution, as those of mistakes.py.
"""

from mistakes import Mistake, of

HW04 = [
    *of("2", "2",
        ("lengths are a list", "lengths", "or no tensor", "        inputs = torch.zeros(",
         "        lengths = lengths.tolist()\n        inputs = torch.zeros("),
        ),
    Mistake("unknown words are padding", "2", "2", ("targets", "padding"),
            "that of <unk>, too: use lengths", "", """
        padded = pad_sequence([torch.tensor(s) for s in stories], batch_first=True, padding_value=0)
        inputs, targets = padded[:, :-1], padded[:, 1:].clone()
        targets[targets == 0] = -100
        lengths = torch.tensor([len(s) - 1 for s in stories])
    """),
    Mistake("lengths without unknown words", "2", "2", ("lengths",),
            "that of <unk>, too: count tokens", "", """
        inputs = pad_sequence([torch.tensor(s[:-1]) for s in stories], batch_first=True)
        targets = pad_sequence([torch.tensor(s[1:]) for s in stories], batch_first=True,
                               padding_value=-100)
        lengths = (inputs != 0).sum(1)
    """),
    Mistake("targets are rolled inputs", "2", "2", ("targets",), "not what pads the inputs", "", """
        lengths = torch.tensor([len(s) - 1 for s in stories])
        inputs = pad_sequence([torch.tensor(s[:-1]) for s in stories], batch_first=True)
        targets = torch.roll(inputs, -1, 1)
        targets[:, -1] = 2
        for i, n in enumerate(lengths):
            targets[i, n:] = -100
    """),
    *of("1", "1",
        ("last state alone", "hidden states, minibatch, states, gradient",
         "the last state alone (h_n)",
         "lstm_out, _ = self.lstm(embedded)\n        hidden = lstm_out",
         "_, (h_n, c_n) = self.lstm(embedded)\n        hidden = h_n[-1]"),
        ("random first state", "hidden states, minibatch, states, gradient",
         "is the first state drawn at random", "self.lstm(embedded)",
         "self.lstm(embedded, tuple(torch.randn(self.lstm.num_layers, len(inputs), "
         "self.lstm.hidden_size, dtype=embedded.dtype) for _ in range(2)))"),
        ),
    Mistake("unsorted by the same order", "1", "1", ("minibatch",), "sorting is done twice", "", """
        order = torch.argsort(lengths, descending=True, stable=True)
        packed = pack_padded_sequence(self.embedding(inputs[order]), lengths[order],
                                      batch_first=True)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        hidden = hidden[order]
    """),
    Mistake("batch_first forgotten when packing", "1", "1",
            ("hidden states", "minibatch", "states", "gradient"), "without batch_first=True", "",
            """
        packed = pack_padded_sequence(self.embedding(inputs), lengths, enforce_sorted=False)
        out, _ = self.lstm(packed)
        hidden, _ = pad_packed_sequence(out, batch_first=True)
    """),
    *of("1a", "1a",
        ("all weights alike", "scale", "there are no scores", "alpha = torch.softmax(e, dim=1)",
         "alpha = torch.ones_like(e) / t"),
        ),
    *of("3", "3",
        ("softmax before the loss", "batch means, all tokens, states",
         "takes the scores themselves", "per_token = criterion(scores.permute(0, 2, 1), y)",
         "per_token = criterion(scores.softmax(-1).permute(0, 2, 1), y)"),
        ),
    Mistake("weighed by stories", "3", "3", ("batch means",), "numbers of stories", "", """
        total = 0.0
        for k in range(0, len(stories), batch_size):
            x, y, n = collate_stories(stories[k : k + batch_size])
            total += model(x, n, y).item() * len(n)
        mean = total / len(stories)
    """),
    *of("4", "4",
        ("clipped to 5", "clipping", "1.0 and no other number", "parameters(), 1.0)",
         "parameters(), 5.0)"),
        ),
    *of("5", "5",
        ("softmax taken twice", "probabilities", "softmax is taken twice",
         "probs = exponentials / exponentials.sum()",
         "probs = torch.softmax(exponentials / exponentials.sum(), 0)"),
        ),
    *of("6", "6",
        ("the score in place of the id", "greedy", "the score itself is given",
         "torch.argmax(logits).item()", "int(torch.max(logits))"),
        ("softmax twice before drawing", "sampling", "softmax is taken twice",
         "torch.multinomial(p, num_samples=1)",
         "torch.multinomial(torch.softmax(p, 0), num_samples=1)"),
        ),
    *of("6a", "6a",
        ("shares in place of counts", "counts, order", "divided by the number of tokens",
         "tokens.count(w)", "tokens.count(w) / len(tokens)"),
        ("logit multiplied", "sign, counts, order", "the logit is multiplied",
         "logits[w] - fpenalty * tokens.count(w)", "logits[w] * (1 - fpenalty * tokens.count(w))"),
        ),
    *of("7", "7",
        ("mean of perplexities", "perplexity", "mean of the stories' perplexities",
         "math.e ** nats",
         "sum(math.exp(compute_loss(loaded.model, [s], 1)) for s in corpus.stories) "
         "/ len(corpus.stories)"),
        ("first stories only", "loss, perplexity", "first minibatch of stories alone",
         "corpus.stories, args.B", "corpus.stories[: args.B], args.B"),
        ),
]

HW4P1 = [
    *of("Softmax.forward", "softmax",
        ("maximum of all numbers", "stable", "the largest of each slice",
         "np.max(Z, axis=self.dim, keepdims=True)", "np.max(Z)"),
        ),
    *of("Softmax.backward", "softmax",
        ("mean in the Jacobian", "any dimension, backward", "a mean stands in the place",
         "out[i] = d[i] @ J", "out[i] = a[i] * (d[i] - np.mean(d[i] * a[i]))"),
        ),
    *of("Linear.forward", "linear",
        ("input is not kept", "two dimensions, any dimensions, kept", "what forward has not kept",
         "        self.A = A\n", ""),
        ),
    *of("Linear.backward", "linear",
        ("gradient in rows", "any dimensions, kept", "it has the shape of A",
         ".reshape(self.input_shape)", ""),
        ),
    *of("ScaledDotProductAttention.forward", "attention",
        ("divided by another root", "forward, mask, backward, any dimensions",
         "the root of another size", "np.sqrt(self.d_k)", "np.sqrt(Q.shape[-2])"),
        ("mask as a factor", "mask", "multiplied by the mask",
         "np.where(mask, scores - self.eps, scores)", "scores * mask"),
        ),
    *of("LMDataset.collate_fn", "dataset",
        ("lengths of a batch are a list", "batches", "or no tensor",
         "return padded_shifted, padded_golden, lengths",
         "return padded_shifted, padded_golden, lengths.tolist()"),
        ),
    Mistake("mask by the id of padding", "PadMask", "masks", ("PadMask",), "not by an id", "",
            "return padded_input == 0"),
    *of("PositionalEncoding.forward", "positions",
        ("rows of the table by stories", "table, forward", "first T rows",
         "self.pe[:, : x.size(1)]", "self.pe[:, : x.size(0)]"),
        ),
    *of("SelfAttentionLayer.forward", "sublayers",
        ("attention is not dropped", "dropout", "dropout is missing", "self.dropout(out)", "out"),
        ),
    *of("SelfAttentionDecoderLayer.forward", "decoder_layer",
        ("residual of its own", "layer", "the sublayers do that", "x = self.ffn(x)",
         "x = x + self.ffn(x)"),
        ),
    *of("SequenceGenerator.generate_greedy", "greedy",
        ("probabilities summed", "scores, temperature", "sums of probabilities",
         "torch.log_softmax(logits, dim=-1)", "torch.softmax(logits, dim=-1)"),
        ("stops at the first EOS", "sequences, scores", "all should have it",
         "if torch.all(finished)", "if torch.any(finished)"),
        ("EOS does not count", "scores", "EOS itself counts",
         "            scores = torch.where(finished,",
         "            finished = finished | (next_tokens == self.tokenizer.eos_id)\n"
         "            scores = torch.where(finished,"),
        ),
    *of("LMTrainer._train_epoch", "trainer",
        ("trained in evaluation mode", "training, accumulation", "not in training mode",
         "self.model.train()", "self.model.eval()"),
        ),
]
