"use strict";

// Charts: each is drawn for the ground that the reader prefers, and drawn anew when that changes.
(() => {
  const source = document.getElementById("drawings");
  if (!source) return;
  const drawings = JSON.parse(source.textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 40rem)");
  // on a phone every second number is enough; names stay
  const isShown = (text) => !narrow.matches || Number.isNaN(Number(text)) || Number(text) % 2 === 0;
  const longest = (text) => Math.max(...text.split(/<br>|\n/).map((line) => line.length));
  const ticks = (axis, width) => {
    if (!axis.ticktext) return axis;
    const kept = [...axis.ticktext.keys()].filter((index) => isShown(axis.ticktext[index]));
    // names that do not fit beside each other are slanted: a letter takes 7 px, an axis 60 more
    const letters = Math.max(...kept.map((index) => longest(axis.ticktext[index]))) + 1;
    const fits = letters * kept.length * 7 < width - 60;
    return {
      ...axis,
      tickangle: fits ? axis.tickangle : -40,
      tickvals: kept.map((index) => axis.tickvals[index]),
      ticktext: kept.map((index) => axis.ticktext[index]),
    };
  };
  // numbers that do not fit into their cells are left to the pointer and the table
  const cells = (trace, width) => {
    if (!trace.texttemplate) return trace;
    const length = (value) => (value === null ? 0 : String(Number(value.toPrecision(3))).length);
    const letters = Math.max(...trace.z.flat().map(length)) + 1;
    const fits = letters * trace.x.length * 7 < width - 150;  // axis and scale take 150
    return fits ? trace : { ...trace, texttemplate: "" };
  };
  const draw = (theme) => {
    for (const element of document.querySelectorAll("[data-figure]")) {
      const drawing = drawings[element.dataset.figure][theme];
      // the page has its own legend, which wraps and never covers data
      const xaxis = ticks(drawing.layout.xaxis, element.clientWidth);
      const layout = { ...drawing.layout, xaxis, showlegend: false };
      const options = { responsive: true, displaylogo: false, displayModeBar: false };
      const data = drawing.data.map((trace) => cells(trace, element.clientWidth));
      Plotly.react(element, data, layout, options);
    }
  };
  const drawForScreen = () => draw(dark.matches ? "dark" : "light");
  drawForScreen();
  dark.addEventListener("change", drawForScreen);
  narrow.addEventListener("change", drawForScreen);
  window.addEventListener("beforeprint", () => draw("light"));
  window.addEventListener("afterprint", drawForScreen);
})();

// Sorting: ascending, descending, as it was. Cells without a value stay last.
(() => {
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
  // a cell that spans columns (why a method failed) has no value, and those after it are not there
  const sortValue = (row, column) => row.cells[column]?.dataset.sort ?? "";
  const isNumber = (text) => text !== "" && Number.isFinite(Number(text));
  const compare = (a, b) => {
    if (isNumber(a) && isNumber(b)) return Number(a) - Number(b);
    return a.localeCompare(b, "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      header.querySelector("button")?.addEventListener("click", () => {
        const order = NEXT[header.getAttribute("aria-sort")];
        for (const other of headers) {
          if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        }
        header.setAttribute("aria-sort", order);
        const sign = order === "descending" ? -1 : 1;
        const sorted = [...original];
        if (order !== "none") {
          sorted.sort((left, right) => {
            const a = sortValue(left, column);
            const b = sortValue(right, column);
            if (a === "" || b === "") return (a === "") - (b === "");
            return sign * compare(a, b);
          });
        }
        body.append(...sorted);
      });
    });
  }
})();
