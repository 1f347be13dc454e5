"use strict";
// Draws the scene of noise2pose.viewing.page on two canvases. World: metres, x right, y up, z towards the viewer.
const by = (id) => document.getElementById(id);
const scene = JSON.parse(by("scene").textContent);
const NONE = 65535, GHOST = 0.28, UNSEEN = 0.3, FACE_SHADES = 24;
const style = getComputedStyle(document.documentElement);
const view = { yaw: 0.45, pitch: 0.12, distance: 4, target: [0, 0, 0] };
let timeline, people, moment = 0, playing = false, clock = 0, last = 0, floor, picture = null;

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

function unpack(packed) {
  if (!packed) return null;
  const numbers = new Uint16Array(bytes(packed.data).buffer), values = new Float32Array(numbers.length);
  for (let i = 0; i < numbers.length; i++) values[i] = numbers[i] === NONE ? NaN : packed.low + packed.step * numbers[i];
  return { shape: packed.shape, values, at: (...index) => index.reduce((sum, each, axis) => sum * packed.shape[axis] + each, 0) };
}

const faces = scene.faces ? new Uint16Array(bytes(scene.faces).buffer) : null;
const parts = scene.parts ? bytes(scene.parts) : null; // of the legs, counted from 1; 0 for the rest

function point(array, start) { return [array.values[start], array.values[start + 1], array.values[start + 2]]; }

// ---- camera

function turn() {
  const [sy, cy, sp, cp] = [Math.sin(view.yaw), Math.cos(view.yaw), Math.sin(view.pitch), Math.cos(view.pitch)];
  return [[cy, 0, -sy], [-sp * sy, cp, -sp * cy], [cp * sy, sp, cp * cy]];
}

function camera(canvas) {
  const rows = turn(), [tx, ty, tz] = view.target, focal = 1.4 * Math.min(canvas.width, canvas.height);
  return {
    rows, focal,
    project(x, y, z) {
      const d = [x - tx, y - ty, z - tz], dot = (row) => row[0] * d[0] + row[1] * d[1] + row[2] * d[2];
      const depth = view.distance - dot(rows[2]), scale = focal / depth;
      return [canvas.width / 2 + dot(rows[0]) * scale, canvas.height / 2 - dot(rows[1]) * scale, depth, scale];
    },
  };
}

function fit() {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const person of people) {
    const values = person.joints.values;
    for (let i = 0; i < values.length; i++) if (!Number.isNaN(values[i])) {
      low[i % 3] = Math.min(low[i % 3], values[i]);
      high[i % 3] = Math.max(high[i % 3], values[i]);
    }
  }
  const flesh = people.some((person) => person.keys.length) ? 0.15 : 0.05; // around the joints
  for (let axis = 0; axis < 3; axis++) { low[axis] -= flesh; high[axis] += flesh; }
  view.target = low.map((value, axis) => (value + high[axis]) / 2);
  view.distance = Math.max(1.15 * Math.hypot(...low.map((value, axis) => high[axis] - value)), 1.5);
  let square = 0.5;
  while (Math.max(high[0] - low[0], high[2] - low[2]) / square > 40) square *= 2;
  floor = { y: low[1], square, low, high };
}

// ---- people in space

function line(context, a, b) {
  if (a[2] < 0.05 || b[2] < 0.05) return;
  context.beginPath();
  context.moveTo(a[0], a[1]);
  context.lineTo(b[0], b[1]);
  context.stroke();
}

function drawFloor(context, eye) {
  const { y, square, low, high } = floor, start = (axis) => Math.floor(low[axis] / square - 1) * square;
  const end = (axis) => Math.ceil(high[axis] / square + 1) * square;
  context.strokeStyle = style.getPropertyValue("--line");
  context.lineWidth = devicePixelRatio;
  for (let x = start(0); x <= end(0) + 1e-6; x += square) line(context, eye.project(x, y, start(2)), eye.project(x, y, end(2)));
  for (let z = start(2); z <= end(2) + 1e-6; z += square) line(context, eye.project(start(0), y, z), eye.project(end(0), y, z));
}

