// What a reader does with the viewer: keys, clicks, drags, lists and number fields.

function toggle(overlay) {
  if (overlay in state.shown) state.shown[overlay] = !state.shown[overlay];
  else showNextMap(overlay);
  draw();
}

// The first map of this kind, the next one, ..., none.
function showNextMap(kind) {
  const places = state.picture.maps.flatMap((map, i) => (map.kind === kind ? [i] : []));
  state.map = places[places.indexOf(state.map) + 1] ?? -1;
}

function moveTo(axis, index) {
  state.position[axis] = Math.min(state.picture.shape[axis] - 1, Math.max(0, index));
  draw();
}

// The next case in the order in which the table is sorted now.
function stepCase(step) {
  const rows = tableRows(), next = rows[rows.findIndex(isChosen) + step];
  if (next) chooseCase(Number(next.dataset.case));
}

const OVERLAY_KEYS = { p: "prediction", r: "reference", d: "difference", u: "uncertainty", g: "gate" };
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input[type=number], select")) return;
  const key = event.key.toLowerCase();
  if (key === ",") stepCase(-1);
  else if (key === ".") stepCase(1);
  else if (key in OVERLAY_KEYS && state.picture) {
    const button = document.querySelector(`[data-overlay=${OVERLAY_KEYS[key]}]`);
    if (!button.disabled) toggle(OVERLAY_KEYS[key]);
  }
}

const SLICE_KEYS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
function watchPlane(shown) {
  const { canvas, slider, plane } = shown;
  slider.addEventListener("input", () => moveTo(plane.across, Number(slider.value)));
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in SLICE_KEYS)) return;
    event.preventDefault();
    moveTo(plane.across, state.position[plane.across] + SLICE_KEYS[event.key]);
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return; // the wheel scrolls the page until the plane was clicked
    event.preventDefault();
    moveTo(plane.across, state.position[plane.across] - Math.sign(event.deltaY));
  }, { passive: false });
  watchPointer(shown);
}

// A drag changes window and level; a click moves the other two planes to the voxel.
function watchPointer({ canvas, plane }) {
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, level: (state.low + state.high) / 2, width: state.high - state.low, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const right = event.clientX - drag.x, down = event.clientY - drag.y;
    drag.moved ||= Math.hypot(right, down) > 3;
    if (drag.moved) setWindow(drag.level + down * drag.width / 200, drag.width * 2 ** (right / 100));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) pick(canvas, plane, event);
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
}

function pick(canvas, plane, event) {
  const box = canvas.getBoundingClientRect();
  const row = Math.floor((event.clientY - box.top) / box.height * canvas.height);
  const column = Math.floor((event.clientX - box.left) / box.width * canvas.width);
  moveTo(plane.rows, plane.upwards ? canvas.height - 1 - row : row);
  moveTo(plane.columns, column);
}

function linkTable() {
  tableRows().forEach((row) => {
    const button = text("button", row.cells[0].textContent);
    button.type = "button";
    row.cells[0].replaceChildren(button);
    button.addEventListener("click", () => {
      chooseCase(Number(row.dataset.case));
      byId("viewer").scrollIntoView({ block: "start" });
      byId("case").focus({ preventScroll: true });
    });
  });
}

// Overlays that no case of the page has need no button.
function hideOverlays() {
  const has = { prediction: () => true, reference: (picture) => picture.reference, difference: (picture) => picture.reference };
  document.querySelectorAll("#overlays button").forEach((button) => {
    const { overlay } = button.dataset, test = has[overlay] ?? (({ maps }) => maps.some(({ kind }) => kind === overlay));
    button.hidden = !settings.cases.some(({ picture }) => picture && test(picture));
  });
}

function start() {
  byId("case").replaceChildren(...settings.cases.map(({ name }, i) => new Option(name, i)));
  byId("case").addEventListener("change", () => chooseCase(Number(byId("case").value)));
  byId("previous").addEventListener("click", () => stepCase(-1));
  byId("next").addEventListener("click", () => stepCase(1));
  byId("channel").addEventListener("change", () => { state.channel = Number(byId("channel").value); setFirstWindow(); draw(); });
  byId("preset").addEventListener("change", () => usePreset(byId("preset").value));
  const typed = () => setWindow(byId("level").valueAsNumber, byId("width").valueAsNumber);
  byId("level").addEventListener("change", typed);
  byId("width").addEventListener("change", typed);
  byId("opacity").addEventListener("input", () => { state.opacity = byId("opacity").valueAsNumber / 100; draw(); });
  document.querySelectorAll("#overlays button").forEach((button) => button.addEventListener("click", () => toggle(button.dataset.overlay)));
  document.addEventListener("keydown", onKey);
  planes.forEach(watchPlane);
  for (const { name, color } of Object.values(DIFFERENCES)) {
    const item = text("li", "");
    item.append(text("span", "", "swatch"), name);
    item.firstChild.style.background = color;
    byId("differences").append(item);
  }
  linkTable();
  hideOverlays();
  byId("viewer").hidden = false;
  chooseCase(Math.max(0, settings.cases.findIndex(({ picture }) => picture)));
}

if (settings?.cases.length) start();
