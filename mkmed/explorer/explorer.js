"use strict";
// The explorer: asks the service and shows what it says. Whatever comes is put in as text, never as markup, but for the
// drawings that the service itself makes.
const $ = (id) => document.getElementById(id);
const MODALITIES = ["image", "text", "structure", "property", "graph"];
const COLOURS = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#1b7c83", "#cf222e", "#57606a", "#2da44e",
  "#a475f9", "#d4a72c", "#e16f24", "#218bff"];
let current = null, points = [], view = { x: 0, y: 0, zoom: 1 }, patient = { diagnoses: [], medications: [] };

async function ask(path, body) {
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
function group(point) { return $("colour").value === "atc" ? (point[4] || "none") : String(point[5]); }
function draw() {
  const canvas = $("map"), pen = canvas.getContext("2d");
  if (!pen || !points.length) return;
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const groups = [...new Set(points.map(group))].sort();
  const colour = new Map(groups.map((name, i) => [name, name === "none" ? "#8c959f" : COLOURS[i % COLOURS.length]]));
  const size = Math.min(6, 1.5 + view.zoom / 2);
  for (const point of points) {
    const [x, y] = place(point);
    if (x < -5 || y < -5 || x > canvas.width + 5 || y > canvas.height + 5) continue;
    pen.fillStyle = colour.get(group(point));
    pen.fillRect(x - size / 2, y - size / 2, size, size);
  }
  const own = current && points.find((point) => point[0] === current.drug_id);
  if (own) {
    const [x, y] = place(own);
    pen.strokeStyle = matchMedia("(prefers-color-scheme: dark)").matches ? "#fff" : "#000";
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x, y, 9, 0, 7);
    pen.stroke();
  }
  $("legend").replaceChildren(...groups.map((name) => {
    const item = node("li"), dot = node("i");
    dot.style.background = colour.get(name);
    item.append(dot, name);
    return item;
  }));
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
function moves() {
  const canvas = $("map");
  let held = null;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { held = { x: event.clientX, y: event.clientY, moved: 0 }; });
  canvas.addEventListener("pointermove", (event) => {
    if (held && event.buttons) {
      const box = canvas.getBoundingClientRect(), dx = event.clientX - held.x, dy = event.clientY - held.y;
      view.x -= dx / box.width / view.zoom;
      view.y -= dy / box.height / view.zoom;
      held = { x: event.clientX, y: event.clientY, moved: held.moved + Math.abs(dx) + Math.abs(dy) };
      draw();
      return;
    }
    const point = nearest(event);
    $("hover").textContent = point ? `${point[1]}${point[4] ? ` (${point[4]})` : ""}` : "\u00a0";
  });
  canvas.addEventListener("pointerup", (event) => {
    const point = held && held.moved < 4 ? nearest(event) : null;
    held = null;
    if (point) show(point[1], point[0]);
  });
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
  try {
    const buckets = await ask("/api/buckets");
    table($("buckets"), [...MODALITIES.map((name) => [name, (r) => (r[name] ? "yes" : "·")]), ["drugs", (r) => r.drugs.toLocaleString()]], buckets);
    points = await ask("/api/map");
    draw();
    say(`${points.length.toLocaleString()} drugs on the map`);
  } catch (error) { say(error.message); }
}
start();