function pale(color) {
  return "#" + [1, 3, 5].map((i) => Math.round(0.35 * parseInt(color.slice(i, i + 2), 16) + 0.65 * 235).toString(16).padStart(2, "0")).join("");
}

function shades(color) {
  const rgb = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  return Array.from({ length: FACE_SHADES }, (_, i) => {
    const light = 0.35 + 0.65 * (i / (FACE_SHADES - 1));
    return `rgb(${rgb.map((part) => Math.round((0.45 * 235 + 0.55 * part) * light)).join(",")})`;
  });
}

function meshAt(person) {
  const read = (key) => person.unpacked[key] || (person.unpacked[key] = unpack(person.meshes[key]).values);
  if (moment in person.meshes) return read(moment);
  const before = person.keys.filter((key) => key < moment).pop(), after = person.keys.find((key) => key > moment);
  if (!timeline.moving || before === undefined || after === undefined) return null;
  const a = read(before), b = read(after), [from, to] = [timeline.times[before], timeline.times[after]];
  const share = (timeline.times[moment] - from) / (to - from);
  return a.map((value, i) => value + share * (b[i] - value));
}

function drawMesh(context, eye, person) {
  const mesh = meshAt(person);
  if (!mesh) return;
  const count = mesh.length / 3, flat = new Float32Array(2 * count), depth = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const [x, y, d] = eye.project(mesh[3 * i], mesh[3 * i + 1], mesh[3 * i + 2]);
    flat[2 * i] = x; flat[2 * i + 1] = y; depth[i] = d;
  }
  const shown = [], normals = new Float32Array(mesh.length), [light, up] = [eye.rows[2], eye.rows[1]];
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [faces[f], faces[f + 1], faces[f + 2]];
    const u = [0, 1, 2].map((i) => mesh[3 * b + i] - mesh[3 * a + i]), v = [0, 1, 2].map((i) => mesh[3 * c + i] - mesh[3 * a + i]);
    const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const corner of [a, b, c]) for (let i = 0; i < 3; i++) normals[3 * corner + i] += n[i];
    const area = (flat[2 * b] - flat[2 * a]) * (flat[2 * c + 1] - flat[2 * a + 1]) - (flat[2 * b + 1] - flat[2 * a + 1]) * (flat[2 * c] - flat[2 * a]);
    if (area < 0 && depth[a] > 0.05) shown.push({ a, b, c, depth: depth[a] + depth[b] + depth[c] });
  }
  shown.sort((one, other) => other.depth - one.depth);
  const unseen = [false, ...scene.leg_joints.map((joint) => !isSeen(person, joint))]; // legs that nobody saw are paler
  context.lineWidth = devicePixelRatio; // covers the seams
  for (const { a, b, c } of shown) {
    const n = [0, 1, 2].map((i) => normals[3 * a + i] + normals[3 * b + i] + normals[3 * c + i]), size = Math.hypot(...n) || 1;
    const bright = n.reduce((sum, each, i) => sum + each * (0.85 * light[i] + 0.35 * up[i]), 0) / size;
    const tones = unseen[parts[a]] ? person.paleShades : person.shades;
    context.fillStyle = context.strokeStyle = tones[Math.max(0, Math.min(FACE_SHADES - 1, Math.round(bright * (FACE_SHADES - 1))))];
    context.beginPath();
    context.moveTo(flat[2 * a], flat[2 * a + 1]);
    context.lineTo(flat[2 * b], flat[2 * b + 1]);
    context.lineTo(flat[2 * c], flat[2 * c + 1]);
    context.closePath();
    context.fill();
    context.stroke();
  }
}

