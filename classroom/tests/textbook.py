"""A student's solution of both assignments, written from the handouts alone.

It was written before the grader, and in another style than the reference: loops in place of masks,
the layers over the padded minibatch, plain cross-entropy of logits, Jacobians written out.
"""

# The blocks of the first assignment, by item.
BLOCKS = {
    "2": """
        lengths = torch.zeros(len(stories), dtype=torch.long)
        for i in range(len(stories)):
            lengths[i] = len(stories[i]) - 1
        longest = int(torch.max(lengths))
        inputs = torch.zeros((len(stories), longest), dtype=torch.long)
        targets = torch.full((len(stories), longest), -100, dtype=torch.long)
        for i in range(len(stories)):
            for t in range(len(stories[i]) - 1):
                inputs[i, t] = stories[i][t]
                targets[i, t] = stories[i][t + 1]
    """,
    "1": """
        # Padding comes last, so it cannot change what the LSTM computes for real tokens.
        embedded = self.embedding(inputs)
        lstm_out, _ = self.lstm(embedded)
        hidden = lstm_out
    """,
    "1a": """
        batch, steps, size = hidden.size()
        outputs = []
        for t in range(steps):
            if t == 0:
                outputs.append(torch.zeros(batch, size, dtype=hidden.dtype, device=hidden.device))
                continue
            query = hidden[:, t].unsqueeze(2)
            keys = hidden[:, :t]
            e = torch.bmm(keys, query).squeeze(2) / (size ** 0.5)
            alpha = torch.softmax(e, dim=1)
            outputs.append((alpha.unsqueeze(2) * keys).sum(dim=1))
        context = torch.stack(outputs, dim=1)
    """,
    "3": """
        criterion = nn.CrossEntropyLoss(ignore_index=-100, reduction="none")
        losses = []
        for k in range(0, len(stories), batch_size):
            x, y, n = collate_stories(stories[k : k + batch_size])
            scores = model(x, n)
            per_token = criterion(scores.permute(0, 2, 1), y)
            losses += per_token[y != -100].tolist()
        return sum(losses) / len(losses)
    """,
    "4": """
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    """,
    "6a": """
        for w in set(tokens):
            logits[w] = logits[w] - fpenalty * tokens.count(w)
    """,
    "6": """
        if greedy:
            token = torch.argmax(logits).item()
        else:
            p = torch.exp(logits - torch.logsumexp(logits, dim=0))
            token = torch.multinomial(p, num_samples=1).item()
    """,
    "5": """
        exponentials = torch.exp(logits - logits.max())
        probs = exponentials / exponentials.sum()
    """,
    "7": """
        nats = compute_loss(loaded.model, corpus.stories, args.B)
        perplexity = math.e ** nats
    """,
}

