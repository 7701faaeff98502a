"use strict";
// Asks for the last look again and again, and shows it. All text of others goes through textContent.

const LOOKS = {
  well: { letter: "w", symbol: "●", word: "alive", height: 5 },
  unready: { letter: "n", symbol: "▲", word: "not ready", height: 7 },
  stopped: { letter: "s", symbol: "■", word: "stopped", height: 2 },
  unknown: { letter: "u", symbol: "?", word: "unknown", height: 4 },
  dead: { letter: "d", symbol: "✕", word: "dead", height: 9 },
};
const MARKS = { restart: "r", freeze: "f" };
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 60, FLOOR = 13;

const $ = (id) => document.getElementById(id);
const rows = new Map();
let last = null;
let seen = { number: null, at: Date.now() };

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(name, className, parent) {
  const node = document.createElement(name);
  node.className = className;
  parent.append(node);
  return node;
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** A length of time in the two units that matter, as `backstay status` shows it. */
function rough(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  const whole = Math.floor(seconds);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} m`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor(whole / 3600) % 24)} h`;
}

/** One path for each look and mark: few nodes, however many services. */
function drawStrip(svg, service, cell) {
  const drawn = service.strip + service.marks;
  if (svg.drawn === drawn) return;
  svg.drawn = drawn;
  const boxes = (text, letter, top, height) => [...text]
    .map((found, index) => (found === letter ? `M${index + 0.12} ${top}h.76v${height}h-.76z` : "")).join("");
  const shapes = { restart: (x) => `M${x + 0.1} 0h.8l-.4 3z`, freeze: (x) => `M${x + 0.5} 0l.45 1.7-.45 1.7-.45-1.7z` };
  const path = (className, d) => {
    if (!d) return;
    const node = document.createElementNS(SVG, "path");
    node.setAttribute("class", className);
    node.setAttribute("d", d);
    svg.append(node);
  };
  svg.replaceChildren();
  const told = [];
  for (const [look, { letter, height, word }] of Object.entries(LOOKS)) {
    path(look, boxes(service.strip, letter, FLOOR - height, height));
    const count = service.strip.split(letter).length - 1;
    if (count) told.push(`${word} ${rough(count * cell)}`);
  }
  for (const [mark, letter] of Object.entries(MARKS)) {
    path(mark, [...service.marks].map((found, index) => (found === letter ? shapes[mark](index) : "")).join(""));
    const count = service.marks.split(letter).length - 1;
    if (count) told.push(plural(count, mark));
  }
  svg.setAttribute("aria-label", `last ${rough(service.strip.length * cell)}: ${told.join(", ")}`);
}

function details(service) {
  const beat = service.heartbeat ?? {};
  const facts = [["verdict", service.message], ["host", beat.hostname], ["process", beat.pid], ["beats", beat.sequence],
    ["beats every", beat.interval && rough(beat.interval)], ["last beat", beat.timestamp], ["since", beat.started_at]];
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  return facts.concat(Object.entries(beat.metadata ?? {}))
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => [key, text(value)]);
}

function newRow() {
  const item = document.createElement("li");
  const box = make("details", "", item);
  const summary = make("summary", "", box);
  const state = make("span", "state", summary);
  const symbol = make("i", "", state);
  symbol.setAttribute("aria-hidden", "true");
  const word = make("span", "", state);
  const what = make("div", "what", summary);
  const row = { item, box, state, symbol, word, name: make("div", "name", what), said: make("div", "said", what) };
  row.strip = document.createElementNS(SVG, "svg");
  for (const [key, value] of [["class", "strip"], ["role", "img"], ["viewBox", `0 0 ${WIDTH} ${FLOOR}`],
    ["preserveAspectRatio", "none"]]) row.strip.setAttribute(key, value);
  summary.append(row.strip);
  row.age = make("div", "age", summary);
  row.list = make("dl", "", box);
  box.addEventListener("toggle", () => showDetails(row));
  return row;
}

function showDetails(row) {
  if (!row.box.open) return;
  const facts = details(row.service);
  // A name may hold any character: joined, two lists could be taken for one.
  const names = JSON.stringify(facts.map(([name]) => name));
  if (row.facts !== names) {
    row.facts = names;
    row.list.replaceChildren();
    facts.forEach(() => { make("dt", "", row.list); make("dd", "", row.list); });
  }
  facts.flat().forEach((text, index) => put(row.list.children[index], text));
}