function drawEllipsoid(context, eye, matrix, start, place) {
  const [xx, xy, xz, yy, yz, zz] = matrix.values.subarray(start, start + 6);
  const times = (r) => [xx * r[0] + xy * r[1] + xz * r[2], xy * r[0] + yy * r[1] + yz * r[2], xz * r[0] + yz * r[1] + zz * r[2]];
  const [p, q] = [times(eye.rows[0]), times(eye.rows[1])], dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const [a, b, c] = [dot(p, p), -dot(p, q), dot(q, q)], middle = (a + c) / 2, half = Math.hypot((a - c) / 2, b);
  context.beginPath();
  context.ellipse(place[0], place[1], Math.sqrt(Math.max(middle + half, 0)) * place[3], Math.sqrt(Math.max(middle - half, 0)) * place[3], 0.5 * Math.atan2(2 * b, a - c), 0, 2 * Math.PI);
  context.fill();
}

function threshold() { return Number(by("threshold").value); }
function isShown(person, joint, least = threshold()) { return person.confidence.values[person.confidence.at(moment, joint)] + 1e-4 >= least; }
function isSeen(person, joint) { return person.confidence.values[person.confidence.at(moment, joint)] > 1e-6; }
function colorOf(person, joint) { return by("sides").checked ? scene.colors[joint] : person.color; }

function drawBones(context, person, places, width, least = threshold()) {
  for (const [parent, child] of scene.edges) {
    if (!isShown(person, parent, least) || !isShown(person, child, least)) continue;
    const seen = isSeen(person, parent) && isSeen(person, child);
    context.globalAlpha = seen ? 1 : UNSEEN;
    context.setLineDash(seen ? [] : [3 * width, 2 * width]);
    context.strokeStyle = colorOf(person, child);
    context.lineWidth = width;
    line(context, places[parent], places[child]);
  }
  context.setLineDash([]);
  places.forEach((place, joint) => {
    if (!isShown(person, joint, least) || place[2] < 0.05) return;
    context.globalAlpha = isSeen(person, joint) ? 1 : UNSEEN;
    context.fillStyle = colorOf(person, joint);
    context.beginPath();
    context.arc(place[0], place[1], 0.9 * width, 0, 2 * Math.PI);
    context.fill();
  });
  context.globalAlpha = 1;
}

function drawPerson(context, eye, person) {
  const count = scene.joints.length, { joints, hypotheses, ellipsoids } = person;
  const places = Array.from({ length: count }, (_, joint) => eye.project(...point(joints, joints.at(moment, joint, 0))));
  const ratio = devicePixelRatio;
  if (hypotheses && by("hypotheses").checked) {
    context.globalAlpha = GHOST;
    context.lineWidth = 1.2 * ratio;
    for (let ghost = 0; ghost < hypotheses.shape[1]; ghost++) for (const [parent, child] of scene.edges) {
      if (!isShown(person, parent) || !isShown(person, child)) continue;
      context.strokeStyle = colorOf(person, child);
      const end = (joint) => eye.project(...point(hypotheses, hypotheses.at(moment, ghost, joint, 0)));
      line(context, end(parent), end(child));
    }
    context.globalAlpha = 1;
  }
  if (faces && by("mesh").checked) drawMesh(context, eye, person);
  if (ellipsoids && by("ellipsoids").checked) {
    context.globalAlpha = 0.22;
    for (let joint = 0; joint < count; joint++) if (isShown(person, joint) && places[joint][2] > 0.05) {
      context.fillStyle = colorOf(person, joint);
      drawEllipsoid(context, eye, ellipsoids, ellipsoids.at(moment, joint, 0), places[joint]);
    }
    context.globalAlpha = 1;
  }
  if (by("skeleton").checked) drawBones(context, person, places, (person.keys.length ? 1.8 : 3) * ratio);
  if (people.length > 1) {
    const head = places.reduce((top, place) => (place[1] < top[1] ? place : top));
    context.fillStyle = person.color;
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.fillText(person.name.slice(0, 24), head[0], head[1] - 12 * ratio);
  }
}

function isThere(person) { return person.shown && !Number.isNaN(person.joints.values[person.joints.at(moment, 0, 0)]); }