# The functions of the second assignment.
FUNCTIONS = {
    "Linear.forward": """
        self.A = A
        self.input_shape = A.shape
        batch_size = 1
        for n in A.shape[:-1]:
            batch_size = batch_size * n
        flat = np.reshape(A, (batch_size, A.shape[-1]))
        Z = np.dot(flat, self.W.T) + self.b
        return np.reshape(Z, A.shape[:-1] + (self.W.shape[0],))
    """,
    "Linear.backward": """
        dZ = np.reshape(dLdZ, (-1, self.W.shape[0]))
        flat = np.reshape(self.A, (-1, self.W.shape[1]))
        self.dLdA = np.dot(dZ, self.W).reshape(self.input_shape)
        self.dLdW = np.dot(dZ.T, flat)
        self.dLdb = np.sum(dZ, axis=0)
        return self.dLdA
    """,
    "Softmax.forward": """
        if self.dim >= Z.ndim or self.dim < -Z.ndim:
            raise ValueError("dim is out of range")
        shifted = Z - np.max(Z, axis=self.dim, keepdims=True)
        e = np.exp(shifted)
        self.A = e / np.sum(e, axis=self.dim, keepdims=True)
        return self.A
    """,
    "Softmax.backward": """
        a = np.moveaxis(self.A, self.dim, -1)
        d = np.moveaxis(dLdA, self.dim, -1)
        shape = a.shape
        a = a.reshape(-1, shape[-1])
        d = d.reshape(-1, shape[-1])
        out = np.zeros(d.shape, dtype=d.dtype)
        for i in range(a.shape[0]):
            J = np.diag(a[i]) - np.outer(a[i], a[i])
            out[i] = d[i] @ J
        return np.moveaxis(out.reshape(shape), -1, self.dim)
    """,
    "ScaledDotProductAttention.forward": """
        self.Q, self.K, self.V = Q, K, V
        self.d_k = Q.shape[-1]
        scores = np.matmul(Q, np.swapaxes(K, -1, -2)) / np.sqrt(self.d_k)
        if mask is not None:
            scores = np.where(mask, scores - self.eps, scores)
        self.attention_scores = self.softmax.forward(scores)
        return np.matmul(self.attention_scores, V)
    """,
    "ScaledDotProductAttention.backward": """
        A = self.attention_scores
        dV = np.matmul(np.swapaxes(A, -1, -2), d_output)
        dA = np.matmul(d_output, np.swapaxes(self.V, -1, -2))
        dS = self.softmax.backward(dA) / np.sqrt(self.d_k)
        dQ = np.matmul(dS, self.K)
        dK = np.matmul(np.swapaxes(dS, -1, -2), self.Q)
        return dQ, dK, dV
    """,
    "MultiHeadAttention.forward": """
        self.N, self.L, self.E = query.shape
        self.S = key.shape[1]
        q = self._split_heads(self.q_proj.forward(query))
        k = self._split_heads(self.k_proj.forward(key))
        v = self._split_heads(self.v_proj.forward(value))
        mask = self._merge_masks(key_padding_mask, attn_mask)
        heads = self.attention.forward(q, k, v, mask)
        return self.out_proj.forward(self._concat_heads(heads))
    """,
    "MultiHeadAttention.backward": """
        d = self._split_heads(self.out_proj.backward(d_output))
        dq, dk, dv = self.attention.backward(d)
        d_query = self.q_proj.backward(self._concat_heads(dq))
        d_key = self.k_proj.backward(self._concat_heads(dk))
        d_value = self.v_proj.backward(self._concat_heads(dv))
        return d_query, d_key, d_value
    """,
    "MultiHeadAttention._merge_masks": """
        mask = np.zeros((self.N, self.num_heads, self.L, self.S), dtype=bool)
        for n in range(self.N):
            for h in range(self.num_heads):
                if key_padding_mask is not None:
                    mask[n, h] |= np.repeat(key_padding_mask[n : n + 1], self.L, axis=0)
                if attn_mask is not None:
                    mask[n, h] |= attn_mask
        return mask
    """,
    "MultiHeadAttention._split_heads": """
        N, L, E = x.shape
        size = E // self.num_heads
        heads = [x[:, :, h * size : (h + 1) * size] for h in range(self.num_heads)]
        return np.stack(heads, axis=1)
    """,
    "MultiHeadAttention._concat_heads": """
        return np.concatenate([x[:, h] for h in range(x.shape[1])], axis=-1)
    """,
    "LMDataset.__init__": """
        import os

        self.text_dir = os.path.join(config["root"], partition)
        names = sorted(n for n in os.listdir(self.text_dir) if n.endswith(".npy"))
        self.text_files = names[: int(config["subset"] * len(names))]
        self.transcripts_shifted, self.transcripts_golden = [], []
        self.total_chars = self.total_tokens = self.text_max_len = 0
        for name in self.text_files:
            text = "".join(np.load(os.path.join(self.text_dir, name)).tolist())
            ids = tokenizer.encode(text)
            self.total_chars += len(text)
            self.total_tokens += len(ids)
            if len(ids) + 1 > self.text_max_len:
                self.text_max_len = len(ids) + 1
            self.transcripts_shifted.append([self.sos_token] + ids)
            self.transcripts_golden.append(ids + [self.eos_token])
        if len(self.transcripts_shifted) != len(self.transcripts_golden):
            raise ValueError("shifted and golden transcripts do not match")
        self.avg_chars_per_token = 0
        if self.total_tokens > 0:
            self.avg_chars_per_token = self.total_chars / self.total_tokens
        self.length = len(self.text_files)
    """,
    "LMDataset.__len__": "return self.length",
    "LMDataset.__getitem__": """
        return (
            torch.LongTensor(self.transcripts_shifted[idx]),
            torch.LongTensor(self.transcripts_golden[idx]),
        )
    """,
    "LMDataset.collate_fn": """
        lengths = torch.LongTensor([len(shifted) for shifted, golden in batch])
        T = int(lengths.max())
        padded_shifted = torch.full((len(batch), T), self.pad_token, dtype=torch.long)
        padded_golden = torch.full((len(batch), T), self.pad_token, dtype=torch.long)
        for i, (shifted, golden) in enumerate(batch):
            padded_shifted[i, : len(shifted)] = shifted
            padded_golden[i, : len(golden)] = golden
        return padded_shifted, padded_golden, lengths
    """,
    "PadMask": """
        N, T = padded_input.shape[:2]
        mask = torch.zeros(N, T, dtype=torch.bool, device=padded_input.device)
        for n in range(N):
            mask[n, int(input_lengths[n]) :] = True
        return mask
    """,
    "CausalMask": """
        T = padded_input.size(1)
        i = torch.arange(T, device=padded_input.device)
        return i.unsqueeze(0) > i.unsqueeze(1)
    """,
    "PositionalEncoding.create_pe_table": """
        P = torch.zeros(max_len, d_model)
        for t in range(max_len):
            for i in range(0, d_model, 2):
                angle = t / 10000 ** (i / d_model)
                P[t, i] = torch.sin(torch.tensor(angle))
                if i + 1 < d_model:
                    P[t, i + 1] = torch.cos(torch.tensor(angle))
        self.register_buffer("pe", P.unsqueeze(0))
    """,
    "PositionalEncoding.forward": """
        if x.size(1) > self.pe.size(1):
            raise ValueError("the sequence is longer than max_len")
        return x + self.pe[:, : x.size(1)]
    """,
    "SelfAttentionLayer.__init__": """
        self.mha = nn.MultiheadAttention(d_model, num_heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
    """,
    "SelfAttentionLayer.forward": """
        residual = x
        x = self.norm(x)
        out, weights = self.mha(
            query=x, key=x, value=x, key_padding_mask=key_padding_mask, need_weights=True,
            attn_mask=attn_mask, average_attn_weights=True,
        )
        return residual + self.dropout(out), weights
    """,
    "FeedForwardLayer.__init__": """
        first, second = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        self.ffn = nn.Sequential(first, nn.GELU(), nn.Dropout(dropout), second)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
    """,
    "FeedForwardLayer.forward": """
        residual = x
        x = self.norm(x)
        x = self.ffn(x)
        x = self.dropout(x)
        return residual + x
    """,
    "SelfAttentionDecoderLayer.__init__": """
        self.self_attn = SelfAttentionLayer(d_model, num_heads, dropout)
        self.ffn = FeedForwardLayer(d_model, d_ff, dropout)
    """,
    "SelfAttentionDecoderLayer.forward": """
        x, weights = self.self_attn(x, key_padding_mask, attn_mask)
        x = self.ffn(x)
        return x, weights
    """,
    "DecoderOnlyTransformer.__init__": """
        self.max_len = max_len
        self.num_classes = num_classes
        self.num_layers = num_layers
        self.layer_drop_rate = layer_drop_rate
        self.dec_layers = nn.ModuleList()
        for _ in range(num_layers):
            self.dec_layers.append(SelfAttentionDecoderLayer(d_model, num_heads, d_ff, dropout))
        self.target_embedding = nn.Embedding(num_classes, d_model)
        self.positional_encoding = PositionalEncoding(d_model, max_len)
        self.final_linear = nn.Linear(d_model, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(d_model)
        if weight_tying:
            self.target_embedding.weight = self.final_linear.weight
    """,
    "DecoderOnlyTransformer.forward": """
        if self.training and target_lengths is None:
            raise ValueError("lengths are needed in training")
        pad_mask = None
        if target_lengths is not None:
            pad_mask = PadMask(padded_targets, target_lengths)
        causal_mask = CausalMask(padded_targets)
        x = self.target_embedding(padded_targets)
        x = self.positional_encoding(x)
        x = self.dropout(x)
        attn = {}
        for i in range(self.num_layers):
            if self.training and self.layer_drop_rate > 0:
                if random.random() < self.layer_drop_rate:
                    continue
            x, w = self.dec_layers[i](x, pad_mask, causal_mask)
            attn["layer" + str(i + 1) + "_dec_self"] = w
        x = self.norm(x)
        return self.final_linear(x), attn
    """,
    "DecoderOnlyTransformer.score": """
        if self.training:
            raise ValueError("score is for eval mode")
        logits, _ = self.forward(batch_prompts)
        return logits[:, -1, :]
    """,
    "SequenceGenerator.generate_greedy": """
        self._check(x, temperature, repeat_penalty)
        scores = torch.zeros(x.size(0), device=x.device)
        finished = torch.zeros(x.size(0), dtype=torch.bool, device=x.device)
        for t in range(self.max_length - x.size(1)):
            if torch.all(finished):
                break
            logits = self.score_fn(x)
            logits = self._apply_repeat_penalty(logits, x, repeat_penalty)
            logits = logits / temperature
            log_probs = torch.log_softmax(logits, dim=-1)
            token_scores, next_tokens = torch.max(log_probs, dim=-1)
            scores = torch.where(finished, scores, scores + token_scores)
            x = torch.cat([x, next_tokens.unsqueeze(1)], dim=1)
            finished = finished | (next_tokens == self.tokenizer.eos_id)
        return x, scores
    """,
    "LMTrainer.__init__": """
        self.criterion = nn.CrossEntropyLoss(
            ignore_index=tokenizer.pad_id,
            label_smoothing=config.get("loss", {}).get("label_smoothing", 0.0),
        )
    """,
    "LMTrainer.train": """
        if self.scheduler is None:
            raise ValueError("no scheduler")
        if self.optimizer is None:
            raise ValueError("no optimizer")
        for epoch in range(self.current_epoch, self.current_epoch + epochs):
            train_metrics, train_attn = self._train_epoch(train_loader)
            val_metrics, val_attn = self._validate_epoch(val_loader)
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(val_metrics["ce_loss_char"])
            self._log_metrics({"train": train_metrics, "val": val_metrics}, epoch)
            self._plot_first(train_attn, epoch, "train_self")
            self._plot_first(val_attn, epoch, "val_self")
            self._generate_and_save(val_loader, None, f"val_epoch_{epoch}")
            self.current_epoch = epoch + 1
            if val_metrics["ce_loss_char"] < self.best_metric:
                self.best_metric = val_metrics["ce_loss_char"]
                self.save_checkpoint("checkpoint-best-metric-model.pth")
            self.save_checkpoint("checkpoint-last-epoch-model.pth")
    """,
    "LMTrainer._train_epoch": """
        self.model.train()
        steps = self.config["training"].get("gradient_accumulation_steps", 1)
        totals = {"nats": 0.0, "targets": 0, "sequences": 0}
        self.optimizer.zero_grad()
        for i, (shifted, golden, lengths) in enumerate(dataloader):
            shifted = shifted.to(self.device)
            golden = golden.to(self.device)
            lengths = lengths.to(self.device)
            raw, attn = self.model(shifted, lengths)
            loss = self.criterion(raw.reshape(-1, raw.shape[-1]), golden.reshape(-1))
            n = lengths.sum().item()
            totals["nats"] += loss.item() * n
            totals["targets"] += n
            totals["sequences"] += len(lengths)
            # The last group of batches may be smaller.
            size = min(steps, len(dataloader) - i // steps * steps)
            (loss / size).backward()
            if (i + 1) % steps == 0 or i + 1 == len(dataloader):
                self.optimizer.step()
                if not isinstance(self.scheduler, ReduceLROnPlateau):
                    self.scheduler.step()
                self.optimizer.zero_grad()
        return self._metrics(totals, dataloader), attn
    """,
    "LMTrainer._validate_epoch": """
        self.model.eval()
        totals = {"nats": 0.0, "targets": 0, "sequences": 0}
        criterion = nn.CrossEntropyLoss(ignore_index=self.tokenizer.pad_id)
        for shifted, golden, lengths in dataloader:
            raw, attn = self.model(shifted.to(self.device), lengths.to(self.device))
            loss = criterion(raw.reshape(-1, raw.shape[-1]), golden.to(self.device).reshape(-1))
            n = lengths.sum().item()
            totals["nats"] += loss.item() * n
            totals["targets"] += n
            totals["sequences"] += len(lengths)
        return self._metrics(totals, dataloader), attn
    """,
    "LMTrainer.generate": """
        settings = dict(GENERATION)
        settings["prompt_length"] = VALIDATION_PROMPT
        if generation_config is not None:
            settings["prompt_length"] = GENERATION["prompt_length"]
            settings.update(generation_config)
        n = settings["prompt_length"]
        prompts, originals = dataloader.dataset.sample_prompts(
            settings["num_samples"], n, settings["seed"]
        )
        sequences, scores = self.continue_prompts(prompts, settings)
        results = []
        for i in range(len(sequences)):
            results.append({
                "prompt": self.tokenizer.decode(prompts[i].tolist()),
                "original": self.tokenizer.decode(originals[i][n:].tolist()),
                "generated": self.tokenizer.decode(sequences[i][n + 1 :].tolist()),
                "score": scores[i],
            })
        return results
    """,
}

