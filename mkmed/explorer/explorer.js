"use strict";
// The explorer: asks the service, or the data packed into its own file, and shows what they say. Whatever comes is put in
// as text, never as markup, but for the drawings that the program itself makes.
const $ = (id) => document.getElementById(id);
const MODALITIES = ["image", "text", "structure", "property", "graph"];
const COLOURS = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#1b7c83", "#cf222e", "#57606a", "#2da44e",
  "#a475f9", "#d4a72c", "#e16f24", "#218bff"];
const ATC = { A: "alimentary tract and metabolism", B: "blood", C: "cardiovascular system", D: "dermatologicals",
  G: "genito-urinary system and sex hormones", H: "systemic hormones", J: "anti-infectives for systemic use",
  L: "antineoplastic and immunomodulating", M: "musculo-skeletal system", N: "nervous system", P: "antiparasitic",
  R: "respiratory system", S: "sensory organs", V: "various" };
const MOST_GROUPS = 14;
const OFFLINE = document.getElementById("core") !== null;
let current = null, points = [], view = { x: 0, y: 0, zoom: 1 }, patient = { diagnoses: [], medications: [] };
let labels = new Map(), chosen = new Set(), choosing = false, box = null, curves = [];

// What is packed into an offline file: gzip in base64, unpacked when it is first asked for.
const unpacked = new Map();
async function unpack(id) {
  if (!unpacked.has(id)) {
    if (!document.getElementById(id) && document.readyState === "loading") {
      await new Promise((go) => { document.addEventListener("DOMContentLoaded", go, { once: true }); });
    }
    const text = atob(document.getElementById(id).textContent), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    unpacked.set(id, JSON.parse(await new Response(stream).text()));
  }
  return unpacked.get(id);
}
let places = null;
const core = OFFLINE ? JSON.parse(document.getElementById("core").textContent) : null;
async function inside(path) {
  const [route, asked] = path.split("?"), values = new URLSearchParams(asked || "");
  if (!places) places = new Map(core.drugs.map(([id], i) => [id, i]));
  if (route === "/api/map") return core.map;
  if (route === "/api/buckets") return core.buckets;
  if (route === "/api/runs") return core.runs;
  if (route === "/api/curves") return core.runs.find((run) => run.run === values.get("run")).curves;
  if (route === "/api/card") {
    const place = places.get(Number(values.get("id")));
    if (place === undefined) throw new Error("there is no such drug in this file");
    const cards = await unpack(`cards-${Math.floor(place / core.shard)}`);
    return cards.find((card) => card.drug_id === Number(values.get("id")));
  }
  if (route === "/api/neighbours") {
    const rows = current.near[values.get("modality")];
    if (!rows) throw new Error(`${current.name} has no ${values.get("modality")} vector`);
    return rows;
  }
  if (route === "/api/search") return named(values.get("q").trim().toLowerCase(), Number(values.get("k")));
  throw new Error("the recommender learned from patients and is not in this file: mkmed serve shows it");
}
function named(words, k) {
  const found = [];
  core.drugs.forEach(([id, name], i) => {
    let best = 9, by = "";
    for (const other of [name, ...core.names[i]]) {
      const lower = other.toLowerCase();
      const rank = lower === words ? 0 : lower.startsWith(words) ? 1 : lower.includes(words) ? 2 : 9;
      if (rank < best || (rank === best && rank < 9 && other.length < by.length)) { best = rank; by = other; }
    }
    if (best < 9) found.push([best, by.length, { drug_id: id, name, how: "name", found: by }]);
  });
  return found.sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, k).map((row) => row[2]);
}

