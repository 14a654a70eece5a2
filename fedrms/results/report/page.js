"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const hiddenStrategies = new Set();
  const strategies = new Set(
    [...document.querySelectorAll("input[name=strategy]")].map((box) => box.value));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const printing = window.matchMedia("print");
  const queued = new Set();
  const drawn = new Set();

  let onPaper = false;
  const paper = {
    "--ink": "#000000", "--faint": "#444444", "--rule": "#bbbbbb", "--panel": "#f4f4f4" };

  function colors() {
    if (onPaper) return (name) => paper[name];  // before the sheet's style holds
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(name).trim();
  }

  // What depends on the page's colors, for every axis, title and note of a figure.
  function theme(layout) {
    const color = colors();
    const change = {
      "font.color": color("--ink"), "legend.bgcolor": "rgba(0,0,0,0)",
      "hoverlabel.bgcolor": color("--panel"), "hoverlabel.font.color": color("--ink"),
      "hoverlabel.bordercolor": color("--faint"),
    };
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      change[key + ".gridcolor"] = color("--rule");
      change[key + ".linecolor"] = color("--faint");
      change[key + ".tickcolor"] = color("--faint");
    }
    return change;
  }

  function set(object, path, value) {
    const keys = path.split(".");
    const last = keys.pop();
    for (const key of keys) object = object[key] = object[key] || {};
    object[last] = value;
  }

  function visible(trace) {
    return !(strategies.has(trace.legendgroup) && hiddenStrategies.has(trace.legendgroup));
  }

  function draw(id) {
    const figure = figures[id];
    const node = document.getElementById(id);
    for (const [path, value] of Object.entries(theme(figure.layout))) set(figure.layout, path, value);
    for (const trace of figure.data) trace.visible = visible(trace);
    const rows = figure.layout.yaxis.ticktext;
    if (rows && node.clientWidth < 500) {  // beside long names a phone has no room for the rows
      figure.layout.yaxis.ticktext = rows.map(
        (told) => told.replace(/^client (?=\d+:)/, "").replace(/^(.{7}).{5,}(.{4})(: [^:]*)$/u, "$1…$2$3"));
    }
    drawn.add(id);
    const made = Plotly.newPlot(node, figure.data, figure.layout, {
      responsive: true, displaylogo: false, doubleClickDelay: 400,
      showSendToCloud: false, plotlyServerURL: "",
      displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
      modeBarButtonsToRemove: ["lasso2d", "select2d"], plotGlPixelRatio: 1,
    });
    return made.then(() => { quiet(node); node.on("plotly_afterplot", () => quiet(node)); });
  }

  // Name and description say it in words; the keyboard passes over what is for the mouse.
  function quiet(node) {
    node.querySelector(".plot-container").setAttribute("aria-hidden", "true");
    for (const button of node.querySelectorAll("a, button, [tabindex]")) {
      button.setAttribute("tabindex", "-1");
    }
    const frame = node.parentElement;
    if (frame.scrollWidth > frame.clientWidth) {
      frame.tabIndex = 0;
      frame.setAttribute("role", "group");
      frame.setAttribute("aria-labelledby", node.getAttribute("aria-labelledby"));
    }
    hint(frame);
  }

  // What is wider than the screen says so.
  function hint(frame) {
    frame.classList.toggle("cut", frame.scrollWidth > frame.clientWidth + 1);
  }

  function shown(id) {
    return document.getElementById(id).closest("[hidden]") === null;
  }

  // One figure at a time, so that the page can be read and scrolled while they are drawn.
  let last = Promise.resolve();
  function drawShown() {
    for (const id of Object.keys(figures)) {
      if (!queued.has(id) && shown(id)) {
        queued.add(id);
        last = last.then(() => drawn.has(id) || draw(id)).then(() => new Promise((done) => setTimeout(done)));
      }
    }
    last = last.then(() => { document.documentElement.dataset.drawn = String(drawn.size); });
    return last;
  }

  function recolor() {
    for (const id of drawn) {
      const node = document.getElementById(id);
      if (node.data && shown(id)) Plotly.relayout(node, theme(figures[id].layout));
    }
  }

  function filter() {
    for (const row of document.querySelectorAll("tr[data-strategy]")) {
      row.hidden = hiddenStrategies.has(row.dataset.strategy);
    }
    for (const id of drawn) {
      const node = document.getElementById(id);
      if (!node.data || !shown(id)) continue;
      const which = figures[id].data.map((trace) => visible(trace));
      if (figures[id].data.some((trace) => strategies.has(trace.legendgroup))) {
        Plotly.restyle(node, { visible: which });
      }
    }
  }

  for (const box of document.querySelectorAll("input[name=strategy]")) {
    box.addEventListener("change", () => {
      if (box.checked) hiddenStrategies.delete(box.value); else hiddenStrategies.add(box.value);
      filter();
    });
  }

  const setting = document.getElementById("setting");
  if (setting) {
    setting.addEventListener("change", () => {
      for (const section of document.querySelectorAll("section.setting")) {
        section.hidden = section.id !== setting.value;
      }
      drawShown().then(() => { filter(); recolor(); });
    });
  }

  for (const field of document.querySelectorAll("input[data-rows]")) {
    const rows = [...document.getElementById(field.dataset.rows).tBodies[0].rows];
    const told = field.closest("p").querySelector("output");
    field.addEventListener("input", () => {
      const words = field.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        const fits = row.textContent.toLowerCase().includes(words);
        row.hidden = !fits;
        count += fits;
      }
      told.textContent = words ? `${count} of ${rows.length} rows` : "";
    });
  }

  // A sheet is narrower than a screen, and white; it holds two figures but for the tall ones.
  function fit(print) {
    if (print === onPaper) return;
    onPaper = print;
    for (const id of drawn) {
      const node = document.getElementById(id);
      if (!node.data || !shown(id)) continue;
      const usual = parseInt(node.style.minHeight, 10);
      const height = print ? Math.min(usual, usual > 460 ? 540 : 340) : usual;
      const sheet = print ? { width: 680 } : { width: null, autosize: true };
      if (node.layout.legend.y < 0) sheet["legend.y"] = -92 / height;
      sheet.height = height;
      Plotly.relayout(node, { ...theme(figures[id].layout), ...sheet });
    }
  }
  // What a hovering mouse opened covers what is under it, until Escape closes it.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const label of document.querySelectorAll(".hoverlayer > *")) {
      Plotly.Fx.unhover(label.closest(".plot"));
    }
  });
  // Who prints at once gets every figure.
  function drawRest() {
    for (const id of queued) if (!drawn.has(id)) draw(id);
    fit(true);
  }
  printing.addEventListener("change", () => fit(printing.matches));
  window.addEventListener("beforeprint", drawRest);
  window.addEventListener("afterprint", () => fit(false));
  const frames = [...document.querySelectorAll(".scroll")];
  const hints = () => frames.forEach(hint);
  window.addEventListener("resize", hints);
  hints();
  dark.addEventListener("change", recolor);
  drawShown();
})();