# Ten mistakes of a student, by the item or function: what is there in place of the above.
TEN_MISTAKES = {
    "attention sees itself": ("1a", "keys = hidden[:, :t]", "keys = hidden[:, : t + 1]"),
    "scores without scale": ("1a", " / (size ** 0.5)", ""),
    "targets are the inputs": ("2", "stories[i][t + 1]", "stories[i][t]"),
    "padding with 0 counts": (
        "2", "torch.full((len(stories), longest), -100, dtype=torch.long)",
        "torch.zeros((len(stories), longest), dtype=torch.long)",
    ),
    "mean of batch means": (
        "3", "losses += per_token[y != -100].tolist()",
        "losses.append(per_token[y != -100].mean().item())",
    ),
    "gradients pile up": ("4", "optimizer.zero_grad()\n", "\n"),
    "penalty adds": ("6a", "logits[w] - fpenalty", "logits[w] + fpenalty"),
    "perplexity of base 2": ("7", "math.e ** nats", "2 ** nats"),
    "softmax gradient without the sum": (
        "Softmax.backward", "np.diag(a[i]) - np.outer(a[i], a[i])", "np.diag(a[i] * (1 - a[i]))",
    ),
    "one batch dimension only": (
        "Linear.backward", "np.reshape(dLdZ, (-1, self.W.shape[0]))", "dLdZ",
    ),
}
