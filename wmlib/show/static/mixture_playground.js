// MixturePlayground: drag a mixture of Gaussians over the data, and watch what surprise costs.

const LEFT = -6, RIGHT = 6; // the stretch of x that is drawn
const TALL = 240; // height of the chart in pixels; the lowest 34 hold the axis, data and samples
const FLOOR = TALL - 34;
const MOST = 5; // Gaussians; as many as M has

const bell = (x, mu, sigma) => Math.exp(-0.5 * ((x - mu) / sigma) ** 2) / (sigma * Math.sqrt(2 * Math.PI));

async function mount({ model, root }) {
  const refresh = oncePerFrame(redraw);
  const mus = trait(model, "mus", refresh);
  const sigmas = trait(model, "sigmas", refresh);
  const weights = trait(model, "weights", refresh);
  const data = trait(model, "data", refresh);
  const random = makeRandom(model.get("seed"));
  let samples = [];
  let rows = []; // one row of three sliders per Gaussian
  let dragged = null; // what the pointer holds: { k, part }

  const svg = shape("svg", {
    class: "wm-plot", height: TALL, role: "img", "aria-label": "density of the mixture, over the data",
    onpointerdown: grab, onpointermove: drag, onpointerup: drop, onpointercancel: drop,
  });
  const score = make("p", { class: "wm-score", role: "status" });
  const controls = make("div", { class: "wm-components" });
  const more = button("Add a Gaussian", () => resize([0], [1], 1));
  const fewer = button("Remove one", () => resize([], [], -1));
  root.replaceChildren(svg, score,
    make("div", { class: "wm-keys" },
      button("Draw 200 samples", () => setSamples(Array.from({ length: 200 }, drawSample))),
      button("Clear samples", () => setSamples([])), more, fewer),
    controls);
  const observer = new ResizeObserver(refresh);
  observer.observe(svg);
  root.addEventListener("wm-theme", refresh);
  redraw();
  return () => observer.disconnect();

  /** The mixture weights π: whatever the sliders say, they sum to one. */
  function shares() {
    const total = weights.get().reduce((sum, w) => sum + w, 0);
    return weights.get().map((w) => w / total);
  }

  /** p(x) = Σ_k π_k N(x; μ_k, σ_k) */
  function density(x) {
    return shares().reduce((sum, pi, k) => sum + pi * bell(x, mus.get()[k], sigmas.get()[k]), 0);
  }

  /** Mean over the data of -log p(x), in nats. */
  function surprise() {
    return -data.get().reduce((sum, x) => sum + Math.log(density(x) + 1e-300), 0) / data.get().length;
  }

  function drawSample() {
    let u = random.uniform();
    const k = shares().findIndex((pi) => (u -= pi) <= 0);
    const chosen = k < 0 ? 0 : k;
    return mus.get()[chosen] + sigmas.get()[chosen] * random.normal();
  }

  function setSamples(values) {
    samples = values;
    refresh();
  }

  function resize(mu, sigma, by) {
    const keep = (list) => list.get().slice(0, by < 0 ? -1 : undefined);
    const equal = 1 / Math.max(1, mus.get().length);
    mus.set([...keep(mus), ...mu]);
    sigmas.set([...keep(sigmas), ...sigma]);
    weights.set([...keep(weights), ...mu.map(() => equal)]);
    refresh();
  }

  function change(list, k, x) {
    list.set(list.get().map((old, i) => (i === k ? x : old)));
    refresh();
  }

  // -------------------------------------------------------------------------- the chart

  function scales() {
    const width = svg.clientWidth || 640;
    const peak = Math.max(...Array.from({ length: 241 }, (_, i) => density(LEFT + i / 20)));
    const top = [0.35, 0.5, 0.7, 1, 1.4, 2, 4, 8].find((step) => step > peak * 1.1) ?? 16; // in steps, so that it rests
    return {
      width, top,
      x: (value) => ((value - LEFT) / (RIGHT - LEFT)) * width,
      y: (value) => FLOOR - (value / top) * (FLOOR - 12),
      valueOf: (pixel) => LEFT + (pixel / width) * (RIGHT - LEFT),
      densityOf: (pixel) => ((FLOOR - pixel) / (FLOOR - 12)) * top,
    };
  }

  function redraw() {
    if (rows.length !== mus.get().length) rebuild();
    rows.forEach((row, k) => [mus, sigmas, weights].forEach((list, i) => row[i].set(list.get()[k])));
    const to = scales();
    const pi = shares();
    const curve = (f) => Array.from({ length: to.width + 1 }, (_, i) => `${i},${to.y(f(to.valueOf(i))).toFixed(2)}`).join(" ");
    const ticks = (values, top, className) => values.map((x) =>
      shape("line", { class: className, x1: to.x(x), x2: to.x(x), y1: top, y2: top + 9 }));
    svg.replaceChildren(
      ...[-4, -2, 0, 2, 4].map((x) => shape("text", { x: to.x(x), y: FLOOR + 12, "text-anchor": "middle" }, String(x).replace("-", "−"))),
      shape("text", { class: "wm-real", x: 0, y: FLOOR + 23 }, "data"),
      shape("text", { class: "wm-dream", x: 0, y: FLOOR + 33 }, samples.length ? "samples" : ""),
      shape("line", { class: "wm-axis", x1: 0, x2: to.width, y1: FLOOR, y2: FLOOR }),
      ...ticks(data.get(), FLOOR + 15, "wm-datum"),
      ...ticks(samples, FLOOR + 25, "wm-sample"),
      ...pi.map((share, k) => shape("polyline", { class: `wm-part wm-hue-${k}`, points: curve((x) => share * bell(x, mus.get()[k], sigmas.get()[k])) })),
      shape("polyline", { class: "wm-total", points: curve(density) }),
      ...pi.flatMap((_, k) => Object.entries(grips(to, k)).map(([part, [x, y]]) =>
        shape("circle", { class: `wm-grip wm-hue-${k} wm-${part}`, cx: x, cy: y, r: part === "peak" ? 8 : 6 }))));
    const nll = surprise();
    score.replaceChildren("surprise (NLL): ", make("b", {}, nll.toFixed(3)), " nats per point; the lower, the better");
    more.disabled = mus.get().length >= MOST;
    fewer.disabled = mus.get().length <= 1;
    root.dataset.nll = nll;
    root.dataset.top = to.top;
    root.dataset.samples = JSON.stringify(samples);
    root.dataset.frame = Number(root.dataset.frame ?? 0) + 1;
  }

  /** Where Gaussian k can be held: its peak (mean and weight) and its flank (spread). */
  function grips(to, k) {
    const mu = mus.get()[k], sigma = sigmas.get()[k], share = shares()[k];
    return {
      peak: [to.x(mu), to.y(share * bell(mu, mu, sigma))],
      flank: [to.x(mu + sigma), to.y(share * bell(mu + sigma, mu, sigma))],
    };
  }

  function grab(event) {
    const to = scales();
    const found = mus.get().flatMap((_, k) => Object.entries(grips(to, k)).map(([part, [x, y]]) =>
      ({ k, part, distance: Math.hypot(x - event.offsetX, y - event.offsetY) })));
    found.sort((a, b) => a.distance - b.distance);
    if (found[0].distance > 28) return;
    dragged = found[0];
    svg.setPointerCapture(event.pointerId);
  }

  function drag(event) {
    if (!dragged) return;
    const { k, part } = dragged;
    const to = scales();
    const box = svg.getBoundingClientRect();
    const x = clamp(to.valueOf(event.clientX - box.left), LEFT, RIGHT);
    if (part === "flank") return change(sigmas, k, clamp(Math.abs(x - mus.get()[k]), 0.05, 3));
    const height = Math.max(0, to.densityOf(event.clientY - box.top));
    reweigh(k, clamp(height / bell(0, 0, sigmas.get()[k]), 0.02, 0.98));
    change(mus, k, x);
  }

  function drop() {
    dragged = null;
  }

  /** Give Gaussian k the share `pi`; the others keep their proportions. */
  function reweigh(k, pi) {
    const old = shares();
    if (old.length > 1) weights.set(old.map((share, i) => (i === k ? pi : (share * (1 - pi)) / (1 - old[k]))));
  }

  /** The sliders: the keyboard's way to all that can be dragged. */
  function rebuild() {
    const kinds = [["mean", "μ", mus, LEFT, RIGHT, 0], ["spread", "σ", sigmas, 0.05, 3, 0.05], ["weight", "w", weights, 0.01, 1, 0.01]];
    rows = mus.get().map((_, k) => kinds.map(([name, label, list, min, max, origin]) => slider({
      name: `${name} of Gaussian ${k + 1}`, label, min, max, step: 0.01, origin,
      value: list.get()[k], format: decimal, oninput: (x) => change(list, k, x),
    })));
    controls.replaceChildren(...rows.map((row, k) =>
      make("fieldset", { class: `wm-hue-${k}` }, make("legend", {}, `Gaussian ${k + 1}`), ...row.map((s) => s.root))));
  }
}