async function ask(path, body) {
  if (OFFLINE) return inside(path);
  const options = body ? { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) } : {};
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error || answer.statusText);
  return value;
}
const query = (path, values) => `${path}?${new URLSearchParams(values)}`;
function say(words) { $("state").textContent = words; }
function node(tag, text, more = {}) {
  const made = Object.assign(document.createElement(tag), more);
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}
function link(name, act) {
  const button = node("button", name, { type: "button", className: "link" });
  button.addEventListener("click", act);
  return button;
}
function table(element, columns, rows) {
  const head = node("tr");
  columns.forEach(([title]) => head.append(node("th", title, { scope: "col" })));
  const body = node("tbody");
  rows.forEach((row) => {
    const line = node("tr");
    columns.forEach(([, value]) => {
      const cell = node("td"), found = value(row);
      cell.append(found instanceof Node ? found : String(found ?? ""));
      line.append(cell);
    });
    body.append(line);
  });
  const top = node("thead");
  top.append(head);
  element.replaceChildren(top, body);
  if (!rows.length) {
    const line = node("tr");
    line.append(node("td", "nothing", { colSpan: columns.length }));
    body.append(line);
  }
}
function later(act, wait = 180) {
  let timer;
  return (...given) => { clearTimeout(timer); timer = setTimeout(() => act(...given), wait); };
}
function offer(input, list, path, name) {
  let asked = 0;
  input.addEventListener("input", later(async () => {
    const words = input.value.trim(), mine = ++asked;
    if (words.length < 2) return;
    try {
      const rows = await ask(query(path, { q: words, k: 12 }));
      if (mine === asked) list.replaceChildren(...[...new Set(rows.map(name))].map((text) => node("option", null, { value: text })));
    } catch (error) { say(error.message); }
  }));
}

async function find(words) {
  say("searching …");
  try {
    const rows = await ask(query("/api/search", { q: words, k: 20 }));
    $("results").hidden = false;
    $("found").replaceChildren(...rows.map((row) => {
      const item = node("li");
      item.append(link(row.name, () => show(row.name, row.drug_id)), node("span", ` ${row.how === "name" ? "" : `${row.how}: `}`));
      item.append(node("span", row.found, { className: "soft" }));
      return item;
    }));
    say(rows.length ? `${rows.length} drugs found` : `nothing was found for ${words}`);
    if (rows.length && rows[0].how === "name") await show(rows[0].name, rows[0].drug_id);
  } catch (error) { say(error.message); }
}

async function show(name, id) {
  say(`reading ${name} …`);
  try {
    const drug = await ask(query("/api/card", { id }));
    current = drug;
    $("card-empty").hidden = true;
    $("card-body").hidden = false;
    $("card-title").textContent = drug.name;
    const facts = [["kind", drug.kind], ["formula", drug.formula], ["identity", drug.identity], ["SMILES", drug.smiles],
      ["ATC", (drug.atc || []).join(", ")], ["sources", (drug.sources || []).join(", ")], ["licences", (drug.licences || []).join(", ")]];
    $("facts").replaceChildren(...facts.filter(([, value]) => value).flatMap(([title, value]) => [node("dt", title), node("dd", value)]));
    $("flat").innerHTML = drug.picture || "";
    if (!drug.picture) $("flat").textContent = "no structure is known";
    shape(drug);
    table($("known"), [["modality", (r) => r.modality], ["source", (r) => r.source], ["state", (r) => r.state],
      ["why", (r) => r.evidence || r.last_error || ""]], drug.availability);
    $("texts").replaceChildren(...drug.texts.flatMap((one) => {
      const quote = node("blockquote", one.content);
      quote.append(node("div", `${one.provider}, ${one.licence_id}`, { className: "soft" }));
      return [quote];
    }));
    if (!drug.texts.length) $("texts").textContent = "none";
    table($("pairs"), [["with", (r) => (r.name_a === drug.name ? r.name_b : r.name_a)], ["severity", (r) => r.severity || "not graded"],
      ["said by", (r) => `${r.provider}, ${r.licence_id}`], ["what", (r) => r.description || ""]], drug.interactions);
    await neighbours();
    say(`${drug.name} is shown`);
    $("card").focus({ preventScroll: true });
    $("card").scrollIntoView({ block: "start" });
    draw();
  } catch (error) { say(error.message); }
}

