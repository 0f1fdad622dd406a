// Draws the figures of a page; colours are variables of the style sheet, so they follow its theme.
"use strict";

const drawn = new Map();

function colour(value, style) {   // every "var(--name)" within a figure becomes its colour
  if (typeof value === "string" && value.startsWith("var(")) return style.getPropertyValue(value.slice(4, -1)).trim();
  if (Array.isArray(value)) return value.map(item => colour(item, style));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, colour(item, style)]));
  return value;
}

function dress(layout, style) {
  const ink = style.getPropertyValue("--ink").trim(), grid = style.getPropertyValue("--line").trim();
  const dressed = {
    ...layout, autosize: true, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: layout.plot_bgcolor ?? "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif", size: 12 }, margin: { l: 64, r: 16, t: layout.margin?.t ?? (layout.showlegend === false ? 8 : 36), b: 44 },
  };
  for (const key of Object.keys(dressed))
    if (/^[xy]axis/.test(key)) dressed[key] = { ...dressed[key], gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true, title: { standoff: 8, ...dressed[key].title } };
  return dressed;
}

async function draw(node) {
  const text = document.getElementById(`${node.id}-data`).textContent;
  const style = getComputedStyle(document.documentElement);
  const key = style.getPropertyValue("--ground") + text;
  if (drawn.get(node) === key) return;
  drawn.set(node, key);
  const figure = colour(JSON.parse(text), style);
  node.style.height = `${figure.layout.height}px`;
  await Plotly.react(node, figure.data, dress(figure.layout, style), { displayModeBar: false, responsive: true });
  node.removeAllListeners?.("plotly_click");
  node.on("plotly_click", event => {
    const { customdata, data, y } = event.points[0];   // the address of a row, or of a point
    const address = data.meta?.address ? data.meta.address + encodeURIComponent(y) : customdata;
    if (typeof address === "string") location.href = address;
  });
}

// --- saving: the figure as it is drawn, on the colour of its panel ----------------------------------------------

const PIXELS = 2;   // of a PNG for each of the page

const slug = text => text.trim().replace(/[^\w.-]+/g, "-");

async function render_png(svg, width, height) {   // by a canvas of ours: plotly's would need images from blob addresses
  const image = new Image();
  image.src = svg;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: PIXELS * width, height: PIXELS * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
}

async function save(button) {
  const bar = button.closest("[data-save]"), node = document.getElementById(bar.dataset.save), format = button.dataset.format;
  const style = getComputedStyle(document.documentElement), width = node.clientWidth, height = node.clientHeight;
  const layout = { ...node.layout, autosize: false, width, height, paper_bgcolor: style.getPropertyValue("--panel").trim() };
  const svg = await Plotly.toImage({ data: node.data, layout }, { format: "svg", width, height });
  const page = button.closest("[data-file]")?.dataset.file ?? document.title.replace(/ - dqm$/, "");
  const link = document.createElement("a");
  link.href = format === "svg" ? svg : await render_png(svg, width, height);
  link.download = `${slug(page)}-${slug(bar.dataset.name)}.${format}`;
  link.click();
}

document.addEventListener("click", event => {
  const button = event.target.closest("button[data-format]");
  if (button) save(button);
});

async function draw_all() {
  for (const node of document.querySelectorAll("[data-chart]")) await draw(node);
  for (const bar of document.querySelectorAll("[data-save]")) bar.hidden = false;
  document.documentElement.dataset.drawn = "yes";
}

document.addEventListener("refreshed", draw_all);
matchMedia("(prefers-color-scheme: light)").addEventListener("change", draw_all);
draw_all();
