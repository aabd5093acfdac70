/* The photo as a canvas, its sentence, and its beam search as a tree: three parts that share what is looked at.

One source for the Streamlit page, the Gradio page and the offline report; `captionbot/draw/canvas.py` says
what each part is given. A part is `CaptionBot.mount(root, data, send)`; `send(event, value)` tells the page
what the visitor did. Maps are drawn here, from P numbers a word, so that pointing at a word asks no server.
*/
const CaptionBot = (() => {
  "use strict";
  const SIDE = 96; // pixels of a map, each way, before the browser enlarges it
  const BLUR = 0.6; // as captionbot.explain.attention_maps
  const BEAT = 480; // milliseconds of a word as the sentence plays
  const PATIENCE = 20000; // milliseconds until a question counts as refused
  const TOURED = "captionbot.toured"; // under which a browser remembers the tour
  const BRUSH = 32; // cells of the brush, each way
  const LINES = [0.3, 0.5, 0.7, 0.9]; // of equal attention, as captionbot.draw.overlays.contours
  const INFERNO = ["000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d",
    "fcffa4"].map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  /* What the parts of one page share. t: the word that is chosen; hover: that is pointed at; branch: a map of
     the beam search; kind: which of a word's maps is drawn; spot: the cell of the photo that is asked about;
     step: how far the sentence has played; tour: the card of the tour, while there is one. */
  class Store {
    constructor() {
      Object.assign(this, { sentence: null, photo: null, t: null, hover: null, branch: null, kind: "looked",
        spot: null, step: null, timer: 0, parts: new Set(), tour: null });
    }
    set(changes) {
      if (changes.hover != null || changes.t != null || changes.step != null || changes.branch) this.spot = null;
      Object.assign(this, changes);
      this.parts.forEach((part) => part());
    }
    get word() { return this.hover ?? (this.step === null ? this.t : this.step); }
    map() {
      if (this.branch) return this.branch;
      if (this.spot !== null) return null;
      const word = this.sentence?.words[this.word];
      return word ? (this.kind === "needs" && word.needs) || word.looked : null;
    }
    stop() { clearInterval(this.timer); this.timer = 0; }
    play() {
      this.stop();
      const words = this.sentence?.words.length ?? 0;
      if (!words) return;
      this.set({ step: 0, hover: null, branch: null });
      this.timer = setInterval(() => {
        if (this.step + 1 < words) return this.set({ step: this.step + 1 });
        this.stop();
        this.set({ step: null });
      }, BEAT);
      this.set({});
    }
  }
  const store = () => (window.captionbotStore ??= new Store());

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made[name] = value;
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value != null) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child != null));
    return made;
  }
  const button = (text, onclick, attributes = {}) =>
    element("button", { type: "button", onclick, ...attributes }, text);

  // ---- maps -------------------------------------------------------------------------------------------

  /* P weights on a grid or in boxes (fractions of the photo) -> SIDE x SIDE numbers in 0..1. smooth: whether a
     grid's cells run into one another. */
  function field(weights, places, smooth = true) {
    const out = new Float32Array(SIDE * SIDE);
    if (places.grid) {
      const [rows, columns] = places.grid, across = shares(columns, smooth), down = shares(rows, smooth);
      const middle = new Float32Array(rows * SIDE);
      for (let r = 0; r < rows; r++)
        for (let x = 0; x < SIDE; x++)
          for (let c = 0; c < columns; c++)
            middle[r * SIDE + x] += weights[r * columns + c] * across[x * columns + c];
      for (let y = 0; y < SIDE; y++)
        for (let r = 0; r < rows; r++)
          for (let x = 0; x < SIDE; x++) out[y * SIDE + x] += middle[r * SIDE + x] * down[y * rows + r];
    } else {
      weights.forEach((weight, place) => {
        const [left, top, right, bottom] = places.boxes[place].map((edge) => Math.round(edge * SIDE));
        for (let y = top; y < Math.max(bottom, top + 1) && y < SIDE; y++)
          for (let x = left; x < Math.max(right, left + 1) && x < SIDE; x++) out[y * SIDE + x] += weight;
      });
    }
    const peak = out.reduce((most, value) => Math.max(most, value), 0);
    return peak > 0 ? out.map((value) => value / peak) : out;
  }
  function shares(cells, smooth) {
    const out = new Float32Array(SIDE * cells);
    for (let x = 0; x < SIDE; x++) {
      if (!smooth) {
        out[x * cells + Math.floor(((x + 0.5) / SIDE) * cells)] = 1;
        continue;
      }
      let sum = 0;
      for (let c = 0; c < cells; c++) {
        const apart = ((x + 0.5) / SIDE) * cells - (c + 0.5);
        sum += out[x * cells + c] = Math.exp(-(apart * apart) / (2 * BLUR * BLUR)) + 1e-12;
      }
      for (let c = 0; c < cells; c++) out[x * cells + c] /= sum;
    }
    return out;
  }
  /* look: strength, shape and colours, as `captionbot.draw.canvas.look` says them. */
  function paint(context, values, { strength = 0.6, shape = "smooth", colours = null } = {}) {
    const image = context.createImageData(SIDE, SIDE), scale = colours ?? INFERNO;
    const above = (value) => LINES.filter((level) => value >= level).length;
    values.forEach((value, at) => {
      let alpha = (0.15 + 0.85 * value) * Math.min(1, 4 * value + 0.25), hot = value;
      if (shape === "contour") {
        const beside = [(at + 1) % SIDE ? values[at + 1] : value, values[at + SIDE] ?? value];
        const lines = Math.max(above(value), ...beside.map(above));
        alpha = beside.some((other) => above(other) !== above(value)) ? 1 : 0;
        hot = 0.35 + 0.65 * (LINES[lines - 1] ?? 0);
      } else if (!scale.length) alpha = 1 - value;
      if (scale.length) {
        const place = hot * (scale.length - 1), low = Math.min(Math.floor(place), scale.length - 2);
        for (let c = 0; c < 3; c++)
          image.data[4 * at + c] = scale[low][c] + (place - low) * (scale[low + 1][c] - scale[low][c]);
      } else if (shape === "contour") image.data.fill(255, 4 * at, 4 * at + 3);
      image.data[4 * at + 3] = 255 * strength * alpha;
    });
    context.putImageData(image, 0, 0);
  }

  // ---- the way in -------------------------------------------------------------------------------------

  /* The first stop of the keyboard leads to the photo, past whatever the page has above it. */
  function skipLink(text) {
    if (!text || document.querySelector(".cb-skip")) return;
    const photo = () => document.getElementById("cb-photo");
    const link = element("a", { class: "cb-skip", href: "#cb-photo",
      onfocus: () => { if (!photo()) link.remove(); }, // the page has turned to something else
      onclick: (event) => { event.preventDefault(); photo()?.focus(); } }, text);
    document.body.prepend(link);
  }

  /* Whether this browser had the tour; so says one that remembers nothing, or it would come every time. */
  function toured() {
    try {
      return localStorage.getItem(TOURED) !== null;
    } catch { return true; }
  }
  function remember() {
    try {
      localStorage.setItem(TOURED, "yes");
    } catch { /* asked for again, it comes again */ }
  }

  /* A card that shows a newcomer around, a step at a time. It takes the keyboard only once it was used or asked
     for, and Escape ends it wherever the keyboard is. says: texts, and steps that each have what they point at
     (a CSS selector). asked: whether the visitor wants it, the first time or again. */
  function tour(root, says, asked = false) {
    const shared = store();
    if (!says || shared.tour?.isConnected || (!asked && toured())) return;
    remember();
    const text = element("p", { "aria-live": "polite" }), bar = element("div", { class: "cb-bar" });
    const card = (shared.tour = element("section", { class: "cb-tour", "aria-label": says.title }, text, bar));
    let shown = null;
    function leave() {
      const held = card.contains(document.activeElement);
      shown?.classList.remove("cb-toured");
      card.remove();
      if (held) root.querySelector(".cb-frame")?.focus({ preventScroll: true });
    }
    document.addEventListener("keydown", function escape(event) {
      const elsewhere = event.target.closest?.("[role=dialog]"); // which closes by the same key
      if (card.isConnected && event.key === "Escape" && !elsewhere) leave();
      if (!card.isConnected) document.removeEventListener("keydown", escape);
    });
    function show(step) {
      shown?.classList.remove("cb-toured");
      if (step === says.steps.length) return leave();
      const last = step + 1 === says.steps.length;
      shown = document.querySelector(says.steps[step].at);
      shown?.classList.add("cb-toured");
      if (step) shown?.scrollIntoView({ block: "nearest", behavior: still() ? "auto" : "smooth" });
      text.textContent = says.steps[step].text;
      bar.replaceChildren(
        button(last ? says.done : says.next, () => show(step + 1), { class: "cb-main" }),
        ...(last ? [] : [button(says.skip, leave)]),
        element("span", { class: "cb-hint" }, `${step + 1} / ${says.steps.length}`),
      );
      if (step || asked) bar.firstChild.focus({ preventScroll: true });
    }
    root.append(card);
    show(0);
  }

  // ---- the photo --------------------------------------------------------------------------------------

  function photoPart(root, send) {
    const shared = store();
    const image = element("img", { draggable: "false" });
    const heat = element("canvas", { class: "cb-heat", width: SIDE, height: SIDE, "aria-hidden": "true" });
    const cover = element("canvas", { class: "cb-cover", "aria-hidden": "true" });
    const marks = element("div", { class: "cb-marks" });
    const ring = element("div", { class: "cb-ring", hidden: true });
    const frame = element("div", { class: "cb-frame", id: "cb-photo", tabindex: "0", role: "group" }, image, heat, cover, ring, marks);
    const badge = element("p", { class: "cb-badge", role: "status" });
    const tools = element("div", { class: "cb-bar", role: "toolbar" });
    const sources = element("div", { class: "cb-sources" });
    const video = element("video", { hidden: true, autoplay: true, playsinline: true, muted: true });
    const stage = element("div", { class: "cb-stage" }, frame, video);
    root.replaceChildren(element("div", { class: "cb cb-photo" }, stage, badge, tools, sources));
    let data = null, says = {}, tool = null, only = false, start = null, drawn = null, painted = new Set();
    let values = new Float32Array(SIDE * SIDE), drawnMap = null, frameId = 0;
    const context = heat.getContext("2d");

    function showMap() {
      const map = shared.map();
      if (map === drawnMap) return;
      drawnMap = map;
      cancelAnimationFrame(frameId);
      heat.style.opacity = map ? 1 : 0;
      if (!map) return void (badge.textContent = "");
      const target = field(map, shared.branch ? shared.sentence.places
        : (shared.kind === "needs" && shared.sentence.needs) || shared.sentence.places,
      shared.sentence.look?.shape !== "cells");
      const from = values, began = performance.now(), last = still() ? 0 : 160;
      const draw = (now) => {
        const share = last ? Math.min(1, Math.max(0, (now - began) / last)) : 1;
        values = target.map((value, at) => from[at] + share * (value - from[at]));
        paint(context, values, shared.sentence.look);
        if (share < 1) frameId = requestAnimationFrame(draw);
      };
      draw(began + 40); // at once, then smoothly
      heat.dataset.word = shared.branch ? "" : shared.sentence.words[shared.word]?.text ?? "";
    }
    function place(event) {
      const edge = frame.getBoundingClientRect(), within = (part) => Math.min(1, Math.max(0, part));
      return [within((event.clientX - edge.left) / edge.width), within((event.clientY - edge.top) / edge.height)];
    }
    function drawCover() {
      const width = (cover.width = image.clientWidth || 1), height = (cover.height = image.clientHeight || 1);
      const pen = cover.getContext("2d"), boxes = [...(data?.hidden ?? []), ...(drawn ? [drawn] : []), ...runs()];
      pen.clearRect(0, 0, width, height);
      const inverse = drawn || painted.size ? only : data?.only;
      if (!boxes.length) return;
      pen.fillStyle = "rgb(20 20 30 / 0.72)";
      if (inverse) pen.fillRect(0, 0, width, height);
      for (const [left, top, right, bottom] of boxes) {
        const box = [left * width, top * height, (right - left) * width + 0.5, (bottom - top) * height + 0.5];
        inverse ? pen.clearRect(...box) : pen.fillRect(...box);
      }
      if (drawn) {
        pen.strokeStyle = "#fff";
        pen.lineWidth = 2;
        pen.strokeRect(drawn[0] * width, drawn[1] * height, (drawn[2] - drawn[0]) * width,
          (drawn[3] - drawn[1]) * height);
      }
    }
    /* What is painted, as one box for each run of cells of a row. */
    function runs() {
      const boxes = [];
      for (let y = 0; y < BRUSH; y++)
        for (let x = 0; x < BRUSH; x++)
          if (painted.has(y * BRUSH + x)) {
            const left = x;
            while (x + 1 < BRUSH && painted.has(y * BRUSH + x + 1)) x++;
            boxes.push([left / BRUSH, y / BRUSH, (x + 1) / BRUSH, (y + 1) / BRUSH]);
          }
      return boxes;
    }
    function dab([x, y]) {
      const reach = 1.6;
      for (let r = 0; r < BRUSH; r++)
        for (let c = 0; c < BRUSH; c++)
          if (Math.hypot((c + 0.5) - x * BRUSH, (r + 0.5) - y * BRUSH) < reach) painted.add(r * BRUSH + c);
    }
    function hide() {
      const boxes = [...(only ? [] : data.hidden ?? []), ...(drawn ? [drawn] : []), ...runs()]
        .map((box) => box.map((edge) => Math.round(edge * 1000) / 1000));
      drawn = null;
      painted = new Set();
      if (boxes.length) ask("hide", { boxes, only });
    }
    function ask(event, value) {
      stage.classList.add("cb-busy");
      stage.setAttribute("aria-busy", "true");
      setTimeout(() => stage.classList.remove("cb-busy"), PATIENCE);
      send(event, value);
    }
    // ---- a place, and the words that need it
    const spots = () => shared.sentence?.spots;
    function askAbout(column, row) {
      const { grid: [rows, columns] } = spots(), within = (cell, most) => Math.min(most - 1, Math.max(0, cell));
      shared.stop();
      shared.set({ t: null, hover: null, step: null, branch: null,
        spot: within(row, rows) * columns + within(column, columns) });
    }
    function showSpot() {
      const known = spots(), cell = known ? shared.spot : null;
      if (cell === null && !ring.hidden) badge.textContent = "";
      ring.hidden = cell === null;
      if (cell === null) return;
      const { grid: [rows, columns], area: [left, top, right, bottom] } = known;
      const side = (start, end, at, cells) => [at - 1, at + 2].map((edge) =>
        100 * (start + (end - start) * Math.min(cells, Math.max(0, edge)) / cells));
      const [x0, x1] = side(left, right, cell % columns, columns);
      const [y0, y1] = side(top, bottom, Math.floor(cell / columns), rows);
      ring.style.cssText = `left:${x0}%;top:${y0}%;width:${x1 - x0}%;height:${y1 - y0}%`;
      badge.textContent = known.says[cell];
    }
    frame.onclick = (event) => {
      if (tool || !spots() || event.target.closest(".cb-box")) return;
      const [x, y] = place(event), { grid: [rows, columns], area: [left, top, right, bottom] } = spots();
      if (x < left || x > right || y < top || y > bottom) return;
      askAbout(Math.floor((x - left) / (right - left) * columns), Math.floor((y - top) / (bottom - top) * rows));
    };
    function step(event) {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") return shared.set({ spot: null });
      if (!way || !spots() || event.target !== frame) return;
      event.preventDefault();
      const { grid: [rows, columns] } = spots(), cell = shared.spot ?? Math.floor(rows / 2) * columns + columns / 2;
      const [dx, dy] = shared.spot === null ? [0, 0] : way;
      askAbout(cell % columns + dx, Math.floor(cell / columns) + dy);
    }
    frame.onpointerdown = (event) => {
      if (!tool || event.button) return;
      event.preventDefault();
      frame.setPointerCapture(event.pointerId);
      start = place(event);
      if (tool === "brush") dab(start);
      drawCover();
    };
    frame.onpointermove = (event) => {
      if (!start) return;
      const [x, y] = place(event);
      if (tool === "brush") dab([x, y]);
      else drawn = [Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])];
      drawCover();
    };
    frame.onpointerup = () => {
      if (start && (painted.size || (drawn && drawn[2] - drawn[0] > 0.01 && drawn[3] - drawn[1] > 0.01))) hide();
      start = drawn = null;
      drawCover();
    };
    frame.onkeydown = (event) => {
      if (!tool) return step(event);
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (way) {
        event.preventDefault();
        drawn ??= [0.35, 0.35, 0.65, 0.65];
        const [dx, dy] = way.map((part) => part * 0.05), [left, top, right, bottom] = drawn;
        drawn = event.shiftKey
          ? [left, top, Math.min(1, Math.max(left + 0.05, right + dx)), Math.min(1, Math.max(top + 0.05, bottom + dy))]
          : left + dx < -0.001 || right + dx > 1.001 || top + dy < -0.001 || bottom + dy > 1.001 ? drawn
            : [left + dx, top + dy, right + dx, bottom + dy];
        drawn = drawn.map((edge) => Math.min(1, Math.max(0, edge)));
        drawCover();
      } else if (event.key === "Enter" && drawn) hide();
      else if (event.key === "Escape") choose(null);
    };
    function choose(next) {
      tool = tool === next ? null : next;
      drawn = null;
      painted = new Set();
      showTools();
      drawCover();
      if (tool) frame.focus({ preventScroll: true });
    }
    function showTools() {
      frame.classList.toggle("cb-hiding", Boolean(tool));
      const hiding = data.hidden?.length || data.places?.some((place) => !place.on);
      tools.hidden = !send;
      tools.setAttribute("aria-label", says.tools ?? "");
      tools.replaceChildren(
        ...(send ? [
          button(says.rectangle, () => choose("rectangle"), { "aria-pressed": String(tool === "rectangle") }),
          button(says.brush, () => choose("brush"), { "aria-pressed": String(tool === "brush") }),
          tool ? element("label", {}, element("input", { type: "checkbox", checked: only,
            onchange: (event) => { only = event.target.checked; } }), says.only) : null,
          hiding ? button(says.whole, () => { tool = null; ask("hide", { boxes: [], only: false }); },
            { class: "cb-main" }) : null,
        ].filter(Boolean) : []),
        element("span", { class: "cb-hint" }, tool ? says.how : ""),
      );
      marks.replaceChildren(...(data.places ?? []).map((place, at) => button(
        element("span", {}, place.name),
        () => ask("drop", data.places.filter((one, i) => (i === at) === one.on).map((one) => one.place)),
        { class: "cb-box", "aria-pressed": String(!place.on), "aria-label": `${says.drop} ${place.name}`,
          style: `left:${100 * place.box[0]}%;top:${100 * place.box[1]}%;`
            + `width:${100 * (place.box[2] - place.box[0])}%;height:${100 * (place.box[3] - place.box[1])}%` },
      )));
    }

    // Photos of one's own go through the page's own uploader, which knows its limits.
    function give(files) {
      if (!files.length) return;
      if (!data.uploader) return ask("file", files[0]);
      const input = document.querySelector(data.uploader), given = new DataTransfer();
      if (!input) return;
      given.items.add(files[0]);
      input.files = given.files;
      stage.classList.add("cb-busy");
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }
    async function camera() {
      if (!video.hidden) return shoot();
      try {
        video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
        video.hidden = false;
        showSources();
      } catch { tell(says.nocamera); }
    }
    function shoot() {
      const shot = element("canvas", { width: video.videoWidth, height: video.videoHeight });
      shot.getContext("2d").drawImage(video, 0, 0);
      video.srcObject.getTracks().forEach((track) => track.stop());
      video.hidden = true;
      showSources();
      shot.toBlob((blob) => give([new File([blob], "camera.jpg", { type: "image/jpeg" })]), "image/jpeg", 0.92);
    }
    function tell(text) { badge.textContent = text; }
    function showSources() {
      if (!data.samples) return;
      const file = element("input", { type: "file", accept: "image/*", hidden: true, tabindex: "-1",
        "aria-label": says.upload, onchange: (event) => give(event.target.files) });
      const address = element("input", { type: "url", placeholder: says.address, "aria-label": says.link,
        value: data.url ?? "" });
      const form = element("form", { hidden: !data.url, onsubmit: (event) => {
        event.preventDefault();
        if (address.value.trim()) ask("link", address.value.trim());
      } }, address, element("button", { type: "submit" }, says.fetch));
      sources.replaceChildren(
        element("div", { class: "cb-bar" },
          button(says.upload, () => file.click(), { class: "cb-main" }), file,
          button(video.hidden ? says.camera : says.take, camera),
          button(says.link, () => { form.hidden = !form.hidden; if (!form.hidden) address.focus(); }),
          data.tour ? button(data.tour.again, () => tour(root.firstChild, data.tour, true), { class: "cb-plain" }) : null),
        form,
        element("div", { class: "cb-samples", role: "group", "aria-label": says.samples },
          ...(data.samples ?? []).map((sample) => button(
            element("img", { src: sample.src, alt: "" }), () => ask("sample", sample.name),
            { class: sample.name === data.sample ? "cb-on" : "", "aria-label": sample.label, title: sample.label,
              "data-fails": sample.fails ? says.fails : null },
          ))),
      );
    }
    stage.ondragover = (event) => event.preventDefault();
    stage.ondrop = (event) => { event.preventDefault(); give(event.dataTransfer.files); };
    const paste = (event) => {
      if (!root.isConnected) return document.removeEventListener("paste", paste);
      if (event.clipboardData?.files.length) give(event.clipboardData.files);
    };
    document.addEventListener("paste", paste);
    new ResizeObserver(drawCover).observe(image);

    const show = () => { if (data) { showMap(); showSpot(); } };
    shared.parts.add(show);
    return {
      update(given) {
        const fresh = given.photo.src !== data?.photo.src;
        data = given;
        says = given.says ?? {};
        stage.classList.remove("cb-busy");
        stage.removeAttribute("aria-busy");
        if (fresh) {
          image.src = data.photo.src;
          tool = null;
        }
        image.alt = data.photo.alt;
        frame.setAttribute("aria-label", says.photo ?? data.photo.alt);
        root.firstChild.style.setProperty("--ratio", data.photo.width / data.photo.height);
        drawnMap = null;
        showTools();
        showSources();
        drawCover();
        show();
        skipLink(says.skip);
        tour(root.firstChild, data.tour);
      },
      leave() { shared.parts.delete(show); },
    };
  }

  // ---- the sentence -----------------------------------------------------------------------------------

  function sentencePart(root, send) {
    const shared = store();
    const live = element("p", { class: "cb-hear", role: "status", "aria-live": "polite" });
    const words = element("div", { class: "cb-words", role: "group" });
    const band = element("p", { class: "cb-band" });
    const menu = element("div", { class: "cb-menu", hidden: true, role: "dialog" });
    const scrub = element("input", { type: "range", min: "-1", value: "-1" });
    const line = element("p", { class: "cb-note" });
    const bar = element("div", { class: "cb-bar" });
    const player = element("div", { class: "cb-player" });
    const edits = element("p", { class: "cb-edits" });
    root.replaceChildren(element("div", { class: "cb cb-sentence" }, words, menu, edits, band, player, line, bar, live));
    let data = null, says = {}, buttons = [], playButton = null;

    function show() {
      if (!data) return;
      const pointed = shared.word, playing = shared.step !== null;
      if (shared.spot !== null) menu.hidden = true;
      buttons.forEach((word, t) => {
        word.classList.toggle("cb-on", t === pointed || Boolean(data.spots?.words[shared.spot]?.includes(t)));
        word.classList.toggle("cb-coming", playing && t > shared.step);
        word.setAttribute("aria-expanded", String(!menu.hidden && t === shared.t));
      });
      scrub.value = pointed ?? -1;
      scrub.setAttribute("aria-valuetext", data.words[pointed]?.text ?? says.nothing);
      if (playButton) {
        playButton.textContent = shared.timer ? says.stop : says.play;
      }
      const word = data.words[pointed];
      line.textContent = word ? (shared.kind === "needs" && word.says_needs) || word.says
        : data.spots ? `${says.hint} ${says.spots}` : says.hint;
    }
    function close(back) {
      menu.hidden = true;
      shared.set({ t: null });
      if (back) buttons[back - 1]?.focus();
    }
    function open(t) {
      shared.stop();
      shared.set({ t, step: null, hover: null });
      const word = data.words[t];
      const typed = element("input", { type: "text", placeholder: says.type, "aria-label": says.type,
        maxlength: "200" });
      const say = (text) => { close(); busy(); send("edit", { t, text }); };
      menu.setAttribute("aria-label", `${says.instead} “${word.text}”`);
      menu.replaceChildren(
        element("div", { class: "cb-head" }, `${says.instead} “${word.text}”`,
          button("×", () => close(t + 1), { "aria-label": says.close })),
        ...(word.rivals ?? []).map(([text, p]) => element(send ? "button" : "div",
          { type: send ? "button" : null, onclick: send ? () => say(text) : null, class: "cb-rival",
            style: `--p:${Math.max(0.01, p) * 100}%`, "data-p": data.expert ? percent(p) : null },
          element("span", {}, text),
        )),
        ...(send ? [
          element("form", { onsubmit: (event) => { event.preventDefault(); if (typed.value.trim()) say(typed.value.trim()); } },
            typed, element("button", { type: "submit" }, says.go)),
          button(`${says.never} “${word.text}”`, () => { close(); busy(); send("never", t); }, { class: "cb-plain" }),
          ...(word.places ? [button(says.hide,
            () => { close(); busy(); send("hide", { boxes: word.places, only: false }); }, { class: "cb-plain" })] : []),
        ] : []),
      );
      menu.hidden = false;
      const at = buttons[t].getBoundingClientRect(), around = root.firstChild.getBoundingClientRect();
      menu.style.top = `${at.bottom - around.top + 6}px`;
      menu.style.left = `${Math.max(0, Math.min(at.left - around.left, around.width - menu.offsetWidth))}px`;
      (menu.querySelector("button.cb-rival") ?? menu.querySelector(send ? "input" : "button")).focus({ preventScroll: true });
      show();
    }
    const percent = (p) => (p < 0.01 ? "<1%" : `${Math.round(100 * p)}%`);
    function busy() {
      root.firstChild.classList.add("cb-busy");
      setTimeout(() => root.firstChild?.classList.remove("cb-busy"), PATIENCE);
    }
    menu.onkeydown = (event) => { if (event.key === "Escape") close((shared.t ?? -1) + 1); };
    words.onkeydown = (event) => {
      const at = buttons.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (to === undefined || at < 0) return;
      event.preventDefault();
      event.stopPropagation();
      buttons[(to + buttons.length) % buttons.length].focus();
    };
    scrub.oninput = () => {
      shared.stop();
      shared.set({ step: null, hover: null, t: scrub.value < 0 ? null : Number(scrub.value) });
    };
    async function copy(text, pressed) {
      try {
        await navigator.clipboard.writeText(text);
      } catch { // of pages that are not served securely
        const area = element("textarea", {}, text);
        root.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      const before = pressed.textContent;
      pressed.textContent = says.copied;
      live.textContent = says.copied;
      setTimeout(() => { pressed.textContent = before; }, 1500);
    }
    function make() {
      buttons = data.words.map((word, t) => {
        const made = element("button", {
          type: "button", class: "cb-word", style: `--p:${Math.round(100 * Math.sqrt(word.p))}%`,
          "data-mark": word.mark ?? null, tabindex: t ? "-1" : "0", "aria-haspopup": "dialog",
          "aria-description": [word.says, word.verdict].filter(Boolean).join(" "),
        }, t ? word.text : word.text.charAt(0).toUpperCase() + word.text.slice(1));
        made.classList.toggle("cb-doubt", t === data.doubtful);
        made.classList.toggle("cb-new", Boolean(word.changed));
        made.classList.toggle("cb-given", Boolean(word.given));
        made.onpointerenter = (event) => {
          if (event.pointerType === "mouse") { shared.stop(); shared.set({ hover: t, step: null }); }
        };
        made.onpointerleave = () => { if (shared.hover === t) shared.set({ hover: null }); };
        made.onfocus = () => {
          buttons.forEach((other) => { other.tabIndex = other === made ? 0 : -1; });
          shared.stop();
          shared.set({ hover: t, step: null });
        };
        made.onblur = () => { if (shared.hover === t) shared.set({ hover: null }); };
        made.onclick = () => (menu.hidden || shared.t !== t ? open(t) : close());
        return made;
      });
      const lead = data.lead ? [element("span", { class: "cb-lead" }, data.lead)] : [];
      words.replaceChildren(...lead, ...buttons);
      if (data.lead && buttons.length) buttons[0].textContent = data.words[0].text;
      words.setAttribute("aria-label", says.words);
      words.setAttribute("role", "group");
      band.hidden = !data.band?.note;
      band.className = `cb-band cb-${data.band?.kind ?? ""}`;
      band.replaceChildren(...(data.band?.name ? [element("b", {}, data.band.name)] : []), data.band?.note ?? "");
      edits.hidden = !data.edits;
      if (data.edits) {
        edits.replaceChildren(element("span", {}, data.edits, " ", element("s", {}, data.before ?? "")),
          ...(send ? [button(says.undo, () => { busy(); send("undo", true); })] : []));
      }
      playButton = button(says.play, () => {
        if (shared.timer) { shared.stop(); shared.set({ step: null }); } else shared.play();
        show();
      });
      scrub.max = data.words.length - 1;
      scrub.setAttribute("aria-label", says.scrub);
      const kinds = data.words.some((word) => word.needs)
        ? element("span", { class: "cb-kinds", role: "group", "aria-label": says.kinds },
            ...["looked", "needs"].map((kind) => button(says[kind], (event) => {
              shared.set({ kind });
              event.currentTarget.parentElement.querySelectorAll("button").forEach((one) =>
                one.setAttribute("aria-pressed", String(one === event.currentTarget)));
            }, { "aria-pressed": String(shared.kind === kind) })))
        : null;
      player.replaceChildren(playButton, scrub, ...(kinds ? [kinds] : []));
      bar.replaceChildren(
        button(says.copy, (event) => copy(data.text, event.currentTarget)),
        button(says.alt, (event) => copy(`alt="${data.text.replaceAll("&", "&amp;").replaceAll('"', "&quot;")}"`,
          event.currentTarget)),
        ...(send && data.length ? [element("span", { class: "cb-kinds", role: "group", "aria-label": says.length },
          ...["shorter", "longer"].map((length) => button(says[length], () => {
            busy();
            send("length", data.length === length ? "as it is" : length);
          }, { "aria-pressed": String(data.length === length) })))] : []),
        ...(data.number ? [element("span", { class: "cb-number", title: data.help ?? "" }, data.number)] : []),
      );
    }
    shared.parts.add(show);
    return {
      update(given) {
        const fresh = given.id !== data?.id;
        const focused = root.contains(document.activeElement);
        data = given;
        says = given.says;
        root.firstChild.classList.remove("cb-busy");
        menu.hidden = true;
        shared.sentence = given;
        if (!given.words.some((word) => word.needs)) shared.kind = "looked";
        if (fresh && given.kind) shared.kind = given.kind;
        make();
        if (fresh) {
          shared.stop();
          shared.set({ t: null, hover: null, step: null, branch: null, spot: null });
          live.textContent = `${says.caption} ${data.said} ${data.band?.note ?? ""}`;
          if (focused) buttons[0]?.focus({ preventScroll: true });
          else if (!still() && window.captionbotPlayed !== given.id) shared.play();
          window.captionbotPlayed = given.id;
        } else shared.set({});
      },
      leave() { shared.stop(); shared.parts.delete(show); },
    };
  }

  // ---- the beam search --------------------------------------------------------------------------------

  /* A tree of `beam_tree.draw` that fits, zooms, grows, and shows the map of the branch that is pointed at. */
  function beamPart(root) {
    const shared = store();
    const tree = element("div", { class: "cb-tree", tabindex: "0", role: "group" });
    const note = element("p", { class: "cb-note", "aria-live": "polite" });
    const grow = element("input", { type: "range", min: "1" });
    const bar = element("div", { class: "cb-bar" });
    root.replaceChildren(element("div", { class: "cb cb-beam" }, bar, note, tree));
    let data = null, svg = null, whole = null, view = null, grabbed = new Map(), chosen = null;

    const nodes = () => [...svg.querySelectorAll("g[data-step]")].filter((node) => !node.classList.contains("cb-later"));
    function look() { svg.setAttribute("viewBox", view.join(" ")); }
    function fit() { view = [...whole]; look(); }
    function zoom(factor, x = 0.5, y = 0.5) {
      const width = Math.min(whole[2] * 1.05, Math.max(160, view[2] / factor)), height = width * (view[3] / view[2]);
      view = [view[0] + x * (view[2] - width), view[1] + y * (view[3] - height), width, height];
      look();
    }
    function pan(dx, dy) { view[0] += dx * view[2]; view[1] += dy * view[3]; look(); }
    function upTo(step) {
      svg.querySelectorAll("[data-step]").forEach((part) =>
        part.classList.toggle("cb-later", Number(part.dataset.step) >= step));
      grow.setAttribute("aria-valuetext", `${step}`);
    }
    function point(node) {
      chosen?.classList.remove("cb-on");
      chosen = node;
      node?.classList.add("cb-on");
      note.textContent = node ? node.querySelector("title").textContent : data.says.hint;
      const map = node ? data.maps[node.dataset.map] : null;
      shared.stop();
      shared.set({ branch: map ?? null, step: null, hover: null });
    }
    function inSight(node) {
      const box = node.querySelector("rect"), at = (name) => Number(box.getAttribute(name));
      const [x, y, width, height] = [at("x"), at("y"), at("width"), at("height")];
      if (x < view[0] || x + width > view[0] + view[2] || y < view[1] || y + height > view[1] + view[3]) {
        view[0] = x + width / 2 - view[2] / 2;
        view[1] = y + height / 2 - view[3] / 2;
        look();
      }
    }
    tree.onkeydown = (event) => {
      if (!svg) return;
      const known = nodes(), at = known.indexOf(chosen);
      const row = (node) => Number(node.querySelector("rect").getAttribute("y"));
      const step = (node) => Number(node.dataset.step);
      let next = null;
      if (event.key === "+" || event.key === "=") zoom(1.25);
      else if (event.key === "-") zoom(0.8);
      else if (event.key === "0") fit();
      else if (event.key === "Escape") point(null);
      else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
        const way = event.key === "ArrowRight" ? 1 : -1;
        next = at < 0 ? known.find((node) => step(node) === 0) : known.filter((node) => step(node) === step(chosen) + way)
          .sort((a, b) => Math.abs(row(a) - row(chosen)) - Math.abs(row(b) - row(chosen)))[0];
      } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        const way = event.key === "ArrowDown" ? 1 : -1;
        next = at < 0 ? known[0] : known.filter((node) => step(node) === step(chosen) && way * (row(node) - row(chosen)) > 0)
          .sort((a, b) => way * (row(a) - row(b)))[0];
      } else return;
      event.preventDefault();
      event.stopPropagation();
      if (next) { point(next); inSight(next); }
    };
    tree.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey) return; // the page scrolls
      event.preventDefault();
      const edge = tree.getBoundingClientRect();
      zoom(event.deltaY < 0 ? 1.15 : 0.87, (event.clientX - edge.left) / edge.width, (event.clientY - edge.top) / edge.height);
    }, { passive: false });
    tree.ondblclick = () => zoom(1.6);
    tree.onpointerdown = (event) => { grabbed.set(event.pointerId, [event.clientX, event.clientY]); };
    tree.onpointermove = (event) => {
      const before = grabbed.get(event.pointerId), edge = tree.getBoundingClientRect();
      if (!before) {
        const node = event.target.closest?.("g[data-step]");
        if (node && node !== chosen && event.pointerType === "mouse") point(node);
        return;
      }
      const others = [...grabbed].filter(([id]) => id !== event.pointerId);
      if (others.length) {
        const apart = (x, y) => Math.hypot(x - others[0][1][0], y - others[0][1][1]) || 1;
        zoom(apart(event.clientX, event.clientY) / apart(...before));
      } else pan((before[0] - event.clientX) / edge.width, (before[1] - event.clientY) / edge.height);
      grabbed.set(event.pointerId, [event.clientX, event.clientY]);
    };
    tree.onpointerup = tree.onpointercancel = (event) => grabbed.delete(event.pointerId);
    tree.onclick = (event) => { const node = event.target.closest?.("g[data-step]"); if (node) point(node); };
    tree.onpointerleave = (event) => { grabbed.clear(); if (event.pointerType === "mouse") shared.set({ branch: null }); };
    return {
      update(given) {
        if (given.svg === data?.svg) return;
        data = given;
        const says = given.says;
        tree.innerHTML = given.svg;
        svg = tree.querySelector("svg");
        tree.hidden = grow.hidden = bar.hidden = !svg;
        note.textContent = svg ? says.hint : says.none;
        if (!svg) return;
        tree.setAttribute("aria-label", says.keys);
        const [width, height] = ["width", "height"].map((name) => Number(svg.getAttribute(name)));
        whole = [0, 0, width, height];
        tree.style.setProperty("--tree", width / height);
        svg.removeAttribute("width");
        svg.removeAttribute("height");
        svg.setAttribute("preserveAspectRatio", "xMinYMin meet");
        chosen = null;
        fit();
        const steps = 1 + Math.max(...[...svg.querySelectorAll("g[data-step]")].map((node) => Number(node.dataset.step)));
        grow.max = grow.value = steps;
        grow.setAttribute("aria-label", says.grow);
        grow.oninput = () => upTo(Number(grow.value));
        bar.replaceChildren(element("label", {}, says.grow, grow),
          button("−", () => zoom(0.8), { "aria-label": says.out }), button("+", () => zoom(1.25), { "aria-label": says.in }),
          button(says.fit, fit));
      },
      leave() { shared.set({ branch: null }); },
    };
  }

  const PARTS = { photo: photoPart, sentence: sentencePart, beam: beamPart };
  /* Make or bring up to date the part in `root`. send: null where nobody listens, as in the report. */
  function mount(root, data, send = null) {
    if (!data) {
      root.captionbot?.leave();
      root.captionbot = null;
      return root.replaceChildren();
    }
    if (!root.captionbot || !root.firstChild?.classList?.contains("cb")) {
      root.captionbot?.leave();
      const holder = root;
      holder.captionbotSend = send;
      root.captionbot = PARTS[data.part](root, send && ((event, value) => holder.captionbotSend(event, value)));
    }
    root.captionbotSend = send;
    root.captionbot.update(data);
  }
  return { mount, store, field };
})();
