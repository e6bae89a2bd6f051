"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const steps = data.steps;

  const text = (value) => (value === null ? "NaN" : String(Number(value.toPrecision(4))));

  // --- The time axis: everything on it follows two numbers, the shares of the run shown. ---
  const axis = byId("axis");
  if (axis) {
    const plots = [...axis.querySelectorAll(".plot")];
    const least = Math.min(1, Math.max(4 / steps, 1e-5));
    let low = 0, high = 1;

    // --- Heights: a zoom shows the values of its stretch over the whole height of the plot. ---
    const heightOf = (scale, value) => {
      const on = scale.log ? Math.log : Number;
      const share = (on(Math.max(value, scale.log ? scale.low : -Infinity)) - on(scale.low)) / (on(scale.high) - on(scale.low));
      return Math.min(1, Math.max(0, share));
    };
    const valueOf = (scale, height) => {
      if (!scale.log) return scale.low + height * (scale.high - scale.low);
      return Math.exp(Math.log(scale.low) + height * (Math.log(scale.high) - Math.log(scale.low)));
    };
    const seen = (key, first, last) => {
      let bottom = Infinity, top = -Infinity;
      for (const curve of data.curves) {
        if (curve.panel !== key) continue;
        curve.steps.forEach((step, at) => {
          if (step < first || step > last || curve.values[at] === null) return;
          const least = (curve.low ?? curve.values)[at], most = (curve.high ?? curve.values)[at];
          bottom = Math.min(bottom, heightOf(data.scales[key], least));
          top = Math.max(top, heightOf(data.scales[key], most));
        });
      }
      return [bottom, top];
    };
    const fitted = (key, first, last) => {
      const [bottom, top] = seen(key, first, last);
      if (!byId("fit").checked || low === 0 && high === 1 || bottom > top) return [0, 1];
      const room = Math.max(0.06 * (top - bottom), 0.01);
      return [Math.max(0, bottom - room), Math.min(1, top + room)];
    };
    const sizes = (low, high, most) => {
      const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
      const size = [1, 2, 5, 10].map((m) => m * power).find((step) => step >= raw * (1 - 1e-9));
      const first = Math.ceil(low / size - 1e-9), count = Math.floor(high / size + 1e-9) - first + 1;
      return Array.from({ length: Math.max(0, count) }, (_, at) => (first + at) * size);
    };
    const powers = (low, high, most) => {
      const first = Math.ceil(Math.log10(low)), last = Math.floor(Math.log10(high));
      const round = [first - 1, first].flatMap((power) => [1, 2, 5].map((m) => m * 10 ** power)).filter((v) => low <= v && v <= high);
      if (last - first < 1) return round.length > 1 ? round : sizes(low, high, most);
      const every = Math.ceil((last - first + 1) / most);
      return Array.from({ length: Math.floor((last - first) / every) + 1 }, (_, at) => 10 ** (first + at * every));
    };
    const stretch = (plot, svg, first, last) => {
      const key = plot.dataset.panel, scale = data.scales[key];
      const [bottom, top] = fitted(key, first, last), span = top - bottom;
      svg.setAttribute("viewBox", `${1000 * low} ${100 * (1 - top)} ${1000 * (high - low)} ${100 * span}`);
      for (const gap of svg.querySelectorAll(".gaps")) {
        gap.setAttribute("transform", `translate(0 ${100 * (1 - top)}) scale(1 ${span})`);
      }
      const values = (scale.log ? powers : sizes)(valueOf(scale, bottom), valueOf(scale, top), Math.max(2, Math.floor(plot.clientHeight / 30)));
      const heights = values.map((value) => heightOf(scale, value));
      plot.querySelectorAll(".tick").forEach((old) => old.remove());
      plot.prepend(...values.map((value, at) => {
        const tick = document.createElement("span");
        tick.className = "tick";
        tick.style.setProperty("--up", (heights[at] - bottom) / span);
        tick.textContent = text(value);
        return tick;
      }));
      svg.querySelectorAll(".grid").forEach((old) => old.remove());
      svg.prepend(...heights.map((height) => {
        const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
        line.setAttribute("class", "grid");
        line.setAttribute("d", `M0 ${100 * (1 - height)}H1000`);
        return line;
      }));
    };

    const show = (from, to) => {
      const span = Math.min(1, Math.max(least, to - from));
      low = Math.min(1 - span, Math.max(0, from));
      high = low + span;
      axis.style.setProperty("--lo", low);
      axis.style.setProperty("--hi", high);
      const first = Math.round(low * steps), last = Math.round(high * steps);
      for (const svg of axis.querySelectorAll("svg.zoomable")) {
        if (svg.parentElement.dataset.panel) stretch(svg.parentElement, svg, first, last);
        else svg.setAttribute("viewBox", `${1000 * low} 0 ${1000 * span} ${svg.dataset.height}`);
      }
      byId("window").textContent = `steps ${first} to ${last}`;
      byId("scale").replaceChildren(...ticks(first, last));
      Object.assign(byId("step"), { min: first, max: last });
      byId("cursor").hidden = true;
    };

    const ticks = (first, last) => {
      const raw = Math.max(1, (last - first) / 6), power = 10 ** Math.floor(Math.log10(raw));
      const size = Math.max(1, [1, 2, 5, 10].find((m) => m * power >= raw) * power);
      const inner = [];
      for (let at = Math.ceil(first / size) * size; at <= last; at += size) {
        if (at - first > 0.5 * size && last - at > 0.5 * size) inner.push(at);
      }
      return [first, ...inner, last].map((step) => {
        const mark = document.createElement("span");
        mark.style.setProperty("--at", step / steps);
        mark.textContent = step;
        return mark;
      });
    };

    const zoom = (factor, around = (low + high) / 2) => {
      const span = (high - low) * factor;
      show(around - ((around - low) / (high - low)) * span, around + ((high - around) / (high - low)) * span);
    };
    const move = (share) => show(low + share * (high - low), high + share * (high - low));
    const actions = {
      in: () => zoom(0.5), out: () => zoom(2), earlier: () => move(-0.3), later: () => move(0.3), all: () => show(0, 1),
    };
    const keys = { "+": "in", "=": "in", "-": "out", "ArrowLeft": "earlier", "ArrowRight": "later", "0": "all" };
    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => actions[button.dataset.zoom]());
    }
    byId("fit").addEventListener("change", () => show(low, high));
    axis.addEventListener("keydown", (event) => {
      if (event.target !== axis || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
      event.preventDefault();
      actions[keys[event.key]]();
    });

    // --- Reading values: the last point at or before a step. ---
    const valueAt = (curve, step) => {
      let from = 0, to = curve.steps.length;
      while (from < to) {
        const middle = (from + to) >> 1;
        if (curve.steps[middle] <= step) from = middle + 1; else to = middle;
      }
      return from ? text(curve.values[from - 1]) : null;
    };
    const read = (step, cell = "") => {
      const known = data.curves.map((curve) => [curve.name, valueAt(curve, step)]).filter(([, value]) => value !== null);
      byId("reading").textContent = `step ${step}: ${known.map(([name, value]) => `${name} ${value}`).join(" · ")}${cell}`;
      const plot = plots[0], x = ((step / steps - low) / (high - low)) * plot.clientWidth;
      byId("cursor").hidden = x < 0 || x > plot.clientWidth;
      byId("cursor").style.left = `${plot.offsetLeft + x}px`;
    };
    const cellAt = (plot, share, y) => {
      const map = data.maps[plot.dataset.map];
      if (!map) return "";
      const row = Math.min(map.layers.length - 1, Math.floor(y * map.layers.length));
      const place = map.edges.findLastIndex((edge) => edge <= share);
      if (place < 0) return "";
      const value = map.rows[row][Math.min(map.rows[row].length - 1, place)];
      return ` · ${map.layers[row]}: ${value === null ? "nothing recorded" : text(value)}`;
    };
    byId("step").addEventListener("input", (event) => read(Number(event.target.value)));

    // --- The pointer: move to read, drag to zoom, double-click for the whole run. ---
    const shareAt = (plot, event) => {
      const box = plot.getBoundingClientRect();
      return low + (high - low) * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    };
    for (const plot of plots) {
      let start = null, band = null;
      plot.addEventListener("pointermove", (event) => {
        const here = shareAt(plot, event), box = plot.getBoundingClientRect();
        const step = Math.round(here * steps);
        byId("step").value = step;
        read(step, cellAt(plot, here, Math.min(0.999, Math.max(0, (event.clientY - box.top) / box.height))));
        if (start === null) return;
        if (!band) {
          band = document.createElement("div");
          band.className = "selection";
          plot.append(band);
        }
        const [a, b] = [start, here].sort((x, y) => x - y);
        band.style.left = `${((a - low) / (high - low)) * 100}%`;
        band.style.width = `${((b - a) / (high - low)) * 100}%`;
      });
      plot.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || event.pointerType === "touch") return;
        event.preventDefault();
        plot.setPointerCapture(event.pointerId);
        start = shareAt(plot, event);
      });
      const release = (event) => {
        const end = shareAt(plot, event);
        if (start !== null && band && Math.abs(end - start) > 0.01 * (high - low)) show(Math.min(start, end), Math.max(start, end));
        if (band) band.remove();
        start = band = null;
      };
      plot.addEventListener("pointerup", release);
      plot.addEventListener("pointercancel", () => { if (band) band.remove(); start = band = null; });
      plot.addEventListener("dblclick", () => show(0, 1));
    }
    show(0, 1);
  }

  // --- The filter of the findings. ---
  const findings = [...document.querySelectorAll("article.finding")];
  const filter = () => {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean), kind = byId("kind").value;
    let count = 0;
    for (const article of findings) {
      const content = article.textContent.toLowerCase();
      article.hidden = (kind && article.dataset.kind !== kind) || !words.every((word) => content.includes(word));
      count += article.hidden ? 0 : 1;
    }
    byId("count").textContent = `${count} of ${findings.length} shown`;
  };
  if (byId("filter")) {
    byId("filter").addEventListener("input", filter);
    byId("kind").addEventListener("change", filter);
  }
  // A link to a finding that the filter hides must not lead nowhere.
  addEventListener("hashchange", () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    target.querySelectorAll("details").forEach((one) => { one.open = true; });
    if (target.hidden) {
      byId("filter").value = byId("kind").value = "";
      filter();
    }
    target.scrollIntoView();
  });

  // Paper has no way to open what is folded.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