async function neighbours() {
  if (!current) return;
  try {
    const rows = await ask(query("/api/neighbours", { drug: current.handle, k: 10, modality: $("modality").value }));
    table($("near"), [["drug", (r) => link(r.name, () => show(r.name, r.drug_id))], ["similarity", (r) => r.similarity.toFixed(3)],
      ["rests on", (r) => (r.rests_on || []).join(", ")], ["ATC", (r) => (r.atc_codes || []).join(", ")]], rows);
  } catch (error) { table($("near"), [["", (r) => r]], [error.message]); }
}

function shape(drug) {
  $("space").replaceChildren();
  $("space-caption").textContent = drug.molblock ? `3D conformer, ${drug.molblock_source}` : "no 3D conformer is known";
  if (!drug.molblock || !window.$3Dmol) return;
  try {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const viewer = $3Dmol.createViewer($("space"), { backgroundColor: dark ? "#171c23" : "#f6f8fa" });
    viewer.addModel(drug.molblock, "sdf");
    viewer.setStyle({}, { stick: { radius: 0.14 }, sphere: { scale: 0.22 } });
    viewer.zoomTo();
    viewer.render();
  } catch (error) { $("space-caption").textContent = "this browser draws no 3D (WebGL is off)"; }
}

// The map: one canvas; coordinates come in 0 to 1.
const place = (point) => {
  const canvas = $("map");
  return [(point[2] - view.x) * view.zoom * canvas.width, (point[3] - view.y) * view.zoom * canvas.height];
};
function label(point) { return labels.get(String(point[0])) ?? labels.get(point[1].toLowerCase()); }
function group(point) {
  const by = $("colour").value;
  if (by === "own") return label(point) ?? "none";
  if (by === "bucket") return point[6] || "none";
  return point[4] ? `${point[4]} ${ATC[point[4]] ?? ""}`.trim() : "none";
}
function grouped() {
  const counts = new Map();
  for (const point of points) counts.set(group(point), (counts.get(group(point)) ?? 0) + 1);
  const largest = [...counts.keys()].filter((name) => name !== "none").sort((a, b) => counts.get(b) - counts.get(a));
  const shown = largest.slice(0, MOST_GROUPS).sort();
  const colour = new Map(shown.map((name, i) => [name, COLOURS[i % COLOURS.length]]));
  const rest = largest.slice(MOST_GROUPS).reduce((sum, name) => sum + counts.get(name), 0);
  return { counts, colour, rest };
}
function draw() {
  const canvas = $("map"), pen = canvas.getContext("2d");
  if (!pen || !points.length) return;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches, { counts, colour, rest } = grouped();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const size = Math.min(6, 1.5 + view.zoom / 2);
  for (const point of points) {
    const [x, y] = place(point);
    if (x < -5 || y < -5 || x > canvas.width + 5 || y > canvas.height + 5) continue;
    pen.fillStyle = colour.get(group(point)) ?? "#8c959f";
    pen.globalAlpha = chosen.size && !chosen.has(point[0]) ? 0.15 : 1;
    pen.fillRect(x - size / 2, y - size / 2, size, size);
  }
  pen.globalAlpha = 1;
  pen.strokeStyle = dark ? "#fff" : "#000";
  pen.lineWidth = 2;
  const own = current && points.find((point) => point[0] === current.drug_id);
  if (own) {
    const [x, y] = place(own);
    pen.beginPath();
    pen.arc(x, y, 9, 0, 7);
    pen.stroke();
  }
  if (box) {
    pen.setLineDash([6, 4]);
    pen.strokeRect(box.x, box.y, box.to - box.x, box.down - box.y);
    pen.setLineDash([]);
  }
  const rows = [...colour.keys()].map((name) => [name, colour.get(name), counts.get(name)]);
  if (rest) rows.push(["other", "#8c959f", rest]);
  if (counts.get("none")) rows.push(["none", "#8c959f", counts.get("none")]);
  $("legend").replaceChildren(...rows.map(([name, ink, count]) => {
    const item = node("li"), dot = node("i");
    dot.style.background = ink;
    item.append(dot, `${name} (${count.toLocaleString()})`);
    return item;
  }));
}
function choose(inside) {
  chosen = new Set(points.filter(inside).map((point) => point[0]));
  const rows = points.filter((point) => chosen.has(point[0])), sizes = new Map();
  rows.forEach((point) => sizes.set(group(point), (sizes.get(group(point)) ?? 0) + 1));
  $("chosen").hidden = !rows.length;
  $("chosen-title").textContent = `${rows.length.toLocaleString()} drugs chosen`;
  table($("chosen-groups"), [["group", (r) => r[0]], ["drugs", (r) => r[1].toLocaleString()]],
    [...sizes].sort((a, b) => b[1] - a[1]).slice(0, 12));
  $("chosen-drugs").replaceChildren(...rows.slice(0, 200).map((point) => {
    const item = node("li");
    item.append(link(point[1], () => show(point[1], point[0])));
    return item;
  }));
  if (rows.length > 200) $("chosen-drugs").append(node("li", `and ${(rows.length - 200).toLocaleString()} more, all of them in the file`));
  say(rows.length ? `${rows.length.toLocaleString()} drugs chosen` : "no drug there");
  draw();
}
function saved() {
  const cell = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = points.filter((point) => chosen.has(point[0])).map((point) => [String(point[0]), point[1], group(point)].map(cell).join(","));
  const away = URL.createObjectURL(new Blob([["drug_id,name,group", ...lines].join("\n") + "\n"], { type: "text/csv" }));
  node("a", null, { href: away, download: "chosen.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(away), 1000);
}
async function readLabels(file) {
  const lines = (await file.text()).split(/\r?\n/).filter((line) => line.trim());
  labels = new Map();
  for (const line of lines) {
    const at = line.lastIndexOf(line.includes("\t") ? "\t" : ",");
    if (at > 0) labels.set(line.slice(0, at).trim().replace(/^"|"$/g, "").toLowerCase(), line.slice(at + 1).trim().replace(/^"|"$/g, ""));
  }
  const met = points.filter((point) => label(point) !== undefined).length;
  $("colour").value = "own";
  draw();
  say(`${met.toLocaleString()} of ${points.length.toLocaleString()} drugs have one of the ${labels.size.toLocaleString()} labels`);
}
function nearest(event) {
  const canvas = $("map"), box = canvas.getBoundingClientRect();
  const x = (event.clientX - box.left) * canvas.width / box.width, y = (event.clientY - box.top) * canvas.height / box.height;
  let best = null, least = 144;
  for (const point of points) {
    const [px, py] = place(point), far = (px - x) ** 2 + (py - y) ** 2;
    if (far < least) { least = far; best = point; }
  }
  return best;
}
function zoom(factor, cx = 0.5, cy = 0.5) {
  const next = Math.max(1, Math.min(40, view.zoom * factor));
  view.x += cx / view.zoom - cx / next;
  view.y += cy / view.zoom - cy / next;
  view.zoom = next;
  draw();
}
function at(event) {
  const canvas = $("map"), bounds = canvas.getBoundingClientRect();
  return [(event.clientX - bounds.left) * canvas.width / bounds.width, (event.clientY - bounds.top) * canvas.height / bounds.height];
}
function moves() {
  const canvas = $("map");
  let held = null;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const bounds = canvas.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, (event.clientX - bounds.left) / bounds.width, (event.clientY - bounds.top) / bounds.height);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY, moved: 0 };
    canvas.setPointerCapture(event.pointerId);
    if (choosing || event.shiftKey) {
      const [x, y] = at(event);
      box = { x, y, to: x, down: y };
    }
  });
  canvas.addEventListener("pointermove", (event) => {
    if (box) {
      [box.to, box.down] = at(event);
      draw();
      return;
    }
    if (held && event.buttons) {
      const bounds = canvas.getBoundingClientRect(), dx = event.clientX - held.x, dy = event.clientY - held.y;
      view.x -= dx / bounds.width / view.zoom;
      view.y -= dy / bounds.height / view.zoom;
      held = { x: event.clientX, y: event.clientY, moved: held.moved + Math.abs(dx) + Math.abs(dy) };
      draw();
      return;
    }
    const point = nearest(event);
    $("hover").textContent = point ? `${point[1]}${point[4] ? ` (${point[4]})` : ""}` : "\u00a0";
  });
  canvas.addEventListener("pointerup", (event) => {
    if (box) {
      const [left, right] = [box.x, box.to].sort((a, b) => a - b), [top, bottom] = [box.y, box.down].sort((a, b) => a - b);
      box = held = null;
      choose((point) => { const [x, y] = place(point); return x >= left && x <= right && y >= top && y <= bottom; });
      return;
    }
    const point = held && held.moved < 4 ? nearest(event) : null;
    held = null;
    if (point) show(point[1], point[0]);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = 0.1 / view.zoom, move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (move) { view.x += move[0]; view.y += move[1]; draw(); }
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else return;
    event.preventDefault();
  });
  $("choose").addEventListener("click", () => {
    choosing = !choosing;
    $("choose").setAttribute("aria-pressed", String(choosing));
  });
  $("choose-shown").addEventListener("click", () => choose((point) => {
    const [x, y] = place(point);
    return x >= 0 && y >= 0 && x <= canvas.width && y <= canvas.height;
  }));
  $("choose-none").addEventListener("click", () => choose(() => false));
  $("save").addEventListener("click", saved);
  $("labels").addEventListener("change", () => { if ($("labels").files.length) readLabels($("labels").files[0]); });
}

