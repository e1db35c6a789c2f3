/* The page of many faces: one stage for the face that was picked, and the list to pick from. */
Fields.Stage = class Stage {
  constructor(root, faces) {
    this.parts = Object.fromEntries(
      [...root.querySelectorAll("[data-part]")].map((each) => [each.dataset.part, each]),
    );
    Object.assign(this, { root, faces, picked: -1, picks: 0 });
    this.tiles = [...root.querySelectorAll("[data-face]")];
    this.view = new Fields.View(root);
    this.compare = new Fields.Compare(this.parts);
    this.tiles.forEach((tile, index) => tile.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.pick(index);
      this.root.scrollIntoView({ block: "start" });
      this.parts.name.focus({ preventScroll: true });
    }));
    this.parts.previous.hidden = this.parts.next.hidden = faces.length < 2;
    this.parts.previous.addEventListener("click", () => this.step(-1));
    this.parts.next.addEventListener("click", () => this.step(1));
    this.parts.search?.addEventListener("input", () => this.search());
    addEventListener("hashchange", () => this.pick(this.named()));
    this.pick(this.named());
  }

  /* The face that the address names, or the first. */
  named() {
    const found = this.faces.findIndex(({ link }) => `#${link}` === location.hash);
    return Math.max(found, 0);
  }

  step(by) {
    this.pick((this.picked + by + this.faces.length) % this.faces.length);
  }

  search() {
    const wanted = this.parts.search.value.toLowerCase();
    this.tiles.forEach((tile, index) => {
      tile.closest("li").hidden = !this.faces[index].name.toLowerCase().includes(wanted);
    });
  }

  async pick(index) {
    if (index === this.picked) return;
    this.tiles[this.picked]?.removeAttribute("aria-current");
    this.tiles[index].setAttribute("aria-current", "true");
    this.picked = index;
    const turn = ++this.picks;
    const wanted = () => this.picks === turn; // no other face has been picked since
    const face = this.faces[index];
    history.replaceState(null, "", `#${face.link}`);
    this.describe(face);
    if (!face.solid || !this.view.works) {
      this.view.fail("No 3D head was written for this face: the pictures show it.");
      return;
    }
    this.view.empty("Loading the head ...");
    try {
      const bytes = await Fields.data.load(`${face.link}/head.js`, wanted);
      if (bytes && wanted()) await this.view.open(bytes);
    } catch (error) {
      if (wanted()) this.view.fail(`The head cannot be shown: ${error.message}.`);
    }
  }

  describe(face) {
    const { name, position, notes, files, still } = this.parts;
    const list = (tag, texts) => texts.map((text) => {
      const made = document.createElement(tag);
      made.append(text);
      return made;
    });
    name.textContent = face.name;
    position.textContent = `${this.picked + 1} of ${this.faces.length}`;
    notes.replaceChildren(...list("li", face.notes));
    still.src = `${face.link}/geometry.png`;
    files.replaceChildren(...list("li", face.links.map((file) => (
      Object.assign(document.createElement("a"), { href: `${face.link}/${file}`, textContent: file })
    ))));
    this.compare.show(`${face.link}/photograph.jpg`, `${face.link}/overlay.png`, face);
    this.view.backdrop.show(`${face.link}/photograph.jpg`, face);
    this.feel(face.emotion);
  }

  /* The reading of emotion: a point in the circle, and a bar for each class. */
  feel(emotion) {
    const { affect, point, valence, arousal, classes, caution } = this.parts;
    affect.hidden = emotion === null;
    if (emotion === null) return;
    const inside = Math.max(1, Math.hypot(emotion.valence, emotion.arousal));
    point.setAttribute("cx", emotion.valence / inside);
    point.setAttribute("cy", -emotion.arousal / inside);
    const signed = (value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;
    [valence.textContent, arousal.textContent] = [signed(emotion.valence), signed(emotion.arousal)];
    const shares = Object.entries(emotion.probabilities).sort((a, b) => b[1] - a[1]);
    classes.replaceChildren(...shares.map(([name, share]) => {
      const row = document.createElement("li");
      const [label, bar, value] = ["span", "i", "b"].map((tag) => document.createElement(tag));
      label.textContent = name;
      bar.style.setProperty("--share", share);
      value.textContent = `${Math.round(100 * share)} %`;
      row.append(label, bar, value);
      return row;
    }));
    caution.textContent = emotion.note ?? "";
  }
};
