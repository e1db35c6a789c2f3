/* The sliders of a head's movements. */
Fields.Panel = (() => {
  const { describe, groups, range } = Fields.movements;
  const WIDE = "(min-width: 700px)"; // pages at least so wide show all groups at once

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  return class Panel {
    /* `changed(index, value)` is called when the user moves a slider. */
    constructor(root, linked, changed) {
      Object.assign(this, { root, linked, changed, rows: [], names: [] });
    }

    /* Makes the sliders of these movements. */
    build({ names, unit }) {
      if (names.join() === this.names.join()) return; // what is open and focused stays so
      this.names = names;
      this.rows = names.map((name) => this.row(name, range(name, unit)));
      const open = matchMedia(WIDE).matches;
      const found = groups.filter((group) => this.rows.some((row) => row.group === group));
      this.root.replaceChildren(...found.map((group, k) => (
        element("details", { className: "group", open: open || k === 0 },
          element("summary", { textContent: group }),
          ...this.rows.filter((row) => row.group === group).map(({ label }) => label))
      )));
    }

    row(name, [min, max]) {
      const { group, label: text, twin } = describe(name);
      const slider = element("input", { type: "range", min, max, step: 0.01, title: name });
      slider.setAttribute("aria-label", `${group}: ${text}`);
      slider.dataset.movement = name;
      const output = element("output");
      output.setAttribute("aria-live", "off"); // the slider says its value itself
      const label = element("label", { className: "movement" },
        element("span", { textContent: text }), slider, output);
      const index = this.names.indexOf(name);
      const other = this.names.indexOf(twin);
      slider.addEventListener("input", () => {
        const chosen = this.linked.checked && other >= 0 ? [index, other] : [index];
        chosen.forEach((each) => this.changed(each, slider.valueAsNumber));
      });
      return { group, label, slider, output };
    }

    /* Shows weights as they are now. */
    show(weights) {
      this.rows.forEach(({ slider, output, label }, k) => {
        const text = weights[k].toFixed(2).replace(/^-(?=0\.00$)/, "").replace("-", "\u2212");
        if (output.textContent === text) return;
        if (weights[k] < slider.min) slider.min = Math.floor(weights[k]);
        if (weights[k] > slider.max) slider.max = Math.ceil(weights[k]);
        slider.value = weights[k];
        output.textContent = text;
        label.classList.toggle("still", Math.abs(weights[k]) < 0.005);
      });
    }
  };
})();
