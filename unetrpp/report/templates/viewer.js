// The viewer: three planes through one case, with overlays. What is shown is in `state`; every change of it is followed by draw().

const byId = (id) => document.getElementById(id);
const settings = JSON.parse(byId("viewer-settings")?.textContent ?? "null");
const classColors = settings?.classes.map(({ color }) => rgb(color));
const WITHOUT_UNPACKING = "This browser cannot unpack the pictures; open the page with Chrome or Edge 80, Firefox 113, "
  + "Safari 16.4 or a later version.";
const state = {
  index: -1, // of the case
  picture: null,
  volumes: null,
  position: [0, 0, 0], // z, y, x in the embedded volume
  channel: 0, // -1: the colours of a photograph
  low: 0, // shown black
  high: 1, // shown white
  shown: { prediction: true, reference: true, difference: false },
  map: -1, // the place of the map that is shown
  opacity: 0.4,
};

function text(tag, words, name = "") {
  const element = document.createElement(tag);
  element.textContent = words;
  element.className = name;
  return element;
}

const rounded = (value) => String(Number(value.toPrecision(5)));
const tableRows = () => Array.from(document.querySelectorAll("table.cases tbody tr"));
const isChosen = (row) => Number(row.dataset.case) === state.index;
const channelOf = () => Math.max(state.channel, 0);

const planes = Array.from(document.querySelectorAll("figure.plane"), (figure) => ({
  figure,
  name: figure.dataset.plane,
  plane: PLANES[figure.dataset.plane],
  canvas: figure.querySelector("canvas"),
  slider: figure.querySelector("input"),
  where: figure.querySelector(".where"),
}));

// ---- a case -------------------------------------------------------------------------------------------------------------

async function chooseCase(index) {
  const chosen = settings.cases[index];
  Object.assign(state, { index, picture: null, volumes: null });
  byId("case").value = index;
  showFacts(chosen);
  if (!chosen.picture) return say(chosen.missing || "There is no picture of this case.");
  if (typeof DecompressionStream === "undefined") return say(WITHOUT_UNPACKING);
  say("Unpacking the picture …");
  const bytes = await unpack(byId(`picture-${index}`).textContent);
  if (state.index === index) showPicture(chosen.picture, bytes); // unless another case was chosen meanwhile
}

function showPicture(picture, bytes) {
  Object.assign(state, { picture, volumes: volumesOf(picture, bytes) });
  state.position = middleOf(picture, state.volumes);
  state.map = state.map < picture.maps.length ? state.map : -1;
  listChannels(picture);
  setFirstWindow();
  for (const { plane, figure, slider } of planes) {
    figure.hidden = picture.flat && plane !== PLANES.axial;
    slider.max = picture.shape[plane.across] - 1;
    const [height, width] = [plane.rows, plane.columns].map((k) => picture.shape[k] * picture.spacing[k] * picture.steps[k]);
    figure.style.setProperty("--ratio", width / height);
    figure.classList.toggle("flat", picture.flat);
  }
  showLegend();
  say("");
  draw();
}

// Along every axis the slice with most labelled voxels, of equal ones that in the middle, so that there is something to see.
function middleOf(picture, { prediction, reference }) {
  const [, height, width] = picture.shape, counts = picture.shape.map((n) => new Uint32Array(n));
  for (let i = 0; i < prediction.length; i++) {
    if (!prediction[i] && !(reference?.[i] % IGNORED)) continue;
    counts[0][Math.floor(i / (height * width))]++;
    counts[1][Math.floor(i / width) % height]++;
    counts[2][i % width]++;
  }
  return counts.map((count) => {
    const most = Math.max(...count), places = Array.from(count.keys()).filter((place) => count[place] === most);
    return places[places.length >> 1];
  });
}

function say(words) {
  byId("status").textContent = words;
  byId("planes").hidden = Boolean(words);
  byId("legend").hidden = byId("readout").hidden = Boolean(words);
}

function showFacts(chosen) {
  tableRows().forEach((row) => row.setAttribute("aria-current", isChosen(row)));
  byId("note").textContent = chosen.picture?.note ?? "";
  byId("case-warnings").replaceChildren(...chosen.warnings.map((warning) => text("li", warning)));
}

// A channel that was chosen stays so from case to case, as long as the channels are the same.
function listChannels(picture) {
  const list = byId("channel"), valuesOf = () => Array.from(list.options, ({ value }) => value).join();
  const [before, values] = [list.value, valuesOf()];
  const names = picture.levels.map((_, i) => settings.channels[i] ?? `channel ${i}`);
  const colours = picture.flat && names.length === 3 ? [new Option("colours", -1)] : [];
  list.replaceChildren(...colours, ...names.map((name, i) => new Option(name, i)));
  list.closest("label").hidden = names.length < 2;
  if (valuesOf() === values) list.value = before;
  state.channel = Number(list.value);
}

// ---- window and level ---------------------------------------------------------------------------------------------------

function setFirstWindow() {
  const presets = settings.presets[channelOf()] ?? {};
  byId("preset").replaceChildren(new Option("default", ""), new Option("whole range", "all"), ...Object.keys(presets).map((name) => new Option(name)));
  [state.low, state.high] = state.picture.windows[channelOf()];
}

