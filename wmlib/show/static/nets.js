// V's decoder, M and C in plain JavaScript, in the paper's symbols.
// Arrays are flat Float32Arrays, row-major; shapes stand in the comments.
// L latents, A actions, H hidden units, K Gaussians, W mixtures: one for the whole of z, or L.

/** A safetensors file: eight bytes of length, a JSON header, then the numbers. */
function readTensors(bytes) {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const notes = JSON.parse(header.__metadata__.notes);
  delete header.__metadata__;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    const raw = bytes.slice(8 + length + from, 8 + length + to); // a copy, so that it is aligned
    tensors[name] = { shape, data: toFloats(raw, dtype) };
  }
  for (const name of Object.keys(tensors)) {
    if (`${name}_scale` in tensors) scaleRows(tensors[name].data, tensors[`${name}_scale`].data);
  }
  return { tensors, notes };
}

/** Each row of a matrix times its own number: so much is one step of its whole numbers. */
function scaleRows(data, scales) {
  const width = data.length / scales.length;
  for (let i = 0; i < data.length; i++) data[i] *= scales[Math.floor(i / width)];
}

function toFloats(raw, dtype) {
  if (dtype === "F32") return new Float32Array(raw.buffer);
  if (dtype === "F16") return fromHalves(new Uint16Array(raw.buffer));
  if (dtype === "I8") return Float32Array.from(new Int8Array(raw.buffer));
  return raw; // U8, a picture
}

let values = null; // of the 65,536 halves that there are: computed once, and then looked up

function fromHalves(halves) {
  values ??= new Float32Array(65536).map((_, bits) => halfToFloat(bits));
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) floats[i] = values[halves[i]];
  return floats;
}

/** IEEE half precision: 1 sign bit, 5 of exponent, 10 of fraction. */
function halfToFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * 2 ** -14 * (fraction / 1024);
  return sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
}

/** y = W x + b, with W (rows, cols), x (cols), y (rows). */
function affine(W, b, x, y) {
  const cols = x.length;
  for (let i = 0, at = 0; i < y.length; i++, at += cols) {
    let sum = b[i];
    for (let j = 0; j < cols; j++) sum += W[at + j] * x[j];
    y[i] = sum;
  }
  return y;
}

// ---------------------------------------------------------------- V: z becomes a frame

/** The decoder as a function from z (L) to a frame (64, 64, 4) of bytes, red green blue alpha. */
function makeDecoder({ tensors }) {
  const [L, side, , channels] = tensors.w1.shape; // fc and deconv1, folded: (L, 5, 5, 128)
  const first = new Float32Array(side * side * channels);
  const layers = [2, 3, 4].map((i) => makeDeconv(tensors[`w${i}`], tensors[`b${i}`].data));
  return function decode(z) {
    first.set(tensors.b1.data);
    for (let l = 0; l < L; l++) addScaled(first, tensors.w1.data, l * first.length, z[l]);
    let x = first; // (5, 5, 128)
    let size = side;
    for (const layer of layers) {
      relu(x);
      x = layer(x, size); // (13, 13, 64), (30, 30, 32), (64, 64, 3)
      size = 2 * size + layer.k - 2;
    }
    return toPixels(x);
  };
}

function addScaled(y, w, from, scale) {
  for (let i = 0; i < y.length; i++) y[i] += scale * w[from + i];
}

function relu(x) {
  for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] = 0;
}

function toPixels(x) {
  const rgba = new Uint8ClampedArray((x.length / 3) * 4).fill(255);
  for (let i = 0, o = 0; i < x.length; i += 3, o += 4) {
    for (let c = 0; c < 3; c++) rgba[o + c] = 255 * sigmoid(x[i + c]); // rounds by itself
  }
  return rgba;
}

/**
 * A transposed convolution of stride 2: every input pixel adds a k × k patch to the output,
 *   y[2i + ky, 2j + kx, o] += x[i, j, c] · w[c, ky, kx, o].
 * For a fixed ky the patch is one row of k · out numbers that lie side by side in w and in y.
 * That row is the inner loop. It takes eight input channels at a time, so that y is read and
 * written once for eight products, and leaves out those that the ReLU has set to zero.
 */
