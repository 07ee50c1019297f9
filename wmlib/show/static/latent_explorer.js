// LatentExplorer: 32 numbers, one frame. Move a number, see what it means to V.

const REACH = 4; // sliders run from -REACH to REACH; the prior is a standard normal
const SHOWN = 14; // the most informative latents; the others wait behind a click
const STOPS = [-3, -2.25, -1.5, -0.75, 0, 0.75, 1.5, 2.25, 3];

async function mount({ model, root, asset }) {
  const [v, recorded] = await Promise.all([asset("v"), asset("real")]);
  const net = readTensors(v);
  const decode = makeDecoder(net);
  const real = await readReal(recorded);
  const refresh = oncePerFrame(redraw);
  const z = trait(model, "z", refresh);
  const start = trait(model, "start", refresh);
  const latent = trait(model, "latent", refresh);
  const names = trait(model, "names", refresh);
  const random = makeRandom(Date.now());
  let drawn = ""; // what the strip was last drawn for

  const { canvas, paint } = screen(64, "the frame that V draws from z");
  const began = screen(64, "the real frame that z began from");
  const beganText = make("figcaption", { class: "wm-real" });
  const rows = z.get().map((value, i) => latentRow(i, value));
  const order = [...rows.keys()].sort((a, b) => real.kl[b] - real.kl[a]);
  const sorted = order.map((i) => rows[i].root);
  const starts = real.starts.map((frame, i) => thumbnail(`real frame ${i + 1}`, () => chooseStart(i), frame));
  const stops = STOPS.map((value) => thumbnail(String(value), () => move(latent.get(), value)));
  const stripTitle = make("h4", {});

  const quieter = make("details", {},
    make("summary", {}, `${sorted.length - SHOWN} quieter latents`),
    make("div", { class: "wm-latents" }, ...sorted.slice(SHOWN)));

  root.replaceChildren(
    make("div", { class: "wm-two" },
      make("div", { class: "wm-stage" }, canvas,
        make("figure", { class: "wm-began" }, began.canvas, beganText),
        make("div", { class: "wm-keys" },
          button("Sample z ~ N(0, I)", () => setAll(rows.map(() => random.normal()))),
          button("Reset", () => chooseStart(start.get())))),
      make("div", {},
        make("div", { class: "wm-latents" }, ...sorted.slice(0, SHOWN)),
        ...(sorted.length > SHOWN ? [quieter] : []))),
    make("h4", {}, "Start from a real frame"),
    make("div", { class: "wm-strip", role: "group", "aria-label": "real frames" }, ...starts.map((s) => s.root)),
    stripTitle,
    make("div", { class: "wm-strip", role: "group", "aria-label": "traversal" }, ...stops.map((s) => s.root)),
    make("p", { class: "wm-note" }, `V runs in this page. Its frames are within ${errorText(net.notes.error)} of PyTorch's, of 255.`));
  root.wm = { decode, real };
  redraw();

  function latentRow(i, value) {
    const label = make("input", {
      class: "wm-name", placeholder: `z ${i}`, "aria-label": `name of latent ${i}`,
      title: `${real.kl[i].toFixed(2)} nats; type a name for it`,
      onchange: () => {
        names.set({ ...names.get(), [i]: label.value });
        refresh();
      },
    });
    const row = slider({
      name: `latent ${i}`, label, min: -REACH, max: REACH, step: 0.01, origin: 0, value,
      format: decimal, oninput: (x) => move(i, x),
    });
    row.input.addEventListener("focus", () => {
      latent.set(i);
      refresh();
    });
    return { ...row, label };
  }

  function move(i, value) {
    setAll(z.get().map((old, j) => (i === j ? value : old)));
  }

  function setAll(values) {
    z.set(values);
    refresh();
  }

  function chooseStart(i) {
    start.set(i);
    setAll(Array.from(real.row("start_z", i)));
  }

  function redraw() {
    const values = z.get();
    paint(decode(values));
    showNumbers(values);
    traverse(values, latent.get());
    root.dataset.z = JSON.stringify(values);
    root.dataset.frame = Number(root.dataset.frame ?? 0) + 1;
  }

  function showNumbers(values) {
    const chosen = latent.get();
    const nameOf = (i) => names.get()[i] ?? "";
    rows.forEach((row, i) => {
      row.set(values[i]);
      row.root.classList.toggle("wm-chosen", i === chosen);
      row.label.value = nameOf(i);
      row.input.setAttribute("aria-label", nameOf(i) ? `latent ${i}, ${nameOf(i)}` : `latent ${i}`);
    });
    const at = real.row("start_z", start.get()); // once a number is moved, the frame is no real one
    const there = values.every((value, i) => Math.abs(value - at[i]) < 1e-6);
    starts.forEach((thumb, i) => thumb.press(there && i === start.get()));
    began.paint(real.starts[start.get()]);
    beganText.textContent = there ? "the real frame; the large picture is V's drawing of it" : "the real frame that you began from";
    stripTitle.textContent = `What ${nameOf(chosen) || `z ${chosen}`} does, from −3 to 3`;
  }

  /** The strip depends on all numbers but the chosen one: moving that only moves the mark. */
  function traverse(values, i) {
    const near = (a) => Math.abs(a - values[i]);
    const nearest = STOPS.reduce((best, value) => (near(value) < near(best) ? value : best));
    stops.forEach((thumb, s) => thumb.press(STOPS[s] === nearest));
    const others = JSON.stringify([i, ...values.filter((_, j) => j !== i)]);
    if (others === drawn) return;
    drawn = others;
    const paintStop = (s) => {
      if (s === STOPS.length || others !== drawn) return; // overtaken by a newer z
      stops[s].paint(decode(values.map((value, j) => (i === j ? STOPS[s] : value))));
      requestAnimationFrame(() => paintStop(s + 1));
    };
    requestAnimationFrame(() => paintStop(0));
  }
}
