// The last part: the model's card, and its functions.

import { find, grouped, make } from "./dom.js";

const CELL_NAMES = { lstm: "LSTM", gru: "GRU", rnn: "RNN" };

export function showCard(card) {
  find("card").replaceChildren(...factsOf(card).map(([name, value]) => {
    const row = make("div");
    row.append(make("dt", "", name), make("dd", "", value));
    return row;
  }));
}

function factsOf(card) {
  const states = card.attention ? card.N / 2 : card.N;
  const rows = [
    ["file", card.file],
    ["parameters", `${grouped(card.parameters)}, matrices in 8 bits here`],
    ["layers", `${card.H} of ${CELL_NAMES[card.cell]} cells, of size ${grouped(states)}`
      + (card.tie && card.H > 1 ? "; the last one fits the word vectors" : "")],
    ["attention", card.attention ?? "none"],
    ["vocabulary", `${grouped(card.V)} ${card.tokenizer === "bpe" ? "word pieces" : "words"}, `
      + `vectors of size ${card.EDim}${card.tie ? ", which are the output layer too" : ""}`],
    ["learned from", card.train_corpus + (card.sample ? ", the embedded sample" : "")],
    ["training", training(card)],
  ];
  if (card.valid_nats) {
    const perplexity = Math.exp(card.valid_nats).toFixed(2);
    rows.push(["on unseen text", `${card.valid_nats.toFixed(4)} nats per token, perplexity `
      + `${perplexity}, on ${card.valid_corpus}, before its numbers were rounded`]);
  }
  if (card.cost) {
    const cost = (card.cost.after - card.cost.before).toFixed(4);
    rows.push(["8 bits cost", `${cost} nats per token on ${card.cost.corpus}`]);
  }
  rows.push(["good for", "learning and play. What it writes is made up, and has the habits and "
    + "mistakes of the texts that it learned from."]);
  return rows;
}

function training(card) {
  const known = [
    ["epochs", card.E], ["stories a minibatch", card.B], ["learning rate", card.lr],
    ["dropout", card.dropout], ["seed", card.seed],
  ].filter(([, value]) => value !== undefined);
  return known.map(([name, value]) => `${name} ${value}`).join(", ");
}

/** A link to a function opens it. */
export function openLinkedCode() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.localName !== "details") return;
  target.open = true;
  target.querySelector("summary").focus({ preventScroll: true });
  target.scrollIntoView({ block: "start" });
}