// Runs and their curves.
async function listRuns() {
  const rows = await ask("/api/runs");
  table($("runs"), [["run", (r) => link(r.run.slice(0, 8), () => pickRun(r))], ["stage", (r) => r.stage], ["what", (r) => r.what],
    ["on", (r) => r.on], ["seed", (r) => r.seed], ["epochs", (r) => r.epochs], ["figure", (r) => r.figure], ["started", (r) => r.started]], rows);
}
async function pickRun(run) {
  try {
    curves = await ask(query("/api/curves", { run: run.run }));
    const names = [...new Set(curves.flatMap((row) => Object.keys(row)))].filter((name) => name !== "epoch");
    $("curve-name").textContent = `${run.what}, ${run.run.slice(0, 8)}`;
    $("metric").replaceChildren(...names.map((name) => node("option", name)));
    $("curve-box").hidden = !names.length;
    if (names.length) curve(); else say("this run has no epochs: it was fitted in closed form");
  } catch (error) { say(error.message); }
}
function curve() {
  const name = $("metric").value, svg = (tag, more) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(more).forEach(([key, value]) => made.setAttribute(key, value));
    return made;
  };
  const rows = curves.map((row, i) => [row.epoch ?? i + 1, row[name]]).filter((row) => Number.isFinite(row[1]));
  const xs = rows.map((row) => row[0]), ys = rows.map((row) => row[1]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (value) => 60 + 520 * (x1 > x0 ? (value - x0) / (x1 - x0) : 0.5), y = (value) => 190 - 170 * (y1 > y0 ? (value - y0) / (y1 - y0) : 0.5);
  const picture = svg("svg", { viewBox: "0 0 600 220", role: "img", "aria-label": `${name} by epoch: ${ys[0]?.toPrecision(4)} at first, ${ys.at(-1)?.toPrecision(4)} at last` });
  picture.append(svg("polyline", { points: rows.map((row) => `${x(row[0])},${y(row[1])}`).join(" "), fill: "none", stroke: "currentColor", "stroke-width": 2 }));
  rows.forEach((row) => picture.append(svg("circle", { cx: x(row[0]), cy: y(row[1]), r: rows.length > 60 ? 1 : 2.5, fill: "currentColor" })));
  for (const [value, far] of [[y0, 190], [y1, 24]]) {
    const text = svg("text", { x: 54, y: far, "text-anchor": "end", "font-size": 12, fill: "currentColor" });
    text.textContent = value.toPrecision(4);
    picture.append(text);
  }
  for (const [value, far] of [[x0, 60], [x1, 580]]) {
    const text = svg("text", { x: far, y: 212, "text-anchor": "middle", "font-size": 12, fill: "currentColor" });
    text.textContent = `epoch ${value}`;
    picture.append(text);
  }
  $("curve").replaceChildren(picture);
}

