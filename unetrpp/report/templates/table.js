"use strict";
// The table of cases, which a click on a heading sorts, and the switch between dark and light.

function sortBy(table, column, descending) {
  const body = table.tBodies[0];
  const keyOf = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [keyOf(a), keyOf(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    const difference = x - y;
    const order = Number.isNaN(difference) ? x.localeCompare(y, undefined, { numeric: true }) : difference;
    return descending ? -order : order;
  };
  body.append(...Array.from(body.rows).sort(compare));
  Array.from(table.tHead.rows[0].cells).forEach((heading, i) => {
    heading.setAttribute("aria-sort", i !== column ? "none" : descending ? "descending" : "ascending");
  });
}

function makeSortable(table) {
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      sortBy(table, column, heading.getAttribute("aria-sort") === "ascending");
    });
  });
}

function makeThemeSwitch(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const shown = () => document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  const label = () => { button.textContent = shown() === "dark" ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = shown() === "dark" ? "light" : "dark";
    label();
  });
  dark.addEventListener("change", label);
  button.hidden = false;
  label();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("#theme").forEach(makeThemeSwitch);
