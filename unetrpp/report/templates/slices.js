// Slices of a case and how they are painted. Volumes are bytes in the order z, y, x, with z to the head, y to the back and x to
// the left of the patient; an axial and a coronal slice show the patient's right on the left, as is usual.

const PLANES = {
  axial: { across: 0, rows: 1, columns: 2, upwards: false, edges: ["A", "P", "R", "L"] },
  coronal: { across: 1, rows: 0, columns: 2, upwards: true, edges: ["S", "I", "R", "L"] },
  sagittal: { across: 2, rows: 0, columns: 1, upwards: true, edges: ["S", "I", "A", "P"] },
};
const IGNORED = 255;
const DIFFERENCES = {
  added: { name: "predicted only", color: "#ff9500" },
  missed: { name: "in the reference only", color: "#3b82ff" },
  other: { name: "another class", color: "#ff00f0" },
};

// The slice of a volume as bytes, row by row from the top left.
function cut(volume, shape, plane, index) {
  const strides = [shape[1] * shape[2], shape[2], 1];
  const rows = shape[plane.rows], columns = shape[plane.columns];
  const slice = new Uint8Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    const row = plane.upwards ? rows - 1 - r : r;
    let from = index * strides[plane.across] + row * strides[plane.rows];
    for (let c = 0; c < columns; c++, from += strides[plane.columns]) slice[r * columns + c] = volume[from];
  }
  return slice;
}

function rgb(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}

// From dark violet over red to pale yellow.
function heat(share) {
  const stops = [[59, 15, 112], [222, 73, 104], [252, 253, 191]];
  const at = Math.min(share, 0.999999) * 2, first = stops[Math.floor(at)], second = stops[Math.floor(at) + 1];
  return first.map((value, k) => Math.round(value + (second[k] - value) * (at % 1)));
}

// The grey value of every level, black at low and white at high.
function greys(levels, low, high) {
  return levels.map((level) => Math.round(255 * Math.min(1, Math.max(0, (level - low) / (high - low)))));
}

function blend(pixels, i, color, alpha) {
  for (let k = 0; k < 3; k++) pixels[4 * i + k] = Math.round(pixels[4 * i + k] * (1 - alpha) + color[k] * alpha);
}

// One slice in grey, or three as red, green and blue.
function paintImage(pixels, slices, tables) {
  for (let i = 0; i < slices[0].length; i++) {
    for (let k = 0; k < 3; k++) {
      const channel = slices.length === 3 ? k : 0;
      pixels[4 * i + k] = tables[channel][slices[channel][i]];
    }
    pixels[4 * i + 3] = 255;
  }
}

// Uncertainty hides the image the more, the higher it is; a gate covers all of it.
function paintMap(pixels, slice, kind, opacity) {
  for (let i = 0; i < slice.length; i++) {
    const share = slice[i] / 255;
    blend(pixels, i, heat(share), kind === "uncertainty" ? Math.min(1, 2 * opacity * share) : opacity);
  }
}

function paintLabels(pixels, slice, colors, opacity) {
  for (let i = 0; i < slice.length; i++) {
    if (slice[i] && slice[i] !== IGNORED) blend(pixels, i, colors[slice[i] - 1], opacity);
  }
}

// The outermost pixels of every class.
function paintOutlines(pixels, slice, rows, columns, colors) {
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const i = r * columns + c, code = slice[i];
      if (!code || code === IGNORED) continue;
      const inside = r > 0 && c > 0 && r < rows - 1 && c < columns - 1
        && slice[i - 1] === code && slice[i + 1] === code && slice[i - columns] === code && slice[i + columns] === code;
      if (!inside) blend(pixels, i, colors[code - 1], 1);
    }
  }
}

function differenceOf(predicted, reference) {
  if (predicted === reference || reference === IGNORED) return null;
  if (!reference) return "added";
  return predicted ? "other" : "missed";
}

function paintDifference(pixels, predicted, reference) {
  const colors = Object.fromEntries(Object.entries(DIFFERENCES).map(([key, { color }]) => [key, rgb(color)]));
  for (let i = 0; i < predicted.length; i++) {
    const kind = differenceOf(predicted[i], reference[i]);
    if (kind) blend(pixels, i, colors[kind], 0.85);
  }
}

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The volumes of a case, in the order in which they were packed.
function volumesOf(picture, bytes) {
  const size = picture.shape[0] * picture.shape[1] * picture.shape[2];
  let start = 0;
  const next = () => bytes.subarray(start, start += size);
  return {
    channels: picture.levels.map(next),
    prediction: next(),
    reference: picture.reference ? next() : null,
    maps: picture.maps.map(next),
  };
}
