// CMAExplorer: CMA-ES searches a landscape of two parameters; C's search has 867, and no picture.

const REACH = 4; // the landscape runs from -REACH to REACH both ways
const GRID = 256; // pixels of the landscape's own picture

// All are to be minimised, and 0 is the best.
const LANDSCAPES = {
  bowl: { name: "a bowl", best: [1, -1], f: (x, y) => (x - 1) ** 2 + (y + 1) ** 2 },
  ridge: { name: "a tilted, narrow ridge", best: [1, 0], f: (x, y) => (x + y - 1) ** 2 / 2 + 50 * (x - y - 1) ** 2 },
  banana: { name: "a bent valley (Rosenbrock)", best: [1, 1], f: (x, y) => (1 - x) ** 2 + 20 * (y - x * x) ** 2 },
  ripples: {
    name: "many dips (Rastrigin)",
    best: [0, 0],
    f: (x, y) => 20 + x * x + y * y - 10 * (Math.cos(2 * Math.PI * x) + Math.cos(2 * Math.PI * y)),
  },
};

/** The eigenvalues and unit eigenvectors of a symmetric 2 × 2 matrix [[a, b], [b, d]]. */
function eigen([[a, b], [, d]]) {
  const middle = (a + d) / 2;
  const half = Math.hypot((a - d) / 2, b);
  const angle = 0.5 * Math.atan2(2 * b, a - d);
  const u = [Math.cos(angle), Math.sin(angle)];
  return { values: [middle + half, Math.max(middle - half, 1e-20)], vectors: [u, [-u[1], u[0]]] };
}

/**
 * CMA-ES in two dimensions. Source: Hansen (2016), The CMA Evolution Strategy: A Tutorial,
 * with its default constants and without negative weights.
 */
function makeCMA(mean, sigma, lambda, f, random) {
  const n = 2;
  const mu = Math.floor(lambda / 2); // the better half become parents
  const raw = Array.from({ length: mu }, (_, i) => Math.log((lambda + 1) / 2) - Math.log(i + 1));
  const total = raw.reduce((sum, w) => sum + w, 0);
  const w = raw.map((x) => x / total);
  const mueff = 1 / w.reduce((sum, x) => sum + x * x, 0);
  const cSigma = (mueff + 2) / (n + mueff + 5);
  const dSigma = 1 + 2 * Math.max(0, Math.sqrt((mueff - 1) / (n + 1)) - 1) + cSigma;
  const cC = (4 + mueff / n) / (n + 4 + (2 * mueff) / n);
  const c1 = 2 / ((n + 1.3) ** 2 + mueff);
  const cMu = Math.min(1 - c1, (2 * (mueff - 2 + 1 / mueff)) / ((n + 2) ** 2 + mueff));
  const chi = Math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n)); // E|N(0, I)|
  const self = {
    generation: 0, mean: [...mean], sigma, C: [[1, 0], [0, 1]], pSigma: [0, 0], pC: [0, 0], population: [], step,
  };
  return self;

  /** Ask λ points, rank them, and move the mean, the step size and the covariance. */
  function step() {
    self.population = Array.from({ length: lambda }, ask).sort((a, b) => a.cost - b.cost);
    tell(self.population.slice(0, mu).map(({ x }) => x.map((v, i) => (v - self.mean[i]) / self.sigma)));
    self.generation += 1;
  }

  /** x = m + σ B D z, with C = B D² Bᵀ */
  function ask() {
    const { values, vectors } = eigen(self.C);
    const z = values.map((v) => Math.sqrt(v) * random.normal());
    const x = self.mean.map((m, i) => m + self.sigma * (z[0] * vectors[0][i] + z[1] * vectors[1][i]));
    return { x, cost: f(...x) };
  }

  /** `y`: the parents' steps (x - m) / σ, best first. */
  function tell(y) {
    const { values, vectors } = eigen(self.C);
    const yw = [0, 1].map((i) => y.reduce((sum, step, k) => sum + w[k] * step[i], 0));
    const whiten = (v) => [0, 1].map((i) => vectors.reduce(
      (sum, b, j) => sum + (b[i] * (b[0] * v[0] + b[1] * v[1])) / Math.sqrt(values[j]), 0)); // C^(-1/2) v
    const white = whiten(yw);
    self.mean = self.mean.map((m, i) => m + self.sigma * yw[i]);
    self.pSigma = self.pSigma.map((p, i) => (1 - cSigma) * p + Math.sqrt(cSigma * (2 - cSigma) * mueff) * white[i]);
    const length = Math.hypot(...self.pSigma);
    const settled = length / Math.sqrt(1 - (1 - cSigma) ** (2 * (self.generation + 1))) < (1.4 + 2 / (n + 1)) * chi;
    self.pC = self.pC.map((p, i) => (1 - cC) * p + (settled ? Math.sqrt(cC * (2 - cC) * mueff) * yw[i] : 0));
    const keep = 1 - c1 - cMu + (settled ? 0 : c1 * cC * (2 - cC));
    self.C = self.C.map((row, i) => row.map((value, j) => keep * value + c1 * self.pC[i] * self.pC[j]
      + cMu * y.reduce((sum, step, k) => sum + w[k] * step[i] * step[j], 0)));
    self.sigma *= Math.exp((cSigma / dSigma) * (length / chi - 1));
  }
}

