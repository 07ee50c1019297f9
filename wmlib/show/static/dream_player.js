// DreamPlayer: the reader drives, and there is no world; only M, which expects, and V, which draws.

const LOST = 90; // steps off the road, after which a dream that plays by itself begins anew

async function mount({ model, root, asset }) {
  const game = GAMES[model.get("game")];
  const files = ["v", "m", "real"].map((name) => asset(game.assets + name));
  const [v, m, recorded] = await Promise.all(files);
  const weights = readTensors(m);
  const decode = makeDecoder(readTensors(v));
  const dynamics = makeDynamics(weights);
  const control = makeController(weights);
  const real = await readReal(recorded);
  const tau = trait(model, "tau", showControls);
  const start = trait(model, "start", restart);
  const seed = trait(model, "seed", restart);
  const cDrives = trait(model, "controller_drives", showControls);
  const z = trait(model, "z");
  const compact = model.get("compact") === true; // no panels, and it plays while it is in sight
  const held = new Set(); // what the reader presses, of the game's pads
  const clock = player(game.rate, step);
  let dream; // { t, z, h, c, a, logpi, curve, score, lost, over, random }

  const { canvas, paint } = screen(64, "the dreamed frame");
  const stage = make("div", {
    class: "wm-stage wm-wheel", tabindex: "0", role: "group",
    "aria-label": game.stage,
    onkeydown: (event) => press(event, true), onkeyup: (event) => press(event, false),
    onblur: () => held.clear(),
  }, canvas);
  const play = toggle(["Play", "Pause"], () => (clock.playing ? pause() : go()));
  const driver = toggle(game.driver, () => {
    cDrives.set(!cDrives.get());
    showControls();
  });
  const warmth = slider({
    name: "temperature", label: "τ", min: 0.05, max: 1.5, step: 0.05, value: tau.get(),
    format: decimal, oninput: (x) => tau.set(x),
  });
  const starts = real.starts.map((frame, i) => thumbnail(`start from real frame ${i + 1}`, () => {
    start.set(i);
    restart();
  }, frame));
  const panels = [
    panel("a", "what M is told you do", actionMeters(game.meters, () => dream.a)),
    panel("z", "where the dream is", latentBars(() => dream.z)),
    panel("h", "what M remembers", carpet(() => dream.h)),
    ...(dynamics.W === 1 ? [panel("π", "which future M draws from", weightBars(() => dream.logpi))] : []),
    panel(game.curve.symbol, game.curve.meaning, curveLine(game.curve, () => dream.curve)),
  ];
  const points = make("b", {});
  const off = make("span", { class: "wm-off", "aria-live": "polite" });
  const [before, unit] = game.score;
  const score = make("p", { class: "wm-score" }, before, points, unit, off);
  const clockFace = make("p", { class: "wm-note" });
  const hint = make("p", { class: "wm-note" }, game.hints[matchMedia("(hover: none)").matches ? "touch" : "keys"]);
  const names = Object.keys(game.pads);
  const pads = make("div", {
    class: "wm-pad", role: "group", "aria-label": "steering",
    style: `grid-template-columns: repeat(${names.length}, 1fr)`,
  }, ...names.map(pad));
  const again = button("Restart", restart);

  root.classList.toggle("wm-compact", compact);
  root.replaceChildren(...(compact ? [small()] : whole()));
  root.wm = { decode, dynamics, control, sample, step, restart, lost: game.lost, get dream() { return dream; } };
  root.addEventListener("wm-theme", show);
  restart();
  const unwatch = compact ? playInSight() : () => {};
  return () => {
    unwatch();
    clock.pause();
  };

  function whole() {
    const one = button("Step", () => { pause(); step(); share(); });
    const keys = make("div", { class: "wm-keys" }, play.root, one, again, driver.root);
    return [
      make("div", { class: "wm-two" },
        make("div", {}, stage, score, pads, keys, warmth.root, clockFace, hint),
        make("div", { class: "wm-panels" }, ...panels.map((p) => p.root))),
      make("h4", {}, "Start from a real frame"),
      make("div", { class: "wm-strip", role: "group", "aria-label": "real frames" }, ...starts.map((s) => s.root)),
    ];
  }

  function small() {
    const keys = make("div", { class: "wm-keys" }, driver.root, play.root, again);
    return make("div", { class: "wm-two" }, stage, make("div", {}, score, clockFace, pads, keys, warmth.root, hint));
  }

  /** It plays while it is in sight, unless the reader has paused it or wants less motion. */
  function playInSight() {
    let resting = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    const observer = new IntersectionObserver(([{ isIntersecting }]) => {
      if (isIntersecting) {
        if (resting) go();
        resting = false;
      } else {
        resting ||= clock.playing;
        pause();
      }
    });
    observer.observe(stage);
    return () => observer.disconnect();
  }

  function restart() {
    const row = (name) => Float32Array.from(real.row(name, start.get()));
    const random = makeRandom(seed.get());
    const even = new Float32Array(dynamics.K * dynamics.W).fill(-Math.log(dynamics.K));
    dream = {
      t: 0, z: row("start_z"), h: row("start_h"), c: row("start_c"),
      a: game.rest, logpi: even, curve: [], score: 0, lost: 0, over: false, random,
    };
    starts.forEach((thumb, i) => thumb.press(i === start.get()));
    show();
    share();
    showControls();
  }

  /** (z, a, h) to M, a draw from its mixture to V, V's frame to the screen. */
  function step() {
    if (dream.over) return;
    const a = cDrives.get() ? control(dream.z, dream.h, dream.c) : game.steer(dream.a, held);
    const moved = dynamics.step(a, dream.z, dream);
    const { h, c, logpi } = moved;
    const t = dream.t + 1;
    dream = {
      ...dream, t, z: sample(moved, dynamics.K, tau.get(), dream.random), h, c, a, logpi,
      curve: [...dream.curve.slice(-149), game.curve.value(moved)],
      score: dream.score + game.pay(moved), lost: dream.lost + 1, over: game.over(moved, t),
    };
    show();
    if (compact && cDrives.get() && (dream.over || dream.lost > LOST)) dreamElsewhere();
    else if (dream.over) pause();
  }

  function dreamElsewhere() {
    start.set((start.get() + 1) % starts.length);
    dreamAnew();
  }

  /** The same start, with other luck. */
  function dreamAnew() {
    seed.set(seed.get() + 1);
    restart();
  }

  function show() {
    const frame = decode(dream.z);
    paint(frame);
    if (!compact) for (const { refresh } of panels) refresh();
    if (!game.lost(frame)) dream.lost = 0;
    points.textContent = dream.score.toFixed(0).replace("-", "−");
    const trouble = game.trouble(dream);
    if (off.textContent !== trouble) off.textContent = trouble;
    clockFace.textContent = game.clock(dream.t);
    root.dataset.t = dream.t;
    root.dataset.z = JSON.stringify(Array.from(dream.z));
    root.dataset.action = JSON.stringify(dream.a);
    root.dataset.score = dream.score;
    root.dataset.off = dream.lost > 0;
    root.dataset.over = dream.over;
    root.dataset.frame = Number(root.dataset.frame ?? 0) + 1;
  }

  function showControls() {
    play.set(clock.playing);
    driver.set(cDrives.get());
    warmth.set(tau.get());
  }

  function go() {
    if (dream.over) dreamAnew();
    clock.play();
    showControls();
  }

  function pause() {
    clock.pause();
    share();
    showControls();
  }

  /** Python sees where the dream stands whenever it stands still. */
  function share() {
    z.set(Array.from(dream.z));
  }

  function press(event, down) {
    if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = game.keys[event.key];
    if (!/^(Arrow.*| |\.)$/.test(event.key)) return;
    event.preventDefault(); // neither the page scrolls
    event.stopPropagation(); // nor does the notebook take the key for itself
    if (key) hold(key, down);
    else if (down && event.key === " ") clock.playing ? pause() : go();
    else if (down && event.key === ".") { pause(); step(); share(); }
  }

  function hold(key, down) {
    if (down) held.add(key);
    else held.delete(key);
    if (down && cDrives.get()) cDrives.set(false); // whoever touches the wheel has it
    if (down && !clock.playing && !dream.over) go(); // who dies with a key held sees it first
    showControls();
  }

  function pad(key) {
    const release = () => hold(key, false);
    const isPress = (event) => event.key === "Enter" || event.key === " ";
    const [sign, name] = game.pads[key];
    return button(sign, () => {}, {
      class: "wm-key", "aria-label": name,
      onpointerdown: (event) => {
        event.target.setPointerCapture(event.pointerId);
        hold(key, true);
      },
      onpointerup: release, onpointercancel: release, onblur: release,
      onkeydown: (event) => isPress(event) && hold(key, true),
      onkeyup: (event) => isPress(event) && release(),
      oncontextmenu: (event) => event.preventDefault(), // a long touch is a held key
    });
  }
}