// The patient.
function listed() {
  const entries = [...patient.diagnoses.map((one) => ["diagnoses", one]), ...patient.medications.map((one) => ["medications", one])];
  $("patient").replaceChildren(...entries.map(([kind, one]) => {
    const item = node("li", `${kind === "diagnoses" ? "diagnosis" : "medication before"}: ${one} `);
    item.append(link("remove", () => { patient[kind] = patient[kind].filter((other) => other !== one); listed(); }));
    item.lastChild.setAttribute("aria-label", `remove ${one}`);
    return item;
  }));
  if (entries.length) advise(); else $("advice").replaceChildren();
}
async function advise() {
  const code = (text) => text.split(" · ")[0];
  const visits = [{ diagnoses: patient.diagnoses.map(code) }];
  if (patient.medications.length) visits.unshift({ diagnoses: patient.diagnoses.map(code), medications: patient.medications });
  try {
    const found = (await ask("/api/recommend", { patients: [{ visits }], min_coverage: 0.3 })).answers[0];
    const parts = [];
    if (found.refused) parts.push(node("p", found.refused));
    else {
      const box = node("div", null, { className: "wide", tabIndex: 0 }), list = node("table");
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", "Recommended");
      table(list, [["medication", (r) => r.name || r.code], ["code", (r) => r.code], ["probability", (r) => r.probability.toFixed(2)],
        ["rests on", (r) => (r.rests_on || []).join(", ")]], found.recommended);
      box.append(list);
      parts.push(node("h3", "The recommender lists"), box, node("h3", `Alerts (${found.alerts.length})`));
      const alerts = node("ul");
      found.alerts.slice(0, 12).forEach((one) => alerts.append(node("li", `${one.drugs.join(" with ")}: ${one.severity}, ${one.where}. ${one.text}`)));
      parts.push(alerts);
    }
    const strange = Object.values(found.coverage.not_understood).flat();
    if (strange.length) parts.push(node("p", `Without influence, because the recommender never learned them: ${strange.join(", ")}`));
    $("advice").replaceChildren(...parts);
  } catch (error) { $("advice").replaceChildren(node("p", error.message)); }
}
function adding(form, input, kind) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $(input).value.trim();
    if (text && !patient[kind].includes(text)) patient[kind].push(text);
    $(input).value = "";
    listed();
  });
}

