// Small helpers of the parts of the page. Whatever comes from a model is text, never markup.

/** The element with this id. Throws if it is not there, as in a file of which a part is lost. */
export function find(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`its part "${id}" is missing`);
  return element;
}

/** A new element with a class, a text, and attributes. */
export function make(tag, className = "", text = "", attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** A new element of a drawing, with attributes. */
export function draw(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function percent(p) {
  if (p > 0 && p < 0.0005) return "<0.1%";
  return `${(100 * p).toFixed(1)}%`;
}

/** 1,234.5 with so many digits behind the point. */
export function grouped(number, digits = 0) {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return number.toLocaleString("en", options);
}

/** A function that runs another once nothing has called it for so many milliseconds. */
export function later(milliseconds, action) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), milliseconds);
  };
}

export function isCalm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
