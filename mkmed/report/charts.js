"use strict";
// Puts a chart in place of the still picture of each figure that has one; where that fails, the picture stays.
const specs = JSON.parse(document.getElementById("charts").textContent);
for (const figure of document.querySelectorAll("figure[data-chart]")) {
  const spec = specs[figure.dataset.chart], chart = document.createElement("div");
  if (!spec) continue;
  chart.className = "chart";
  figure.hidden = false;
  figure.prepend(chart);
  const options = { ast: true, renderer: figure.dataset.chart === "map" ? "canvas" : "svg", mode: "vega-lite",
    actions: { export: true, source: false, compiled: false, editor: false } };
  vegaEmbed(chart, spec, options).then(() => {
    figure.classList.add("live");
    chart.querySelector("summary")?.setAttribute("aria-label", "Save this chart");
  }, () => { chart.remove(); });
}