async function mount({ model, root }) {
  const landscape = trait(model, "landscape", restart);
  const sigma0 = trait(model, "sigma0", restart);
  const popsize = trait(model, "popsize", restart);
  const start = trait(model, "start", restart);
  const seed = trait(model, "seed", restart);
  const found = trait(model, "mean");
  const clock = player(6, () => (search.sigma > 1e-6 ? step() : pause()));
  let search, trail;

  const { canvas, paint } = screen(GRID, "the landscape: the brighter, the better");
  const overlay = shape("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" });
  const map = make("div", { class: "wm-stage wm-map", onclick: (event) => {
    const box = canvas.getBoundingClientRect();
    start.set([toValue((event.clientX - box.left) / box.width), -toValue((event.clientY - box.top) / box.height)]);
    restart();
  } }, canvas, overlay);
  const status = make("p", { class: "wm-score", role: "status" });
  const best = chart(70, "best cost of each generation, on a log scale", drawBest);
  const play = toggle(["Run", "Pause"], () => (clock.playing ? pause() : run()));
  const spread = slider({
    name: "initial step size", label: "σ₀", min: 0.05, max: 2, step: 0.05, value: sigma0.get(),
    format: decimal, oninput: (x) => { sigma0.set(x); restart(); },
  });
  const crowd = slider({
    name: "population size", label: "λ", min: 4, max: 64, step: 1, value: popsize.get(),
    oninput: (x) => { popsize.set(x); restart(); },
  });
  const names = Object.fromEntries(Object.entries(LANDSCAPES).map(([key, { name }]) => [key, name]));
  const terrain = choice("landscape", names, landscape.get(), (key) => { landscape.set(key); restart(); });

  root.replaceChildren(make("div", { class: "wm-two" }, map,
    make("div", {}, terrain, spread.root, crowd.root,
      make("div", { class: "wm-keys" }, button("Step", () => { pause(); step(); }), play.root,
        button("Restart", restart),
        button("Other luck", () => { seed.set(seed.get() + 1); restart(); })),
      status, make("h4", {}, "best cost of each generation, log scale"), best.root,
      make("p", { class: "wm-note" },
        "× is the lowest point. Dots are one generation, the filled half its parents; the ellipse is where the next will be drawn. "
        + "Click the map to begin elsewhere."))));
  root.addEventListener("wm-theme", () => { paintLandscape(); show(); });
  restart();
  return () => clock.pause();

  function restart() {
    const { f } = LANDSCAPES[landscape.get()];
    search = makeCMA(start.get(), sigma0.get(), popsize.get(), f, makeRandom(seed.get()));
    trail = [{ mean: search.mean, best: NaN }];
    pause();
    terrain.value = landscape.get();
    spread.set(sigma0.get());
    crowd.set(popsize.get());
    paintLandscape();
    show();
  }

  function step() {
    search.step();
    trail.push({ mean: search.mean, best: search.population[0].cost });
    found.set(search.mean);
    show();
  }

  function run() {
    clock.play();
    play.set(true);
  }

  function pause() {
    clock.pause();
    play.set(false);
  }

  // ---------------------------------------------------------------------------- drawing

  function toValue(part) {
    return (2 * part - 1) * REACH;
  }

  /** The cost on a log scale in twelve shades, as a hiker's map has them. */
  function paintLandscape() {
    const { f } = LANDSCAPES[landscape.get()];
    const heights = Float64Array.from({ length: GRID * GRID }, (_, i) => Math.log10(0.05 + f(
      toValue(((i % GRID) + 0.5) / GRID), -toValue((Math.floor(i / GRID) + 0.5) / GRID))));
    const low = Math.log10(0.05), high = heights.reduce((a, b) => Math.max(a, b));
    const shades = root.dataset.theme === "dark" ? [[216, 221, 228], [96, 114, 140]] : [[255, 252, 243], [128, 152, 184]];
    const rgba = new Uint8ClampedArray(4 * heights.length).fill(255);
    heights.forEach((height, i) => {
      const level = Math.floor((12 * (height - low)) / (high - low)) / 12;
      for (let c = 0; c < 3; c++) rgba[4 * i + c] = shades[0][c] + level * (shades[1][c] - shades[0][c]);
    });
    paint(rgba);
  }

  function show() {
    const at = ([x, y]) => [50 + (50 * x) / REACH, 50 - (50 * y) / REACH];
    const parents = Math.floor(popsize.get() / 2);
    const dots = search.population.map(({ x }, i) => {
      const [cx, cy] = at(x);
      return shape("circle", { class: i < parents ? "wm-parent" : "wm-child", cx, cy, r: 1.5 });
    });
    const [mx, my] = at(search.mean);
    const [bx, by] = at(LANDSCAPES[landscape.get()].best);
    overlay.replaceChildren(
      shape("path", { class: "wm-best", d: `M${bx - 2} ${by - 2}l4 4m0 -4l-4 4` }),
      shape("polyline", { class: "wm-trail", points: trail.map(({ mean }) => at(mean).join(",")).join(" ") }),
      ...dots, ellipse(at, 1), ellipse(at, 2),
      shape("path", { class: "wm-mean", d: `M${mx - 2} ${my}h4M${mx} ${my - 2}v4` }));
    const cost = trail.at(-1).best;
    status.textContent = search.generation
      ? `generation ${search.generation}: best ${cost.toPrecision(3)}, σ = ${search.sigma.toPrecision(3)}`
      : "nothing asked yet";
    best.refresh();
    const { generation, mean, sigma, C, population } = search;
    root.dataset.search = JSON.stringify({ generation, mean, sigma, C, population });
  }

  /** `times` standard deviations of N(m, σ² C). */
  function ellipse(at, times) {
    const { values, vectors } = eigen(search.C);
    const [cx, cy] = at(search.mean);
    const [rx, ry] = values.map((v) => (Math.sqrt(v) * search.sigma * times * 50) / REACH);
    const degrees = (-Math.atan2(vectors[0][1], vectors[0][0]) * 180) / Math.PI; // the screen's y points down
    return shape("ellipse", { class: "wm-ellipse", cx, cy, rx, ry, transform: `rotate(${degrees} ${cx} ${cy})` });
  }

  function drawBest(context, width, height, colour) {
    const logs = trail.slice(1).map((entry) => Math.log10(entry.best + 1e-12));
    const low = Math.min(-3, ...logs), high = Math.max(2, ...logs);
    const y = (value) => 4 + ((high - value) / (high - low)) * (height - 8);
    context.fillStyle = colour("line");
    context.fillRect(0, y(0), width, 1);
    context.fillStyle = colour("soft");
    context.font = "11px system-ui, sans-serif";
    context.fillText("cost 1", 4, y(0) + 12);
    context.strokeStyle = colour("dream");
    context.lineWidth = 1.5;
    context.beginPath();
    logs.forEach((value, i) => context.lineTo((i / Math.max(40, logs.length)) * width, y(value)));
    context.stroke();
  }
}