function draw() {
  const canvas = by("space"), context = canvas.getContext("2d"), box = canvas.getBoundingClientRect();
  canvas.width = Math.round(box.width * devicePixelRatio);
  canvas.height = Math.round(box.height * devicePixelRatio);
  context.lineCap = context.lineJoin = "round";
  const eye = camera(canvas);
  drawFloor(context, eye);
  const depth = (person) => eye.project(...point(person.joints, person.joints.at(moment, 0, 0)))[2];
  for (const person of people.filter(isThere).sort((a, b) => depth(b) - depth(a))) drawPerson(context, eye, person);
  const number = people.filter(isThere).length;
  by("moment").textContent = `${timeline.labels[moment]} · ${number} ${number === 1 ? "person" : "people"} · squares of ${floor.square} m`;
  drawImage();
}

// ---- the image and its 2-D joints

function drawImage() {
  const keys = timeline.moving ? timeline.imageKeys.filter((key) => key <= moment) : timeline.imageKeys.filter((key) => key === moment);
  const key = keys.pop(), present = people.filter((person) => isThere(person) && person.points);
  by("source").hidden = key === undefined && !present.length;
  if (by("source").hidden) return;
  const data = key === undefined ? null : timeline.images[key];
  if (picture && picture.data === data) { paintImage(present); return; }
  picture = { data, element: null };
  if (data === null) { paintImage(present); return; }
  const loading = picture, element = new Image();
  element.onload = () => { loading.element = element; if (picture === loading) paintImage(people.filter((person) => isThere(person) && person.points)); };
  element.src = `data:image/jpeg;base64,${data}`;
}

function paintImage(present) {
  const element = picture.element, canvas = by("image"), context = canvas.getContext("2d");
  let size = timeline.sizes[moment] || (element && [element.naturalWidth, element.naturalHeight]), low = [0, 0];
  if (!size) {
    const all = present.flatMap((person) => scene.joints.map((_, joint) => [0, 1].map((axis) => person.points.values[person.points.at(moment, joint, axis)])));
    low = [0, 1].map((axis) => Math.min(...all.map((place) => place[axis])) - 20);
    size = [0, 1].map((axis) => Math.max(...all.map((place) => place[axis])) + 20 - low[axis]);
  }
  canvas.width = 960;
  canvas.height = Math.max(1, Math.round((960 * size[1]) / size[0]));
  const scale = canvas.width / size[0];
  if (element) context.drawImage(element, 0, 0, canvas.width, canvas.height);
  context.lineCap = "round";
  for (const person of present) {
    const places = scene.joints.map((_, joint) => [0, 1].map((axis) => (person.points.values[person.points.at(moment, joint, axis)] - low[axis]) * scale).concat(1));
    drawBones(context, person, places, 5, Math.max(threshold(), 0.001)); // joints that were not seen have no place
  }
}

// ---- controls

function choose(number) {
  timeline = scene.timelines[number];
  timeline.imageKeys = Object.keys(timeline.images).map(Number);
  people = timeline.people.map((person) => ({
    ...person,
    ...Object.fromEntries(["joints", "confidence", "hypotheses", "ellipsoids", "points"].map((key) => [key, unpack(person[key])])),
    keys: Object.keys(person.meshes).map(Number), unpacked: {}, shades: shades(person.color), paleShades: shades(pale(person.color)), shown: true,
  }));
  by("slider").max = timeline.labels.length - 1;
  by("notes").textContent = timeline.notes.join("; ");
  by("with_mesh").hidden = !people.some((person) => person.keys.length);
  by("with_hypotheses").hidden = !people.some((person) => person.hypotheses);
  by("with_ellipsoids").hidden = !people.some((person) => person.ellipsoids);
  by("sides").checked = people.length === 1 && !people[0].keys.length;
  by("people").replaceChildren(...people.map((person) => {
    const label = document.createElement("label"), box = document.createElement("input"), dot = document.createElement("i");
    box.type = "checkbox";
    box.checked = true;
    box.onchange = () => { person.shown = box.checked; draw(); };
    dot.className = "dot";
    dot.style.background = person.color;
    label.append(box, dot, person.name);
    return label;
  }));
  by("people").hidden = people.length < 2;
  document.querySelector(".time").hidden = timeline.labels.length < 2;
  fit();
  go(0);
}

function go(to) {
  moment = Math.max(0, Math.min(timeline.labels.length - 1, to));
  clock = timeline.times[moment];
  by("slider").value = moment;
  draw();
}

