// Tables sorted by their headers, and filtered by words. Without this they are plain tables.
"use strict";
const order = new Intl.Collator("en", { numeric: true }).compare;

// "123 [1, 2]" is 123. Words come after numbers, and empty cells last, whichever way.
function number(text) {
  const found = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?(?![\w.])/i.exec(text);
  return found ? parseFloat(found[0]) : NaN;
}

function compare(a, b) {
  const [x, y] = [number(a), number(b)];
  if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
  return isNaN(x) ? order(a, b) : x - y;
}

// The text of the cell that begins at a column of a row, where one does.
function text(row, column) {
  for (const cell of row.cells) {
    if (!column) return cell.textContent.trim();
    column -= cell.colSpan;
  }
  return "";
}

function sortable(table) {
  const grouped = table.classList.contains("grouped");
  const parent = grouped ? table : table.tBodies[0];
  // What is moved: a row, or a group of rows, which counts as what its first row says.
  const items = [...(grouped ? table.tBodies : parent.rows)];
  const key = (item, column) => text(grouped ? item.rows[0] : item, column);
  const headers = [...table.tHead.rows[0].cells];

  // Ascending, descending, as it was.
  function sort(header, column) {
    const before = header.getAttribute("aria-sort");
    const way = { ascending: "descending", descending: null, none: "ascending" }[before ?? "none"];
    for (const other of headers) other.removeAttribute("aria-sort");
    if (!way) return parent.append(...items);
    header.setAttribute("aria-sort", way);
    const sign = way === "descending" ? -1 : 1;
    parent.append(...[...items].sort((a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      return x && y ? sign * compare(x, y) : !x - !y;
    }));
  }

  headers.forEach((header, column) => {
    if (items.every((item) => !key(item, column))) return;
    const button = document.createElement("button");
    button.type = "button";
    if (!header.textContent) button.ariaLabel = "name";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header, column));
    header.append(button);
  });
  return items;
}

function filter(table, items) {
  const line = document.createElement("p");
  line.innerHTML = '<label>Rows with <input type="search"></label> <output></output>';
  const [field, count] = [line.querySelector("input"), line.querySelector("output")];
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const item of items) {
      const said = item.textContent.toLowerCase();
      item.hidden = !words.every((word) => said.includes(word));
    }
    count.value = `${items.filter((item) => !item.hidden).length} of ${items.length} rows`;
  };
  field.addEventListener("input", show);
  show();
  table.parentNode.before(line);
}

for (const table of document.querySelectorAll("table")) {
  const items = sortable(table);
  if (table.classList.contains("filtered")) filter(table, items);
}
