// The charts of the last hour: what the console's server has from CloudWatch, or has counted itself. Drawn by uPlot; what they
// come to now stands beside each line as text, for who cannot see them.
"use strict";

const CHARTS_POLL_MS = 10000;
const CHART_HEIGHT = 130;
const WINDOW_SECONDS = 3600;
// By colour and by dashes, so that neither is needed to tell lines apart.
const STROKES = {
  in: ["--accent", []], done: ["--good", [7, 4]], waiting: ["--warn", [2, 3]], dead: ["--bad", [9, 3, 2, 3]],
  handled: ["--good", []], duplicate: ["--soft", [7, 4]], retried: ["--warn", [2, 3]], "dead-lettered": ["--bad", [9, 3, 2, 3]],
  "in flight": ["--accent", []], "orders pending": ["--accent", []], "events to publish": ["--warn", [2, 3]],
  placed: ["--accent", []], confirmed: ["--good", [7, 4]], rejected: ["--bad", [9, 3, 2, 3]], cancelled: ["--warn", [2, 3]],
  expired: ["--bad", [2, 3]], shipped: ["--soft", []], "to be paid": ["--warn", [7, 4]], p50: ["--accent", []], p99: ["--warn", [7, 4]],
};
const OTHER_STROKES = [["--accent", []], ["--good", [7, 4]], ["--warn", [2, 3]], ["--bad", [9, 3, 2, 3]]];
const SOURCES = { cloudwatch: "from CloudWatch", logs: "from the functions' log lines", console: "counted by this console since it began" };

const plots = new Map(); // what is drawn, by the chart's title

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function strokeOf(name, index) {
  return STROKES[name] ?? OTHER_STROKES[index % OTHER_STROKES.length];
}

function newest(values) {
  return values.findLast((value) => value !== null) ?? null;
}

function swatch(name, index) {
  const [stroke, dash] = strokeOf(name, index);
  const svg = draw("svg", { viewBox: "0 0 28 8", width: 28, height: 8, class: "swatch", "aria-hidden": "true" });
  svg.append(draw("line", { x1: 0, y1: 4, x2: 28, y2: 4, stroke: colour(stroke), "stroke-width": 2, "stroke-dasharray": dash.join(" ") }));
  return svg;
}

function plotOptions(chart, width) {
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const clock = (second) => new Date(second * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return {
    width,
    height: CHART_HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { range: () => [Date.now() / 1000 - WINDOW_SECONDS, Date.now() / 1000] }, y: { range: (_, __, max) => [0, Math.max(1, max ?? 1)] } },
    axes: [{ ...axis, values: (_, seconds) => seconds.map(clock) }, { ...axis, size: 48 }],
    series: [{}, ...chart.lines.map((line, index) => {
      const [stroke, dash] = strokeOf(line.name, index);
      return { label: line.name, stroke: colour(stroke), dash, width: 1.5 };
    })],
  };
}

function figureOf(chart) {
  const plot = make("div", { class: "plot", role: "img" });
  const figure = make("figure", { class: "card chart", "data-chart": chart.title },
    make("figcaption", {}, make("strong", {}, chart.title), " ", make("span", { class: "hint" })),
    plot,
    make("ul", { class: "legend" }));
  $("charts").append(figure);
  return { figure, plot, drawn: null, shape: "" };
}

function showChart(chart) {
  const one = plots.get(chart.title) ?? figureOf(chart);
  plots.set(chart.title, one);
  setText(one.figure.querySelector(".hint"), `${chart.unit}, ${SOURCES[chart.source] ?? chart.source}`);
  one.plot.setAttribute("aria-label", `${chart.title} over the last hour; its newest values follow`);
  const legend = chart.lines.map((line, index) => {
    const value = newest(line.values);
    return make("li", {}, swatch(line.name, index), ` ${line.name} `, make("strong", {}, value === null ? "–" : String(Math.round(value))));
  });
  replaceKeepingFocus(one.figure.querySelector(".legend"), legend);
  const data = [chart.times, ...chart.lines.map((line) => line.values)];
  const width = one.plot.clientWidth;
  // Colours and lines are given to uPlot once; with others it is made anew.
  const shape = JSON.stringify([chart.lines.map((line) => line.name), width, colour("--page")]);
  if (shape === one.shape) {
    one.drawn.setData(data);
    return;
  }
  one.drawn?.destroy();
  one.drawn = new uPlot(plotOptions(chart, width), data, one.plot);
  one.shape = shape;
}

let charts = [];

function showCharts() {
  charts.forEach(showChart);
}

async function pollCharts() {
  try {
    if (!document.hidden) {
      charts = await call("/api/rates");
      showCharts();
      setText($("charts-said"), "");
    }
  } catch (error) {
    // The numbers that are drawn are not what is so now.
    setText($("charts-said"), `Not up to date: ${error.message}`);
  }
  setTimeout(pollCharts, CHARTS_POLL_MS);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showCharts);
addEventListener("resize", showCharts);
pollCharts();
