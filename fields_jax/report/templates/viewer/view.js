/* A head on the page: the canvas, its switches, the sliders and the player. */
Fields.View = (() => {
  const UNKNOWN = "This browser or graphics processor lacks WebGL2, which the 3D view needs. The pictures show the same face.";
  const LOST = "The graphics processor is busy elsewhere; the head comes back when it is free.";

  /* The corners of the box around a posed model. */
  function boxOf(model, pose, shapes) {
    const [low, high] = [[Infinity, Infinity, Infinity], [-Infinity, -Infinity, -Infinity]];
    const matrices = pose.matrices();
    for (const { node, shape } of model.draws) {
      const bones = pose.bones(node, matrices);
      const { positions } = shapes.get(shape) ?? shape;
      for (let row = 0; row < positions.length / 3; row++) {
        // The joint that holds the vertex most is near enough for a frame.
        const held = shape.weights?.subarray(4 * row, 4 * row + 4) ?? [1];
        const most = held.indexOf(Math.max(...held));
        const bone = bones[shape.joints ? shape.joints[4 * row + most] : 0];
        const [x, y, z] = positions.subarray(3 * row, 3 * row + 3);
        for (let axis = 0; axis < 3; axis++) {
          const at = bone[axis] * x + bone[4 + axis] * y + bone[8 + axis] * z + bone[12 + axis];
          if (at < low[axis]) low[axis] = at;
          if (at > high[axis]) high[axis] = at;
        }
      }
    }
    return { low, high };
  }

  const partsOf = (root) => Object.fromEntries(
    [...root.querySelectorAll("[data-part]")].map((each) => [each.dataset.part, each]),
  );

  return class View {
    constructor(root) {
      this.root = root;
      this.parts = partsOf(root);
      const { canvas, linked, movements } = this.parts;
      [this.model, this.pose, this.waiting, this.turn] = [null, null, false, 0];
      this.renderer = this.rendererOf(canvas);
      this.backdrop = new Fields.Backdrop(this.parts.backdrop);
      this.camera = new Fields.Camera(canvas, () => {
        this.parts.inside.checked = false; // it shows the head from one side only
        this.redraw();
      });
      this.panel = new Fields.Panel(movements, linked, (index, value) => this.onSlider(index, value));
      this.player = new Fields.Player(this.parts, (clip, time) => {
        this.pose.toTime(clip, time);
        this.moved();
      });
      this.listen();
    }

    /* What draws, or null where the browser or the graphics processor cannot. */
    rendererOf(canvas) {
      const gl = Fields.Renderer.contextOf(canvas);
      try {
        return gl && new Fields.Renderer(gl);
      } catch (error) {
        console.warn(error.message);
        return null;
      }
    }

    /* Whether heads can be drawn at all. */
    get works() {
      return this.renderer !== null;
    }

    listen() {
      const { canvas, texture, wireframe, upright, inside, neutral, photograph, reset } = this.parts;
      for (const each of [texture, wireframe]) each.addEventListener("change", () => this.redraw());
      upright.addEventListener("change", () => this.onUpright());
      inside.addEventListener("change", () => this.onInside());
      neutral.addEventListener("click", () => this.still(() => this.pose.toNeutral()));
      photograph.addEventListener("click", () => this.still(() => this.pose.toPhotograph()));
      reset.addEventListener("click", () => this.camera.reset());
      canvas.addEventListener("webglcontextlost", (event) => {
        event.preventDefault();
        if (this.model) this.say(LOST);
      });
      canvas.addEventListener("webglcontextrestored", () => {
        this.renderer.prepare();
        if (!this.model) return;
        this.renderer.load(this.model, this.pictures);
        this.say("");
        this.moved();
      });
      new ResizeObserver(() => this.redraw()).observe(canvas);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
      this.onRatio();
    }

    /* Draws anew when the window comes to a screen of other pixels. */
    onRatio() {
      this.redraw();
      const same = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
      same.addEventListener("change", () => this.onRatio(), { once: true });
    }

    /* Reads the bytes of a GLB and shows it, unless something else is shown in the meantime; throws
       an Error that says what is wrong with it. */
    async open(buffer) {
      const turn = ++this.turn;
      const file = Fields.glb.parse(buffer);
      const model = Fields.model.build(file);
      const pictures = await Fields.glb.readPictures(file);
      if (turn === this.turn) this.show(model, pictures);
    }

    show(model, pictures) {
      const { upright, controls, moves } = this.parts;
      [this.model, this.pictures] = [model, pictures];
      this.root.classList.remove("flat");
      this.renderer.load(model, pictures);
      this.pose = new Fields.Pose(model);
      this.pose.upright = upright.checked;
      this.renderer.move(this.pose.weights);
      this.player.load(model.clips);
      this.panel.build(model.movements);
      this.enable("texture", pictures.length > 0);
      this.enable("upright", this.pose.hasHeadPose);
      this.enable("inside", model.camera !== null && this.backdrop.known);
      [controls.disabled, moves.disabled] = [false, false];
      this.say(this.renderer.gl.isContextLost() ? LOST : "");
      this.frame();
      this.moved();
    }

    /* Shows no head for now, but a line that says why. */
    empty(reason) {
      const { controls, bar, moves, still } = this.parts;
      this.turn++;
      [this.model, this.pose] = [null, null];
      this.renderer?.unload();
      this.backdrop.hide();
      this.player.pause();
      [controls.disabled, moves.disabled, bar.hidden, still.hidden] = [true, true, true, true];
      this.say(reason);
      this.redraw();
    }

    /* Shows a picture in place of the head, where there is one, and says why. */
    fail(reason) {
      this.empty(this.works ? reason : UNKNOWN);
      this.root.classList.add("flat");
      this.parts.still.hidden = !this.parts.still.src;
    }

    enable(part, possible) {
      this.parts[part].closest("label").hidden = !possible;
    }

    say(text) {
      this.parts.message.textContent = text;
      this.parts.message.hidden = text === "";
      this.parts.canvas.hidden = text !== "" && this.model === null;
    }

    onSlider(index, value) {
      this.player.pause();
      this.pose.weights[index] = value;
      this.moved();
    }

    /* Changes the pose and leaves the clip where it is. */
    still(change) {
      this.player.pause();
      change();
      this.moved();
    }

    onUpright() {
      this.pose.upright = this.parts.upright.checked;
      this.parts.inside.checked = false;
      this.frame();
    }

    onInside() {
      const { upright, inside } = this.parts;
      if (inside.checked && upright.checked) {
        [upright.checked, this.pose.upright] = [false, false];
        this.frame();
      }
      this.redraw();
    }

    frame() {
      this.camera.box = boxOf(this.model, this.pose, this.renderer.moved);
      this.redraw();
    }

    /* After the weights or joints have changed. */
    moved() {
      this.renderer.move(this.pose.weights);
      this.panel.show(this.pose.weights);
      this.redraw();
    }

    redraw() {
      if (this.waiting || !this.works) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.draw();
      });
    }

    draw() {
      const { canvas, texture, wireframe } = this.parts;
      const ratio = Math.min(devicePixelRatio, 2);
      const size = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * ratio));
      if (!size[0] || !size[1]) return;
      if (canvas.width !== size[0]) canvas.width = size[0];
      if (canvas.height !== size[1]) canvas.height = size[1];
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      const aspect = size[0] / size[1];
      const inside = this.parts.inside.checked && this.model?.camera && this.backdrop.known;
      if (!inside) this.backdrop.hide();
      const seen = inside
        ? this.backdrop.place(this.model.camera, aspect)
        : this.camera.matrices(aspect);
      this.renderer.draw(this.pose, seen, {
        texture: texture.checked,
        wireframe: wireframe.checked,
        edges: dark ? [0.85, 1, 0.98, 0.35] : [0.02, 0.16, 0.16, 0.4],
      });
    }
  };
})();
