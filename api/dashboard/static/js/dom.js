// The only place where elements are made. Everything that comes from outside becomes a text node or an attribute value,
// never markup: names of organizations, keys and labels are other people's.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`on…` are listeners; null and false are left out) and children (nodes, text, null). */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Sets a text, if it changed: what did not change is not drawn, selected or read anew. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows `items` as children of `parent`, keeping the element of each key, and with it focus and what is open. */
export function setList(parent, items, { key, make, update }) {
  const kept = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let previous = null;
  for (const item of items) {
    const name = key(item);
    let child = kept.get(name);
    kept.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    update?.(child, item);
    const wanted = previous ? previous.nextSibling : parent.firstChild;
    if (child !== wanted) parent.insertBefore(child, wanted);
    previous = child;
  }
  for (const child of kept.values()) child.remove();
}

let ids = 0;

/** An id that no other element has. */
export function newId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}
