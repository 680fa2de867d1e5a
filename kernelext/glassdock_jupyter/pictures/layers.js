// The layer explorer: an image's layers as a stack, the topmost first; each opens to the tree of its files.
// Keyboard: Tab and Enter open and close, arrow up and down go from layer to layer, the field filters by path.

const KINDS = [["added", "+"], ["changed", "~"], ["deleted", "−"]];
const MOST = 1500; // entries of one layer that are drawn; the filter narrows what is left out

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function humanSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) [bytes, unit] = [bytes / 1000, unit + 1];
  return `${unit ? Number(bytes.toPrecision(3)) : bytes}${units[unit]}`;
}

// A tree of folders from a layer's changes: {folders: Map, files: [...]}.
export function treeOf(layer, filter) {
  const root = { folders: new Map(), files: [] };
  let count = 0;
  for (const [kind, sign] of KINDS) {
    for (const entry of layer[kind]) {
      const [path, size] = typeof entry === "string" ? [entry, null] : entry;
      if (!path.toLowerCase().includes(filter) || ++count > MOST) continue;
      const parts = path.split("/").filter(Boolean);
      const name = parts.pop() ?? "/";
      let folder = root;
      for (const part of parts) {
        if (!folder.folders.has(part)) folder.folders.set(part, { folders: new Map(), files: [] });
        folder = folder.folders.get(part);
      }
      folder.files.push({ name, kind, sign, size });
    }
  }
  return { root, hidden: Math.max(count - MOST, 0), count };
}

function drawFolder(folder, open) {
  const made = document.createDocumentFragment();
  for (const [name, inside] of [...folder.folders].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const total = countOf(inside);
    const details = element("details", open || total <= 12 ? { open: "" } : {});
    const own = folder.files.find((file) => file.name === name); // the layer made or changed the folder itself, too
    const label = element("span", own ? { class: `gd-${own.kind}`, "aria-label": `${own.kind} ${name}` } : {});
    label.append(`${own ? `${own.sign} ` : ""}${name}/ `);
    details.append(
      element("summary", { class: "gd-code" }, label, element("span", { class: "gd-soft" }, `${total}`)),
      drawFolder(inside, open),
    );
    made.append(details);
  }
  const files = folder.files.filter((file) => !folder.folders.has(file.name));
  for (const file of files.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const size = file.size === null ? "" : humanSize(file.size);
    const word = element("span", { class: `gd-${file.kind}`, "aria-label": `${file.kind} ${file.name}` });
    word.append(`${file.sign} ${file.name}`);
    made.append(element("div", { class: "gd-file gd-code" }, word, element("span", { class: "gd-soft" }, size)));
  }
  return made;
}

function countOf(folder) {
  let count = folder.files.length;
  for (const inside of folder.folders.values()) count += countOf(inside);
  return count;
}

function drawLayer(layer, most) {
  const head = element("summary", {});
  const bar = element("div", { class: "gd-bar", role: "presentation" });
  bar.style.width = layer.empty ? "0" : `${Math.max((100 * layer.size) / most, 0.5)}%`;
  head.append(
    element("code", {}, layer.instruction),
    element("span", { class: "gd-soft" }, `${humanSize(layer.size)} · ${layer.summary}`),
    bar,
  );
  const details = element("details", { class: "gd-layer", "data-empty": String(layer.empty) }, head);
  const files = element("div", { class: "gd-files" });
  const digest = element("div", { class: "gd-digest gd-code gd-soft" }, layer.diff_id);
  // A layer's tree is drawn when it is opened: an image of 30,000 files is on screen at once all the same.
  details.fill = (filter) => {
    const { root, hidden, count } = treeOf(layer, filter);
    files.replaceChildren(drawFolder(root, Boolean(filter)));
    if (hidden) files.append(element("div", { class: "gd-soft" }, `… ${hidden} more; the filter narrows`));
    if (!count) files.append(element("div", { class: "gd-soft" }, filter ? "no such path here" : layer.summary));
    return count;
  };
  details.addEventListener("toggle", () => details.open && details.fill(details.filter ?? ""));
  details.append(files, ...(layer.diff_id ? [digest] : []));
  return details;
}

function render({ model, el }) {
  const draw = () => {
    const { name, layers } = model.get("picture");
    const most = Math.max(1, ...layers.map((layer) => layer.size));
    const filter = element("input", { type: "search", placeholder: "filter by path", "aria-label": "Filter by path" });
    const total = layers.reduce((sum, layer) => sum + layer.size, 0);
    const head = element("div", { class: "gd-head" }, element("h4", {}, `Layers of ${name}`));
    head.append(element("span", { class: "gd-soft" }, `${layers.length} steps, ${humanSize(total)}, topmost first`), filter);
    const stack = [...layers].reverse().map((layer) => drawLayer(layer, most));
    const picture = element("section", { class: "gd-picture gd-layers", "aria-label": `Layers of ${name}` }, head, ...stack);
    filter.addEventListener("input", () => {
      const word = filter.value.trim().toLowerCase();
      for (const layer of stack) {
        layer.filter = word;
        const count = layer.fill(word);
        layer.open = Boolean(word) && count > 0;
      }
    });
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const at = stack.findIndex((layer) => layer.firstChild === document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      event.stopPropagation();
      stack[Math.min(Math.max(at + step, 0), stack.length - 1)].firstChild.focus();
    });
    el.replaceChildren(picture);
  };
  model.on("change:picture", draw);
  draw();
  return () => model.off("change:picture", draw);
}

export default { render };