function usePreset(name) {
  const levels = state.picture.levels[channelOf()], preset = settings.presets[channelOf()]?.[name];
  if (preset) [state.low, state.high] = [preset[0] - preset[1] / 2, preset[0] + preset[1] / 2];
  else [state.low, state.high] = name === "all" ? [levels[0], levels.at(-1)] : state.picture.windows[channelOf()];
  draw();
}

function setWindow(level, width) {
  if (!Number.isFinite(level) || !(width > 0)) return;
  [state.low, state.high] = [level - width / 2, level + width / 2];
  draw();
}

// ---- painting -----------------------------------------------------------------------------------------------------------

let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (!state.picture) return;
    planes.forEach(drawPlane);
    showControls();
    showReadout();
  });
}

function drawPlane({ name, plane, figure, canvas, slider, where }) {
  if (figure.hidden) return;
  const { shape, start, steps, whole } = state.picture, index = state.position[plane.across];
  const rows = shape[plane.rows], columns = shape[plane.columns];
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  paintSlice(image.data, (volume) => cut(volume, shape, plane, index), rows, columns);
  context.putImageData(image, 0, 0);
  const number = start[plane.across] + index * steps[plane.across] + 1;
  where.textContent = state.picture.flat ? "" : `${number} of ${whole[plane.across]}`;
  slider.value = index;
  slider.closest("label").hidden = state.picture.flat;
  canvas.setAttribute("aria-label", `${name} slice ${number} of ${whole[plane.across]}`);
  const row = state.position[plane.rows], column = state.position[plane.columns];
  figure.style.setProperty("--row", ((plane.upwards ? rows - 1 - row : row) + 0.5) / rows);
  figure.style.setProperty("--column", (column + 0.5) / columns);
}

function paintSlice(pixels, slice, rows, columns) {
  const { picture, volumes, shown, opacity } = state;
  const channels = state.channel < 0 ? [0, 1, 2] : [state.channel];
  paintImage(pixels, channels.map((k) => slice(volumes.channels[k])), channels.map((k) => greys(picture.levels[k], state.low, state.high)));
  const predicted = slice(volumes.prediction), reference = volumes.reference && slice(volumes.reference);
  if (state.map >= 0) paintMap(pixels, slice(volumes.maps[state.map]), picture.maps[state.map].kind, opacity);
  if (shown.prediction) paintLabels(pixels, predicted, classColors, opacity);
  if (shown.reference && reference) paintOutlines(pixels, reference, rows, columns, classColors);
  if (shown.difference && reference) paintDifference(pixels, predicted, reference);
}

function showControls() {
  const { picture, volumes, shown } = state;
  for (const button of document.querySelectorAll("#overlays button")) {
    const overlay = button.dataset.overlay, kind = picture.maps[state.map]?.kind;
    const isMap = overlay === "uncertainty" || overlay === "gate";
    button.setAttribute("aria-pressed", isMap ? kind === overlay : shown[overlay]);
    button.disabled = isMap ? !picture.maps.some((map) => map.kind === overlay)
      : overlay !== "prediction" && !volumes.reference;
  }
  byId("level").value = rounded((state.low + state.high) / 2);
  byId("width").value = rounded(state.high - state.low);
  const map = picture.maps[state.map];
  byId("scale").hidden = !map;
  byId("scale-name").textContent = map?.name ?? "";
  byId("scale-low").textContent = map?.low ?? "";
  byId("scale-high").textContent = map?.high ?? "";
  byId("differences").hidden = !(shown.difference && volumes.reference);
}

function showReadout() {
  const { picture, volumes, position: [z, y, x] } = state;
  const i = (z * picture.shape[1] + y) * picture.shape[2] + x;
  const label = (code) => (code === IGNORED ? "ignored" : settings.classes[code - 1]?.name ?? "background");
  const values = picture.levels.map((levels, k) => rounded(levels[volumes.channels[k][i]]));
  const place = [x, y, z].map((at, k) => picture.start[2 - k] + at * picture.steps[2 - k] + 1);
  const parts = [picture.flat ? `x ${place[0]}, y ${place[1]}` : `x ${place[0]}, y ${place[1]}, z ${place[2]}`];
  const value = state.channel < 0 ? values.join(", ") : `${settings.channels[state.channel] ?? "intensity"}: ${values[state.channel]}`;
  parts.push(value, `predicted: ${label(volumes.prediction[i])}`);
  if (volumes.reference) parts.push(`reference: ${label(volumes.reference[i])}`);
  picture.maps.forEach((map, k) => parts.push(`${map.name}: ${rounded(map.low + volumes.maps[k][i] / 255 * (map.high - map.low))}`));
  byId("readout").textContent = parts.join(" · ");
}

function showLegend() {
  const { prediction, reference } = state.volumes, present = new Set(prediction);
  reference?.forEach((code) => present.add(code));
  const { sizes } = settings.cases[state.index];
  const codes = Array.from(present).filter((code) => code && code !== IGNORED).sort((a, b) => a - b);
  byId("legend").replaceChildren(...codes.map((code) => {
    const { name, color } = settings.classes[code - 1], item = text("li", "");
    const swatch = text("span", "", "swatch");
    swatch.style.background = color;
    item.append(swatch, name, text("span", sizes[name] ? ` ${sizes[name]}` : "", "note"));
    return item;
  }));
}
