/* The photograph behind the head, which is seen as the photograph's camera saw it. */
Fields.Backdrop = class Backdrop {
  constructor(picture) {
    this.picture = picture;
    this.clear();
  }

  /* The photograph of the next head, as of Compare.show. */
  show(address, { width, height, window }) {
    Object.assign(this, { address, width, height, window });
  }

  clear() {
    this.address = null;
    this.picture.hidden = true;
  }

  get known() {
    return this.address !== null;
  }

  /* Puts the photograph behind a canvas of this shape; returns the matrices of its camera there. */
  place({ half, place, lens }, aspect) {
    const { picture, width, height, window: [left, top, side] } = this;
    // The frame, in pixels of the photograph: the square about the face, and what is beside it.
    const frame = [side * Math.max(aspect, 1), side * Math.max(1 / aspect, 1)];
    const corner = [left + (side - frame[0]) / 2, top + (side - frame[1]) / 2];
    if (picture.getAttribute("src") !== this.address) picture.src = this.address;
    picture.hidden = false;
    picture.style.width = `${(100 * width) / frame[0]}%`;
    picture.style.transform = `translate(${(-100 * corner[0]) / width}%, ${(-100 * corner[1]) / height}%)`;
    const metres = [(2 * half[0]) / width, (2 * half[1]) / height]; // of a pixel
    const sides = [
      [corner[0], corner[0] + frame[0]].map((x) => metres[0] * x - half[0]),
      [corner[1] + frame[1], corner[1]].map((y) => half[1] - metres[1] * y),
    ];
    const view = Fields.maths.identity();
    place.forEach((value, axis) => { view[12 + axis] = -value; });
    const projection = Fields.maths.orthographic(...sides, [lens.znear, lens.zfar]);
    return { view, projection };
  }

  hide() {
    this.picture.hidden = true;
  }
};
