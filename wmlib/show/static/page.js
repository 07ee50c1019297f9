// What every widget needs of a page: elements, a theme, the exported files, and one clear
// sentence when something is missing. No framework, nothing from the network.

/** An HTML element in one call: make("button", { class: "wm-key", onclick: go }, "step"). */
function make(tag, properties = {}, ...children) {
  return dress(document.createElement(tag), properties, children);
}

/** The same for SVG: shape("circle", { r: 3 }). */
function shape(tag, properties = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function dress(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A labelled slider. `name` is what a screen reader says; `label` is what stands beside it. */
function slider({ name, label = name, min, max, step, value, format = String, origin = min, oninput }) {
  const input = make("input", { type: "range", "aria-label": name, min, max, step });
  const output = make("output", { "aria-hidden": "true" });
  const root = make("label", { class: "wm-slider" }, make("span", {}, label), input, output);
  const part = (x) => Math.min(1, Math.max(0, (x - min) / (max - min)));
  let shown;
  function set(x) {
    if (x === shown) return; // dozens of sliders are set at every frame, and most stand still
    shown = x;
    input.value = x;
    const text = format(x);
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
    // The filled stretch of the track runs from the origin to the thumb.
    root.style.setProperty("--from", Math.min(part(x), part(origin)));
    root.style.setProperty("--to", Math.max(part(x), part(origin)));
  }
  input.addEventListener("input", () => {
    set(Number(input.value));
    oninput(Number(input.value));
  });
  set(value);
  return { root, input, set };
}

const decimal = (x) => x.toFixed(2).replace("-", "−");

function button(label, onclick, properties = {}) {
  return make("button", { type: "button", onclick, ...properties }, label);
}

/** A button that is pressed or not; `set` tells both the eye and the screen reader. */
function toggle(labels, onclick, properties = {}) {
  const root = button("", onclick, properties);
  function set(on) {
    root.setAttribute("aria-pressed", String(on));
    root.textContent = labels[on ? 1 : 0];
  }
  set(false);
  return { root, set };
}

function choice(name, options, value, onchange) {
  const select = make("select", { "aria-label": name, onchange: () => onchange(select.value) });
  for (const [key, text] of Object.entries(options)) select.append(make("option", { value: key }, text));
  select.value = value;
  return select;
}

/** A canvas for one frame of `size` × `size` pixels; without a label it is mere decoration. */
function screen(size, label) {
  const manners = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  const canvas = make("canvas", { width: size, height: size, ...manners });
  const context = canvas.getContext("2d");
  const paint = (rgba) => context.putImageData(new ImageData(rgba, size, size), 0, 0);
  return { canvas, paint };
}

/** A small frame that can be chosen. */
function thumbnail(name, onclick, frame = null) {
  const { canvas, paint } = screen(64);
  if (frame) paint(frame);
  const root = make("button", { type: "button", class: "wm-thumb", "aria-label": name, onclick }, canvas);
  return { root, paint, press: (on) => root.setAttribute("aria-pressed", String(on)) };
}

/** A canvas for a chart: its pixels follow the width it is given and the screen's density. */
function chart(height, name, redraw) {
  const canvas = make("canvas", { class: "wm-chart", role: "img", "aria-label": name });
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  let width = 0;
  function refresh() {
    if (!width) return; // not on the page yet
    context.clearRect(0, 0, width, height);
    redraw(context, width, height, (colour) => ink(canvas, colour));
  }
  const observer = new ResizeObserver(() => {
    const density = globalThis.devicePixelRatio || 1;
    width = canvas.clientWidth;
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
    context.scale(density, density);
    refresh();
  });
  observer.observe(canvas);
  return { root: canvas, refresh };
}

const palettes = { light: {}, dark: {} };

/** A colour of the stylesheet by name, for canvases. */
function ink(element, name) {
  const palette = palettes[element.closest(".wm").dataset.theme];
  palette[name] ||= getComputedStyle(element).getPropertyValue(`--wm-${name}`);
  return palette[name];
}

/** A bar that shows a number and cannot be moved. */
function meter(name, min, max) {
  const bar = make("i", {});
  const root = make("div", { class: "wm-meter" }, make("span", {}, name), bar);
  const part = (x) => (x - min) / (max - min);
  function set(x) {
    bar.style.setProperty("--from", Math.min(part(x), part(0)));
    bar.style.setProperty("--to", Math.max(part(x), part(0)));
  }
  return { root, set };
}

/** Call `work` at most once per drawn frame, however often it is asked for. */
function oncePerFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

/** Run `step` at most `rate` times a second, in the rhythm of the screen, while it is playing. */
function player(rate, step) {
  let handle = 0;
  let due = 0;
  function tick(now) {
    handle = requestAnimationFrame(tick);
    if (now < due - 4) return; // 4 ms: a screen's beat is never exact
    due = Math.max(due + 1000 / rate, now);
    step();
  }
  return {
    get playing() {
      return handle !== 0;
    },
    play() {
      if (!handle) handle = requestAnimationFrame(tick);
    },
    pause() {
      cancelAnimationFrame(handle);
      handle = 0;
    },
  };
}

/** One trait of the model, read and written in one place; Python and the page share it. */
function trait(model, name, onchange) {
  let writing = false;
  model.on(`change:${name}`, () => writing || onchange?.(model.get(name)));
  return {
    get: () => model.get(name),
    set(value) {
      writing = true;
      model.set(name, value);
      writing = false;
      model.save_changes();
    },
  };
}

/** Keep data-theme at what the surrounding page shows: the book, JupyterLab, Colab or the system. */
function followTheme(root) {
  const html = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  function look() {
    const lab = document.body.dataset.jpThemeLight;
    const named = lab ? (lab === "false" ? "dark" : "light") : html.dataset.theme ?? html.getAttribute("theme");
    const theme = named === "dark" || named === "light" ? named : system.matches ? "dark" : "light";
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    root.dispatchEvent(new Event("wm-theme")); // charts are pixels: they must be drawn again
  }
  const observer = new MutationObserver(look);
  for (const element of [html, document.body]) observer.observe(element, { attributes: true });
  system.addEventListener("change", look);
  look();
  return () => {
    observer.disconnect();
    system.removeEventListener("change", look);
  };
}

/** The bytes of an exported file: the widget's own, or the shipped, loaded once for a whole page. */
function asset(name, model, experimental) {
  const own = model.get("_own")?.[name];
  if (own) return Promise.resolve(fromBase64(own));
  const loading = (globalThis.wmlibLoading ??= {});
  const contentRoot = document.documentElement.dataset.content_root; // only a built book has one
  loading[name] ??= contentRoot === undefined ? assetFromKernel(name, experimental) : assetFromPage(name, contentRoot);
  loading[name].catch(() => delete loading[name]);
  return loading[name];
}

/** A classic script that holds base64: the one way that works over http and from file:// alike. */
function assetFromPage(name, contentRoot) {
  return new Promise((resolve, reject) => {
    const script = make("script", { src: `${contentRoot}_static/wmlib/${name}.js` });
    script.onload = () => resolve(fromBase64(globalThis.wmlibAssets[name]));
    script.onerror = () => reject(new Error("The model's weights did not come with this page."));
    document.head.append(script);
  });
}

/**
 * Ask the kernel. Base64 again: front ends differ in how they hand over binary buffers. After "Run
 * All", a kernel answers only once every later cell has run, so it is given ten minutes.
 */
async function assetFromKernel(name, experimental) {
  try {
    const [reply] = await experimental.invoke("_asset", name, { signal: AbortSignal.timeout(600000) });
    if (reply.error) throw new Error(reply.error);
    return fromBase64(reply.base64);
  } catch (error) {
    if (error.name !== "TimeoutError" && error.name !== "AbortError") throw error;
    throw new Error("No kernel answered: run this cell to bring the picture to life.");
  }
}

function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** In place of the widget: the picture drawn beforehand, and why it does not move. */
function apologise(root, model, error) {
  root.dataset.error = error.message;
  root.replaceChildren();
  const picture = model.get("_picture");
  if (picture) root.append(make("img", { class: "wm-picture", src: picture, alt: model.get("_alt") }));
  root.append(make("p", { class: "wm-sorry", role: "status" }, error.message));
}

/** Wait until an element is less than a screen's height away: what nobody scrolls to costs nothing. */
function nearView(element) {
  return new Promise((resolve) => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      resolve();
    }, { rootMargin: "100%" });
    observer.observe(element);
  });
}

const WAIT = "Loading the model …";
const WAIT_FOR_KERNEL = `${WAIT} A busy kernel sends it once its cells have run.`;
const NEEDED = ["IntersectionObserver", "ResizeObserver", "MutationObserver", "createImageBitmap", "BigInt"];

/** What the module exports: `mount` fills the root and returns what to call when it goes. */
function widget(mount) {
  async function render({ model, el, experimental }) {
    const name = model.get("_anywidget_id")?.split(".").pop();
    const wait = document.documentElement.dataset.content_root === undefined ? WAIT_FOR_KERNEL : WAIT;
    const root = make("div", { class: "wm", "data-widget": name }, make("p", { class: "wm-wait" }, wait));
    el.append(root);
    let unfollow, unmount;
    try {
      if (NEEDED.some((name) => !(name in globalThis))) throw new Error("This browser is too old to run the model.");
      unfollow = followTheme(root);
      await nearView(root);
      unmount = await mount({ model, root, asset: (name) => asset(name, model, experimental) });
      root.dataset.ready = "true";
    } catch (error) {
      apologise(root, model, error);
    }
    return () => {
      unfollow?.();
      unmount?.();
    };
  }
  return { render };
}