function makeDeconv({ shape: [channels, k, , out], data: w }, b) {
  const row = k * out;
  const active = new Int32Array(channels + 7);
  const value = new Float32Array(channels + 7);
  let y = null;
  function deconv(x, size) {
    const wide = 2 * size + k - 2;
    y ??= new Float32Array(wide * wide * out);
    for (let i = 0; i < y.length; i += out) y.set(b, i);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        let n = 0;
        const at = (i * size + j) * channels;
        for (let c = 0; c < channels; c++) {
          if (x[at + c] === 0) continue;
          active[n] = c;
          value[n++] = x[at + c];
        }
        while (n % 8) { // fill up with zeros
          active[n] = 0;
          value[n++] = 0;
        }
        for (let ky = 0; ky < k; ky++) {
          const to = ((2 * i + ky) * wide + 2 * j) * out;
          for (let m = 0; m < n; m += 8) addEight(y, to, row, w, k * row, ky * row, active, value, m);
        }
      }
    }
    return y;
  }
  deconv.k = k;
  return deconv;
}

function addEight(y, to, row, w, stride, from, active, value, m) {
  const w0 = active[m] * stride + from, w1 = active[m + 1] * stride + from;
  const w2 = active[m + 2] * stride + from, w3 = active[m + 3] * stride + from;
  const w4 = active[m + 4] * stride + from, w5 = active[m + 5] * stride + from;
  const w6 = active[m + 6] * stride + from, w7 = active[m + 7] * stride + from;
  const x0 = value[m], x1 = value[m + 1], x2 = value[m + 2], x3 = value[m + 3];
  const x4 = value[m + 4], x5 = value[m + 5], x6 = value[m + 6], x7 = value[m + 7];
  for (let i = 0; i < row; i++) {
    y[to + i] += x0 * w[w0 + i] + x1 * w[w1 + i] + x2 * w[w2 + i] + x3 * w[w3 + i]
      + x4 * w[w4 + i] + x5 * w[w5 + i] + x6 * w[w6 + i] + x7 * w[w7 + i];
  }
}

// ------------------------------------------- M: from (z, a, h) to a mixture over the next z

/** One step of the LSTM and its mixture head. `step` returns the prediction and the new (h, c). */
function makeDynamics({ tensors, notes }) {
  const H = notes.hiddens, K = notes.gaussians, L = notes.latents;
  const W = (tensors.w_out.shape[0] - 2) / K - 2 * L;
  const means = K * L, spreads = 2 * K * L, all = (2 * L + W) * K; // where each part of it ends
  const gates = new Float32Array(4 * H);
  const recurrent = new Float32Array(4 * H);
  const none = new Float32Array(4 * H);
  const [low, high] = notes.logsigma_range;

  /** (h, c) after being told a (A) in z (L): all that watching needs. */
  function advance(a, z, { h, c }) {
    affine(tensors.w_ih.data, tensors.b.data, Float32Array.of(...a, ...z), gates); // [a, z]
    affine(tensors.w_hh.data, none, h, recurrent);
    const next = { h: new Float32Array(H), c: new Float32Array(H) };
    for (let i = 0; i < H; i++) {
      const input = sigmoid(gates[i] + recurrent[i]);
      const forget = sigmoid(gates[H + i] + recurrent[H + i]);
      const candidate = Math.tanh(gates[2 * H + i] + recurrent[2 * H + i]);
      const output = sigmoid(gates[3 * H + i] + recurrent[3 * H + i]);
      next.c[i] = forget * c[i] + input * candidate;
      next.h[i] = output * Math.tanh(next.c[i]);
    }
    return next;
  }

  /** What M expects after h: mus, sigmas (K, L), logpi (K, W), reward, and the logit of the end. */
  function predict(h) {
    const out = affine(tensors.w_out.data, tensors.b_out.data, h, new Float32Array(all + 2));
    return {
      mus: out.subarray(0, means),
      sigmas: out.slice(means, spreads).map((s) => Math.exp(clamp(s, low, high))),
      logpi: logSoftmax(out.subarray(spreads, all), K),
      reward: out[all],
      done: out[all + 1],
    };
  }

  function step(a, z, state) {
    const next = advance(a, z, state);
    return { ...predict(next.h), ...next };
  }

  const start = () => ({ h: new Float32Array(H), c: new Float32Array(H) });
  return { H, K, L, W, advance, step, start };
}

/** Each column of x (K, W), as log weights that sum to 1. */
function logSoftmax(x, K) {
  const W = x.length / K;
  const y = new Float32Array(x.length);
  for (let w = 0; w < W; w++) {
    let top = -Infinity, total = 0;
    for (let i = w; i < x.length; i += W) top = Math.max(top, x[i]);
    for (let i = w; i < x.length; i += W) total += Math.exp(x[i] - top);
    const log = top + Math.log(total);
    for (let i = w; i < x.length; i += W) y[i] = x[i] - log;
  }
  return y;
}

