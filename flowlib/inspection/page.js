"use strict";
// The page works without this too: then nothing can be filtered or marked.
const $ = (query, within = document) => within.querySelector(query);
const all = (query, within = document) => [...within.querySelectorAll(query)];
const cards = all(".card");
const key = "flowlib inspection " + document.body.dataset.page;
const viewer = $("#viewer"), note = $("#note"), list = $("#list");
let marks = {}; // file -> {mark, note, at}
let chosen = null, shot = 0, mapped = true;

// --- marks, kept in this browser -------------------------------------------------------------------------------------

try {
  marks = JSON.parse(localStorage.getItem(key)) || {};
} catch {
  tell("This browser keeps nothing: save marks before you close the page.");
}

function tell(text) {
  $("#told").textContent = text;
}

function setMark(change) {
  if (!chosen) return;
  const file = chosen.dataset.file;
  const now = {mark: "", note: "", ...marks[file], ...change, at: new Date().toISOString()};
  if (now.mark || now.note) marks[file] = now;
  else delete marks[file];
  try {
    localStorage.setItem(key, JSON.stringify(marks));
    tell("");
  } catch {
    tell("This browser keeps nothing: save marks before you close the page.");
  }
  showMark(chosen);
  showBar();
}

function showMark(card) {
  const found = marks[card.dataset.file];
  $(".mark", card).textContent = found ? found.mark : "";
  $(".note", card).textContent = found ? found.note : "";
}

function csv() {
  const quoted = value => '"' + String(value).replaceAll('"', '""') + '"';
  const columns = ["file", "state", "score", "mark", "note", "at", "folder"];
  const rows = cards.filter(card => marks[card.dataset.file]).map(({dataset: d}) =>
    [d.file, d.state, d.score, marks[d.file].mark, marks[d.file].note, marks[d.file].at, document.body.dataset.source]);
  return [columns, ...rows].map(row => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], {type: "text/csv"}));
  link.download = "marks.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- what is shown ---------------------------------------------------------------------------------------------------

const states = all("[data-state].chip");

function filter() {
  const on = new Set(states.filter(chip => chip.getAttribute("aria-pressed") === "true").map(chip => chip.dataset.state));
  const value = name => $(name) ? $(name).value : "*";
  const folder = value("#folder"), label = value("#label"), mark = value("#marked");
  for (const card of cards) {
    const d = card.dataset, found = marks[d.file];
    card.hidden = !(on.has(d.state) && (folder === "*" || d.folder === folder) && (label === "*" || d.label === label)
      && (mark === "*" || (found ? found.mark : "") === mark));
  }
  for (const section of all("main > section")) section.hidden = !$(".card:not([hidden])", section);
  const left = cards.filter(card => !card.hidden).length;
  $("#shown").textContent = `${left} of ${cards.length} shown`;
  $("#none").hidden = left > 0;
  if (chosen && chosen.hidden) choose(null);
}

function choose(card, scroll = true) {
  if (chosen) chosen.classList.remove("chosen");
  chosen = card;
  shot = 0;
  if (card) {
    card.classList.add("chosen");
    if (scroll) card.scrollIntoView({block: "nearest"});
  }
  showBar();
  if (!viewer.hidden) card ? show() : closeViewer();
}

function showBar() {
  const d = chosen ? chosen.dataset : {}, found = marks[d.file];
  $("#current").textContent = d.file || "nothing chosen";
  $("#bar .badge").className = "badge " + (d.state || "");
  $("#bar .badge").textContent = chosen ? $(".said .badge", chosen).textContent : "";
  for (const button of all("[data-mark]")) {
    button.disabled = !chosen;
    button.setAttribute("aria-pressed", String(Boolean(found && found.mark === button.dataset.mark)));
  }
  note.disabled = !chosen;
  if (document.activeElement !== note) note.value = found ? found.note : "";
  document.body.style.setProperty("--bar", $("#bar").offsetHeight + "px");
}

