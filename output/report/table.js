"use strict";
// Makes a table with the class "items" sortable by its columns, and lets the form with the class "controls" filter it.
// A row tells by data-labels and data-values which labels it has, and how probable they are; a cell by data-value what it
// is sorted by. Of the form's fields text, label, least and state, any may be missing.
(() => {
  const table = document.querySelector("table.items");
  const form = document.querySelector("form.controls");
  const count = document.querySelector(".count");
  const body = table.tBodies[0];
  const noun = table.dataset.noun;
  const collator = new Intl.Collator(undefined, {numeric: true, sensitivity: "base"});
  const folded = (text) => text.normalize("NFC").toLowerCase();

  const rows = [...body.rows].map((element, place) => {
    const labels = (element.dataset.labels ?? "").split(" ").filter(Boolean);
    const values = (element.dataset.values ?? "").split(" ").filter(Boolean).map(Number);
    return {
      element,
      place,
      failed: element.classList.contains("failed"),
      labels: new Map(labels.map((label, number) => [label, values[number]])),
      best: values.length ? values[0] : null,
      text: folded([...element.querySelectorAll(".video, .bars bdi, .error")].map((part) => part.textContent).join("\n")),
      keys: [...table.tHead.rows[0].cells].map((_, column) => {
        const cell = element.cells[column];
        return cell.dataset.value ?? cell.textContent.trim();
      }),
    };
  });

  // Rows without a value, as those of failures, come last in either direction; equal ones in the order given.
  function sort(column, descending) {
    const isNumeric = rows.every(({keys}) => keys[column] === "" || !Number.isNaN(Number(keys[column])));
    const compare = isNumeric ? (a, b) => a - b : collator.compare;
    const sorted = [...rows].sort((one, other) => {
      const [a, b] = [one.keys[column], other.keys[column]];
      if (a === "" || b === "") return (a === "") - (b === "") || one.place - other.place;
      return (descending ? compare(b, a) : compare(a, b)) || one.place - other.place;
    });
    body.append(...sorted.map((row) => row.element));
    [...table.tHead.rows[0].cells].forEach((head, number) => {
      head.setAttribute("aria-sort", number !== column ? "none" : descending ? "descending" : "ascending");
    });
  }

  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", column === 0 ? "ascending" : "none");
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      // Numbers begin with the highest.
      sort(column, now === "none" ? head.classList.contains("number") && column > 0 : now === "ascending");
    });
  });

  function filter() {
    const [text, label, percent, state] = ["text", "label", "least", "state"].map((name) => form.elements[name]?.value ?? "");
    const words = folded(text).split(/\s+/).filter(Boolean);
    const least = Number(percent) / 100;
    if (percent) form.querySelector("output").textContent = `${percent}%`;
    let visible = 0, hiddenFailures = 0;
    for (const row of rows) {
      const value = label ? row.labels.get(label) : row.best;
      // Failures have no probability: a filter by it leaves them.
      const fits = row.failed && row.best === null ? label === "" : (!label || value !== undefined) && (value ?? 0) >= least;
      const isVisible =
        fits && words.every((word) => row.text.includes(word)) && (!state || (state === "failed") === row.failed);
      row.element.hidden = !isVisible;
      visible += isVisible;
      hiddenFailures += row.failed && !isVisible;
    }
    const number = (value) => value.toLocaleString("en");
    const all = `${number(rows.length)} ${noun}${rows.length === 1 ? "" : "s"}`;
    const failures = `${number(hiddenFailures)} ${hiddenFailures === 1 ? "failure is" : "failures are"} not shown`;
    count.textContent =
      visible === rows.length ? initial : `${number(visible)} of ${all}${hiddenFailures ? `; ${failures}` : ""}`;
  }

  const initial = count.textContent;
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button").addEventListener("click", () => {
    form.reset();
    filter();
  });
  filter(); // browsers may fill in what was there before
})();
