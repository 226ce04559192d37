"use strict";
// Draws how many of the answers are right by their probability, with uPlot: bars, and the diagonal where both are equal.
(() => {
  const chart = document.querySelector(".chart");
  const data = JSON.parse(document.querySelector("script.calibration").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const percent = (value) => (value == null ? "–" : `${(100 * value).toFixed(1)}%`);
  const axis = {stroke: () => colour("--ink"), grid: {stroke: () => colour("--line")}, ticks: {stroke: () => colour("--line")}};
  const size = () => ({width: Math.max(chart.clientWidth, 100), height: Math.max(Math.min(chart.clientWidth, 420), 200)});

  function diagonal(plot) {
    const {ctx} = plot;
    ctx.save();
    ctx.strokeStyle = colour("--ink");
    ctx.setLineDash([6, 6]);
    ctx.beginPath();
    ctx.moveTo(plot.valToPos(0, "x", true), plot.valToPos(0, "y", true));
    ctx.lineTo(plot.valToPos(1, "x", true), plot.valToPos(1, "y", true));
    ctx.stroke();
    ctx.restore();
  }

  const options = {
    ...size(),
    scales: {x: {time: false, range: () => [0, 1]}, y: {range: () => [0, 1]}},
    series: [
      {label: "probability", value: (_, value) => percent(value)},
      {
        label: "right",
        stroke: () => colour("--curve-0"),
        fill: () => colour("--bar"),
        paths: uPlot.paths.bars({size: [0.9, 100]}),
        points: {show: false},
        value: (_, value) => percent(value),
      },
      {
        label: "mean probability",
        stroke: () => colour("--curve-1"),
        paths: () => null,
        points: {show: true, size: 7, fill: () => colour("--curve-1")},
        value: (_, value) => percent(value),
      },
      {label: "answers", paths: () => null, points: {show: false}, scale: "count", value: (_, value) => value ?? "–"},
    ],
    axes: [
      {...axis, label: "probability of the answer", values: (_, ticks) => ticks.map((value) => `${Math.round(100 * value)}%`)},
      {...axis, label: "right", values: (_, ticks) => ticks.map((value) => `${Math.round(100 * value)}%`), size: 52},
    ],
    cursor: {drag: {x: false, y: false}},
    hooks: {draw: [diagonal]},
  };
  const plot = new uPlot(options, [data.middles, data.accuracies, data.confidences, data.clips], chart);
  new ResizeObserver(() => {
    if (chart.clientWidth && chart.clientWidth !== plot.width) plot.setSize(size());
  }).observe(chart);
})();
