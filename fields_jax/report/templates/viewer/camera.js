/* A camera that circles the head: by mouse, touch, wheel and keys. */
Fields.Camera = (() => {
  const { orbit, perspective } = Fields.maths;
  const FIELD_OF_VIEW = 0.42; // radians from top to bottom: a long lens, as of portraits
  const STEEPEST = 1.45;
  const [NEAREST, FARTHEST] = [0.25, 3]; // in distances at which the head fills the frame
  const MARGIN = 1.06;
  const TURN = 0.12; // radians per press of a key
  const KEYS = {
    ArrowLeft: (camera) => camera.turn(-TURN, 0),
    ArrowRight: (camera) => camera.turn(TURN, 0),
    ArrowUp: (camera) => camera.turn(0, TURN),
    ArrowDown: (camera) => camera.turn(0, -TURN),
    "+": (camera) => camera.zoom(1 / 1.1),
    "=": (camera) => camera.zoom(1 / 1.1),
    "-": (camera) => camera.zoom(1.1),
    Home: (camera) => camera.reset(),
  };

  return class Camera {
    /* `changed` is called after each movement. */
    constructor(canvas, changed) {
      [this.canvas, this.changed] = [canvas, changed];
      this.box = { low: [-1, -1, -1], high: [1, 1, 1] }; // what it frames
      this.pointers = new Map();
      this.reset();
      canvas.addEventListener("keydown", (event) => this.onKey(event));
      canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
      canvas.addEventListener("pointerdown", (event) => this.onDown(event));
      canvas.addEventListener("pointermove", (event) => this.onMove(event));
      canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
        canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
      }
    }

    reset() {
      [this.azimuth, this.elevation, this.nearness, this.shift] = [0, 0, 1, [0, 0]];
      this.changed();
    }

    turn(right, up) {
      this.azimuth += right;
      this.elevation = Math.max(-STEEPEST, Math.min(STEEPEST, this.elevation + up));
      this.changed();
    }

    zoom(factor) {
      this.nearness = Math.max(NEAREST, Math.min(FARTHEST, this.nearness * factor));
      this.changed();
    }

    /* Moves the picture by shares of its height. */
    pan(right, down) {
      this.shift = [this.shift[0] + right, this.shift[1] + down];
      this.changed();
    }

    matrices(aspect) {
      const { low, high } = this.box;
      const half = high.map((top, k) => (top - low[k]) / 2);
      const centre = high.map((top, k) => (top + low[k]) / 2);
      const across = Math.max(half[0], half[2]); // as wide as from any side
      const slope = Math.tan(FIELD_OF_VIEW / 2);
      const radius = Math.hypot(...half);
      const distance = this.nearness
        * (MARGIN * Math.max(half[1] / slope, across / (slope * aspect)) + half[2]);
      const projection = perspective(
        FIELD_OF_VIEW, aspect, Math.max(distance - 2 * radius, distance / 50), distance + 2 * radius,
      );
      [projection[8], projection[9]] = [-2 * this.shift[0] / aspect, 2 * this.shift[1]];
      return { view: orbit(this.azimuth, this.elevation, distance, centre), projection };
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = KEYS[event.key];
      if (!act) return;
      act(this);
      event.preventDefault();
    }

    /* The wheel scrolls the page until the head has been touched. */
    onWheel(event) {
      if (document.activeElement !== this.canvas && !event.ctrlKey) return;
      // Browsers tell a pinch on a trackpad as a wheel with Ctrl, -100 times the logarithm of its scale.
      const [way, most] = event.ctrlKey ? [event.deltaY / 100, 0.5] : [event.deltaY / 600, 0.2];
      this.zoom(Math.exp(Math.max(-most, Math.min(most, way))));
      event.preventDefault();
    }

    onDown(event) {
      this.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    }

    onMove(event) {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      const moved = [now[0] - before[0], now[1] - before[1]];
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      this.pointers.set(event.pointerId, now);
      const height = this.canvas.clientHeight;
      if (other) {
        const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
        this.zoom(apart(before) / apart(now));
        this.pan(moved[0] / height / 2, moved[1] / height / 2);
      } else if (event.shiftKey || event.buttons & 6) this.pan(moved[0] / height, moved[1] / height);
      else this.turn((-5 * moved[0]) / height, (5 * moved[1]) / height);
    }
  };
})();
