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
    build({ names, defaults }) {
      this.names = names;
      this.rows = names.map((name, index) => this.row(name, names, defaults[index]));
      const members = Object.groupBy
        ? Object.groupBy(this.rows, (row) => row.group)
        : this.rows.reduce((all, row) => ({ ...all, [row.group]: [...(all[row.group] ?? []), row] }), {});
      const open = matchMedia(WIDE).matches;
      this.root.replaceChildren(...groups.filter((group) => members[group]).map((group, k) => (
        element("details", { className: "group", open: open || k === 0 },
          element("summary", { textContent: group }),
          ...members[group].map(({ label }) => label))
      )));
    }

    row(name, names, value) {
      const { group, label: text, twin } = describe(name);
      const [min, max] = range(names, value);
      const slider = element("input", { type: "range", min, max, step: 0.01, value, title: name });
      slider.setAttribute("aria-label", `${group}: ${text}`);
      slider.dataset.movement = name;
      const output = element("output");
      const label = element("label", { className: "movement" },
        element("span", { textContent: text }), slider, output);
      const index = names.indexOf(name);
      const other = names.indexOf(twin);
      slider.addEventListener("input", () => {
        const chosen = this.linked.checked && other >= 0 ? [index, other] : [index];
        chosen.forEach((each) => this.changed(each, slider.valueAsNumber));
      });
      return { group, label, slider, output };
    }

    /* Shows weights as they are now. */
    show(weights) {
      this.rows.forEach(({ slider, output, label }, k) => {
        const text = weights[k].toFixed(2);
        if (output.textContent === text) return;
        slider.value = weights[k];
        output.textContent = text;
        label.classList.toggle("still", Math.abs(weights[k]) < 0.005);
      });
    }
  };
})();