function go(by) {
  const shown = cards.filter(card => !card.hidden);
  const place = chosen ? shown.indexOf(chosen) + by : by > 0 ? 0 : shown.length - 1;
  if (shown[place]) choose(shown[place]);
}

// --- the full picture ------------------------------------------------------------------------------------------------

function show() {
  const shots = all(".shot", chosen), link = shots[shot];
  const image = $("img", viewer);
  viewer.hidden = false;
  list.inert = true;
  $("figcaption", viewer).textContent = link ? link.getAttribute("aria-label") : "No picture: " + chosen.dataset.file;
  image.hidden = !link;
  $("#map").setAttribute("aria-pressed", String(mapped));
  if (!link) return;
  image.src = mapped ? link.href : new URL(link.dataset.plain, document.baseURI).href;
  image.alt = $("img", link).alt;
}

function step(by) {
  const shots = all(".shot", chosen);
  if (shots[shot + by]) {
    shot += by;
    show();
  } else go(by);
}

function open(at = 0) {
  if (!chosen) return;
  shot = at;
  show();
}

function closeViewer() {
  viewer.hidden = true;
  list.inert = false;
  const link = chosen && all(".shot", chosen)[shot];
  if (link) link.focus();
}

// --- hands -----------------------------------------------------------------------------------------------------------

list.addEventListener("click", event => {
  const card = event.target.closest(".card"), link = event.target.closest(".shot");
  if (!card) return;
  choose(card, false);
  if (link && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    open(all(".shot", card).indexOf(link));
  }
});
list.addEventListener("focusin", event => {
  const card = event.target.closest(".card");
  if (card && card !== chosen) choose(card, false);
});
for (const chip of states) chip.addEventListener("click", () => {
  chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
  filter();
});
for (const select of all(".filters select")) select.addEventListener("change", filter);
for (const button of all("[data-mark]")) button.addEventListener("click", () => mark(button.dataset.mark));
for (const button of all("[data-go]")) button.addEventListener("click", () => go(Number(button.dataset.go)));
for (const button of all("[data-step]")) button.addEventListener("click", () => step(Number(button.dataset.step)));
note.addEventListener("input", () => setMark({note: note.value.replace(/[\r\n]+/g, " ")}));
note.addEventListener("keydown", event => {
  if (event.key === "Enter" || event.key === "Escape") note.blur();
  event.stopPropagation();
});
$("#map").addEventListener("click", toggleMap);
$("#close").addEventListener("click", closeViewer);
$("#save").addEventListener("click", save);
$("#print").addEventListener("click", () => print());
$("#help").addEventListener("click", help);
addEventListener("resize", showBar);
addEventListener("beforeprint", () => all(".card:not([hidden]) img").forEach(image => { image.loading = "eager"; }));

function mark(name) {
  const found = chosen && marks[chosen.dataset.file];
  setMark({mark: found && found.mark === name ? "" : name});
}

function toggleMap() {
  mapped = !mapped;
  if (!viewer.hidden) show();
}

function help() {
  $("#keys").hidden = !$("#keys").hidden;
  $("#help").setAttribute("aria-expanded", String(!$("#keys").hidden));
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
  const open_ = !viewer.hidden, names = all("[data-mark]").map(button => button.dataset.mark);
  const does = {
    j: () => go(1), k: () => go(-1), o: () => open_ ? closeViewer() : open(), n: () => chosen && note.focus(),
    m: toggleMap, 0: () => setMark({mark: ""}), "?": help,
  };
  names.forEach((name, i) => { does[i + 1] = () => mark(name); });
  if (open_) Object.assign(does, {
    ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => go(1), ArrowUp: () => go(-1), Escape: closeViewer,
  });
  if (!does[event.key]) return;
  event.preventDefault();
  does[event.key]();
});

cards.forEach(card => { if (marks[card.dataset.file]) showMark(card); });
filter();
showBar();