async function start() {
  $("find").addEventListener("submit", (event) => { event.preventDefault(); if ($("q").value.trim()) find($("q").value.trim()); });
  $("modality").addEventListener("change", neighbours);
  $("colour").addEventListener("change", draw);
  $("in").addEventListener("click", () => zoom(1.5));
  $("out").addEventListener("click", () => zoom(1 / 1.5));
  offer($("q"), $("names"), "/api/search", (row) => row.name);
  offer($("rx"), $("drugs"), "/api/search", (row) => row.name);
  offer($("dx"), $("codes"), "/api/codes", (row) => `${row.code} · ${row.title}`);
  adding("diagnose", "dx", "diagnoses");
  adding("medicate", "rx", "medications");
  moves();
  $("metric").addEventListener("change", curve);
  if (OFFLINE) {
    document.querySelectorAll("#patient-title ~ form").forEach((form) => { form.hidden = true; });
    $("advice").replaceChildren(node("p", "The recommender learned from patients and is not in this file: mkmed serve shows it."));
    $("foot").textContent = `Everything on this page lies in this file, made ${core.made} by mkmed ${core.version}; no request leaves it. 3D by 3Dmol.js (BSD-3-Clause).`;
  }
  try {
    const buckets = await ask("/api/buckets");
    table($("buckets"), [...MODALITIES.map((name) => [name, (r) => (r[name] ? "yes" : "·")]), ["drugs", (r) => r.drugs.toLocaleString()]], buckets);
    points = await ask("/api/map");
    draw();
    await listRuns();
    say(`${points.length.toLocaleString()} drugs on the map`);
    document.body.dataset.ready = "yes";
  } catch (error) { say(error.message); }
}
start();
