// Words with their probabilities as bars.

import { isCalm, make, percent } from "./dom.js";

export class Bars {
  /** `count` rows in the list `element`; `pick(item)` makes each a button. */
  constructor(element, count, pick = null) {
    this.items = [];
    this.rows = Array.from({ length: count }, (_, index) => {
      const row = make("li", "row");
      const line = make(pick ? "button" : "div", "bar-line");
      if (pick) {
        line.type = "button";
        line.addEventListener("click", () => pick(this.items[index]));
      }
      const label = make("span", "bar-label");
      const track = make("span", "bar-track");
      const fill = make("span", "bar-fill");
      const share = make("span", "bar-share");
      track.append(fill);
      line.append(label, share, track);
      row.append(line);
      element.append(row);
      return { row, line, label, fill, share };
    });
    this.show([]);
  }

  /** Show items `{ shown, p }`: one with `disabled` cannot be picked, one with `mark` stands out. */
  show(items) {
    const before = new Map(this.items.map((item, index) => [item.shown, index]));
    this.items = items;
    this.rows.forEach(({ row, line, label, fill, share }, index) => {
      const item = items[index];
      row.classList.toggle("vacant", !item);
      row.classList.toggle("marked", Boolean(item?.mark));
      if (line.type) line.disabled = !item || Boolean(item.disabled);
      label.textContent = item?.label ?? item?.shown ?? "";
      share.textContent = item ? percent(item.p) : "";
      row.dataset.p = item?.p ?? "";
      fill.style.transform = `scaleX(${item ? Math.max(item.p, 0.002) : 0})`;
      if (item) this.slide(row, before.get(item.shown), index);
    });
  }

  /** Let a word that was shown before glide to its new place, and a new one appear. */
  slide(row, from, to) {
    if (isCalm() || from === to) return;
    const distance = from === undefined ? 0 : (from - to) * row.offsetHeight;
    const begin = { transform: `translateY(${distance}px)`, opacity: from === undefined ? 0 : 1 };
    row.animate([begin, { transform: "none", opacity: 1 }], { duration: 220, easing: "ease-out" });
  }
}
