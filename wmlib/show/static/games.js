// What differs between the games whose dreams can be played: keys, words, and what M foretells.

const GAMES = {
  "carracing-v3": {
    assets: "", // what the names of its files begin with
    rate: 30, // dream steps per second; the game itself runs at 50
    keys: { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "gas", ArrowDown: "brake" },
    pads: {
      left: ["◀", "steer left"], gas: ["▲", "gas"], brake: ["▼", "brake"], right: ["▶", "steer right"],
    },
    stage: "dream: steer with the arrow keys, space to pause, full stop for one step",
    hints: {
      keys: "Click the picture, then steer with the arrow keys; space pauses, full stop steps.",
      touch: "Hold the arrows to steer.",
    },
    driver: ["Let C drive", "C is driving"],
    rest: [0, 0, 0],
    /** The reader's action: the wheel turns a quarter of the way per step, as a hand would. */
    steer([before], held) {
      const target = held.has("right") - held.has("left");
      return [before + 0.25 * (target - before), held.has("gas") ? 0.8 : 0, held.has("brake") ? 0.8 : 0];
    },
    meters: [["steer", -1, 1], ["gas", 0, 1], ["brake", 0, 1]],
    score: ["score in the dream: ", ""],
    pay: ({ reward }) => reward,
    curve: {
      symbol: "r", meaning: "the reward M expects", name: "predicted reward", height: 44, mark: 0,
      value: ({ reward }) => reward,
      range: (x) => [Math.min(0, ...x), Math.max(0.1, ...x)], // a scale that fits them
    },
    lost: onGrass,
    trouble: ({ lost }) => (lost ? "off the road" : ""),
    over: () => false, // laps of the car dream end where the reader likes
    clock: (t) => `step ${t}: ${(t / 50).toFixed(1)} s of driving, none of it real`,
  },
  takecover: {
    assets: "takecover-",
    rate: 35, // the game's own
    keys: { ArrowLeft: "left", ArrowRight: "right" },
    pads: { left: ["◀", "walk left"], right: ["▶", "walk right"] },
    stage: "dream: walk with the left and right arrow keys, space to pause, full stop for one step",
    hints: {
      keys: "Click the picture, then walk with the left and right arrow keys; space pauses, full stop steps.",
      touch: "Hold an arrow to walk.",
    },
    driver: ["Let C walk", "C is walking"],
    rest: [0],
    steer: (_, held) => [held.has("right") - held.has("left")],
    meters: [["walk", -1, 1]],
    score: ["alive in the dream: ", " tics"],
    pay: () => 1, // every tic alive is a point
    curve: {
      symbol: "P", meaning: "of the end, as M feels it; above the line the dream is over",
      name: "probability of death", height: 96, mark: 0.5,
      value: ({ done }) => sigmoid(done),
      range: () => [0, 1],
    },
    lost: () => false,
    trouble: ({ over, t }) => (!over ? "" : t < TIME_UP ? "you died" : "time is up: you live"),
    over: ({ done }, t) => done >= 0 || t >= TIME_UP, // P(end) of one half or more
    clock: (t) => `tic ${t}: ${(t / 35).toFixed(1)} s of Doom, none of it real`,
  },
};
const TIME_UP = 2100; // tics, after which Doom's TakeCover ends

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
