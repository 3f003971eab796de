// The browser of outputs. All content of records reaches the page as text (textContent),
// never as markup; a set is parsed only when it is selected.
(() => {
"use strict";

const STEPS = 7; // shades of the ramp in the style sheet
const PAGE = 25; // sentences per page
const BARS = 48;
const EXPR = "expr."; // begins the measures of an expectation of products

const $$ = (id) => document.getElementById(id);
const manifest = JSON.parse($$("manifest").textContent);

// ---- numbers

function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes.buffer;
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

function format(value) {
  if (Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (value === -Infinity) return "−∞";
  if (value === Infinity) return "> 65504"; // the largest number of half precision
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return (size >= 1e5 ? value.toExponential(2) : value.toFixed(digits)).replace("-", "−");
}

// ---- one file of records

class Outputs {
  constructor(element) {
    const data = JSON.parse($$(element).textContent);
    Object.assign(this, data);
    this.end = [...data.start.slice(1), data.rank.length];
    this.logProb = Object.fromEntries(Object.entries(data.log_prob).map(
      ([prefix, text]) => [prefix, new Float32Array(bytesOf(text))]));
    this.offset = new Uint32Array(data.length.length + 1);
    data.length.forEach((n, i) => { this.offset[i + 1] = this.offset[i] + n; });
    this.decoded = new Map();
  }

  column(level, measure, Type) {
    const key = level + " " + measure;
    if (!this.decoded.has(key)) {
      const text = this[level][measure];
      this.decoded.set(key, text === undefined ? null : new Type(bytesOf(text)));
    }
    return this.decoded.get(key);
  }

  ofHypothesis(measure, index) {
    const column = this.column("sequence", measure, Float32Array);
    return column ? column[index] : NaN;
  }

  ofToken(measure, position) {
    const column = this.column("token", measure, Uint16Array);
    return column ? fromHalf(column[position]) : NaN;
  }

  // a sentence is as uncertain as its best hypothesis
  ofSentence(measure, sentence) { return this.ofHypothesis(measure, this.start[sentence]); }

  searchable(sentence) {
    if (!this.texts) {
      this.texts = this.id.map((id, i) => [
        this.source[i], this.reference[i], ...this.text.slice(this.start[i], this.end[i]),
      ].join("\n").toLowerCase());
    }
    return this.texts[sentence];
  }
}

// ---- state

let outputs = null; // the selected set
let matching = []; // sentences that pass the filters, in the order wanted
let page = 0;

const system = () => manifest.systems[$$("system").value];
const measure = () => $$("measure").value;
const measuresKnown = () => Object.keys(system().top);

function bound(id, absent) {
  const value = $$(id).valueAsNumber;
  return Number.isNaN(value) ? absent : value;
}

function choose() {
  const key = measure(), order = $$("order").value;
  const low = bound("from", -Infinity), high = bound("to", Infinity);
  const bounded = low > -Infinity || high < Infinity;
  const query = $$("search").value.trim().toLowerCase();
  const value = outputs.id.map((_, i) => outputs.ofSentence(key, i));
  matching = [];
  for (let i = 0; i < value.length; i++) {
    if (bounded && !(value[i] >= low && value[i] <= high)) continue;
    if (query && !outputs.searchable(i).includes(query)) continue;
    matching.push(i);
  }
  if (order !== "set") {
    const sign = order === "descending" ? -1 : 1;
    // a missing value comes last either way; equal ones stay in the order of the set
    const rank = (i) => (Number.isNaN(value[i]) ? Infinity : sign * value[i]);
    matching.sort((a, b) => (rank(a) === rank(b) ? a - b : rank(a) - rank(b)));
  }
  page = 0;
}

// ---- elements

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function shadeOf(value, top) {
  if (Number.isNaN(value)) return "unknown";
  return String(Math.max(0, Math.min(STEPS - 1, Math.floor((STEPS * value) / top))));
}

// what a token shows, and whether a space goes before it
function shown(symbol, follows) {
  const special = /^<.+>$/.test(symbol);
  if (outputs.joiner === "▁" && symbol.startsWith("▁")) return [symbol.slice(1) || "▁", true];
  // "@@" alone is text
  if (outputs.joiner === "@@") return [symbol.replace(/(?<=.)@@$/s, ""), !/.@@$/s.test(follows)];
  return [symbol, special || outputs.joiner === ""];
}

function tokensOf(hypothesis) {
  const line = element("p", "tokens");
  line.dir = "auto";
  const top = system().top[measure()];
  let previous = "";
  for (let at = outputs.offset[hypothesis]; at < outputs.offset[hypothesis + 1]; at++) {
    const symbol = outputs.vocabulary[outputs.tokens[at]];
    const [text, space] = shown(symbol, previous);
    if (space && previous) line.append(" ");
    const value = outputs.ofToken(measure(), at);
    const token = element("span", /^<.+>$/.test(symbol) ? "token special" : "token", text);
    token.dataset.shade = shadeOf(value, top);
    token.dataset.value = format(value);
    token.dataset.at = at;
    token.tabIndex = previous ? -1 : 0; // one stop of Tab a line, arrows inside it
    line.append(token);
    previous = symbol;
  }
  return line;
}

// an ensemble has its measures twice: as a product of expectations, and as an expectation of
// products
function combinations() {
  const both = measuresKnown().some((key) => key.startsWith(EXPR));
  return both ? [["PrEx", ""], ["ExPr", EXPR]] : [["", ""]];
}

const baseMeasures = () => measuresKnown().filter((key) => !key.startsWith(EXPR));

function row(cells) {
  const made = element("tr");
  for (const [tag, text, key] of cells) {
    const cell = element(tag, key === measure() ? "current" : "", text);
    if (tag === "th") cell.scope = key === "row" ? "row" : "col";
    made.append(cell);
  }
  return made;
}

function tableOfHypotheses(first, end) {
  const table = element("table", "measures"), names = baseMeasures();
  const kinds = combinations(), both = kinds.length > 1;
  table.append(row([
    ["th", "Rank"], ...(both ? [["th", ""]] : []), ["th", "ln P"],
    ...names.map((name) => ["th", manifest.measures[name].label]),
  ]));
  for (let hypothesis = first; hypothesis < end; hypothesis++) {
    for (const [kind, prefix] of kinds) {
      table.append(row([
        ["th", String(outputs.rank[hypothesis]), "row"], ...(both ? [["th", kind, "row"]] : []),
        ["td", format(outputs.logProb[prefix][hypothesis])],
        ...names.map((name) =>
          ["td", format(outputs.ofHypothesis(prefix + name, hypothesis)), prefix + name]),
      ]));
    }
  }
  const scroll = element("div", "narrow");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "measures of the hypotheses, nats per token");
  scroll.append(table);
  return scroll;
}

function tableOfToken(at) {
  const table = element("table", "measures"), kinds = combinations();
  if (kinds.length > 1) table.append(row([["td", ""], ...kinds.map(([kind]) => ["th", kind])]));
  for (const name of baseMeasures()) {
    table.append(row([
      ["th", manifest.measures[name].label, "row"],
      ...kinds.map(([, prefix]) =>
        ["td", format(outputs.ofToken(prefix + name, at)), prefix + name]),
    ]));
  }
  return table;
}

function allHypotheses(sentence) {
  const details = element("details");
  const first = outputs.start[sentence], end = outputs.end[sentence];
  const many = end - first > 1;
  details.append(element("summary", "", many ? `${end - first} hypotheses` : "all measures"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    if (many) {
      const list = element("ol", "hypotheses");
      list.start = 0;
      for (let hypothesis = first; hypothesis < end; hypothesis++) {
        const item = element("li");
        item.append(tokensOf(hypothesis));
        list.append(item);
      }
      details.append(list);
    }
    details.append(tableOfHypotheses(first, end));
  });
  details.open = $$("show-all").checked;
  return details;
}

function sentenceOf(index) {
  const card = element("article", "sentence");
  const head = element("header");
  const value = outputs.ofSentence(measure(), index);
  const number = element("p", "number");
  number.append(element("b", "", format(value)), ` ${manifest.measures[measure()].label}`);
  head.append(element("h3", "", `Sentence ${outputs.id[index]}`), number);
  const texts = element("dl", "texts");
  const line = (name, content) => {
    const text = element("dd");
    text.dir = "auto";
    text.append(content);
    texts.append(element("dt", "", name), text);
  };
  if (outputs.source[index] !== null) line("Source", outputs.source[index]);
  line("Hypothesis", tokensOf(outputs.start[index]));
  if (outputs.reference[index] !== null) line("Reference", outputs.reference[index]);
  card.append(head, texts, allHypotheses(index));
  card.dataset.id = outputs.id[index];
  return card;
}

// ---- drawing

function drawPage() {
  hideValues();
  const pages = Math.max(1, Math.ceil(matching.length / PAGE));
  const first = page * PAGE, some = matching.slice(first, first + PAGE);
  $$("sentences").replaceChildren(...some.map(sentenceOf));
  const all = outputs.id.length, of = matching.length === all ? "" : ` found among ${all}`;
  const cut = outputs.total > all ? `, the first of ${outputs.total} in the file` : "";
  const text = some.length
    ? `${first + 1}–${first + some.length} of ${matching.length} sentences${of}${cut}`
    : `No sentence of ${all} matches. Widen the range or clear the search.`;
  $$("count").textContent = $$("count-again").textContent = text;
  document.querySelectorAll(".previous").forEach((b) => { b.disabled = page === 0; });
  document.querySelectorAll(".next").forEach((b) => { b.disabled = page >= pages - 1; });
}

function drawLegend() {
  const top = system().top[measure()];
  $$("legend-title").textContent = `${manifest.measures[measure()].label}, nats per token`;
  $$("legend-steps").replaceChildren(...Array.from({ length: STEPS }, (_, step) => {
    const low = step === 0 ? "0" : String(Number(((step * top) / STEPS).toPrecision(2)));
    const item = element("li", "token", step === STEPS - 1 ? `≥ ${low}` : low);
    item.dataset.shade = step;
    return item;
  }));
}

function drawHistogram() {
  const values = outputs.id.map((_, i) => outputs.ofSentence(measure(), i)).filter(Number.isFinite);
  const least = values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const width = (most - least) / BARS || 1;
  const counts = new Array(BARS).fill(0);
  for (const v of values) counts[Math.min(BARS - 1, Math.floor((v - least) / width))]++;
  const tallest = Math.max(...counts, 1);
  const low = bound("from", -Infinity), high = bound("to", Infinity);
  $$("histogram").replaceChildren(...counts.map((count, i) => {
    const bar = element("i");
    bar.style.height = `${(100 * count) / tallest}%`;
    bar.classList.toggle("out", least + (i + 1) * width < low || least + i * width > high);
    return bar;
  }));
  $$("from").placeholder = values.length ? format(least) : "";
  $$("to").placeholder = values.length ? format(most) : "";
}

function drawChoice() {
  choose();
  drawHistogram();
  drawPage();
}

// ---- controls

function options(select, entries) {
  const groups = new Map();
  for (const [value, label, group] of entries) {
    const option = element("option", "", label);
    option.value = value;
    if (!groups.has(group)) {
      const parent = group === undefined ? select : element("optgroup");
      if (group !== undefined) parent.label = group;
      groups.set(group, [parent, []]);
    }
    groups.get(group)[1].push(option);
  }
  select.replaceChildren();
  for (const [parent, children] of groups.values()) {
    parent.append(...children);
    if (parent !== select) select.append(parent);
  }
}

// keep the earlier selection where the new list has it
function refill(select, entries, wanted) {
  options(select, entries);
  const values = entries.map(([value]) => value);
  select.value = values.includes(wanted) ? wanted : values[0];
}

function changeSystem() {
  const { sets } = system(), measures = measuresKnown();
  const before = $$("set").selectedOptions[0]?.textContent;
  const same = sets.find((set) => set.name === before);
  refill($$("set"), sets.map((set) => [set.element, set.name]), same?.element);
  refill($$("measure"),
    measures.map((key) => [key, manifest.measures[key].label, manifest.measures[key].group]),
    measure() || "rmi");
  changeSet();
}

function changeSet() {
  outputs = new Outputs($$("set").value);
  changeMeasure();
}

function changeMeasure() {
  $$("measure-help").textContent = manifest.measures[measure()].help;
  // a range of one measure is meaningless for another
  $$("from").value = $$("to").value = "";
  drawLegend();
  drawChoice();
}

function turn(pages) {
  page += pages;
  drawPage();
  $$("outputs-title").scrollIntoView();
}

function reset() {
  $$("search").value = $$("from").value = $$("to").value = "";
  $$("order").value = "set";
  drawChoice();
}

// ---- values of one token

let current = null;

function showValues(token) {
  current = token;
  const at = Number(token.dataset.at), box = $$("values");
  const name = element("p", "", outputs.vocabulary[outputs.tokens[at]]);
  name.append(" ", element("small", "", "nats"));
  box.replaceChildren(name, tableOfToken(at));
  box.hidden = false;
  placeValues();
}

// below the token, above it where there is no room; the style sheet of phones overrules this
function placeValues() {
  if (!current) return;
  const box = $$("values");
  const around = current.getBoundingClientRect(), own = box.getBoundingClientRect();
  const below = around.bottom + 6 + own.height <= window.innerHeight;
  box.style.top = `${Math.max(4, below ? around.bottom + 6 : around.top - own.height - 6)}px`;
  box.style.left = `${Math.max(4, Math.min(around.left, window.innerWidth - own.width - 12))}px`;
}

function hideValues() {
  current = null;
  $$("values").hidden = true;
}

const tokenAt = (event) => event.target.closest?.("#sentences .token");

function moveFocus(event) {
  const token = tokenAt(event);
  if (!token) return;
  const line = [...token.parentElement.querySelectorAll(".token")];
  const here = line.indexOf(token);
  const target = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: line.length - 1 };
  const next = line[target[event.key]];
  if (!next) return;
  event.preventDefault();
  token.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// ---- colours

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

// ---- start

document.querySelectorAll("[name=theme]").forEach((button) => {
  button.addEventListener("change", () => setTheme(button.value));
});

$$("plot-system")?.addEventListener("change", (event) => {
  document.querySelectorAll("[data-plots]").forEach((group) => {
    group.hidden = group.dataset.plots !== event.target.value;
  });
});

if (manifest.systems.length) {
  options($$("system"), manifest.systems.map(({ name }, i) => [i, name]));
  $$("system").addEventListener("change", changeSystem);
  $$("set").addEventListener("change", changeSet);
  $$("measure").addEventListener("change", changeMeasure);
  for (const id of ["order", "from", "to"]) $$(id).addEventListener("change", drawChoice);
  let pause = 0;
  $$("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(drawChoice, 150);
  });
  $$("show-values").addEventListener("change", (event) => {
    $$("sentences").classList.toggle("with-values", event.target.checked);
  });
  $$("show-all").addEventListener("change", drawPage);
  $$("reset").addEventListener("click", reset);
  $$("controls").addEventListener("submit", (event) => event.preventDefault());
  document.querySelectorAll(".previous").forEach((b) => b.addEventListener("click", () => turn(-1)));
  document.querySelectorAll(".next").forEach((b) => b.addEventListener("click", () => turn(1)));

  const list = $$("sentences");
  list.addEventListener("pointerover", (event) => {
    const token = tokenAt(event);
    if (token) showValues(token);
  });
  list.addEventListener("pointerout", (event) => {
    if (event.pointerType === "mouse") hideValues(); // a tap leaves at once, its values stay
  });
  list.addEventListener("click", (event) => tokenAt(event)?.focus());
  list.addEventListener("focusin", (event) => {
    const token = tokenAt(event);
    if (token) showValues(token);
  });
  list.addEventListener("focusout", hideValues);
  list.addEventListener("keydown", moveFocus);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideValues(); });
  window.addEventListener("scroll", placeValues, { passive: true });
  changeSystem();
}
})();
