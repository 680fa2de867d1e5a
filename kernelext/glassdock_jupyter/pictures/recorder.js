// The run recorder: a lane for everyone who took part, the steps as bars on one axis of real time.
// Keyboard: arrow left and right go through the story, Home and End to its ends; the details follow.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function humanTime(microseconds) {
  if (microseconds < 1000) return `${microseconds.toFixed(0)} µs`;
  return microseconds < 1e6 ? `${(microseconds / 1000).toFixed(2)} ms` : `${(microseconds / 1e6).toFixed(2)} s`;
}

// Where a moment stands on the axis, 0 to 1: by the clock, or with every beginning and end one step apart, so that
// the short steps can be seen too.
export function axisOf(steps, even) {
  const timed = steps.filter((step) => !step.ahead);
  const whole = Math.max(1, ...timed.map((step) => step.start + step.duration));
  if (!even) return { whole, at: (moment) => moment / whole };
  const moments = [...new Set(timed.flatMap((step) => [step.start, step.start + step.duration]))].sort((a, b) => a - b);
  const index = new Map(moments.map((moment, place) => [moment, place]));
  return { whole, at: (moment) => (index.get(moment) ?? 0) / Math.max(1, moments.length - 1) };
}

// The row of each step in its lane: steps that overlap in time stand under each other.
export function rowsOf(steps) {
  const lanes = new Map();
  const places = steps.map((step) => {
    if (!lanes.has(step.actor)) lanes.set(step.actor, []);
    const ends = lanes.get(step.actor);
    let row = ends.findIndex((end) => end <= step.start);
    if (row < 0) row = ends.length;
    ends[row] = step.ahead ? step.start : step.start + step.duration;
    return row;
  });
  return { places, lanes: new Map([...lanes].map(([actor, ends]) => [actor, ends.length])) };
}

function detailOf(step, number, count) {
  const made = document.createDocumentFragment();
  const place = step.file ? `${step.file}:${step.line}` : "";
  made.append(
    element("div", {}, element("b", { class: "gd-code" }, step.name), ` by ${step.actor}, `,
      element("b", {}, humanTime(step.duration)),
      element("span", { class: "gd-soft" }, `, ${step.ahead ? "made ready before this run" : `${humanTime(step.start)} after the beginning`}`
        + ` · step ${number + 1} of ${count}`)),
  );
  const facts = [...Object.entries(step.attributes).filter(([name]) => name !== "prepared"), ...(place ? [["source", place]] : [])];
  if (step.error) facts.unshift(["failed", step.error]);
  if (facts.length) {
    const list = element("dl", {});
    for (const [name, value] of facts) list.append(element("dt", {}, name), element("dd", { class: "gd-code" }, String(value)));
    made.append(list);
  }
  if (step.syscalls.length) {
    const calls = element("ol", { class: "gd-code", "aria-label": "System calls" });
    for (const call of step.syscalls) {
      calls.append(element("li", {}, `${call.name}(${call.arguments}) = ${call.result} `,
        element("span", { class: "gd-soft" }, humanTime(call.duration))));
    }
    made.append(calls);
  }
  return made;
}

// Who asked whom: a dashed line from the lane of a step to the lane of a step inside it that another one took.
function drawCalls(steps, tops, at) {
  const calls = element("div", { class: "gd-calls", "aria-hidden": "true" });
  calls.style.gridRow = `1 / span ${tops.size}`;
  const above = [];
  for (const step of steps) {
    above.length = step.depth;
    const parent = above[step.depth - 1];
    above[step.depth] = step;
    if (!parent || parent.actor === step.actor || step.ahead) continue;
    const [from, to] = [tops.get(parent.actor), tops.get(step.actor)];
    const line = element("div", {});
    line.style.left = `${100 * at(step.start)}%`;
    line.style.top = `${Math.min(from, to) + 12}px`;
    line.style.height = `${Math.abs(to - from)}px`;
    calls.append(line);
  }
  return calls;
}

function drawAxis(whole) {
  const axis = element("div", { class: "gd-axis", "aria-hidden": "true" });
  for (let i = 0; i <= 4; i += 1) {
    const mark = element("span", {}, humanTime((whole * i) / 4));
    mark.style.left = `${25 * i}%`;
    axis.append(mark);
  }
  return axis;
}