/**
 * Draw z (L) from a mixture of K Gaussians at temperature τ: logits divided by τ, spreads
 * multiplied by √τ. With one mixture all of z comes from one Gaussian, with L each number of z
 * from one of its own.
 */
function sample({ mus, sigmas, logpi }, K, tau, random) {
  const L = mus.length / K, W = logpi.length / K;
  const weights = logSoftmax(logpi.map((v) => v / tau), K).map(Math.exp);
  const z = new Float32Array(L);
  let k = 0;
  for (let l = 0; l < L; l++) {
    if (l < W) k = draw(weights, l, W, random.uniform());
    z[l] = mus[k * L + l] + sigmas[k * L + l] * Math.sqrt(tau) * random.normal();
  }
  return z;
}

/** The row of weights (K, W) in whose share of column w the number u from [0, 1) falls. */
function draw(weights, w, W, u) {
  let i = w;
  while (i + W < weights.length && (u -= weights[i]) > 0) i += W;
  return (i - w) / W;
}

// -------------------------------------------------------------------------------- C

// From C's free outputs to what the game executes.
const ACTION_MAPS = {
  // CarRacing: steer in [-1, 1], gas and brake in [0, 1].
  car: ([steer, gas, brake]) => [Math.tanh(steer), sigmoid(gas), clamp(Math.tanh(brake), 0, 1)],
  // Doom's TakeCover: a third of tanh's range each for -1, left, 0, stay, and 1, right.
  keys: ([push]) => [Math.min(Math.floor(1.5 * (Math.tanh(push) + 1)), 2) - 1],
};

/** C and its action map: an action (A) from z (L), and from h (H), or h and c, if it sees them. */
function makeController({ tensors, notes }) {
  const inputs = tensors.w_c.shape[1];
  const out = new Float32Array(tensors.b_c.data.length);
  const inBounds = ACTION_MAPS[notes.actions];
  return function control(z, h, c) {
    const state = Float32Array.of(...z, ...h, ...c).subarray(0, inputs);
    return inBounds(affine(tensors.w_c.data, tensors.b_c.data, state, out));
  };
}

// ------------------------------------------------------------------------ real frames

/** The recorded frames, (64, 64, 4) each: the `starts`, and `film(t)`; and rows of the tensors. */
async function readReal(bytes) {
  const { tensors, notes } = readTensors(bytes);
  const blob = new Blob([tensors.sheet.data], { type: "image/png" });
  const frame = cutSheet(await createImageBitmap(blob, { colorSpaceConversion: "none" }), notes.columns);
  const S = tensors.start_z.shape[0];
  return {
    starts: Array.from({ length: S }, (_, i) => frame(i)),
    film: (t) => frame(S + t),
    T: tensors.z.shape[0],
    row: (name, i) => rowOf(tensors[name], i),
    kl: tensors.kl.data,
    floor: tensors.floor.data,
  };
}

/** The i-th of the square frames that stand side by side in a sheet. */
function cutSheet(sheet, columns) {
  const context = make("canvas", { width: sheet.width, height: sheet.height }).getContext("2d");
  context.drawImage(sheet, 0, 0);
  const { data } = context.getImageData(0, 0, sheet.width, sheet.height);
  const size = sheet.width / columns;
  return function frame(i) {
    const rgba = new Uint8ClampedArray(4 * size * size);
    const corner = Math.floor(i / columns) * size * sheet.width + (i % columns) * size;
    for (let y = 0; y < size; y++) {
      const from = 4 * (corner + y * sheet.width);
      rgba.set(data.subarray(from, from + 4 * size), 4 * y * size);
    }
    return rgba;
  };
}

/** Row i of a matrix (N, M), as a view (M). */
function rowOf({ shape: [, width], data }, i) {
  return data.subarray(i * width, (i + 1) * width);
}

/** Root mean squared difference of two frames, in levels of 255. */
function rmse(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2; // alpha is 255 in both
  return Math.sqrt(sum / ((a.length / 4) * 3));
}

/** An error in levels of 255, in words. */
function errorText(levels) {
  return levels < 0.05 ? "a twentieth of a level" : `${levels.toFixed(1)} levels`;
}
