/* A photograph and what was laid over it, with a border between them that moves. */
Fields.Compare = class Compare {
  constructor({ compare, before, after, border, whole }) {
    Object.assign(this, { frame: compare, before, after, border, whole });
    this.border.addEventListener("input", () => this.divide());
    this.whole.addEventListener("change", () => this.place());
  }

  /* Shows the pictures at these addresses; `window` is [left, top, side] of the face in them. */
  show(before, after, { width, height, window }) {
    [this.before.src, this.after.src] = [before, after];
    Object.assign(this, { width, height, window });
    this.place();
  }

  place() {
    const { width, height } = this;
    const [left, top, across] = this.whole.checked ? [0, 0, width] : this.window;
    Object.assign(this, { left, across });
    this.frame.style.setProperty("--ratio", this.whole.checked ? width / height : 1);
    for (const { style } of [this.before, this.after]) {
      style.width = `${(100 * width) / across}%`;
      // Shares of the picture itself, which is scaled alike in both directions.
      style.transform = `translate(${(-100 * left) / width}%, ${(-100 * top) / height}%)`;
    }
    this.divide();
  }

  divide() {
    const share = this.border.valueAsNumber;
    this.frame.style.setProperty("--border", `${share}%`);
    const cut = (this.left + (share / 100) * this.across) / this.width; // of the picture's width
    this.frame.style.setProperty("--cut", `${100 * cut}%`);
    this.border.setAttribute("aria-valuetext", `${share} % of the photograph`);
  }
};
