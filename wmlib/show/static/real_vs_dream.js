// RealVsDream: the same first frame, the same actions, two futures. Where do they part?

async function mount({ model, root, asset }) {
  const [v, m, recorded] = await Promise.all([asset("v"), asset("m"), asset("real")]);
  const decode = makeDecoder(readTensors(v));
  const dynamics = makeDynamics(readTensors(m));
  const real = await readReal(recorded);
  const { T } = real;
  const t = trait(model, "t", show);
  const begin = trait(model, "begin", dreamAnew);
  const tau = trait(model, "tau", dreamAnew);
  const seed = trait(model, "seed", dreamAnew);
  const watching = trait(model, "watching", dreamAnew);
  const clock = player(30, () => moveTo(t.get() < T - 1 ? t.get() + 1 : begin.get()));
  let dream; // { z: [], errors: [] } by t, from `begin` on; the errors are filled in the background

  const world = screen(64, "the real frame");
  const mind = screen(64, "the dreamed frame");
  const action = make("p", { class: "wm-note" });
  const verdict = make("p", { class: "wm-note" });
  const play = toggle(["Play", "Pause"], () => {
    if (clock.playing) clock.pause();
    else clock.play();
    play.set(clock.playing);
  });
  const time = slider({ name: "time", label: "t", min: 0, max: T - 1, step: 1, value: t.get(), oninput: moveTo });
  const from = slider({
    name: "dream begins at", min: 0, max: T - 30, step: 1, value: begin.get(),
    oninput: (x) => { begin.set(x); dreamAnew(); },
  });
  const warmth = slider({
    name: "temperature", label: "τ", min: 0.05, max: 1.5, step: 0.05, value: tau.get(),
    format: decimal, oninput: (x) => { tau.set(x); dreamAnew(); },
  });
  const mode = choice("what M sees", { no: "M dreams with closed eyes", yes: "M sees each real frame, and guesses the next" },
    watching.get() ? "yes" : "no", (value) => { watching.set(value === "yes"); dreamAnew(); });
  const curve = chart(120, "error of the dreamed frame over time", drawErrors);
  curve.root.addEventListener("pointerdown", scrub);
  curve.root.addEventListener("pointermove", (event) => event.buttons && scrub(event));

  root.replaceChildren(
    make("div", { class: "wm-pair" },
      make("figure", { class: "wm-stage" }, world.canvas, make("figcaption", { class: "wm-real" }, "real")),
      make("figure", { class: "wm-stage" }, mind.canvas, make("figcaption", { class: "wm-dream" }, "dreamed"))),
    time.root, action, curve.root,
    make("p", { class: "wm-note" },
      make("b", { class: "wm-dream" }, "dream"), " and ", make("b", { class: "wm-real" }, "V alone"),
      ": root mean squared error against the real frame, in levels of 255"),
    verdict,
    make("div", { class: "wm-keys" }, play.root,
      button("Dream anew", () => { seed.set(seed.get() + 1); dreamAnew(); }), mode),
    make("div", { class: "wm-two" }, from.root, warmth.root));
  root.wm = { decode, dynamics, real, get dream() { return dream; } };
  root.addEventListener("wm-theme", curve.refresh);
  dreamAnew();
  return () => {
    clock.pause();
    dream = null;
  };

  /** Start over: M watches the real frames up to `begin`, and from there it is on its own. */
  function dreamAnew() {
    const b = begin.get();
    let state = dynamics.start();
    for (let i = 0; i < b; i++) state = dynamics.advance(real.row("actions", i), real.row("z", i), state);
    const z = [];
    const random = makeRandom(seed.get());
    z[b] = Array.from(real.row("z", b));
    for (let i = b; i < T - 1; i++) {
      state = dynamics.step(real.row("actions", i), watching.get() ? real.row("z", i) : z[i], state);
      z[i + 1] = Array.from(sample(state, dynamics.K, tau.get(), random));
    }
    dream = { z, errors: [] };
    delete root.dataset.dreamed;
    if (t.get() < b) t.set(b);
    show();
    const mine = dream;
    requestAnimationFrame(() => measure(mine, coarseToFine(b, T), 0));
  }

  /**
   * V draws the frames, which costs most: as many as fit into ten milliseconds, then the page has
   * its turn. In this order the curve has its shape at once, and its details by and by.
   */
  function measure(mine, order, from) {
    if (mine !== dream) return; // overtaken by a newer dream
    const until = performance.now() + 10;
    let n = from;
    while (n < order.length && performance.now() < until) errorAt(order[n++]);
    curve.refresh();
    if (n < order.length) requestAnimationFrame(() => measure(mine, order, n));
    else root.dataset.dreamed = "true";
  }

  function errorAt(i, frame = decode(dream.z[i])) {
    dream.errors[i] ??= rmse(frame, real.film(i));
    return dream.errors[i];
  }

  function moveTo(i) {
    t.set(i);
    show();
  }

  function scrub(event) {
    const part = event.offsetX / curve.root.clientWidth;
    moveTo(Math.round(clamp(part, 0, 1) * (T - 1)));
  }

  function show() {
    const i = t.get(), b = begin.get();
    const dreamed = decode(dream.z[i] ?? real.row("z", i)); // before the dream: V on the real z
    world.paint(real.film(i));
    mind.paint(dreamed);
    time.set(i);
    from.set(b);
    warmth.set(tau.get());
    const [steer, gas, brake] = Array.from(real.row("actions", i), decimal);
    action.textContent = `both are told: steer ${steer}, gas ${gas}, brake ${brake}`;
    verdict.textContent = i < b ? `M is still watching; the dream begins in ${b - i} steps.` : say(i, b, errorAt(i, dreamed));
    root.dataset.t = i;
    root.dataset.z = JSON.stringify(dream.z[i] ?? Array.from(real.row("z", i)));
    curve.refresh();
  }

  function say(i, b, error) {
    const where = watching.get() ? "one step ahead" : `${i - b} steps (${((i - b) / 50).toFixed(1)} s) into the dream`;
    return `${where}, ${error.toFixed(1)} levels away.`;
  }

  function drawErrors(context, width, height, colour) {
    const top = Math.max(30, ...dream.errors.filter(Boolean));
    const x = (i) => (i / (T - 1)) * width;
    const y = (error) => height - 4 - (error / top) * (height - 20);
    context.fillStyle = colour("shade");
    context.fillRect(0, 0, x(begin.get()), height);
    line(real.floor, "real");
    line(dream.errors, "dream");
    context.fillStyle = colour("ink");
    context.fillRect(x(t.get()) - 0.5, 0, 1, height);
    context.fillStyle = colour("soft");
    context.font = "11px system-ui, sans-serif";
    context.fillText(`${top.toFixed(0)} levels`, 4, 12);

    function line(errors, name) {
      context.strokeStyle = colour(name);
      context.lineWidth = 1.5;
      context.beginPath();
      errors.forEach((error, i) => context.lineTo(x(i), y(error))); // leaves out what is not there yet
      context.stroke();
    }
  }
}

/** The numbers from `from` up to `to`: every sixteenth first, then what lies between them. */
function coarseToFine(from, to) {
  const order = [];
  for (let stride = 16; stride >= 1; stride /= 2) {
    for (let i = from; i < to; i += stride) if (stride === 16 || (i - from) % (2 * stride)) order.push(i);
  }
  return order;
}
