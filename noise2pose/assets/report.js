// The page is complete without this: it adds a filter of rows, sorting by column, and a choice among curves.
"use strict";
const UNITS = { k: 1e3, M: 1e6, G: 1e9, s: 1, min: 60, h: 3600 };

// The number that a cell starts with, in one unit for the whole column; NaN for words and empty cells.
function numberOf(text) {
  const found = /^[<+]?(-?[\d,.]*\d)(?: (k|M|G|s|min|h)\b)?/.exec(text);
  return found ? parseFloat(found[1].replace(/,/g, "")) * (UNITS[found[2]] || 1) : NaN;
}

function compared(one, other, down) {
  const [a, b] = [numberOf(one), numberOf(other)];
  if (isNaN(a) !== isNaN(b)) return isNaN(a) ? 1 : -1; // what has no number is last, either way
  const order = isNaN(a) ? one.localeCompare(other, undefined, { numeric: true }) : a - b;
  return down ? -order : order;
}

function sortBy(table, column, heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows];
  const textOf = (row) => row.cells[column].textContent.trim();
  rows.sort((a, b) => compared(textOf(a), textOf(b), down));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, column, heading));
    heading.append(button);
  });
}

// Rows whose text holds every word; what runs are made of is hidden with them.
const filter = document.createElement("input");
filter.type = "search";
filter.placeholder = "Filter rows: words of methods, runs or settings";
filter.setAttribute("aria-label", filter.placeholder);
filter.className = "filter";
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("tbody tr, details.entry")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
});
document.querySelector("main").prepend(filter);

for (const section of document.querySelectorAll("section.curves")) {
  const figures = [...section.querySelectorAll("figure[data-choice]")];
  if (figures.length < 2) continue;
  const choice = document.createElement("select");
  choice.setAttribute("aria-label", "Which curve");
  for (const figure of figures) choice.append(new Option(figure.dataset.choice));
  const show = () => figures.forEach((figure, i) => { figure.hidden = i !== choice.selectedIndex; });
  choice.addEventListener("change", show);
  figures[0].before(choice);
  show();
}

// A row leads to what it was made of, also where the browser does not open it.
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target && target.closest("details");
  if (details) { details.open = true; details.scrollIntoView(); }
}
addEventListener("hashchange", open);
open();
