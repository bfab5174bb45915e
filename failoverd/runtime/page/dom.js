// Elements from values. Everything said by a node becomes a text node or an attribute's value, never markup: there is no
// innerHTML here, and the page's policy (trusted types) would make one throw.

const SVG = new Set(["svg", "rect", "line"]);

// h("p", {class: "x"}, "text", child, null): null, undefined and false are left out; lists are flattened.
export function h(name, attributes = {}, ...children) {
  const element = SVG.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Make `old` like `fresh` with as few changes as can be: what has the focus, is selected or was opened stays so.
// Children with a data-key are found by it wherever they stand now.
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  morphAttributes(old, fresh);
  morphChildren(old, fresh);
}

// Put children, as for h, into an element that stays.
export function fill(element, ...children) {
  const fresh = element.cloneNode(false);
  fresh.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  morphChildren(element, fresh);
}

function morphAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name); // `open` is the reader's own
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function morphChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.nodeType === Node.ELEMENT_NODE ? child.dataset.key : undefined;
    const found = key ? keyed.get(key) : at?.dataset?.key ? null : at;
    keyed.delete(key); // a second one of the same key is another element
    if (found) {
      if (found === at) at = at.nextSibling;
      else old.insertBefore(found, at);
      morph(found, child);
    } else {
      old.insertBefore(child, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
