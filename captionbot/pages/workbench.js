/* The gallery of alt texts: cards that are edited in place, a queue of what is to review, accepted by a key.

One source for both pages; `captionbot/pages/workbench.py` makes the records. `Workbench.mount(root, data, send)`
may be called again with more cards of the same batch: what the visitor wrote stays. `send("edits", edits)` tells
the page all that was changed, as {id: [text, accepted]}, `send("open", id)` which photo is to be explored.

A tab remembers the batch that it shows and what was changed of it. Mounted without data, after a reload,
`send("resume", batch)` tells the page to bring it back.
*/
const Workbench = (() => {
  "use strict";
  const PAUSE = 700; // milliseconds without a key before the page is told
  const ALL = "all";
  const OPEN = "captionbot.alt"; // under which a tab remembers its batch, and what was changed of it
  function remembered() {
    try {
      return JSON.parse(sessionStorage.getItem(OPEN)) ?? {};
    } catch { return {}; } // of browsers that keep nothing
  }
  function remember(value) {
    try {
      sessionStorage.setItem(OPEN, JSON.stringify(value));
    } catch { /* then a reload begins anew */ }
  }

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on") || name === "textContent" || name === "hidden") made[name] = value;
      else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child != null));
    return made;
  }
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

  class Gallery {
    constructor(root) {
      Object.assign(this, { root, batch: null, cards: new Map(), edits: {}, timer: 0, filter: null, order: null });
      this.grid = element("div", { class: "wb-grid" });
      this.filters = element("div", { class: "wb-filters", role: "group" });
      this.select = element("select", { onchange: () => { this.order = this.select.value; this.arrange(); } });
      this.live = element("p", { class: "wb-live", "aria-live": "polite" });
      this.none = element("p", { class: "wb-none", hidden: true });
      this.keys = element("p", { class: "wb-keys" });
      this.label = element("label", { class: "wb-order" });
      this.bar = element("div", { class: "wb-bar" }, this.filters, this.label, this.keys);
      root.replaceChildren(this.bar, this.none, this.grid, this.live);
      root.classList.add("wb");
    }

    show(data, send) {
      this.send = send;
      this.says = data.says;
      if (data.batch !== this.batch) {
        clearTimeout(this.timer);
        this.cards.forEach((card) => card.node.remove());
        const before = remembered(), edits = before.batch === data.batch ? before.edits : {};
        Object.assign(this, { batch: data.batch, cards: new Map(), edits, filter: "review", order: "sure" });
        remember({ batch: data.batch, edits });
        this.words();
        if (Object.keys(edits).length) send("edits", { ...edits });
      }
      for (const record of data.cards) {
        if (this.cards.has(record.id)) this.cards.get(record.id).record.rank = record.rank;
        else this.add(record);
      }
      this.limit = data.limit;
      this.arrange();
      if (!this.list().length && this.filter === "review" && !data.running) this.choose(ALL, false);
    }

    words() {
      const says = this.says;
      this.filters.setAttribute("aria-label", says.filters);
      this.select.replaceChildren(...["sure", "given"].map((value) =>
        element("option", { value, textContent: says.orders[value] })));
      this.label.replaceChildren(says.order, " ", this.select);
      this.keys.replaceChildren(...says.keys.flatMap(([key, does], i) =>
        [i ? " · " : "", element("kbd", { textContent: key }), ` ${does}`]));
      this.buttons = Object.fromEntries(["review", "accepted", ALL, "failed"].map((name) => [name,
        element("button", { type: "button", onclick: () => this.choose(name) })]));
      this.filters.replaceChildren(...Object.values(this.buttons));
    }

    add(record) {
      const says = this.says, id = record.id;
      const [alt, accepted] = this.edits[id] ?? [record.alt, record.accepted];
      const card = { record, alt, accepted };
      const image = element("img", { src: record.thumbnail, alt: record.error ? "" : record.alt, loading: "lazy" });
      const photo = element("button", { type: "button", class: "wb-photo", title: says.open,
        "aria-label": fill(says.openOne, record), onclick: () => { this.flush(); this.send("open", id); } }, image);
      const body = element("div", { class: "wb-body" }, element("p", { class: "wb-name", textContent: record.name }));
      card.node = element("article", { class: "wb-card", "aria-label": record.name }, photo, body);
      if (record.error) {
        if (!record.thumbnail) photo.remove();
        body.append(element("p", { class: "wb-error", textContent: record.error }));
      } else this.fillIn(card, body, image);
      this.cards.set(id, card);
      return card;
    }

    fillIn(card, body, image) {
      const says = this.says, { record } = card;
      const judged = element("p", { class: "wb-judged" });
      if (record.band) judged.append(element("span", { class: "wb-band", style: `--wb-band: ${record.colour}`,
        textContent: record.band }));
      judged.append(element("span", { textContent: [record.sure, record.note].filter(Boolean).join(" · ") }));
      const text = element("textarea", { "aria-label": fill(says.text, record), spellcheck: true, rows: 3,
        oninput: () => { this.write(card, text.value); image.alt = text.value; },
        onblur: () => this.flush(),
        onkeydown: (event) => this.key(event, card) });
      text.value = card.alt;
      const count = element("span", { class: "wb-count" });
      const state = element("span", { class: "wb-state" });
      const accept = element("button", { type: "button", class: "wb-accept", onclick: () => this.accept(card) });
      const back = element("button", { type: "button", textContent: says.back, onclick: () => {
        this.write(card, text.value, false);
        this.flush();
        this.arrange();
      } });
      let turn = 0;
      const other = element("button", { type: "button", textContent: says.other, title: says.otherHelp,
        onclick: () => {
          const wordings = [record.proposed, ...record.others];
          turn = (turn + 1) % wordings.length;
          text.value = wordings[turn];
          text.oninput();
        } });
      body.append(judged, text, element("div", { class: "wb-foot" }, count, state,
        record.others.length ? other : null, back, accept));
      card.text = text;
      card.draw = () => {
        const length = [...card.alt].length, done = this.done(card);
        count.textContent = fill(says.count, { n: length, limit: this.limit ?? record.limit });
        count.classList.toggle("wb-long", length > record.limit);
        count.title = length > record.limit ? says.long : "";
        card.node.classList.toggle("wb-done", done);
        state.textContent = card.accepted ? `✓ ${says.accepted}` : done ? says.edited : "";
        accept.textContent = says.accept;
        accept.hidden = card.accepted;
        back.hidden = !card.accepted;
      };
      card.draw();
    }

    done(card) { return !card.record.error && (card.accepted || card.alt !== card.record.proposed); }

    state(card) { return card.record.error ? "failed" : card.accepted ? "accepted" : "review"; }

    write(card, alt, accepted = card.accepted) {
      Object.assign(card, { alt, accepted });
      this.edits[card.record.id] = [alt, accepted];
      card.draw();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.flush(), PAUSE);
    }

    flush() {
      if (!this.timer) return;
      clearTimeout(this.timer);
      this.timer = 0;
      remember({ batch: this.batch, edits: this.edits });
      this.send("edits", { ...this.edits });
    }

    /* The cards of a filter, in the order that is chosen. */
    list(filter = this.filter) {
      const cards = [...this.cards.values()].filter((card) => filter === ALL || this.state(card) === filter);
      const place = this.order === "sure" ? (card) => card.record.rank : (card) => card.record.id;
      return cards.sort((one, other) => place(one) - place(other));
    }

    choose(filter, focus = true) {
      this.filter = filter;
      this.arrange();
      if (focus) this.buttons[filter].focus();
    }

    /* Nothing that has the keyboard is moved: it would lose it. */
    arrange() {
      const shown = this.list(), wanted = new Set(shown);
      this.cards.forEach((card) => (card.node.hidden = !wanted.has(card)));
      const held = [...this.grid.children].find((node) => node.matches(":focus-within"));
      let passed = false;
      for (const { node } of this.list(ALL)) {
        if (node === held) passed = true;
        else if (held && !passed) held.before(node);
        else this.grid.append(node);
      }
      for (const [name, button] of Object.entries(this.buttons)) {
        const count = this.list(name).length;
        button.textContent = `${this.says.names[name]} (${count})`;
        button.setAttribute("aria-pressed", name === this.filter);
        button.hidden = name === "failed" && !count;
      }
      this.none.hidden = shown.length > 0 || !this.cards.size;
      this.none.textContent = this.filter === "review" ? this.says.through : this.says.none;
    }

    key(event, card) {
      if (event.isComposing) return;
      const step = event.altKey && { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter" && !event.shiftKey) this.accept(card);
      else if (event.key === "Escape") {
        card.text.value = card.record.proposed;
        card.text.oninput();
      } else if (step) this.go(this.near(card, step));
      else return;
      event.preventDefault();
      event.stopPropagation();
    }

    near(card, step) {
      const shown = this.list().filter((one) => one.text);
      return shown[shown.indexOf(card) + step];
    }

    accept(card) {
      const next = this.near(card, 1) ?? this.near(card, -1);
      this.write(card, card.text.value.replace(/\s+/g, " ").trim(), true);
      card.text.value = card.alt;
      if (next) this.go(next);
      this.arrange();
      this.flush();
      const left = this.list("review").length;
      this.live.textContent = fill(this.says.live, { name: card.record.name, left });
      if (!next && this.filter === "review") this.buttons.accepted.focus();
    }

    go(card) {
      if (!card) return;
      card.text.focus({ preventScroll: true });
      card.text.setSelectionRange(card.text.value.length, card.text.value.length);
      card.node.scrollIntoView({ block: "nearest" });
    }
  }

  function mount(root, data, send) {
    if (data?.cards) return (root.workbench ??= new Gallery(root)).show(data, send);
    const { batch } = remembered();
    if (batch && !root.asked) send("resume", batch);
    root.asked = true;
  }
  return { mount };
})();