function play(on) {
  playing = on;
  by("play").textContent = on ? "❚❚" : "▶";
  if (on && moment === timeline.labels.length - 1) go(0);
  last = performance.now();
  if (on) requestAnimationFrame(tick);
}

function tick(now) {
  if (!playing) return;
  clock += ((now - last) / 1000) * Number(by("speed").value);
  last = now;
  const end = timeline.labels.length - 1;
  let next = moment;
  while (next < end && timeline.times[next + 1] <= clock) next++;
  if (next === end && clock > timeline.times[end] + 0.5) next = 0;
  if (next !== moment) {
    const kept = clock;
    go(next);
    if (next) clock = kept;
  }
  requestAnimationFrame(tick);
}

function look(yaw, pitch) { view.yaw = yaw; view.pitch = pitch; draw(); }
const looks = { front: [0, 0], side: [Math.PI / 2, 0], top: [0, 1.5] };
for (const name of Object.keys(looks)) by(name).onclick = () => look(...looks[name]);
by("slider").oninput = () => go(Number(by("slider").value));
by("play").onclick = () => play(!playing);
by("threshold").oninput = () => { by("threshold_text").textContent = threshold().toFixed(2); draw(); };
for (const id of ["mesh", "skeleton", "hypotheses", "ellipsoids", "sides"]) by(id).onchange = draw;
scene.timelines.forEach((each, number) => by("timeline").append(new Option(`${each.name} (${each.labels.length})`, number)));
by("timeline").hidden = scene.timelines.length < 2;
by("timeline").onchange = () => { play(false); choose(Number(by("timeline").value)); };

const toggles = { b: "mesh", j: "skeleton", h: "hypotheses", u: "ellipsoids", c: "sides" };
document.addEventListener("keydown", (event) => {
  const inside = event.target.tagName, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey || event.altKey || inside === "SELECT") return;
  if (key === " " && inside !== "BUTTON" && event.target.type !== "checkbox") play(!playing);
  else if (key === "ArrowLeft" && event.target.type !== "range") go(moment - 1);
  else if (key === "ArrowRight" && event.target.type !== "range") go(moment + 1);
  else if (key === "Home") go(0);
  else if (key === "End") go(timeline.labels.length - 1);
  else if (key in toggles) { by(toggles[key]).checked = !by(toggles[key]).checked; draw(); }
  else if (["1", "2", "3"].includes(key)) look(...Object.values(looks)[Number(key) - 1]);
  else return;
  event.preventDefault();
});

const fingers = new Map(), space = by("space");
space.onpointerdown = (event) => { space.setPointerCapture(event.pointerId); fingers.set(event.pointerId, [event.clientX, event.clientY]); };
space.onpointerup = space.onpointercancel = (event) => fingers.delete(event.pointerId);
space.onpointermove = (event) => {
  if (!fingers.has(event.pointerId)) return;
  const before = [...fingers.values()], [x, y] = fingers.get(event.pointerId), [dx, dy] = [event.clientX - x, event.clientY - y];
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  const apart = (both) => Math.hypot(both[0][0] - both[1][0], both[0][1] - both[1][1]);
  if (fingers.size === 2) view.distance *= apart(before) / Math.max(apart([...fingers.values()]), 1);
  else if (event.shiftKey || event.buttons === 2) {
    const rows = turn(), metres = view.distance / (1.4 * Math.min(space.clientWidth, space.clientHeight));
    view.target = view.target.map((value, axis) => value - metres * (dx * rows[0][axis] - dy * rows[1][axis]));
  } else {
    view.yaw -= dx * 0.008;
    view.pitch = Math.max(-1.5, Math.min(1.5, view.pitch + dy * 0.008));
  }
  draw();
};
space.oncontextmenu = (event) => event.preventDefault();
space.addEventListener("wheel", (event) => { event.preventDefault(); view.distance *= Math.exp(event.deltaY * 0.001); draw(); }, { passive: false });
new ResizeObserver(() => draw()).observe(by("view"));
choose(0);
