// Shows the values of all curves at the pointer's step. Without scripts only this is missing.
"use strict";
for (const chart of document.querySelectorAll("svg[data-domain]")) {
  const [x0, x1, y0, y1] = chart.dataset.domain.split(" ").map(Number);
  const lines = [...chart.querySelectorAll("path[data-name]")].map((path) => ({
    name: path.dataset.name,
    points: [...path.getAttribute("d").matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)].map((m) => [+m[1], +m[2]]),
  })).filter((line) => line.points.length);
  if (!lines.length) continue;
  const height = chart.height.baseVal.value;
  const cut = chart.dataset.cut ?? "";
  // Values beyond the axis are drawn on its end.
  const beyond = (y) => cut.includes("above") && y <= 0.05 ? "≥ " : cut.includes("below") && y >= height - 0.05 ? "≤ " : "";
  const rule = document.createElementNS("http://www.w3.org/2000/svg", "line");
  rule.setAttribute("class", "readout");
  rule.setAttribute("y2", height);
  const text = document.createElement("div");
  text.className = "readout-text";
  const short = (value) => Number(value.toPrecision(3)).toString();
  const write = {
    plain: short,
    percent: (value) => (100 * value).toFixed(1) + " %",
    count: (value) => value >= 1e9 ? short(value / 1e9) + " G" : value >= 1e6 ? short(value / 1e6) + " M"
      : value >= 1e3 ? short(value / 1e3) + " k" : short(value),
  }[chart.dataset.unit];
  const hide = () => { rule.remove(); text.remove(); };
  chart.parentElement.addEventListener("pointerleave", hide);
  chart.parentElement.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const at = 1000 * (event.clientX - box.left) / box.width;
    if (at < 0 || at > 1000) return hide();
    const nearest = lines.map(({ name, points }) => {
      const point = points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
      return { name, point };
    });
    const x = nearest.reduce((a, b) => Math.abs(b.point[0] - at) < Math.abs(a - at) ? b.point[0] : a, Infinity);
    const near = nearest.filter(({ point }) => Math.abs(point[0] - x) < 20);
    const values = near.map(({ name, point }) => name + " " + beyond(point[1]) + write(y1 - (y1 - y0) * point[1] / height));
    rule.setAttribute("x1", x / 10 + "%");
    rule.setAttribute("x2", x / 10 + "%");
    chart.append(rule);
    text.textContent = "step " + Math.round(x0 + (x1 - x0) * x / 1000) + "  ·  " + values.join("  ·  ");
    chart.parentElement.append(text);
    const offset = box.left - chart.parentElement.getBoundingClientRect().left + box.width * x / 1000;
    const left = Math.min(offset + 10, chart.parentElement.clientWidth - text.offsetWidth);
    text.style.left = Math.max(left, 0) + "px";
    text.style.top = "0px";
  });
}
