// DreamPlayer: the reader drives, and there is no world; only M, which expects, and V, which draws.

const RATE = 30; // dream steps per second; CarRacing itself runs at 50
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "gas", ArrowDown: "brake" };
const PADS = { left: "◀", gas: "▲", brake: "▼", right: "▶" };
const HINTS = {
  keys: "Click the picture, then steer with the arrow keys; space pauses, full stop steps.",
  touch: "Hold the arrows to steer.",
};
const LOST = 90; // steps on the grass, after which a dream that plays by itself begins anew
const PAD_NAMES = { left: "steer left", gas: "gas", brake: "brake", right: "steer right" };

async function mount({ model, root, asset }) {
  const [v, m, recorded] = await Promise.all([asset("v"), asset("m"), asset("real")]);
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
  const held = new Set(); // what the reader presses: left, right, gas, brake
  const clock = player(RATE, step);
  let dream; // { t, z, h, c, a, logpi, rewards, score, lost, random }

  const { canvas, paint } = screen(64, "the dreamed frame");
  const stage = make("div", {
    class: "wm-stage wm-wheel", tabindex: "0", role: "group",
    "aria-label": "dream: steer with the arrow keys, space to pause, full stop for one step",
    onkeydown: (event) => press(event, true), onkeyup: (event) => press(event, false),
    onblur: () => held.clear(),
  }, canvas);
  const play = toggle(["Play", "Pause"], () => (clock.playing ? pause() : go()));
  const driver = toggle(["Let C drive", "C is driving"], () => {
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
    panel("a", "what M is told you do", actionMeters(() => dream.a)),
    panel("z", "where the dream is", latentBars(() => dream.z)),
    panel("h", "what M remembers", carpet(() => dream.h)),
    panel("π", "which future M draws from", weightBars(() => dream.logpi)),
    panel("r", "the reward M expects", rewardLine(() => dream.rewards)),
  ];
  const points = make("b", {});
  const off = make("span", { class: "wm-off", "aria-live": "polite" });
  const score = make("p", { class: "wm-score" }, "score in the dream: ", points, off);
  const clockFace = make("p", { class: "wm-note" });
  const hint = make("p", { class: "wm-note" }, HINTS[matchMedia("(hover: none)").matches ? "touch" : "keys"]);
  const pads = make("div", { class: "wm-pad", role: "group", "aria-label": "steering" }, ...Object.keys(PADS).map(pad));
  const again = button("Restart", restart);

  root.classList.toggle("wm-compact", compact);
  root.replaceChildren(...(compact ? [small()] : whole()));
  root.wm = { decode, dynamics, control, step, onGrass, get dream() { return dream; } };
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
    const even = new Float32Array(dynamics.K).fill(-Math.log(dynamics.K));
    dream = {
      t: 0, z: row("start_z"), h: row("start_h"), c: row("start_c"),
      a: [0, 0, 0], logpi: even, rewards: [], score: 0, lost: 0, random,
    };
    starts.forEach((thumb, i) => thumb.press(i === start.get()));
    show();
    share();
    showControls();
  }

  /** (z, a, h) to M, a draw from its mixture to V, V's frame to the screen. */
  function step() {
    const a = cDrives.get() ? control(dream.z, dream.h) : steer(dream.a);
    const { h, c, reward, done, ...mixture } = dynamics.step(a, dream.z, dream);
    const next = sample(mixture, tau.get(), dream.random);
    const rewards = [...dream.rewards.slice(-149), reward];
    const { score, lost } = dream;
    dream = { ...dream, t: dream.t + 1, z: next.z, h, c, a, logpi: mixture.logpi, rewards, score: score + reward, lost: lost + 1 };
    show();
    if (compact && cDrives.get() && dream.lost > LOST) dreamElsewhere();
  }

  function dreamElsewhere() {
    seed.set(seed.get() + 1);
    start.set((start.get() + 1) % starts.length);
    restart();
  }

  /** The reader's action: the wheel turns a quarter of the way per step, as a hand would. */
  function steer([before]) {
    const target = held.has("right") - held.has("left");
    return [before + 0.25 * (target - before), held.has("gas") ? 0.8 : 0, held.has("brake") ? 0.8 : 0];
  }

  function show() {
    const frame = decode(dream.z);
    paint(frame);
    if (!compact) for (const { refresh } of panels) refresh();
    if (!onGrass(frame)) dream.lost = 0;
    points.textContent = dream.score.toFixed(0).replace("-", "−");
    const place = dream.lost ? "off the road" : "";
    if (off.textContent !== place) off.textContent = place;
    const seconds = (dream.t / 50).toFixed(1);
    clockFace.textContent = `step ${dream.t}: ${seconds} s of driving, none of it real`;
    root.dataset.t = dream.t;
    root.dataset.z = JSON.stringify(Array.from(dream.z));
    root.dataset.action = JSON.stringify(dream.a);
    root.dataset.score = dream.score;
    root.dataset.off = dream.lost > 0;
    root.dataset.frame = Number(root.dataset.frame ?? 0) + 1;
  }

  function showControls() {
    play.set(clock.playing);
    driver.set(cDrives.get());
    warmth.set(tau.get());
  }

  function go() {
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
    const key = KEYS[event.key];
    if (!key && event.key !== " " && event.key !== ".") return;
    event.preventDefault(); // neither the page scrolls
    event.stopPropagation(); // nor does the notebook take the key for itself
    if (key) hold(key, down);
    else if (down && event.key === " ") clock.playing ? pause() : go();
    else if (down) { pause(); step(); share(); }
  }

  function hold(key, down) {
    if (down) held.add(key);
    else held.delete(key);
    if (down && cDrives.get()) cDrives.set(false); // whoever touches the wheel has it
    if (down && !clock.playing) go();
    showControls();
  }

  function pad(key) {
    const release = () => hold(key, false);
    const isPress = (event) => event.key === "Enter" || event.key === " ";
    return button(PADS[key], () => {}, {
      class: "wm-key", "aria-label": PAD_NAMES[key],
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

/** Whether more than half of what surrounds the car in a frame (64, 64, 4) is green. */
function onGrass(frame) {
  let green = 0, all = 0;
  for (let y = 41; y < 50; y++) { // the car stands at rows 44 to 51, columns 30 to 33
    for (let x = 27; x < 37; x++, all++) {
      const i = 4 * (64 * y + x);
      if (frame[i + 1] - Math.max(frame[i], frame[i + 2]) > 40) green++;
    }
  }
  return green > all / 2;
}

function panel(symbol, meaning, { root, refresh = () => {} }) {
  const title = make("h4", {}, make("b", {}, symbol), ` ${meaning}`);
  return { root: make("div", { class: "wm-panel" }, title, root), refresh };
}

/** Steering, gas and brake as three meters. */
function actionMeters(action) {
  const meters = [meter("steer", -1, 1), meter("gas", 0, 1), meter("brake", 0, 1)];
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

/** The last rewards that M predicted, on a scale that fits them. */
function rewardLine(rewards) {
  return chart(44, "predicted reward", (context, width, height, colour) => {
    const x = rewards();
    const low = Math.min(0, ...x), high = Math.max(0.1, ...x);
    const y = (value) => height - 3 - ((value - low) / (high - low)) * (height - 6);
    context.fillStyle = colour("line");
    context.fillRect(0, y(0), width, 1);
    context.strokeStyle = colour("dream");
    context.lineWidth = 1.5;
    context.beginPath();
    x.forEach((value, i) => context.lineTo((i / 149) * width, y(value)));
    context.stroke();
  });
}
