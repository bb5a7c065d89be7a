"use strict";
(() => {
  const source = document.getElementById("gates");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const $ = (id) => document.getElementById(id);
  const field = $("field"), heat = $("heat"), series = $("series"), readout = $("readout");
  const names = $("names"), words = $("words"), ruler = $("ruler");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const decoded = new Map();
  let row = 0, layer = 0, shown = "kept", step = -1, unit = -1, example = true;

  // Colours: light to deep for a share, orange to blue through the paper for a state.
  const MAPS = {
    light: { share: ["#f3f7f8", "#b9dde2", "#5fb0bd", "#0b7285", "#06323c"], state: ["#b2480a", "#efaf7c", "#f5f7f8", "#86b6dc", "#1c5d99"] },
    dark: { share: ["#17232a", "#12444f", "#177486", "#4fb9ca", "#d6f5f9"], state: ["#ffab6e", "#9a5220", "#1a252c", "#2b6597", "#8ec9ff"] },
  };
  const table = (stops) => {
    const rgb = stops.map((s) => [1, 3, 5].map((i) => parseInt(s.slice(i, i + 2), 16)));
    return Array.from({ length: 256 }, (_, i) => {
      const at = (i / 255) * (rgb.length - 1), k = Math.min(Math.floor(at), rgb.length - 2), f = at - k;
      return rgb[k].map((c, j) => Math.round(c + f * (rgb[k + 1][j] - c)));
    });
  };
  const colours = () => table(MAPS[dark.matches ? "dark" : "light"][shown === "state" || shown === "new" ? "state" : "share"]);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const bytes = (r, l, name) => {
    const key = `${r},${l},${name}`;
    if (!decoded.has(key)) {
      const text = data.rows[r].gates[l][name];
      decoded.set(key, text === undefined ? null : Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    }
    return decoded.get(key);
  };
  const count = () => data.rows[row].labels.length;
  const units = () => data.layers[layer].units;
  const share = (name, u, t) => bytes(row, layer, name)[u * count() + t] / 254;
  const scale = () => data.layers[layer].scale;
  const signed = (name, u, t) => scale() * (2 * share(name, u, t) - 1);
  const state = (u, t) => { const z = share("kept", u, t); return z * signed("before", u, t) + (1 - z) * signed("new", u, t); };
  const value = (u, t) => (shown === "state" ? (state(u, t) / scale() + 1) / 2 : share(shown, u, t));
  const rtl = () => data.rows[row].rtl;
  const column = (t) => (rtl() ? count() - 1 - t : t);

  // Names stand askew over their columns; the last ones may need room at the right.
  const SLOPE = 0.67, WIDEST = 96;
  const width = () => {
    const room = field.parentElement.clientWidth, T = count();
    if (!data.tokens || T > 60) return room;
    const pen = heat.getContext("2d"), wide = Math.max(room, T * 22);
    pen.font = `12.8px ${css("--sans")}`;
    const beyond = data.rows[row].labels.map((name, t) => SLOPE * Math.min(WIDEST, pen.measureText(name.trim()).width) + 10 - ((T - column(t) - 0.5) * wide) / T);
    return Math.max(wide - Math.max(0, ...beyond), T * 22);
  };
  const prepare = (canvas, w, h) => {
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
    canvas.style.height = `${h}px`; canvas.style.width = `${w}px`;
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return pen;
  };
  const height = () => Math.max(160, Math.min(360, units().length * 9));

  function draw() {
    const T = count(), U = units().length, w = width(), h = height(), map = colours();
    field.style.width = `${w}px`;
    const pen = prepare(heat, w, h);
    const picture = new ImageData(T, U);
    for (let u = 0; u < U; u++) for (let t = 0; t < T; t++) {
      const c = map[Math.round(255 * Math.min(1, Math.max(0, value(u, t))))], at = 4 * (u * T + column(t));
      picture.data[at] = c[0]; picture.data[at + 1] = c[1]; picture.data[at + 2] = c[2]; picture.data[at + 3] = 255;
    }
    const small = document.createElement("canvas");
    small.width = T; small.height = U;
    small.getContext("2d").putImageData(picture, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, w, h);
    if (step >= 0) {
      const x = (column(step) * w) / T, cw = w / T, rh = h / U;
      pen.strokeStyle = css("--ink"); pen.lineWidth = 1.5;
      pen.strokeRect(x - 0.5, 0.75, Math.max(cw, 2) + 1, h - 1.5);
      if (unit >= 0) { pen.lineWidth = 2; pen.strokeRect(x - 1.5, unit * rh - 1, Math.max(cw, 2) + 3, rh + 2); }
    }
    drawSeries(w, T);
    drawScale(map);
  }

  function drawSeries(w, T) {
    const values = data.rows[row].values;
    series.hidden = !values;
    if (!values) return;
    const h = 76, pen = prepare(series, w, h), known = values.filter((v) => v !== null);
    if (!known.length) return;
    const low = Math.min(...known), high = Math.max(...known), span = high - low || 1;
    const x = (t) => ((column(t) + 0.5) * w) / T, y = (v) => 8 + (h - 18) * (1 - (v - low) / span);
    pen.strokeStyle = css("--ink"); pen.lineWidth = 1.5; pen.lineJoin = "round"; pen.beginPath();
    let on = false;
    values.forEach((v, t) => { if (v === null) { on = false; return; } if (on) pen.lineTo(x(t), y(v)); else pen.moveTo(x(t), y(v)); on = true; });
    pen.stroke();
    if (step >= 0 && values[step] !== null) {
      pen.fillStyle = css("--accent"); pen.beginPath(); pen.arc(x(step), y(values[step]), 4.5, 0, 7); pen.fill();
    }
  }

  function drawScale(map) {
    const bar = $("bar"), pen = prepare(bar, 128, 10);
    for (let i = 0; i < 128; i++) { const c = map[Math.round((255 * i) / 127)]; pen.fillStyle = `rgb(${c})`; pen.fillRect(i, 0, 1.5, 10); }
    const ends = { kept: ["nothing kept", "all of the past kept"], reset: ["past out of sight", "all of the past in sight"], new: [`−${scale()}`, `+${scale()}`], state: [`−${scale()}`, `+${scale()}`] }[shown];
    $("from").textContent = ends[0]; $("to").textContent = ends[1];
  }

  const escape = (text) => { const s = document.createElement("span"); s.textContent = text; return s.innerHTML; };
  const plain = (v) => (v === null || v === undefined ? "" : (Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(4)))).replaceAll("-", "−"));
  const plus = (v) => (Math.abs(v) < 0.005 ? "0.00" : `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(2)}`);
  const pct = (v) => `${Math.round(100 * v)}%`;
  const label = (t) => data.rows[row].labels[t];

  const hint = readout.innerHTML;
  function tell(said) {
    if (step < 0) return;
    const U = units().length, wide = data.rows[row].width, total = data.rows[row].steps;
    const word = data.tokens ? "token" : "step", last = Math.min((step + 1) * wide, total);
    const place = `${wide > 1 ? `${word}s ${step * wide + 1} to ${last}` : `${word} ${last}`} of ${total.toLocaleString("en")}`;
    let kept = 0; const moved = [];
    for (let u = 0; u < U; u++) {
      const z = share("kept", u, step);
      kept += z / U;
      moved.push([Math.abs(state(u, step) - signed("before", u, step)), u]);
    }
    moved.sort((a, b) => b[0] - a[0]);
    const value = data.rows[row].values ? data.rows[row].values[step] : null;
    const line = (u) => {
      const z = share("kept", u, step), h = signed("before", u, step), n = signed("new", u, step);
      return `<tr><td>${units()[u]}</td><td>${plus(h)}</td><td>${plus(z * h)}</td><td>${plus((1 - z) * h)}</td><td>${plus((1 - z) * n)}</td><td>${plus(z * h + (1 - z) * n)}</td></tr>`;
    };
    const chosen = unit >= 0 ? [unit, ...moved.map((m) => m[1]).filter((u) => u !== unit).slice(0, 2)] : moved.slice(0, 3).map((m) => m[1]);
    const about = unit >= 0
      ? `Unit ${units()[unit]} kept ${pct(share("kept", unit, step))} of its past and took ${pct(1 - share("kept", unit, step))} of what was new.`
      : `All units together kept ${pct(kept)} of the past and took ${pct(1 - kept)} of what was new.`;
    const k = unit >= 0 ? share("kept", unit, step) : kept;
    readout.innerHTML = `${example ? hint : ""}<h3><bdi>${escape(label(step).trim() || "·")}</bdi>${value === null ? "" : ` <span class="hint">${plain(value)}</span>`} <span class="hint">${place}</span></h3>` +
      `<div class="flow" aria-hidden="true"><i class="k" style="width:${100 * k}%"></i><i class="t" style="width:${100 * (1 - k)}%"></i></div><p>${about}</p>` +
      `<p class="hint">${unit >= 0 ? "This unit, and those that moved most:" : "Those that moved most:"}</p><table><thead><tr><th>unit</th><th>had</th><th>kept</th><th>forgot</th><th>took</th><th>has</th></tr></thead><tbody>${chosen.map(line).join("")}</tbody></table>`;
    const may = data.rows[row].chances && data.rows[row].chances[step];
    if (may) readout.innerHTML += chances(may);
    if (said) $("said").textContent = `${label(step)}, ${place}. ${about}${may ? ` ${data.foresees ? "Likeliest next" : "Likeliest here"}: ${seen(may.may[0][0])}, ${pct(may.may[0][1])}.` : ""}`;
  }

  const seen = (name) => ({ " ": "␣", "\n": "⏎", "\t": "⇥", "": "∅" }[name] || name);
  function chances(may) {
    const line = ([name, p]) => `<div class="choice${name === may.came ? " came" : ""}"><b data-came="${data.foresees ? "came" : "is right"}"><bdi>${escape(seen(name))}</bdi></b><div class="bar" aria-hidden="true"><i style="width:${100 * p}%"></i></div><span>${p < 0.0005 ? "&lt;0.1%" : p < 0.01 ? `${(100 * p).toFixed(1)}%` : pct(p)}</span></div>`;
    const other = may.came !== null && !may.may.some(([name]) => name === may.came);
    const came = other ? `<p class="hint">${data.foresees ? "What came" : "What is right"}, <bdi>${escape(seen(may.came))}</bdi>, is not among the likeliest ${may.may.length}.</p>` : "";
    return `<p class="hint next">${data.foresees ? "What the model expects next:" : "What the model says here:"}</p>${may.may.map(line).join("")}${came}`;
  }

  function mark() {
    for (const box of [names, words]) for (const s of box.children) s.classList.toggle("on", Number(s.dataset.step) === step);
  }
  function choose(t, u, said) {
    example = false;
    step = Math.max(0, Math.min(count() - 1, t)); unit = Math.max(-1, Math.min(units().length - 1, u));
    draw(); mark(); tell(said);
    if (said && field.parentElement.scrollWidth > field.parentElement.clientWidth) {
      const at = ((column(step) + 0.5) * width()) / count();
      field.parentElement.scrollLeft = at - field.parentElement.clientWidth / 2;
    }
  }

  // Until something is chosen: the step at which least was kept.
  function rest() {
    const U = units().length;
    let least = Infinity;
    for (let t = Math.min(1, count() - 1); t < count(); t++) {
      let kept = 0;
      for (let u = 0; u < U; u++) kept += share("kept", u, t);
      if (kept < least) { least = kept; step = t; }
    }
    example = true; unit = -1;
  }

  function text() {
    const labels = data.rows[row].labels, T = labels.length, w = width(), few = data.tokens && T <= 60;
    names.hidden = !few; names.replaceChildren(); words.hidden = !data.tokens; words.replaceChildren();
    if (few) labels.forEach((name, t) => {
      const s = document.createElement("span"); s.textContent = name.trim() || "·"; s.dir = "auto"; s.dataset.step = t;
      s.style.left = `${((column(t) + 0.5) * w) / T}px`; names.append(s);
    });
    words.dir = rtl() ? "rtl" : "auto";
    if (data.tokens) labels.forEach((name, t) => {
      const s = document.createElement("span"); s.textContent = name; s.dataset.step = t;
      let kept = 0; const U = units().length; for (let u = 0; u < U; u++) kept += share("kept", u, t) / U;
      s.style.backgroundColor = `color-mix(in srgb, var(--accent) ${Math.round(38 * (1 - kept))}%, transparent)`;
      words.append(s, labels.some((l) => /\s/.test(l)) ? "" : " ");
    });
    ruler.dir = rtl() ? "rtl" : "ltr"; ruler.hidden = few;
    ruler.replaceChildren(...[0, Math.floor((T - 1) / 2), T - 1].map((t) => { const s = document.createElement("bdi"); s.textContent = labels[t]; return s; }));
  }
  function all() { if (example || step >= count()) rest(); if (unit >= units().length) unit = -1; text(); draw(); mark(); tell(false); if (example && rtl()) field.parentElement.scrollLeft = field.parentElement.scrollWidth; }

  function at(event) {
    const box = heat.getBoundingClientRect(), T = count();
    const c = Math.floor(((event.clientX - box.left) / box.width) * T), inside = event.clientY >= box.top;
    const u = inside ? Math.floor(((event.clientY - box.top) / box.height) * units().length) : -1;
    choose(rtl() ? T - 1 - c : c, u, false);
  }
  field.addEventListener("pointermove", at);
  field.addEventListener("pointerdown", at);
  field.addEventListener("focus", () => { if (example) choose(0, -1, true); });
  field.addEventListener("keydown", (event) => {
    const ahead = rtl() ? -1 : 1;
    const moves = { ArrowRight: [ahead, 0], ArrowLeft: [-ahead, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], PageDown: [10, 0], PageUp: [-10, 0] };
    if (event.key in moves) choose(step + moves[event.key][0], unit + moves[event.key][1], true);
    else if (event.key === "Home") choose(0, unit, true);
    else if (event.key === "End") choose(count() - 1, unit, true);
    else if (event.key === "Escape") choose(step, -1, true);
    else return;
    event.preventDefault();
  });
  words.addEventListener("pointerover", (event) => { if (event.target.dataset.step) choose(Number(event.target.dataset.step), unit, false); });
  words.addEventListener("click", (event) => { if (event.target.dataset.step) choose(Number(event.target.dataset.step), unit, false); });

  const listen = (id, then) => { const e = $(id); if (e) e.addEventListener("change", (event) => { then(event.target.value); all(); }); };
  listen("row", (v) => { row = Number(v); example = true; });
  listen("layer", (v) => { layer = Number(v); unit = -1; if (shown === "reset" && !data.layers[layer].reset) { shown = "kept"; $("show").querySelector("input").checked = true; } });
  listen("show", (v) => { if (v !== "reset" || data.layers[layer].reset) shown = v; });
  dark.addEventListener("change", draw);
  new ResizeObserver(() => { text(); draw(); mark(); }).observe(field.parentElement);
  all();
  window.gateReport = { choose, get at() { return { step, unit, row, layer, shown }; } };
})();
