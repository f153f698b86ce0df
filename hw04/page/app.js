// Where it begins: in the page, and in the worker that computes so that typing never waits. Both
// run this one script.

import { openLinkedCode, showCard } from "./card.js";
import { find, make } from "./dom.js";
import { Inside } from "./inside.js";
import { Jobs } from "./jobs.js";
import { Model, NOT_WRITTEN } from "./model.js";
import { NextWord } from "./next_word.js";
import { fromBase64 } from "./products.js";
import { Story } from "./story.js";
import { Surprise } from "./surprise.js";

/** The worker: it loads the model, and starts the jobs that the page asks for. */
function startWorker() {
  const post = (kind, number, content, buffers = []) => {
    self.postMessage({ kind, number, content }, buffers);
  };
  let jobs;
  self.onmessage = async ({ data: { kind, number, data } }) => {
    try {
      if (kind === "load") {
        const model = new Model(decoded(data));
        jobs = new Jobs(model, post);
        const { card, cell, attention, words } = model;
        post("load", number, { ...card, cell, attention, V: words.length });
      } else if (kind === "stop") {
        jobs.latest[data] = null;
      } else {
        await jobs.start(kind, number, data);
      }
    } catch (error) {
      post("trouble", number, { during: kind, why: error.message });
    }
  };
}

function decoded(text) {
  try {
    return fromBase64(text);
  } catch {
    throw new Error(NOT_WRITTEN);
  }
}

/** The page. Whatever goes wrong is one line at its top. */
function startPage() {
  const script = document.currentScript.textContent;
  const trouble = find("trouble");
  trouble.remove(); // until there is some
  const fail = (text) => {
    trouble.replaceChildren(make("p", "", text));
    trouble.classList.add("certain");
    find("main").prepend(trouble);
  };
  const refuse = () => fail("This browser does not let the page compute. Try another one.");
  let worker; // it starts while the model is still being read
  try {
    worker = new Worker(URL.createObjectURL(new Blob([script])));
  } catch {
    refuse();
    return;
  }
  worker.onerror = refuse;
  addEventListener("DOMContentLoaded", () => {
    try {
      const style = getComputedStyle(document.documentElement);
      if (!style.getPropertyValue("--whole")) throw new Error("its style is not as it was written");
      const model = find("model");
      run(worker, model.textContent, fail);
      model.remove();
    } catch (error) {
      fail(damaged(error.message));
    }
  });
}

function damaged(why) {
  return `This file is damaged: ${why}. Get it again, or make it anew with make page.`;
}

function run(worker, encoded, fail) {
  const waiting = {}; // the newest question of each kind
  let count = 0;
  const ask = (kind, data, answer) => {
    waiting[kind] = { number: ++count, answer };
    worker.postMessage({ kind, number: count, data });
  };
  const stop = (kind) => {
    delete waiting[kind];
    worker.postMessage({ kind: "stop", data: kind });
  };
  worker.onmessage = ({ data: { kind, number, content } }) => {
    if (kind === "trouble") {
      const failed = `This page failed: ${content.why}. Load it again.`;
      fail(content.during === "load" ? damaged(content.why) : failed);
    } else if (waiting[kind]?.number === number) {
      waiting[kind].answer(content);
    }
  };
  const inside = new Inside();
  const surprise = new Surprise(ask, (...seen) => inside.show(...seen));
  const next = new NextWord(ask);
  new Story(ask, stop, (text) => {
    surprise.open(text);
    find("surprise").scrollIntoView();
  });
  ask("load", encoded, (card) => {
    showCard(card);
    inside.suit(card);
    next.look(() => performance.mark("first word"));
    surprise.look();
    openLinkedCode();
  });
  addEventListener("hashchange", openLinkedCode);
}

if (typeof document === "undefined") startWorker();
else startPage();