function render({ model, el }) {
  let even = false;
  let chosen = 0;
  const draw = () => {
    const { name, steps, colours } = model.get("picture");
    const { whole, at } = axisOf(steps, even);
    const { places, lanes } = rowsOf(steps);
    const detail = element("div", { class: "gd-detail", role: "status", "aria-live": "polite" });
    const grid = element("div", { class: "gd-run", role: "listbox", "aria-label": `The run ${name}, step by step` });
    const [boxes, tops] = [new Map(), new Map()];
    let top = 0;
    for (const [actor, rows] of lanes) {
      const first = boxes.size ? "" : " gd-first";
      const label = element("div", { class: `gd-lane-name gd-code${first}` }, actor);
      label.style.color = colours[actor] ?? "inherit";
      const lane = element("div", { class: `gd-lane${first}`, role: "group", "aria-label": actor });
      const height = rows * 18 + 8;
      label.style.height = lane.style.height = `${height}px`;
      label.style.gridRow = lane.style.gridRow = String(boxes.size + 1);
      boxes.set(actor, lane);
      tops.set(actor, top);
      top += height;
      grid.append(label, lane);
    }
    const bars = steps.map((step, index) => {
      const label = `${step.name} by ${step.actor}, ${humanTime(step.duration)}`;
      const bar = element("button", { class: "gd-step", role: "option", tabindex: "-1", title: label, "aria-label": label });
      bar.append(step.name.split(".").pop());
      bar.style.left = `${100 * at(step.start)}%`;
      bar.style.width = `${step.ahead ? 0 : 100 * (at(step.start + step.duration) - at(step.start))}%`;
      if (step.ahead) bar.classList.add("gd-ahead");
      bar.style.top = `${places[index] * 18 + 3}px`;
      bar.style.background = colours[step.actor] ?? "#607d8b";
      if (step.error) bar.classList.add("gd-error");
      bar.addEventListener("click", () => choose(index, true));
      bar.addEventListener("mouseenter", () => show(index));
      bar.addEventListener("mouseleave", () => show(chosen));
      boxes.get(step.actor).append(bar);
      return bar;
    });
    grid.append(drawCalls(steps, tops, at), even ? element("div", { class: "gd-axis" }, "each step alike") : drawAxis(whole));

    const show = (index) => detail.replaceChildren(detailOf(steps[index], index, steps.length));
    const choose = (index, focus) => {
      chosen = Math.min(Math.max(index, 0), steps.length - 1);
      bars.forEach((bar, at) => {
        bar.setAttribute("aria-selected", String(at === chosen));
        bar.tabIndex = at === chosen ? 0 : -1;
      });
      if (focus) bars[chosen].focus({ preventScroll: true });
      show(chosen);
    };
    grid.addEventListener("keydown", (event) => {
      const target = { ArrowRight: chosen + 1, ArrowDown: chosen + 1, ArrowLeft: chosen - 1, ArrowUp: chosen - 1,
        Home: 0, End: steps.length - 1 }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      choose(target, true);
    });

    const head = element("div", { class: "gd-head" }, element("h4", {}, `The run ${name}`));
    head.append(element("span", { class: "gd-soft" }, `${humanTime(whole)}, ${steps.length} steps, ${lanes.size} took part`));
    const buttons = element("div", { class: "gd-buttons" });
    for (const [sign, label, move] of [["|◀", "First step", () => 0], ["◀", "Step back", () => chosen - 1],
      ["▶", "Step on", () => chosen + 1], ["▶|", "Last step", () => steps.length - 1]]) {
      const button = element("button", { type: "button", "aria-label": label, title: label }, sign);
      button.addEventListener("click", () => choose(move(), false));
      buttons.append(button);
    }
    const scale = element("button", { type: "button", "aria-pressed": String(even) }, "steps alike");
    scale.title = "Give each step the same room, whatever its time";
    scale.addEventListener("click", () => {
      even = !even;
      draw();
      el.querySelector("[aria-pressed]").focus();
    });
    buttons.append(scale);
    head.append(buttons);
    const picture = element("section", { class: "gd-picture gd-recorder", "aria-label": `The run ${name}` }, head, grid, detail);
    el.replaceChildren(picture);
    if (steps.length) choose(chosen, false);
  };
  model.on("change:picture", draw);
  draw();
  return () => model.off("change:picture", draw);
}

export default { render };