function showRow(row, service, cell) {
  row.service = service;
  const look = LOOKS[service.look];
  if (row.item.className !== service.look) row.item.className = service.look;
  row.state.className = `state ${service.look}`;
  put(row.symbol, look.symbol);
  put(row.word, service.state);
  put(row.name, service.name);
  put(row.said, service.summary);
  put(row.age, service.age === null ? "–" : rough(service.age));
  drawStrip(row.strip, service, cell);
  showDetails(row);
}

function headline(services) {
  const count = {};
  for (const { look } of services) count[look] = (count[look] ?? 0) + 1;
  const worst = ["dead", "unknown", "unready", "stopped", "well"].find((look) => count[look]);
  if (!worst) return { look: "stopped", text: "No heartbeats here" };
  if (count.well === services.length) return { look: "well", text: count.well === 1 ? "Alive" : `All ${count.well} alive` };
  const parts = ["dead", "unknown", "unready", "stopped"].filter((look) => count[look])
    .map((look) => `${count[look]} ${LOOKS[look].word}`);
  if (count.well) parts.push(`${count.well} alive`);
  return { look: worst, text: parts.join(", ") };
}

function show(page) {
  const { services } = page;
  const { look, text } = headline(services);
  const shown = `${LOOKS[look].symbol} ${text}`;
  if (document.title !== `${shown} – Backstay`) {
    document.title = `${shown} – Backstay`;
    const symbol = document.createElement("i");
    symbol.className = look;
    symbol.setAttribute("aria-hidden", "true");
    symbol.textContent = LOOKS[look].symbol;
    $("headline").replaceChildren(symbol, text);
  }
  put($("where"), `${page.folder}, seen ${page.time}`);
  const wanted = $("filter").value.trim().toLowerCase();
  const there = new Set();
  let before = null;
  for (const service of services) {
    there.add(service.file);
    if (!rows.has(service.file)) rows.set(service.file, newRow());
    const row = rows.get(service.file);
    showRow(row, service, page.cell);
    const fits = `${service.name} ${service.state} ${service.summary}`.toLowerCase().includes(wanted);
    if (row.item.hidden === fits) row.item.hidden = !fits;
    // Moved only where it has to be: what has the focus keeps it.
    const place = before ? before.nextSibling : $("services").firstChild;
    if (place !== row.item) $("services").insertBefore(row.item, place);
    before = row.item;
  }
  for (const [file, row] of rows) {
    if (!there.has(file)) { row.item.remove(); rows.delete(file); }
  }
  const cells = services.length ? services[0].strip.length : 0;
  put($("ago"), `${Math.round((cells * page.cell) / 60)} min ago`);
  $("none").hidden = services.length > 0 || page.trouble !== null;
  $("tools").hidden = $("legend").hidden = services.length === 0;
  $("more").hidden = page.left_out === 0;
  put($("more"), `${page.left_out} more are not shown.`);
}

/** Why what is shown is not to be trusted. */
function trouble(text) {
  if (text) put($("trouble"), text);
  $("trouble").hidden = !text;
  document.body.classList.toggle("old", Boolean(text));
}

async function look() {
  let page;
  try {
    const answer = await fetch("api/page", { cache: "no-cache", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    page = await answer.json();
  } catch {
    trouble(`No answer from backstay serve for ${rough((Date.now() - seen.at) / 1000)}. What is shown is old.`);
    document.title = "? no answer – Backstay";
    return;
  }
  last = page;
  if (page.number !== seen.number) seen = { number: page.number, at: Date.now() };
  show(page);
  const silence = (Date.now() - seen.at) / 1000;
  if (page.trouble !== null) trouble(`The folder cannot be read: ${page.trouble}`);
  else if (silence > 5 * page.every + 10) trouble(`Looking at the folder hangs, for ${rough(silence)}.`);
  else trouble(null);
}

async function lookForEver() {
  try {
    await look();
  } catch (error) {
    trouble(`This page has a fault: ${error.message}. What is shown is old.`);
    console.error(error);
  }
  const every = Math.min(Math.max((last ? last.every : 1) * 1000, 1000), 10000);
  setTimeout(lookForEver, document.hidden ? 5 * every : every);
}

$("filter").addEventListener("input", () => { if (last) show(last); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== $("filter")) {
    event.preventDefault();
    $("filter").focus();
  } else if (event.key === "Escape" && document.activeElement === $("filter")) {
    $("filter").value = "";
    if (last) show(last);
    $("filter").blur();
  }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && last) show(last); });
lookForEver();
