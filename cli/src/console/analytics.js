// Units and revenue by day: what `orderflow analytics daily` says, drawn by uPlot as the charts of the last hour are. What they come
// to today stands beside each line as text.
"use strict";

const DAILY_POLL_MS = 60000;
const DAILY_HEIGHT = 160;

const dailyPlots = new Map(); // what is drawn, by its title

function dailyOptions(names, seconds, width) {
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const date = (second) => new Date(second * 1000).toLocaleDateString([], { day: "numeric", month: "short", timeZone: "UTC" });
  return {
    width,
    height: DAILY_HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { range: () => [seconds[0], seconds.at(-1)] }, y: { range: (_, __, max) => [0, Math.max(1, max ?? 1)] } },
    axes: [{ ...axis, values: (_, shown) => shown.map(date) }, { ...axis, size: 64 }],
    series: [{}, ...names.map((name, index) => {
      const [stroke, dash] = strokeOf(name, index);
      return { label: name, stroke: colour(stroke), dash, width: 1.5, points: { show: true, size: 4 } };
    })],
  };
}

function dailyFigure(title) {
  const plot = make("div", { class: "plot", role: "img" });
  const figure = make("figure", { class: "card chart", "data-daily": title },
    make("figcaption", {}, make("strong", {}, title)), plot, make("ul", { class: "legend" }));
  $("daily").append(figure);
  return { figure, plot, drawn: null, shape: "" };
}

// `lines`: of each its name, its values, and how the last of them is written.
function showDaily(title, days, lines) {
  const one = dailyPlots.get(title) ?? dailyFigure(title);
  dailyPlots.set(title, one);
  const latest = lines.map((line) => `${line.name} ${line.latest}`).join(", ");
  one.plot.setAttribute("aria-label", `${title} from ${days[0]} to ${days.at(-1)}; today: ${latest}`);
  replaceKeepingFocus(one.figure.querySelector(".legend"), lines.map((line, index) =>
    make("li", {}, swatch(line.name, index), ` ${line.name} `, make("strong", {}, line.latest))));
  const seconds = days.map((day) => Date.parse(`${day}T00:00:00Z`) / 1000);
  const data = [seconds, ...lines.map((line) => line.values)];
  const width = one.plot.clientWidth;
  const names = lines.map((line) => line.name);
  const shape = JSON.stringify([names, days, width, colour("--page")]);
  if (shape === one.shape) {
    one.drawn.setData(data);
    return;
  }
  one.drawn?.destroy();
  one.drawn = new uPlot(dailyOptions(names, seconds, width), data, one.plot);
  one.shape = shape;
}

let dailyCharts = { days: [], currencies: [] };

function showDailyCharts() {
  const { days, currencies } = dailyCharts;
  for (const { currency, lines } of currencies) {
    const named = (values, written) => lines.map((line) => ({ name: line.status, values: values(line), latest: written(values(line).at(-1)) }));
    const of = currencies.length > 1 ? ` (${currency})` : "";
    showDaily(`Units by day${of}`, days, named((line) => line.units, String));
    showDaily(`Revenue by day, ${currency}`, days, named((line) => line.revenue, (value) => value.toFixed(2)));
  }
}

async function pollDaily() {
  try {
    if (!document.hidden) {
      dailyCharts = await call("/api/analytics");
      showDailyCharts();
      setText($("daily-said"), dailyCharts.currencies.length === 0 ? "Nothing is counted on these days." : "");
    }
  } catch (error) {
    setText($("daily-said"), `Not up to date: ${error.message}`);
  }
  setTimeout(pollDaily, DAILY_POLL_MS);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showDailyCharts);
addEventListener("resize", showDailyCharts);
pollDaily();