function panel(symbol, meaning, { root, refresh = () => {} }) {
  const title = make("h4", {}, make("b", {}, symbol), ` ${meaning}`);
  return { root: make("div", { class: "wm-panel" }, title, root), refresh };
}

/** A meter for each number of the action: steering, gas and brake, say. */
function actionMeters(parts, action) {
  const meters = parts.map(([name, low, high]) => meter(name, low, high));
  const root = make("div", {}, ...meters.map((m) => m.root));
  return { root, refresh: () => action().forEach((value, i) => meters[i].set(value)) };
}

/** A bar per number of z, from the middle; they reach from -3 to 3. */
function latentBars(z) {
  return chart(56, "z, a bar for each number", (context, width, height, colour) => {
    const x = z(), pitch = width / x.length;
    context.fillStyle = colour("dream");
    x.forEach((value, i) => {
      const length = (clamp(value, -3, 3) / 3) * (height / 2);
      context.fillRect(i * pitch + 1, height / 2 - Math.max(length, 0), Math.max(pitch - 2, 1), Math.abs(length));
    });
    context.fillStyle = colour("line");
    context.fillRect(0, height / 2, width, 1);
  });
}

/** h as a carpet of four rows: one colour for positive, one for negative, paler towards zero. */
function carpet(h) {
  return chart(56, "h, the memory of M", (context, width, height, colour) => {
    const x = h(), columns = x.length / 4;
    const inks = [colour("real"), colour("dream")];
    x.forEach((value, i) => {
      context.fillStyle = inks[value > 0 ? 1 : 0];
      context.globalAlpha = Math.abs(value);
      context.fillRect((i % columns) * (width / columns), Math.floor(i / columns) * (height / 4), width / columns, height / 4);
    });
    context.globalAlpha = 1;
  });
}

/** The mixture weights: how sure M is of which future. */
function weightBars(logpi) {
  return chart(44, "mixture weights", (context, width, height, colour) => {
    const x = logpi(), pitch = width / x.length;
    x.forEach((value, i) => {
      context.fillStyle = colour("line");
      context.fillRect(i * pitch + 2, height - 1, pitch - 4, 1);
      context.fillStyle = colour("dream");
      const tall = Math.exp(value) * (height - 1);
      context.fillRect(i * pitch + 2, height - tall, pitch - 4, tall);
    });
  });
}

/** The last values of what M foretells, and a line to compare them with. */
function curveLine({ name, height, range, mark }, values) {
  return chart(height, name, (context, width, height, colour) => {
    const x = values();
    const [low, high] = range(x);
    const y = (value) => height - 3 - ((value - low) / (high - low)) * (height - 6);
    context.fillStyle = colour("line");
    context.fillRect(0, y(mark), width, 1);
    context.strokeStyle = colour("dream");
    context.lineWidth = 1.5;
    context.beginPath();
    x.forEach((value, i) => context.lineTo((i / 149) * width, y(value)));
    context.stroke();
  });
}
