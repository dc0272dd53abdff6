// Puts a chart that can be hovered and zoomed in the place of each drawn one.
"use strict";
(function () {
  const HEIGHT = 230;
  const figures = [...document.querySelectorAll("figure.chart")];
  const live = new Map();

  const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power);
  const WHOLE = [1, 2, 5].flatMap((step) => Array.from({ length: 9 }, (_, power) =>
    step * 10 ** power)).sort((a, b) => a - b);
  const UNITS = {
    s: [[3600, "h"], [300, "min", 60], [1, "s"], [1e-3, "ms"], [0, "µs", 1e-6]],
    bytes: [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [0, "bytes", 1]],
  };

  function words(value, unit, digits) {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    const found = (UNITS[unit] || []).find(([from]) => Math.abs(value) >= from);
    const scaled = found ? value / (found[2] || found[0]) : value;
    const text = Number.isInteger(scaled) && Math.abs(scaled) < 1e6
      ? String(scaled) : String(Number(scaled.toPrecision(digits)));
    return found ? `${text} ${found[1]}` : text;
  }

  // Evenly spaced numbers in one unit, with digits enough that no two read the same.
  function alike(values, unit) {
    const largest = Math.max(...values.map(Math.abs));
    const found = (UNITS[unit] || []).find(([from]) => largest >= from);
    const scaled = values.map((value) => (found ? value / (found[2] || found[0]) : value));
    const most = Math.max(...scaled.map(Math.abs));
    const fixed = most === 0 || (most >= 1e-4 && most < 1e7);
    let texts = [];
    for (let digits = 0; digits < 18; digits++) {
      texts = scaled.map((value) => (fixed ? value.toFixed(digits)
        : String(Number(value.toPrecision(digits + 1)))));
      const gaps = texts.slice(1).map((text, place) => Number(text) - Number(texts[place]));
      const even = !gaps.length || Math.max(...gaps) - Math.min(...gaps)
        <= 0.05 * Math.max(...gaps.map(Math.abs));
      if (even && new Set(texts).size === texts.length) break;
    }
    return texts.map((text) => (found ? `${text} ${found[1]}` : text));
  }

  function colours(figure) {
    const style = getComputedStyle(figure);
    const series = [...figure.querySelectorAll(".legend .swatch line")];
    return {
      ink: getComputedStyle(figure.querySelector("figcaption small")).color,
      line: style.borderTopColor,
      series: series.map((line) => getComputedStyle(line).stroke),
    };
  }

  function draw(figure) {
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const plot = figure.querySelector(".plot");
    if (live.has(figure)) live.get(figure).destroy();
    figure.classList.remove("live");
    const shown = colours(figure);
    figure.classList.add("live");
    const tables = data.series.map(({ points: [xs, ys] }) =>
      [xs, data.logarithmic ? ys.map((y) => (y > 0 ? y : null)) : ys]);
    const labels = new Map();
    for (const one of data.series) {
      one.labels.forEach((label, place) => labels.set(one.points[0][place], label));
    }
    const at = (x) => labels.get(x) || words(x, "", 6);
    const axis = { stroke: shown.ink, font: "12px system-ui", grid: { stroke: shown.line, width: 1 },
      ticks: { show: false } };
    const options = {
      width: plot.clientWidth,
      height: HEIGHT,
      cursor: { sync: data.group ? { key: data.group } : undefined, points: { size: 7 } },
      legend: { live: true, markers: { dash: (_, place) =>
        (place > 0 && data.series[place - 1].dashed ? "dashed" : "solid") } },
      padding: [8, labels.size ? 26 : 12, 0, 0],
      scales: { x: { time: false }, y: data.logarithmic ? { distr: 3 } : { range: around } },
      axes: [
        { ...axis, size: 30, incrs: WHOLE, ...(labels.size ? { splits: () => data.ticks } : {}),
          values: (_, ticks) => ticks.map(at) },
        { ...axis, size: (_, ticks) => 14 + 6.7 * Math.max(4, ...(ticks || []).map((text) => (text || "").length)), ...(data.unit === "bytes" ? { incrs: BINARY } : {}), values: (_, ticks) =>
          (data.logarithmic ? ticks.map((y) => (y === null ? null : words(y, data.unit, 4)))
            : alike(ticks, data.unit)) },
      ],
      series: [
        { label: data.x, value: (_, x) => (x === null || x === undefined ? "–" : at(x)) },
        ...data.series.map((one, place) => ({
          label: one.name,
          stroke: shown.series[place],
          width: 1.7,
          dash: one.dashed ? [6, 4] : undefined,
          points: { show: data.marked, size: 5 },
          spanGaps: false,
          value: (_, y) => words(y, data.unit, 7),
        })),
      ],
    };
    const joined = tables.length > 1
      ? uPlot.join(tables, tables.map((table) => table.map(() => 1))) : tables[0];
    live.set(figure, new uPlot(options, joined, plot));
  }

  // A scale with room around the values, and some around a single one.
  function around(_, low, high) {
    if (low === null) return [0, 1];
    const room = (high - low || Math.abs(low) / 5 || 1) / 10;
    return [low - room, high + room];
  }

  function drawAll() {
    for (const figure of figures) if (live.has(figure)) draw(figure);
  }

  // A chart is made live when it comes near the screen: a page may hold many.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "400px" });
  figures.forEach((figure) => watcher.observe(figure));
  document.addEventListener("theme", drawAll);
  let waiting = 0;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  });
})();
